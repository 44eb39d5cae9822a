//! SESSION: rows of a key belong together as long as less than the gap lies between them.
//!
//! A session is `[first row, last row + gap)`; a row exactly at the end starts a new one. Rows are
//! first grouped by key within **panes** one gap long: two rows of a key in the same pane are
//! always in the same session, so the hot path is that of TUMBLE. The groups of a pane become
//! **clusters**: one row each of keys, accumulator states, first and last event time (the last two
//! aggregates of the grouping, which the planner adds). [`SessionStage::sweep`] joins clusters of a key
//! that are less than a gap apart, and those that ended before the watermark are results.
//!
//! A row behind the frontier before it (`frontier.rs`) still counts if it falls into a session of its key
//! that is open there, at or after that session's first row; otherwise it is late
//! ([`OpenSessions`]). So no row that counts can touch a closed session.
//!
//! Of a UNION, the clusters of each source stay apart until their session closes: whether a row counts
//! depends on the rows of its own source alone.

mod open_sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::lt_eq;
use arrow::compute::{cast, concat_batches, filter, filter_record_batch, not, take};
use datafusion::common::cast::as_int64_array;
use datafusion::error::Result;

use super::frontier::Frontier;
use super::group_results::GroupResults;
use super::groups::Groups;
use super::key_numbers::KeyNumbers;
use super::pane;
use super::panes::{PaneKey, Panes};
use super::plan::{self, SessionSpec};
use super::query_errors::QueryErrors;
use super::stage::Stage;
use super::stage_state::{Run, Share, StageState};
use super::stream_element::{StreamElement, Watermark};
use super::window_slots::PaneTimes;
use open_sessions::{OpenSessions, UseCount};

/// Open sessions per row since the last sweep up to which every step sweeps; with more, a sweep waits
/// until a sixteenth of the gap has passed.
const EAGER: usize = 8;

pub(super) struct SessionStage {
    spec: Arc<SessionSpec>,
    errors: QueryErrors,
    panes: Panes,
    /// The sessions that sweeps left open, those of each source; a run is counted from its source.
    open: Vec<Run>,
    /// While rows behind the frontier come.
    index: Option<OpenSessions>,
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
            index: None,
            bound: i64::MIN,
            swept: i64::MIN,
            earliest_end: i64::MAX,
            rows_since: 0,
            rows: 0,
        }
    }

    /// Adds rows of a source that are not late.
    fn add(&mut self, source: i64, rows: RecordBatch, times: &Int64Array) -> Result<()> {
        let gap = self.spec.gap;
        if let Some(first) = pane::earliest(times) {
            self.earliest_end = self.earliest_end.min(first.saturating_add(gap));
        }
        self.rows_since += rows.num_rows();
        self.rows += rows.num_rows();
        for part in pane::split(rows, times, |time| PaneTimes::of_length(gap, 0, time))? {
            let Some(start) = part.pane else { continue };
            let key = PaneKey {
                start,
                counted_from: source,
            };
            self.panes.at(key)?.live.update(&part.rows)?;
        }
        Ok(())
    }

    /// Adds rows of which some are behind `bounds`, the frontier before each of them, or have no time.
    fn add_judged(
        &mut self,
        source: i64,
        rows: RecordBatch,
        times: &Int64Array,
        bounds: &[i64],
        out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        let mut index = match self.index.take() {
            Some(index) => index,
            None => self.index_all()?,
        };
        let keys = self.spec.grouping.keys_of(&rows)?;
        let counts = index.judge(source, &keys, times, bounds, self.bound)?;
        self.index = Some(index).filter(|index| !index.use_count.is_spent());
        let missed = not(&counts)?;
        if missed.true_count() > 0 {
            let gap = self.spec.gap;
            let until: Int64Array = times.unary(|time| time.saturating_add(gap));
            let until = filter(&until, &missed)?;
            let until = as_int64_array(&until)?;
            let late = filter_record_batch(&rows, &missed)?;
            let late = self.spec.grouping.as_they_came(&late)?;
            let (stage, time) = (self.spec.stage, &self.spec.time);
            out.push(plan::late(stage, late, false, until, time)?);
        }
        let rows = filter_record_batch(&rows, &counts)?;
        let times = self.spec.time.of(&rows)?;
        self.add(source, rows, &times)
    }

    /// An index of all clusters.
    fn index_all(&mut self) -> Result<OpenSessions> {
        let grouping = &self.spec.grouping;
        let mut index = OpenSessions::new(grouping, self.spec.gap)?;
        for run in self.panes.sealed()?.chain(&self.open) {
            let spans = Spans::of(&run.rows)?;
            let keys = grouping.run_keys(&run.rows);
            index.add_clusters(run.counted_from, keys, &spans.first, &spans.last)?;
        }
        Ok(index)
    }

    /// Adds rows of which none is behind to the index, as long as there is one.
    fn note(&mut self, source: i64, rows: &RecordBatch, times: &Int64Array) -> Result<()> {
        if let Some(index) = &mut self.index {
            index.add_rows(source, &self.spec.grouping.keys_of(rows)?, times)?;
            self.index.take_if(|index| index.use_count.is_spent());
        }
        Ok(())
    }

    fn must_sweep(&self) -> bool {
        let open: usize = self.open.iter().map(|run| run.rows.num_rows()).sum();
        let few = open <= EAGER * self.rows_since + 4_096 || self.rows_since == 0;
        let passed = self.bound.saturating_sub(self.swept) >= self.spec.gap / 16;
        self.earliest_end <= self.bound && (few || passed || self.bound == i64::MAX)
    }

    /// Joins clusters, and closes the sessions that have ended.
    fn sweep(&mut self, out: &mut Vec<StreamElement>) -> Result<()> {
        self.swept = self.bound;
        self.rows_since = 0;
        for mut pane in self.panes.take_before(self.bound) {
            self.open.extend(pane.whole(&self.spec.grouping)?.cloned());
        }
        let mut runs_of: BTreeMap<i64, Vec<Run>> = BTreeMap::new();
        for run in self.open.drain(..) {
            runs_of.entry(run.counted_from).or_default().push(run);
        }
        let mut sources = Vec::with_capacity(runs_of.len());
        for (source, runs) in runs_of {
            let clusters = concat(&runs)?;
            let joined = self.join(&clusters)?;
            sources.push((source, self.merge(&clusters, &joined)?));
        }
        let open = self.close(sources, out)?;
        let ahead = self.panes.first();
        let ahead = ahead.map(|start| start.saturating_add(self.spec.gap));
        self.earliest_end = open.min(ahead.unwrap_or(i64::MAX));
        Ok(())
    }

    /// Finds which clusters are one session.
    fn join(&self, clusters: &RecordBatch) -> Result<JoinedClusters> {
        let count = clusters.num_rows();
        let keys = self.spec.grouping.run_keys(clusters);
        let numbers = KeyNumbers::new(&self.spec.grouping)?.number(keys, count)?;
        let spans = Spans::of(clusters)?;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_unstable_by_key(|&row| (numbers[row], spans.first.value(row), row));
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
        Ok(JoinedClusters {
            session_of,
            leaders,
        })
    }

    /// One row for each session.
    fn merge(&self, clusters: &RecordBatch, joined: &JoinedClusters) -> Result<RecordBatch> {
        if joined.leaders.len() == clusters.num_rows() {
            return Ok(clusters.clone());
        }
        let leaders = UInt32Array::from(joined.leaders.clone());
        let keys = self.spec.grouping.run_keys(clusters);
        let keys = keys.iter().map(|key| take(key, &leaders, None));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut groups = Groups::new(&self.spec.grouping)?;
        groups.merge_into(clusters, &joined.session_of, leaders.len())?;
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

    /// Whether each of these sessions has ended.
    fn has_ended(&self, sessions: &RecordBatch) -> Result<BooleanArray> {
        let end = self.ends(&Spans::of(sessions)?);
        Ok(lt_eq(&end, &Int64Array::new_scalar(self.bound))?)
    }

    /// The first end of sessions that have not ended.
    fn earliest_open_end(&self, sessions: &RecordBatch) -> Result<i64> {
        let ends = self.ends(&Spans::of(sessions)?);
        let open = ends.values().iter().filter(|end| **end > self.bound);
        Ok(open.copied().min().unwrap_or(i64::MAX))
    }

    /// Closes the sessions that have ended, made of those of each source; the others stay open. Returns when
    /// the first of them ends.
    fn close(
        &mut self,
        sources: Vec<(i64, RecordBatch)>,
        out: &mut Vec<StreamElement>,
    ) -> Result<i64> {
        let (sessions, has_ended, ended) = match sources.as_slice() {
            [] => return Ok(i64::MAX),
            [(_, sessions)] => {
                let ended = self.has_ended(sessions)?;
                (sessions.clone(), ended.clone(), ended)
            }
            several => {
                let all = several.iter().map(|(_, sessions)| sessions);
                let all = concat_batches(&several[0].1.schema(), all)?;
                let joined = self.join(&all)?;
                let sessions = self.merge(&all, &joined)?;
                // A merge of nothing keeps the order of the clusters, one of some that of the sessions.
                let merged = joined.leaders.len() < all.num_rows();
                let has_ended = self.has_ended(&sessions)?;
                let of_cluster = joined.session_of.iter().enumerate();
                let ended = of_cluster.map(|(cluster, &session)| {
                    has_ended.value(if merged { session } else { cluster })
                });
                let ended = BooleanArray::from(ended.collect::<Vec<_>>());
                (sessions, has_ended, ended)
            }
        };
        let results = filter_record_batch(&sessions, &has_ended)?;
        if results.num_rows() > 0 {
            out.extend(self.results(&results)?);
        }
        let open = not(&ended)?;
        let mut first = 0;
        for (source, sessions) in sources {
            let mine = open.slice(first, sessions.num_rows());
            first += sessions.num_rows();
            let rows = filter_record_batch(&sessions, &mine)?;
            if rows.num_rows() > 0 {
                self.open.push(Run {
                    counted_from: source,
                    ..Run::new(0, rows)
                });
            }
        }
        self.earliest_open_end(&sessions)
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
}

impl Stage for SessionStage {
    fn rows(
        &mut self,
        rows: RecordBatch,
        frontier: &Frontier,
        out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        let (source, times) = (i64::from(frontier.source()), self.spec.time.of(&rows)?);
        let bound = |us| self.spec.time.bound(us).max(self.bound);
        let earliest = pane::earliest(&times).unwrap_or(i64::MAX);
        let ahead = |bound| times.null_count() == 0 && earliest >= bound;
        let last = bound(frontier.range_us().1);
        if ahead(last) || (ahead(self.bound) && frontier.in_order()) {
            self.note(source, &rows, &times)?;
            return self.add(source, rows, &times);
        }
        let frontiers = frontier.values(rows.num_rows())?;
        let bounds: Vec<i64> = frontiers.values().iter().map(|us| bound(*us)).collect();
        // In order, no row is behind the frontier before it, though it is behind the last.
        let in_order = times
            .values()
            .iter()
            .zip(&bounds)
            .all(|(time, bound)| time >= bound);
        if times.null_count() == 0 && in_order {
            self.note(source, &rows, &times)?;
            return self.add(source, rows, &times);
        }
        self.add_judged(source, rows, &times, &bounds, out)
    }

    fn end_of_step(&mut self, watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()> {
        self.bound = self.bound.max(self.spec.time.bound(watermark.at_us));
        if self.must_sweep() {
            self.sweep(out)?;
        }
        self.panes.tidy(std::mem::take(&mut self.rows))
    }

    fn closes_us(&self) -> Option<i64> {
        let is_open = self.earliest_end < i64::MAX;
        is_open.then(|| self.spec.time.closes_us(self.earliest_end))
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
        if let Some(index) = &self.index {
            index.use_count.save(&mut state);
        }
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
        // As long as it would have been kept: making it cuts the rows of a pane, as a checkpoint does.
        if let Some(use_count) = UseCount::saved(own) {
            let mut index = self.index_all()?;
            index.use_count = use_count;
            self.index = Some(index);
        }
        Ok(())
    }
}

/// Which clusters are one session.
struct JoinedClusters {
    /// The number of the session of each cluster.
    session_of: Vec<usize>,
    /// The first cluster of each session.
    leaders: Vec<u32>,
}

/// The clusters of all runs, of which there is at least one.
fn concat(runs: &[Run]) -> Result<RecordBatch> {
    let rows = runs.iter().map(|run| &run.rows);
    Ok(concat_batches(&runs[0].rows.schema(), rows)?)
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
