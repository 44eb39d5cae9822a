//! A stream or view as the catalog keeps it: its status, what it is defined by, which inputs are held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::dataflow::Plan;
use crate::stream_status::StreamStatus;
use crate::worker::CatchUpPosition;

/// What a stream or view is doing, and what its dataflow is built of.
pub(crate) struct StreamLifecycle {
    pub status: StreamStatus,
    /// Since when it has this status, in microseconds since 1970-01-01 UTC.
    pub since_us: i64,
    pub definition: StreamDefinition,
    pub description: Option<String>,
    /// Where its query begins if it has failed and lost its state.
    pub start: Start,
    /// The inputs held on the workers, by name.
    pub held: BTreeMap<String, HeldInput>,
    /// Each input as it is held once the query has failed, by name.
    pub if_failed: BTreeMap<String, HeldInput>,
}

/// Where a query begins in what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next row.
    Now,
    /// With the first retained row, if the logs of all its inputs retain rows; else with the next row.
    Retained,
    /// With the first retained row.
    Beginning,
    /// With the first row of this event time, in microseconds, or later.
    At(i64),
}

pub(crate) enum StreamDefinition {
    Query(Plan),
    /// The sources attached, which are its inputs. Until it has columns nothing can read it.
    SourceGroup {
        has_columns: bool,
    },
}

/// An input whose rows do not reach the stream while it is paused, or has failed.
#[derive(Clone)]
pub(crate) struct HeldInput {
    pub missed: Arc<AtomicU64>,
    pub since_us: i64,
    /// What has happened to the stream, after its name.
    pub what: &'static str,
    /// The step up to which the query was fed from it, if it is a source with a log: then it misses
    /// nothing.
    pub place: Option<Arc<CatchUpPosition>>,
}

impl HeldInput {
    /// An input of a stream to which this happens.
    pub fn new(what: &'static str, since_us: i64, has_log: bool) -> Self {
        Self {
            missed: Arc::default(),
            since_us,
            what,
            place: has_log.then(|| Arc::new(CatchUpPosition::unknown())),
        }
    }

    /// Why the stream has missed rows.
    pub fn reason(&self, stream: &str) -> String {
        format!("stream {stream:?} {}", self.what)
    }
}

impl StreamLifecycle {
    /// A query that runs from its creation on.
    pub fn active(plan: Plan, now_us: i64) -> Self {
        Self::new(StreamStatus::Active, StreamDefinition::Query(plan), now_us)
    }

    /// A source group that is not started.
    pub fn pending(has_columns: bool, now_us: i64) -> Self {
        let definition = StreamDefinition::SourceGroup { has_columns };
        Self::new(StreamStatus::Pending, definition, now_us)
    }

    fn new(status: StreamStatus, definition: StreamDefinition, since_us: i64) -> Self {
        Self {
            status,
            since_us,
            definition,
            description: None,
            start: Start::Now,
            held: BTreeMap::new(),
            if_failed: BTreeMap::new(),
        }
    }

    pub fn is_source_group(&self) -> bool {
        matches!(self.definition, StreamDefinition::SourceGroup { .. })
    }

    /// Whether it is a source group without columns, which nothing can read.
    pub fn has_no_columns(&self) -> bool {
        let StreamDefinition::SourceGroup { has_columns } = self.definition else {
            return false;
        };
        !has_columns
    }

    pub fn holds(&self, inputs: &BTreeSet<String>) -> bool {
        inputs.iter().eq(self.held.keys())
    }

    pub fn enter(&mut self, status: StreamStatus, now_us: i64) {
        self.status = status;
        self.since_us = now_us;
    }
}
