//! What the catalog keeps of the life of a stream: its status, what it was made of, what is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::dataflow::Plan;
use crate::streams::StreamStatus;
use crate::worker::CatchUpPosition;

/// The life of one stream or view.
pub(super) struct Life {
    pub status: StreamStatus,
    /// Since when it has this status, in microseconds since 1970-01-01 UTC.
    pub since_us: i64,
    pub recipe: Recipe,
    pub description: Option<String>,
    /// The inputs held on the workers, by name.
    pub held: BTreeMap<String, HeldInput>,
}

/// What its dataflow is built of.
pub(super) enum Recipe {
    /// The plan of its query.
    Query(Plan),
    /// The sources attached, which are its inputs. Without columns nothing can read it.
    Set { has_columns: bool },
}

/// An input whose rows pass by.
#[derive(Clone)]
pub(super) struct HeldInput {
    pub missed: Arc<AtomicU64>,
    pub since_us: i64,
    /// How far the query was fed from it, if it is a source with a log: then nothing is missed.
    pub place: Option<Arc<CatchUpPosition>>,
}

impl Life {
    /// A query that runs from its creation on.
    pub fn active(plan: Plan, now_us: i64) -> Self {
        Self::new(StreamStatus::Active, Recipe::Query(plan), now_us)
    }

    /// A set of sources, to be started.
    pub fn pending(has_columns: bool, now_us: i64) -> Self {
        Self::new(StreamStatus::Pending, Recipe::Set { has_columns }, now_us)
    }

    fn new(status: StreamStatus, recipe: Recipe, since_us: i64) -> Self {
        Self {
            status,
            since_us,
            recipe,
            description: None,
            held: BTreeMap::new(),
        }
    }

    pub fn is_source_group(&self) -> bool {
        matches!(self.recipe, Recipe::Set { .. })
    }

    /// Whether it has no columns yet, so that nothing can read it.
    pub fn is_formless(&self) -> bool {
        matches!(self.recipe, Recipe::Set { has_columns: false })
    }

    pub fn enter(&mut self, status: StreamStatus, now_us: i64) {
        self.status = status;
        self.since_us = now_us;
    }
}
