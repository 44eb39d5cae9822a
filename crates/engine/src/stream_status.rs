//! The status of streams: of one, of all as numbers, and as a checkpoint saves it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStatus {
    /// Created and not started: every source group is at first.
    Pending,
    /// It runs: rows pass through it.
    Active,
    /// It gets no rows and keeps its windows, views and the cursors of its sources.
    Paused,
    /// It gets no rows and keeps nothing.
    Stopped,
    /// There is no stream of this name.
    #[default]
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
    /// Sources with a connector that is starting, running or about to retry.
    pub total_workers: usize,
    /// Sources with a connector that were given up.
    pub failed_workers: usize,
    /// Restarts of sources after a failure.
    pub restarts: u64,
}

/// What restores streams after a restart, besides the statements that created them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LifecycleState {
    /// Every stream and view, by name.
    pub streams: BTreeMap<String, SavedStream>,
}

impl LifecycleState {
    /// Notes how far a stream has been fed from the logs of these held sources.
    pub(crate) fn fed(&mut self, stream: &str, held: BTreeMap<String, u64>) {
        if !held.is_empty() {
            let stream = self.streams.entry(stream.to_owned());
            stream.or_default().held.extend(held);
        }
    }
}

/// One stream of a [`LifecycleState`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedStream {
    /// Its status at the checkpoint.
    pub status: StreamStatus,
    /// The sources attached to it, if it is a source group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<String>,
    /// Per held source with a log, the step up to which the stream has been fed from it, by name. Only a
    /// checkpoint has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, u64>,
}
