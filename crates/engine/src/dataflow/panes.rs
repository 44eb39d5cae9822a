//! The groups of panes: the live ones, and the runs that checkpoints took out of them.
//!
//! ```text
//!   pane:  run | run | run | live        the state of a key is the fold of these, left to right
//!          \___fold____/                 the part that is folded already, a few rows a step
//! ```
//!
//! Without checkpoints a pane is only its live groups. [`Panes::sealed`] moves those into a run, so it
//! copies nothing and later rows start from empty groups; a SESSION that indexes its rows does so as well.
//! Runs are folded in the background:
//! [`Panes::tidy`] merges a bounded number of rows a step. Once all are folded, and the later runs
//! together are half as large as the first or there are [`MAX_RUNS`], one run replaces all. So a run is
//! written again only after as much has been added.
//!
//! Always from the left: then the result is the same however far the fold has come, also for sums and
//! averages of doubles, and groups stay in the order in which they first came. The last bits of a sum of
//! doubles do depend on where a checkpoint, or an index of a SESSION, cut the rows: `(a + b) + (c + d)` is not
//! `((a + b) + c) + d`. So after a crash the sum is that of an execution with the same checkpoints; of
//! variances, whose states do not merge exactly even into an empty state, all but the last bits are.
//! Sums of integers and decimals, counts, least and greatest do not depend on checkpoints.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result;

use super::groups::{Grouping, Groups};
use super::stage_state::{Run, Share, StageState};

/// Runs of a pane at which they become one, however small the later ones are.
const MAX_RUNS: usize = 64;

/// Rows that are folded in a step in which no row came.
const FOLD_ROWS_MIN: usize = 4_096;

/// How far the runs of a pane have been merged.
struct Fold {
    into: Groups,
    /// The number of whole runs that are merged.
    run: usize,
    /// The number of rows of the next run that are merged.
    row: usize,
}

/// Which rows a pane holds. In order of their start, and of the windows that count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PaneKey {
    /// The first instant of the pane.
    pub start: i64,
    /// The start of the first window that counts its rows, of those that came late for the windows before;
    /// `i64::MIN` if every window that contains the pane does. Of a SESSION, the source of the rows.
    pub counted_from: i64,
}

impl PaneKey {
    /// The pane whose rows every window counts.
    pub fn whole(start: i64) -> Self {
        Self {
            start,
            counted_from: i64::MIN,
        }
    }
}

/// One slice of event time.
pub(super) struct Pane {
    key: PaneKey,
    pub live: Groups,
    runs: Vec<Run>,
    fold: Option<Fold>,
}

impl Pane {
    fn new(key: PaneKey, grouping: &Arc<Grouping>) -> Result<Self> {
        Ok(Self {
            key,
            live: Groups::new(grouping)?,
            runs: Vec::new(),
            fold: None,
        })
    }

    fn seal(&mut self) -> Result<()> {
        if !self.live.is_empty() {
            let rows = self.live.take_run()?;
            self.runs.push(self.run(rows));
        }
        Ok(())
    }

    fn run(&self, rows: RecordBatch) -> Run {
        Run {
            counted_from: self.key.counted_from,
            ..Run::new(self.key.start, rows)
        }
    }

    /// The whole state of the pane, as groups.
    pub fn into_groups(mut self, grouping: &Arc<Grouping>) -> Result<Groups> {
        if self.runs.is_empty() {
            return Ok(self.live);
        }
        self.seal()?;
        self.fold_rows(grouping, usize::MAX)?;
        Ok(self.fold.map_or(self.live, |fold| fold.into))
    }

    /// The whole state of the pane as one run, which stays in the pane; `None` if it has no groups.
    pub fn whole(&mut self, grouping: &Arc<Grouping>) -> Result<Option<&Run>> {
        self.seal()?;
        if self.runs.len() > 1 {
            self.fold_rows(grouping, usize::MAX)?;
            self.replace()?;
        }
        Ok(self.runs.first())
    }

    /// Whether it pays to replace the runs by one.
    fn is_cut_up(&self) -> bool {
        let Some((first, later)) = self.runs.split_first() else {
            return false;
        };
        let added: usize = later.iter().map(|run| run.rows.num_rows()).sum();
        !later.is_empty() && (2 * added >= first.rows.num_rows() || self.runs.len() >= MAX_RUNS)
    }

    /// Folds at most `rows` rows, and returns their number.
    fn fold_rows(&mut self, grouping: &Arc<Grouping>, rows: usize) -> Result<usize> {
        let mut fold = match self.fold.take() {
            Some(fold) => fold,
            None => Fold {
                into: Groups::new(grouping)?,
                run: 0,
                row: 0,
            },
        };
        let mut left = rows;
        while left > 0
            && let Some(run) = self.runs.get(fold.run)
        {
            let count = left.min(run.rows.num_rows() - fold.row);
            fold.into.merge(&run.rows.slice(fold.row, count))?;
            fold.row += count;
            left -= count;
            if fold.row == run.rows.num_rows() {
                (fold.run, fold.row) = (fold.run + 1, 0);
            }
        }
        self.fold = Some(fold);
        Ok(rows - left)
    }

    fn is_folded(&self) -> bool {
        self.fold
            .as_ref()
            .is_some_and(|fold| fold.run == self.runs.len())
    }

    /// Replaces all runs by the result of the fold.
    fn replace(&mut self) -> Result<()> {
        if let Some(mut fold) = self.fold.take() {
            let rows = fold.into.take_run()?;
            self.runs = vec![self.run(rows)];
        }
        Ok(())
    }
}

/// The panes of a stage.
pub(super) struct Panes {
    grouping: Arc<Grouping>,
    /// Whether a pane ends as groups, as with TUMBLE: then its runs are folded in advance.
    ends_as_groups: bool,
    panes: BTreeMap<PaneKey, Pane>,
    /// Panes that may have something to fold.
    untidy: BTreeSet<PaneKey>,
}

impl Panes {
    pub fn new(grouping: &Arc<Grouping>, ends_as_groups: bool) -> Self {
        Self {
            grouping: Arc::clone(grouping),
            ends_as_groups,
            panes: BTreeMap::new(),
            untidy: BTreeSet::new(),
        }
    }

    /// The pane of this key; a new one if there was none.
    pub fn at(&mut self, key: PaneKey) -> Result<&mut Pane> {
        match self.panes.entry(key) {
            Entry::Occupied(found) => Ok(found.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(Pane::new(key, &self.grouping)?)),
        }
    }

    /// The start of the first pane.
    pub fn first(&self) -> Option<i64> {
        self.panes.first_key_value().map(|(key, _)| key.start)
    }

    /// The panes of the window whose first pane is `first` and whose last is `last`, as far as it counts
    /// them.
    pub fn of_window(&mut self, first: i64, last: i64) -> impl Iterator<Item = &mut Pane> {
        let last = PaneKey {
            start: last,
            counted_from: i64::MAX,
        };
        let panes = self.panes.range_mut(PaneKey::whole(first)..=last);
        let counted = panes.filter(move |(key, _)| key.counted_from <= first);
        counted.map(|(_, pane)| pane)
    }

    pub fn remove(&mut self, key: PaneKey) -> Option<Pane> {
        self.panes.remove(&key)
    }

    /// Drops the panes that start at `last` or before.
    pub fn drop_until(&mut self, last: i64) {
        while let Some(pane) = self.panes.first_entry()
            && pane.key().start <= last
        {
            pane.remove();
        }
    }

    /// Takes out the panes that start before `bound`; at the end of all time, all of them.
    pub fn take_before(&mut self, bound: i64) -> impl Iterator<Item = Pane> + use<> {
        let ahead = match bound {
            i64::MAX => BTreeMap::new(),
            bound => self.panes.split_off(&PaneKey::whole(bound)),
        };
        std::mem::replace(&mut self.panes, ahead).into_values()
    }

    /// At the end of a step of `rows` rows: folds some of the runs. Several times what the step can have
    /// added to the next run, so the fold keeps up with checkpoints.
    pub fn tidy(&mut self, rows: usize) -> Result<()> {
        self.fold(FOLD_ROWS_MIN + 3 * rows)
    }

    /// Folds at most `rows` rows.
    pub fn fold(&mut self, rows: usize) -> Result<()> {
        let mut left = rows;
        while left > 0
            && let Some(key) = self.untidy.first().copied()
        {
            let folded = match self.panes.get_mut(&key) {
                Some(pane) => tidy_pane(pane, &self.grouping, self.ends_as_groups, left)?,
                None => None,
            };
            match folded {
                Some(rows) => left -= rows,
                None => {
                    self.untidy.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Moves the live groups into runs, and returns all runs.
    pub fn sealed(&mut self) -> Result<impl Iterator<Item = &Run>> {
        for (key, pane) in &mut self.panes {
            pane.seal()?;
            let untidy = !pane.is_folded() && (self.ends_as_groups || pane.is_cut_up());
            if untidy && !pane.runs.is_empty() {
                self.untidy.insert(*key);
            }
        }
        Ok(self.panes.values().flat_map(|pane| &pane.runs))
    }

    /// Moves the live groups into runs and adds all runs to `state`.
    pub fn save(&mut self, state: &mut StageState) -> Result<()> {
        state.runs.extend(self.sealed()?.cloned());
        Ok(())
    }

    /// Adds the runs of this worker.
    pub fn restore(&mut self, runs: impl IntoIterator<Item = Run>) -> Result<()> {
        for run in runs {
            let key = PaneKey {
                start: run.slot,
                counted_from: run.counted_from,
            };
            self.at(key)?.runs.push(run);
            self.untidy.insert(key);
        }
        Ok(())
    }

    /// This worker's part of the saved states. With as many workers as before, each gets its own again:
    /// where rows are not routed by their keys, any split is right.
    pub fn own(&self, states: &[StageState], share: Share) -> Result<Vec<Run>> {
        if let Some(own) = share.unchanged(states) {
            let runs = own.runs.iter();
            return runs.map(|run| self.grouping.upgraded(run)).collect();
        }
        let runs = states.iter().flat_map(|state| &state.runs);
        share.cut_all(runs, &self.grouping)
    }
}

/// Folds at most `rows` rows of a pane and returns their number; `None` if nothing is left to fold.
fn tidy_pane(
    pane: &mut Pane,
    grouping: &Arc<Grouping>,
    ahead: bool,
    rows: usize,
) -> Result<Option<usize>> {
    if pane.runs.is_empty() || !(ahead || pane.is_cut_up()) {
        return Ok(None);
    }
    if !pane.is_folded() {
        return pane.fold_rows(grouping, rows).map(Some);
    }
    if pane.is_cut_up() {
        pane.replace()?;
        return Ok(Some(0));
    }
    Ok(None)
}
