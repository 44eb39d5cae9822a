//! TUMBLE and HOP: groups per pane, results per window.
//!
//! ```text
//!   time   |--p0--|--p1--|--p2--|--p3--|        a pane is one slide long
//!   w(p0)  [=============]                      here size = 2 slides
//!   w(p1)         [=============]
//! ```
//!
//! A row updates the groups of its one pane. When the watermark passes the end of a window, the
//! window's result is the merge of its panes; a pane is dropped with the last window that contains it.
//! With TUMBLE a window is one pane, and nothing is merged: the groups are the result.
//! A row is late for the windows that end at or before the frontier before it (`frontier.rs`). One that is
//! late for some of its HOP windows is counted in the others: it goes into a pane of its own, which
//! only windows from a certain start on count. Either way it is a [`StreamElement::Late`].
//!
//! With several workers, each keeps the panes of the rows it read and emits a
//! [`StreamElement::Partial`] when a window closes; [`MergeStage`] merges them on the worker of their
//! keys.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result;

use super::frontier::Frontier;
use super::group_results::GroupResults;
use super::groups::{Groups, instants};
use super::pane;
use super::panes::{PaneKey, Panes};
use super::plan::WindowSpec;
use super::query_errors::QueryErrors;
use super::stage::Stage;
use super::stage_state::{Share, StageState};
use super::stream_element::{StreamElement, Watermark};
use super::window_slots::PaneTimes;

/// What the stage emits of a closed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The results of its groups.
    Results,
    /// The states of this worker's groups.
    Partials,
}

pub(super) struct WindowStage {
    spec: Arc<WindowSpec>,
    close: Close,
    errors: QueryErrors,
    panes: Panes,
    /// The number of rows of the step at hand.
    rows: usize,
    /// No row earlier than this will come, as of the end of the last step.
    bound: i64,
    /// Windows that start before this have been closed.
    next: i64,
}

impl WindowStage {
    pub fn new(spec: Arc<WindowSpec>, close: Close, errors: QueryErrors) -> Self {
        Self {
            errors,
            panes: Panes::new(&spec.grouping, spec.slots.are_panes()),
            rows: 0,
            spec,
            close,
            bound: i64::MIN,
            next: i64::MIN,
        }
    }

    /// The start of the first window that counts a row, if the frontier before it is in this pane.
    fn first_counted(&self, pane: PaneTimes) -> i64 {
        self.spec.slots.first_window(pane.slot).max(self.next)
    }

    /// Adds rows that no window which starts before `first` counts.
    fn add(&mut self, rows: RecordBatch, first: i64, out: &mut Vec<StreamElement>) -> Result<()> {
        let spec = Arc::clone(&self.spec);
        let times = spec.time.of(&rows)?;
        let slots = &spec.slots;
        for part in pane::split(rows, &times, |time| slots.pane_at(time))? {
            let Some(start) = part.pane else {
                out.push(spec.late(part.rows, false, None)?);
                continue;
            };
            let mut key = PaneKey::whole(start);
            if slots.first_window(start) < first {
                let missed = start.min(first.saturating_sub(slots.slide));
                let is_counted = first <= start;
                out.push(spec.late(part.rows.clone(), is_counted, Some(missed))?);
                if !is_counted {
                    continue;
                }
                key.counted_from = first;
            }
            self.panes.at(key)?.live.update(&part.rows)?;
        }
        Ok(())
    }

    /// The first window after those closed that has rows.
    fn first_open(&self) -> Option<i64> {
        let first = self.panes.first()?;
        Some(self.spec.slots.first_window(first).max(self.next))
    }

    fn close(&mut self, start: i64, out: &mut Vec<StreamElement>) -> Result<()> {
        let spec = Arc::clone(&self.spec);
        let mut groups = match spec.slots.are_panes() {
            true => match self.panes.remove(PaneKey::whole(start)) {
                Some(pane) => Some(pane.into_groups(&spec.grouping)?),
                None => None,
            },
            false => self.merge_panes(start)?,
        };
        if let Some(groups) = groups.as_mut().filter(|groups| !groups.is_empty()) {
            match self.close {
                Close::Results => finish(&spec, groups, start, &self.errors, out)?,
                Close::Partials => out.push(StreamElement::Partial {
                    window: start,
                    rows: groups.take_run()?,
                }),
            }
        }
        // Not by the start of the next window: the last window of all time has none.
        self.panes.drop_until(start);
        self.next = start.saturating_add(spec.slots.slide);
        Ok(())
    }

    /// Closes windows without rows too: later rows must not open them again on one worker and not on
    /// another.
    fn close_empty(&mut self) {
        self.next = self.first_counted(self.spec.slots.pane_at(self.bound));
    }

    fn merge_panes(&mut self, start: i64) -> Result<Option<Groups>> {
        let mut merged: Option<Groups> = None;
        let last = self.spec.slots.last_pane(start);
        for pane in self.panes.of_window(start, last) {
            let Some(run) = pane.whole(&self.spec.grouping)? else {
                continue;
            };
            let groups = match &mut merged {
                Some(groups) => groups,
                None => merged.insert(Groups::new(&self.spec.grouping)?),
            };
            groups.merge(&run.rows)?;
        }
        Ok(merged)
    }
}

impl Stage for WindowStage {
    fn rows(
        &mut self,
        rows: RecordBatch,
        frontier: &Frontier,
        out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        self.rows += rows.num_rows();
        let (from_us, to_us) = frontier.range_us();
        let spec = Arc::clone(&self.spec);
        let (slots, time) = (&spec.slots, &spec.time);
        let pane_at = |us| slots.pane_at(time.bound(us));
        let mut pane = pane_at(from_us);
        let first = self.first_counted(pane);
        let closes_none =
            pane.holds(time.bound(to_us)) || first == self.first_counted(pane_at(to_us));
        if closes_none || frontier.in_order() {
            return self.add(rows, first, out);
        }
        // A window closes among these rows, and some may be late for it.
        let frontiers = frontier.values(rows.num_rows())?;
        let firsts = frontiers.values().iter().map(|us| {
            if !pane.holds(time.bound(*us)) {
                pane = pane_at(*us);
            }
            self.first_counted(pane)
        });
        let firsts: Vec<i64> = firsts.collect();
        let mut row = 0;
        for same in firsts.chunk_by(|a, b| a == b) {
            self.add(rows.slice(row, same.len()), same[0], out)?;
            row += same.len();
        }
        Ok(())
    }

    fn end_of_step(&mut self, watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()> {
        self.bound = self.bound.max(self.spec.time.bound(watermark.at_us));
        let reached = self.spec.slots.reached(self.bound);
        while let Some(start) = self.first_open() {
            if self.spec.slots.end(start) > reached {
                break;
            }
            self.close(start, out)?;
        }
        self.close_empty();
        self.panes.tidy(std::mem::take(&mut self.rows))
    }

    fn closes_us(&self) -> Option<i64> {
        let end = self.spec.slots.end(self.first_open()?);
        Some(self.spec.time.closes_us(self.spec.slots.instant(end)))
    }

    fn save(&mut self) -> Result<StageState> {
        let mut state = StageState::default();
        state.set("bound", self.bound);
        state.set("next", self.next);
        self.panes.save(&mut state)?;
        Ok(state)
    }

    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()> {
        let last = |name| StageState::all(states, name).max().unwrap_or(i64::MIN);
        (self.bound, self.next) = (last("bound"), last("next"));
        let own = self.panes.own(states, share)?;
        self.panes.restore(own)
    }
}

/// Merges the partial results of all workers.
pub(super) struct MergeStage {
    spec: Arc<WindowSpec>,
    errors: QueryErrors,
    windows: BTreeMap<i64, Groups>,
}

impl MergeStage {
    pub fn new(spec: Arc<WindowSpec>, errors: QueryErrors) -> Self {
        Self {
            spec,
            errors,
            windows: BTreeMap::new(),
        }
    }
}

impl Stage for MergeStage {
    fn partial(&mut self, window: i64, rows: RecordBatch) -> Result<()> {
        let groups = match self.windows.entry(window) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => free.insert(Groups::new(&self.spec.grouping)?),
        };
        groups.merge(&rows)
    }

    fn end_of_step(&mut self, _watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()> {
        // Every worker closes a window in the same step, so all its partial results have arrived.
        for (start, mut groups) in std::mem::take(&mut self.windows) {
            finish(&self.spec, &mut groups, start, &self.errors, out)?;
        }
        Ok(())
    }
}

/// The results of a closed window. Taking them out of the accumulators destroys the state, so groups
/// whose results may fail are taken out as a run.
fn finish(
    spec: &WindowSpec,
    groups: &mut Groups,
    start: i64,
    errors: &QueryErrors,
    out: &mut Vec<StreamElement>,
) -> Result<()> {
    let window = |rows: usize| -> Result<_> {
        let end = spec.slots.end(start);
        let bound = |slot| instants(&spec.time.data_type, spec.slots.instant(slot), rows);
        Ok(Some((bound(start)?, bound(end)?)))
    };
    if !errors.is_dead_letter() {
        let results = groups.take_results()?;
        let window = window(results.count)?;
        let rows = results.arrange(&spec.output, window, &spec.schema)?;
        out.push(StreamElement::rows(rows));
        return Ok(());
    }
    let result = GroupResults {
        grouping: &spec.grouping,
        output: &spec.output,
        schema: &spec.schema,
        window: &|run| window(run.num_rows()),
    };
    out.extend(result.each(&groups.take_run()?, errors)?);
    Ok(())
}
