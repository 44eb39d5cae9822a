//! SESSION: rows of a key belong together as long as less than the gap lies between them.
//!
//! A session is `[first row, last row + gap)`; a row exactly at the end starts a new one. Rows are
//! first grouped by key within **panes** one gap long: two rows of a key in the same pane are
//! always in the same session, so the hot path is that of TUMBLE. The groups of a pane become
//! **clusters**: one row each of keys, accumulator states, first and last event time (the last two
//! aggregates of the grouping, which the planner adds). [`SessionStage::sweep`] joins clusters of a key
//! that are less than a gap apart, and those that ended before the watermark are results.
//!
//! A row behind the watermark still counts if it falls into an open session of its key, at or after
//! that session's first row; otherwise it is late. So no row that counts can touch a closed session.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::compute::{cast, concat_batches, filter_record_batch, not, take};
use datafusion::error::Result;

use super::group_results::GroupResults;
use super::groups::{Groups, KeyNumbers};
use super::pane;
use super::panes::Panes;
use super::plan::SessionSpec;
use super::query_errors::QueryErrors;
use super::stage::Stage;
use super::stage_state::{Run, Share, StageState};
use super::stream_element::{StreamElement, Watermark};

/// Open sessions per row since the last sweep up to which every step sweeps; with more, a sweep waits
/// until a sixteenth of the gap has passed.
const EAGER: usize = 8;

pub(super) struct SessionStage {
    spec: Arc<SessionSpec>,
    errors: QueryErrors,
    panes: Panes,
    /// The sessions that sweeps left open.
    open: Vec<Run>,
    /// No row earlier than this will come, as of the end of the last step.
    bound: i64,
    swept: i64,
    /// No session ends before this.
    earliest_end: i64,
    rows_since: usize,
    /// Rows of the step at hand.
    rows: usize,
}

impl SessionStage {
    pub fn new(spec: Arc<SessionSpec>, errors: QueryErrors) -> Self {
        Self {
            errors,
            panes: Panes::new(&spec.grouping, false),
            spec,
            open: Vec::new(),
            bound: i64::MIN,
            swept: i64::MIN,
            earliest_end: i64::MAX,
            rows_since: 0,
            rows: 0,
        }
    }

    /// Adds rows that are not late.
    fn add(&mut self, rows: RecordBatch, times: &Int64Array) -> Result<()> {
        let gap = self.spec.gap;
        if let Some(first) = pane::earliest(times) {
            self.earliest_end = self.earliest_end.min(first.saturating_add(gap));
        }
        self.rows_since += rows.num_rows();
        self.rows += rows.num_rows();
        for part in pane::split(rows, times, gap)? {
            let Some(start) = part.pane else { continue };
            self.panes.at(start)?.live.update(&part.rows)?;
        }
        Ok(())
    }

    /// Adds rows behind the watermark: those that fall into an open session count, the others are late.
    fn add_behind(&mut self, rows: RecordBatch, out: &mut Vec<StreamElement>) -> Result<()> {
        self.sweep(out)?;
        let times = self.spec.time.of(&rows)?;
        let counts = self.in_open_session(&rows, &times)?;
        let late = filter_record_batch(&rows, &not(&counts)?)?;
        if late.num_rows() > 0 {
            out.push(self.late(&late)?);
        }
        let rows = filter_record_batch(&rows, &counts)?;
        let times = self.spec.time.of(&rows)?;
        self.add(rows, &times)
    }

    fn in_open_session(&self, rows: &RecordBatch, times: &Int64Array) -> Result<BooleanArray> {
        let Some(open) = concat(&self.open)? else {
            return Ok(BooleanArray::from(vec![false; rows.num_rows()]));
        };
        let mut keys = KeyNumbers::new(&self.spec.grouping)?;
        let spans = Spans::of(&open)?;
        let mut by_key: HashMap<usize, Vec<usize>> = HashMap::new();
        let numbers = keys.number(self.spec.grouping.run_keys(&open), open.num_rows())?;
        for (cluster, &key) in numbers.iter().enumerate() {
            by_key.entry(key).or_default().push(cluster);
        }
        let numbers = keys.number(&self.spec.grouping.keys_of(rows)?, rows.num_rows())?;
        let inside = numbers.iter().zip(times).map(|(key, time)| {
            let (Some(time), Some(clusters)) = (time, by_key.get(key)) else {
                return false;
            };
            clusters.iter().any(|&cluster| {
                spans.first.value(cluster) <= time
                    && self.is_within(spans.last.value(cluster), time)
            })
        });
        Ok(BooleanArray::from(inside.collect::<Vec<_>>()))
    }

    fn must_sweep(&self) -> bool {
        let open: usize = self.open.iter().map(|run| run.rows.num_rows()).sum();
        let few = open <= EAGER * self.rows_since + 4_096 || self.rows_since == 0;
        let passed = self.bound.saturating_sub(self.swept) >= self.spec.gap / 16;
        self.earliest_end <= self.bound && (few || passed || self.bound == i64::MAX)
    }

    /// Joins clusters, and closes the sessions that have ended.
    fn sweep(&mut self, out: &mut Vec<StreamElement>) -> Result<()> {
        if !self.must_sweep() && self.swept == self.bound && self.rows_since == 0 {
            return Ok(());
        }
        self.swept = self.bound;
        self.rows_since = 0;
        for mut pane in self.panes.take_before(self.bound) {
            self.open.extend(pane.whole(&self.spec.grouping)?.cloned());
        }
        let Some(clusters) = concat(&std::mem::take(&mut self.open))? else {
            return Ok(());
        };
        let sessions = self.join(&clusters)?;
        self.close(sessions, out)?;
        self.earliest_end = self.find_earliest_end()?;
        Ok(())
    }

    /// Joins clusters into one row for each session.
    fn join(&self, clusters: &RecordBatch) -> Result<RecordBatch> {
        let count = clusters.num_rows();
        let keys = self.spec.grouping.run_keys(clusters);
        let numbers = KeyNumbers::new(&self.spec.grouping)?.number(keys, count)?;
        let spans = Spans::of(clusters)?;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by_key(|&row| (numbers[row], spans.first.value(row)));
        let mut session_of = vec![0; count];
        let mut leaders: Vec<u32> = Vec::new();
        let mut last = i64::MIN;
        for (at, &row) in order.iter().enumerate() {
            let same_key = at > 0 && numbers[order[at - 1]] == numbers[row];
            if !same_key || !self.is_within(last, spans.first.value(row)) {
                leaders.push(row as u32);
                last = i64::MIN;
            }
            last = last.max(spans.last.value(row));
            session_of[row] = leaders.len() - 1;
        }
        if leaders.len() == count {
            return Ok(clusters.clone());
        }
        let leaders = UInt32Array::from(leaders);
        let keys = keys.iter().map(|key| take(key, &leaders, None));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut groups = Groups::new(&self.spec.grouping)?;
        groups.merge_into(clusters, &session_of, leaders.len())?;
        groups.take_states(keys)
    }

    /// Whether a row at `time`, not before `last`, belongs to a session whose last row is at `last`. By
    /// their distance: `last + gap` may overflow.
    fn is_within(&self, last: i64, time: i64) -> bool {
        time.saturating_sub(last) < self.spec.gap
    }

    fn ends(&self, spans: &Spans) -> Int64Array {
        spans.last.unary(|last| last.saturating_add(self.spec.gap))
    }

    fn close(&mut self, sessions: RecordBatch, out: &mut Vec<StreamElement>) -> Result<()> {
        let end = self.ends(&Spans::of(&sessions)?);
        let open = arrow::compute::kernels::cmp::gt(&end, &Int64Array::new_scalar(self.bound))?;
        let closed = filter_record_batch(&sessions, &not(&open)?)?;
        if closed.num_rows() > 0 {
            out.extend(self.results(&closed)?);
        }
        let open = filter_record_batch(&sessions, &open)?;
        if open.num_rows() > 0 {
            self.open.push(Run::new(0, open));
        }
        Ok(())
    }

    fn results(&self, sessions: &RecordBatch) -> Result<Vec<StreamElement>> {
        let result = GroupResults {
            grouping: &self.spec.grouping,
            output: &self.spec.output,
            schema: &self.spec.schema,
            window: &|sessions| self.bounds(sessions).map(Some),
        };
        result.each(sessions, &self.errors)
    }

    /// First and last instant of each session.
    fn bounds(&self, sessions: &RecordBatch) -> Result<(ArrayRef, ArrayRef)> {
        let spans = Spans::of(sessions)?;
        let end = self.ends(&spans);
        let time = &self.spec.time.data_type;
        let first: ArrayRef = Arc::new(spans.first);
        Ok((cast(&first, time)?, cast(&end, time)?))
    }

    fn late(&self, rows: &RecordBatch) -> Result<StreamElement> {
        Ok(StreamElement::Late {
            stage: self.spec.stage,
            rows: self.spec.grouping.as_they_came(rows)?,
        })
    }

    fn find_earliest_end(&self) -> Result<i64> {
        let mut earliest = i64::MAX;
        for open in &self.open {
            if let Some(last) = pane::earliest(&Spans::of(&open.rows)?.last) {
                earliest = earliest.min(last.saturating_add(self.spec.gap));
            }
        }
        let ahead = self.panes.first();
        let ahead = ahead.map(|start| start.saturating_add(self.spec.gap));
        Ok(earliest.min(ahead.unwrap_or(i64::MAX)))
    }
}

impl Stage for SessionStage {
    fn rows(&mut self, rows: RecordBatch, out: &mut Vec<StreamElement>) -> Result<()> {
        let times = self.spec.time.of(&rows)?;
        let behind = match (times.null_count(), pane::earliest(&times)) {
            (0, Some(first)) if first >= self.bound => return self.add(rows, &times),
            _ => lt(&times, &Int64Array::new_scalar(self.bound))?,
        };
        let ahead = gt_eq(&times, &Int64Array::new_scalar(self.bound))?;
        let timeless = arrow::compute::is_null(&times)?;
        if timeless.true_count() > 0 {
            let rows = filter_record_batch(&rows, &timeless)?;
            out.push(self.late(&rows)?);
        }
        let behind = filter_record_batch(&rows, &behind)?;
        if behind.num_rows() > 0 {
            self.add_behind(behind, out)?;
        }
        let ahead = filter_record_batch(&rows, &ahead)?;
        let times = self.spec.time.of(&ahead)?;
        self.add(ahead, &times)
    }

    fn end_of_step(&mut self, watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()> {
        self.bound = self.bound.max(self.spec.time.bound(watermark.at_us));
        if self.must_sweep() {
            self.sweep(out)?;
        }
        self.panes.tidy(std::mem::take(&mut self.rows))
    }

    /// The first runs are the open sessions, the others those of panes.
    fn save(&mut self) -> Result<StageState> {
        let mut state = StageState {
            runs: self.open.clone(),
            ..StageState::default()
        };
        state.set("open", self.open.len() as i64);
        state.set("bound", self.bound);
        state.set("swept", self.swept);
        state.set("earliest_end", self.earliest_end);
        state.set("rows_since", self.rows_since as i64);
        self.panes.save(&mut state)?;
        Ok(state)
    }

    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()> {
        // With as many workers as before, each continues from its own state.
        let own = share.unchanged(states).map_or(states, std::slice::from_ref);
        let all = |name| StageState::all(own, name);
        self.bound = all("bound").max().unwrap_or(i64::MIN);
        self.swept = all("swept").min().unwrap_or(i64::MIN);
        self.earliest_end = all("earliest_end").min().unwrap_or(i64::MAX);
        self.rows_since = all("rows_since").sum::<i64>() as usize;
        for state in states {
            let open = state.get("open").unwrap_or(0) as usize;
            let (open, panes) = state.runs.split_at(open.min(state.runs.len()));
            let grouping = &self.spec.grouping;
            self.open.extend(share.cut_all(open, grouping)?);
            self.panes.restore(share.cut_all(panes, grouping)?)?;
        }
        Ok(())
    }
}

/// The clusters of all runs; `None` if there is no run.
fn concat(runs: &[Run]) -> Result<Option<RecordBatch>> {
    let Some(first) = runs.first() else {
        return Ok(None);
    };
    let schema = first.rows.schema();
    Ok(Some(concat_batches(
        &schema,
        runs.iter().map(|run| &run.rows),
    )?))
}

/// First and last event time of each cluster.
struct Spans {
    first: Int64Array,
    last: Int64Array,
}

impl Spans {
    fn of(clusters: &RecordBatch) -> Result<Self> {
        let columns = clusters.columns();
        let (first, last) = (columns.len() - 2, columns.len() - 1);
        Ok(Self {
            first: pane::times(&columns[first])?,
            last: pane::times(&columns[last])?,
        })
    }
}
