//! [`Streams`]: the lifecycle of streams as a Rust API.
//!
//! A statement without text for each call, so that a program and a script do the same.

use std::sync::Arc;

use super::catalog::CatalogEntry;
use super::shutdown::EngineOwner;
use super::{query, statements};
use crate::error::{Error, Result};
use crate::event_log::Events;
use crate::sql::{Attach, CreateSourceGroup, Name, Statement, StreamAction};
use crate::stream_status::{StreamStats, StreamStatus};

/// The streams of a database. A cheap handle; every call blocks until what it asks for is done, like a
/// statement.
#[derive(Debug, Clone)]
pub struct Streams {
    engine: Arc<EngineOwner>,
}

impl Streams {
    pub(super) fn new(engine: Arc<EngineOwner>) -> Self {
        Self { engine }
    }

    /// Creates a stream without sources, pending until it is started. Its columns are those of the
    /// first source attached; `CREATE STREAM name (columns)` declares them beforehand.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn create(&self, name: &str) -> Result<()> {
        let create = CreateSourceGroup {
            name: Name::exact(name),
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

    /// Starts or resumes a stream, and starts its sources, also those that had failed: returns the
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

    /// Resumes a paused stream where it was; returns the names of the sources started. Does nothing if
    /// it is active.
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
        match self.engine.catalog().get(name) {
            Some(CatalogEntry::Query(query)) => query.lifecycle.status,
            _ => StreamStatus::Unknown,
        }
    }

    /// The names of the active streams and views, sorted.
    pub fn list_active(&self) -> Vec<String> {
        let all = self.list().into_iter();
        let active = all.filter(|(_, status)| *status == StreamStatus::Active);
        active.map(|(name, _)| name).collect()
    }

    /// All streams and views by name, and what they are doing.
    pub fn list(&self) -> Vec<(String, StreamStatus)> {
        let catalog = self.engine.catalog();
        let queries = catalog.queries();
        let status = queries.map(|(name, it)| (name.clone(), it.lifecycle.status));
        status.collect()
    }

    /// How many streams and sources are at work.
    pub fn stats(&self) -> StreamStats {
        query::stream_stats(&self.engine.catalog())
    }

    /// What happens to this stream from now on, also if it does not exist yet.
    pub fn watch(&self, name: &str) -> Events {
        let catalog = self.engine.catalog();
        let name = catalog.spelling(name).unwrap_or(name).to_owned();
        self.engine.event_log.watch(Some(name))
    }

    fn attached(&self, source: &str, stream: &str, attach: bool) -> Result<()> {
        let attach = Attach {
            source: Name::exact(source),
            stream: Name::exact(stream),
            attach,
        };
        self.run(Statement::Attach(attach)).map(drop)
    }

    fn act(&self, name: &str, action: StreamAction) -> Result<Vec<String>> {
        let stream = Name::exact(name);
        self.run(Statement::Lifecycle { action, stream })
    }

    /// Runs a statement that has no text, and starts the sources that should run: returns their names.
    fn run(&self, statement: Statement) -> Result<Vec<String>> {
        statements::run_without_text(&self.engine, statement).map_err(|error| match error {
            Error::Sql(error) => Error::Sql(error.at(None)),
            other => other,
        })
    }
}
