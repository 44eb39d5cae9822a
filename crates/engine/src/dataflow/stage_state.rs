//! The state of a query's stages, saved and restored between two steps.
//!
//! ```text
//!   stage --save--> StageState { facts, runs } --written, read again--> restore --> stage
//! ```
//!
//! A [`Run`] is immutable and has an id, so that checkpoints write each run once: two saves without a
//! change between them give the same ids. A state does not depend on the number of workers.
//! [`StageHandle::restore`] gets the states of all workers before the restart, and each worker takes
//! the rows whose **key group** is its own (`key_group.rs`). A run that is wholly the worker's own stays
//! as it is, with its id.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use super::groups::Grouping;
use super::key_group::owners;
use super::stream_element::Watermark;

/// An immutable batch of state.
#[derive(Debug, Clone)]
pub struct Run {
    /// Unique in this process.
    pub id: u64,
    /// The start of the pane that it belongs to, in the unit of the event time column, where a
    /// stage has panes; else 0.
    pub slot: i64,
    /// Which part of the pane it is: the start of the first window that counts it, `i64::MIN` if all that
    /// contain the pane do; of a SESSION, the source of its rows.
    pub counted_from: i64,
    /// Keys and states, or rows of a view.
    pub rows: RecordBatch,
}

impl Run {
    /// A run with a new id.
    pub fn new(slot: i64, rows: RecordBatch) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            // Relaxed: ids need only differ; the number publishes nothing.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            slot,
            counted_from: i64::MIN,
            rows,
        }
    }

    /// The same run with other rows, and so with a new id.
    pub(super) fn with_rows(&self, rows: RecordBatch) -> Self {
        Self {
            counted_from: self.counted_from,
            ..Self::new(self.slot, rows)
        }
    }
}

/// The state of one stage on one worker, between two steps. `R` is a run, or its location on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageState<R = Run> {
    /// Single numbers by name: the watermark and what follows from it.
    pub facts: BTreeMap<String, i64>,
    /// The state of keys. The order of the runs is part of it.
    pub runs: Vec<R>,
}

impl Default for StageState {
    fn default() -> Self {
        Self {
            facts: BTreeMap::new(),
            runs: Vec::new(),
        }
    }
}

impl StageState {
    pub(super) fn set(&mut self, name: &str, value: i64) {
        self.facts.insert(name.to_owned(), value);
    }

    /// The facts of that name of all states that have it.
    pub(super) fn all<'a>(states: &'a [Self], name: &'a str) -> impl Iterator<Item = i64> + 'a {
        states.iter().filter_map(move |state| state.get(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<i64> {
        self.facts.get(name).copied()
    }
}

impl Watermark {
    /// Saves this watermark as facts that begin with `name`.
    pub(super) fn save(self, state: &mut StageState, name: &str) {
        state.set(&format!("{name}_us"), self.at_us);
        state.set(&format!("{name}_idle"), i64::from(self.idle));
    }

    /// The watermark that was saved as `name`: all workers save the same one.
    pub(super) fn saved(states: &[StageState], name: &str) -> Self {
        let Some(state) = states.first() else {
            return Self::START;
        };
        let fact = |part: &str| state.get(&format!("{name}_{part}"));
        Self {
            at_us: fact("us").unwrap_or(Self::START.at_us),
            idle: fact("idle") == Some(1),
        }
    }
}

/// The part of the keys that a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of this worker, below `peers`.
    pub index: usize,
    /// The number of workers.
    pub peers: usize,
}

impl Share {
    /// The state that this worker saved before the restart, if there were as many workers as now.
    pub(super) fn unchanged<'a>(&self, states: &'a [StageState]) -> Option<&'a StageState> {
        (states.len() == self.peers).then(|| &states[self.index])
    }

    /// The rows of `runs`, keys and states of `grouping`, whose keys are this worker's.
    pub(super) fn cut_all<'a>(
        &self,
        runs: impl IntoIterator<Item = &'a Run>,
        grouping: &Grouping,
    ) -> Result<Vec<Run>> {
        let cut = runs.into_iter().map(|run| {
            let run = grouping.upgraded(run)?;
            self.cut(&run, grouping.run_keys(&run.rows))
        });
        cut.filter_map(Result::transpose).collect()
    }

    fn cut(&self, run: &Run, keys: &[ArrayRef]) -> Result<Option<Run>> {
        let owners = owners(keys, run.rows.num_rows(), self.peers)?;
        let mine: BooleanArray = owners.map(|owner| Some(owner == self.index)).collect();
        Ok(match mine.true_count() {
            0 => None,
            all if all == run.rows.num_rows() => Some(run.clone()),
            _ => Some(run.with_rows(filter_record_batch(&run.rows, &mine)?)),
        })
    }
}

/// State that can be saved and restored, between steps only.
pub(super) trait Checkpointed {
    /// Returns the state. What the stage produces later does not depend on whether it was saved.
    fn save(&mut self) -> Result<StageState>;

    /// Takes this worker's share of the states that all workers saved. Before the first rows.
    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()>;
}

/// Saves and restores one stage of a query on one worker, on the worker's thread.
#[derive(Clone)]
pub struct StageHandle(Rc<RefCell<dyn Checkpointed>>);

impl StageHandle {
    pub(super) fn new(stage: Rc<RefCell<dyn Checkpointed>>) -> Self {
        Self(stage)
    }

    /// The state of the stage, between two steps: after the probe has passed the last one. What is not in
    /// runs yet is moved into one, not copied.
    ///
    /// # Errors
    /// If an accumulator cannot return its state.
    pub fn save(&self) -> Result<StageState> {
        self.0.borrow_mut().save()
    }

    /// Restores the stage from what it saved on all workers, in the order of the workers; before the
    /// first step. `share` is that of this worker.
    ///
    /// # Errors
    /// If the runs have other columns than the stage.
    pub fn restore(&self, states: &[StageState], share: Share) -> Result<()> {
        self.0.borrow_mut().restore(states, share)
    }
}

#[cfg(test)]
mod tests;
