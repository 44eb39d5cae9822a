//! Streams with a life, as a Rust API: create, attach, start, pause, resume, stop, and look.
//!
//! ```text
//!   pending ──start──► active ◄──start, resume── paused        what is lost
//!                        │  └──────pause──────────►│            pause: nothing that is kept:
//!                        └──stop──► stopped ◄─stop─┘                   cursors, windows, views
//!                                     │                         stop:  all of that
//!                                     └──start──► active
//! ```
//!
//! A source runs unless there is at least one stream that reads it and none of these is active. What
//! the statements do is in `db/streams.rs`; this is the door for programs, and the words for both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::db::Db;
use crate::error::{Error, Result};
use crate::event_log::Events;
use crate::sql::{Attach, CreateSourceGroup, Name, Statement, StreamAction};

/// What a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStatus {
    /// Created, and never started: a set of sources begins so.
    Pending,
    /// It gets rows.
    Active,
    /// It gets no rows and keeps its windows, views and the cursors of its sources.
    Paused,
    /// It gets no rows and keeps nothing.
    Stopped,
    /// There is no stream of this name.
    Unknown,
}

impl StreamStatus {
    /// The word used in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for StreamStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How many streams and sources are at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Streams and views that get rows.
    pub active_streams: usize,
    /// Those that are paused.
    pub paused_streams: usize,
    /// Those that are stopped or were never started.
    pub idle_streams: usize,
    /// Sources with a connector that is starting, running or about to try again.
    pub total_workers: usize,
    /// Sources with a connector that were given up.
    pub failed_workers: usize,
    /// How often sources were run again after a failure.
    pub restarts: u64,
}

/// What must be known of streams to have them again after a restart, besides the statements that
/// created them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LifecycleState {
    /// By name.
    pub streams: BTreeMap<String, SavedStream>,
}

/// One stream of a [`LifecycleState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedStream {
    /// What it was doing.
    pub status: StreamStatus,
    /// The sources attached to it, if it is a set of sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<String>,
    /// The step up to which it has been fed from sources with a log that it does not hear, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, u64>,
}

/// The streams of a database. Cheap; every call blocks until what it asks for is done, like a
/// statement.
#[derive(Debug, Clone)]
pub struct Streams {
    db: Db,
}

impl Streams {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Creates a stream without sources, pending until it is started. Its columns are those of the
    /// first source attached; `CREATE STREAM name (columns)` says them beforehand.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn create(&self, name: &str) -> Result<()> {
        let create = CreateSourceGroup {
            name: exactly(name),
            if_not_exists: false,
            columns: Vec::new(),
            watermark: None,
            options: Vec::new(),
        };
        self.run(Statement::CreateSourceGroup(create)).map(drop)
    }

    /// Attaches a source to a stream of sources; does nothing if it is attached.
    ///
    /// # Errors
    /// If there is no such source or stream, the stream is a query, or the columns do not fit.
    pub fn attach(&self, source: &str, stream: &str) -> Result<()> {
        self.attached(source, stream, true)
    }

    /// Detaches a source from a stream of sources.
    ///
    /// # Errors
    /// If there is no such stream, or the source is not attached to it.
    pub fn detach(&self, source: &str, stream: &str) -> Result<()> {
        self.attached(source, stream, false)
    }

    /// Starts a stream, or resumes it, and starts its sources, again if they had failed: gives the
    /// names of those started now.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn start(&self, name: &str) -> Result<Vec<String>> {
        self.act(name, StreamAction::Start)
    }

    /// Pauses a stream: sources that no other active stream needs are stopped, state is kept. Does
    /// nothing if it is paused.
    ///
    /// # Errors
    /// If there is no such stream, or it was not started.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.act(name, StreamAction::Pause).map(drop)
    }

    /// Goes on with a paused stream where it was; gives the names of the sources started. Does nothing
    /// if it is active.
    ///
    /// # Errors
    /// If there is no such stream, or it was not started.
    pub fn resume(&self, name: &str) -> Result<Vec<String>> {
        self.act(name, StreamAction::Resume)
    }

    /// Stops a stream and drops its state. Does nothing if it is stopped.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.act(name, StreamAction::Stop).map(drop)
    }

    /// What a stream is doing; [`StreamStatus::Unknown`] if there is none of this name.
    pub fn status(&self, name: &str) -> StreamStatus {
        self.db.stream_status(name)
    }

    /// The names of the active streams and views, sorted.
    pub fn list_active(&self) -> Vec<String> {
        let all = self.list().into_iter();
        let active = all.filter(|(_, status)| *status == StreamStatus::Active);
        active.map(|(name, _)| name).collect()
    }

    /// All streams and views by name, and what they are doing.
    pub fn list(&self) -> Vec<(String, StreamStatus)> {
        self.db.stream_list()
    }

    /// How many streams and sources are at work.
    pub fn stats(&self) -> StreamStats {
        self.db.stream_stats()
    }

    /// What happens to this stream from now on, also if it does not exist yet.
    pub fn watch(&self, name: &str) -> Events {
        self.db.stream_events(name)
    }

    fn attached(&self, source: &str, stream: &str, attach: bool) -> Result<()> {
        let attach = Attach {
            source: exactly(source),
            stream: exactly(stream),
            attach,
        };
        self.run(Statement::Attach(attach)).map(drop)
    }

    fn act(&self, name: &str, action: StreamAction) -> Result<Vec<String>> {
        let stream = exactly(name);
        self.run(Statement::Lifecycle { action, stream })
    }

    /// Runs a statement that has no text, and starts the sources that should run: gives their names.
    fn run(&self, statement: Statement) -> Result<Vec<String>> {
        self.db
            .run_unwritten(statement)
            .map_err(|error| match error {
                Error::Sql(error) => Error::Sql(error.at(None)),
                other => other,
            })
    }
}

fn exactly(name: &str) -> Name {
    Name {
        value: name.to_owned(),
        quoted: true,
        span: 0..0,
    }
}
