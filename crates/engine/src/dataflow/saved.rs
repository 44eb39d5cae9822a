//! What the stages of a query know, handed out and taken in between two steps.
//!
//! ```text
//!   stage --save--> StageState { facts, runs } --written, read again--> restore --> stage
//! ```
//!
//! A [`Run`] is immutable and has an id, so whoever writes checkpoints writes each run once: saving
//! twice without a change gives the same ids. A state says nothing of how many workers there are.
//! [`StageHandle::restore`] is given the states of all workers of the run before, and a worker takes
//! those rows whose **key group** is its own: keys fall into [`KEY_GROUPS`] groups by their hash, and
//! the groups are dealt out in ranges ([`owner`]). Rows are routed by the same function, so they
//! meet their state. A run that is wholly the worker's own is kept as it is, with its id.
//!
//! The hash is DataFusion's, whose seeds are fixed, so it is the same in every process of one build.
//! Nothing rests on that: a restore computes the groups of saved rows anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;

use super::groups::Grouping;
use super::stream_element::Watermark;

/// Into how many groups keys fall. A power of two.
pub const KEY_GROUPS: usize = 256;

/// An immutable piece of state.
#[derive(Debug, Clone)]
pub struct Run {
    /// Tells it apart from all others of this process.
    pub id: u64,
    /// The start of the pane that it belongs to, in the unit of the event time column, where a
    /// stage has panes; else 0.
    pub slot: i64,
    /// Its rows.
    pub rows: RecordBatch,
}

impl Run {
    /// A run with an id of its own.
    pub fn new(slot: i64, rows: RecordBatch) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            // Only that no two are equal counts; nothing is published through the number.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            slot,
            rows,
        }
    }
}

/// What one stage on one worker knows, between two steps.
#[derive(Debug, Clone, Default)]
pub struct StageState {
    /// Single numbers by name: the watermark and what follows from it.
    pub facts: BTreeMap<String, i64>,
    /// What is known of keys. Their order is part of the state.
    pub runs: Vec<Run>,
}

impl StageState {
    /// Notes a fact.
    pub(super) fn set(&mut self, name: &str, value: i64) {
        self.facts.insert(name.to_owned(), value);
    }

    /// Each state's fact of that name, where it was noted.
    pub(super) fn all<'a>(states: &'a [Self], name: &'a str) -> impl Iterator<Item = i64> + 'a {
        states.iter().filter_map(move |state| state.get(name))
    }

    /// A fact, if it was noted.
    pub(super) fn get(&self, name: &str) -> Option<i64> {
        self.facts.get(name).copied()
    }
}

impl Watermark {
    /// Notes this watermark as facts that begin with `name`.
    pub(super) fn note(self, state: &mut StageState, name: &str) {
        state.set(&format!("{name}_us"), self.at_us);
        state.set(&format!("{name}_idle"), i64::from(self.idle));
    }

    /// The watermark that was noted as `name`. All workers know the same one.
    pub(super) fn noted(states: &[StageState], name: &str) -> Self {
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

/// Which part of the keys a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of the worker, below `peers`.
    pub index: usize,
    /// How many workers there are.
    pub peers: usize,
}

impl Share {
    /// The states of the run before that are this worker's own as they are, if there were as many
    /// workers as now.
    pub(super) fn unchanged<'a>(&self, states: &'a [StageState]) -> Option<&'a StageState> {
        (states.len() == self.peers).then(|| &states[self.index])
    }

    /// The part of `runs`, keys and states of `grouping`, whose keys are this worker's.
    pub(super) fn cut_all<'a>(
        &self,
        runs: impl IntoIterator<Item = &'a Run>,
        grouping: &Grouping,
    ) -> Result<Vec<Run>> {
        let cut = runs.into_iter().map(|run| {
            let keys = grouping.run_keys(&run.rows);
            self.cut(run, keys)
        });
        cut.filter_map(Result::transpose).collect()
    }

    fn cut(&self, run: &Run, keys: &[ArrayRef]) -> Result<Option<Run>> {
        let owners = owners(keys, run.rows.num_rows(), self.peers)?;
        let mine: BooleanArray = owners.map(|owner| Some(owner == self.index)).collect();
        Ok(match mine.true_count() {
            0 => None,
            all if all == run.rows.num_rows() => Some(run.clone()),
            _ => Some(Run::new(run.slot, filter_record_batch(&run.rows, &mine)?)),
        })
    }
}

/// The worker of each row, by its keys; without keys, the first.
pub(super) fn owners(
    keys: &[ArrayRef],
    rows: usize,
    peers: usize,
) -> Result<impl Iterator<Item = usize>> {
    let mut hashes = vec![0; rows];
    if !keys.is_empty() {
        create_hashes(keys, &RandomState::default(), &mut hashes)?;
    }
    Ok(hashes
        .into_iter()
        .map(move |hash| owner(key_group(hash), peers)))
}

/// The key group of a hash. Not of its lowest or highest bits: by those, hash maps place keys, and
/// those of one worker would crowd in a part of them.
fn key_group(hash: u64) -> usize {
    (hash >> 40) as usize % KEY_GROUPS
}

/// The worker that has this key group, of `peers`. Each has a range of them; of more workers than
/// groups, some have none.
pub fn owner(key_group: usize, peers: usize) -> usize {
    key_group * peers / KEY_GROUPS
}

/// What can be saved and restored. Called between steps only, when nothing is under way.
pub(super) trait Saved {
    /// Hands out what is known. What comes later is as if this had not been asked.
    fn save(&mut self) -> Result<StageState>;

    /// Takes in what all workers of the run before had handed out. Only before the first rows.
    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()>;
}

/// One stage of a query on one worker. Stays on the worker's thread.
#[derive(Clone)]
pub struct StageHandle(Rc<RefCell<dyn Saved>>);

impl StageHandle {
    pub(super) fn new(stage: Rc<RefCell<dyn Saved>>) -> Self {
        Self(stage)
    }

    /// Hands out what the stage knows, between two steps: after the probe has passed the last one.
    /// What is not in runs yet is moved into one, not copied.
    ///
    /// # Errors
    /// If an accumulator cannot hand out its state.
    pub fn save(&self) -> Result<StageState> {
        self.0.borrow_mut().save()
    }

    /// Takes in what this stage on all workers of the run before had handed out, in the order of the
    /// workers; before the first step. `share` is this worker.
    ///
    /// # Errors
    /// If the runs have other columns than the stage.
    pub fn restore(&self, states: &[StageState], share: Share) -> Result<()> {
        self.0.borrow_mut().restore(states, share)
    }
}

#[cfg(test)]
mod tests;
