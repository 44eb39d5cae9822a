//! GROUP BY without a window: a result that changes as rows come.
//!
//! ```text
//!   rows --Delta--> what this step adds to each group --(by key)--> Keyed --> -old row, +new row
//! ```
//!
//! [`DeltaStage`] aggregates one step on the worker that read the rows. [`KeyedStage`] keeps the state of
//! each group as a row of immutable runs ([`KeyedState`]), which are also what it saves. For the groups
//! that a step touched it merges old state and delta, and emits the old result with diff -1 and the new
//! one with +1, if they differ. So a step costs what it touches, and any aggregate works whose states
//! can be merged.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{concat_batches, interleave_record_batch, or, take, take_record_batch};
use datafusion::error::Result;

use super::frontier::Frontier;
use super::group_results::GroupResults;
use super::groups::Groups;
use super::key_numbers::KeyNumbers;
use super::keyed_state::KeyedState;
use super::plan::KeyedSpec;
use super::query_errors::{QueryErrors, SplitRows, contain};
use super::stage::Stage;
use super::stage_state::{Share, StageState};
use super::stream_element::{StreamElement, Watermark, appearing, diffs, disappearing, with_diff};

/// Aggregates the rows of each step by itself.
pub(super) struct DeltaStage {
    groups: Groups,
}

impl DeltaStage {
    pub fn new(spec: &KeyedSpec) -> Result<Self> {
        Ok(Self {
            groups: Groups::new(&spec.grouping)?,
        })
    }
}

impl Stage for DeltaStage {
    fn rows(
        &mut self,
        rows: RecordBatch,
        _frontier: &Frontier,
        _out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        self.groups.update(&rows)
    }

    fn end_of_step(&mut self, _watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()> {
        if !self.groups.is_empty() {
            out.push(StreamElement::Partial {
                window: 0,
                rows: self.groups.take_run()?,
            });
        }
        Ok(())
    }
}

/// Keeps the current value of every group.
pub(super) struct KeyedStage {
    spec: Arc<KeyedSpec>,
    errors: QueryErrors,
    /// The number of the group of each key.
    keys: KeyNumbers,
    /// The state of each group, by its number.
    states: KeyedState,
    /// The deltas of the step at hand. Before the first step, the total of no rows if it is kept here.
    deltas: Vec<RecordBatch>,
    scratch: Groups,
    /// Within a step, the local number of each touched group, shifted by one; else 0 everywhere.
    locals: Vec<u32>,
}

impl KeyedStage {
    /// `owns_total`: whether this worker keeps the one group of a GROUP BY without keys, which has a result
    /// before the first row.
    pub fn new(spec: Arc<KeyedSpec>, owns_total: bool, errors: QueryErrors) -> Result<Self> {
        let scratch = Groups::new(&spec.grouping)?;
        let total = spec.total.clone().filter(|_| owns_total);
        Ok(Self {
            keys: KeyNumbers::new(&spec.grouping)?,
            spec,
            errors,
            states: KeyedState::default(),
            deltas: total.into_iter().collect(),
            scratch,
            locals: Vec::new(),
        })
    }

    /// The groups that the deltas touch: first those known before, then new ones in their order. So all
    /// local numbers below [`Touched::counts`] have been met when a delta has been merged, which
    /// accumulators assume.
    fn touched(&mut self, deltas: &[RecordBatch]) -> Result<Touched> {
        let numbers = self.numbers(deltas)?;
        let all = || {
            let deltas = numbers.iter().enumerate();
            deltas.flat_map(|(delta, rows)| rows.iter().enumerate().map(move |it| (delta, it)))
        };
        let known = self.states.len();
        let groups = self.keys.count();
        let locals = &mut self.locals;
        locals.resize(groups, 0);
        let mut touched = Touched::default();
        let before = all().filter(|(_, (_, group))| **group < known);
        for (delta, (row, &group)) in before.chain(all()) {
            if locals[group] == 0 {
                touched.groups.push(group);
                touched.first.push((delta, row));
                locals[group] = touched.groups.len() as u32;
            }
        }
        let mut count = touched
            .groups
            .iter()
            .filter(|group| **group < known)
            .count();
        for rows in &numbers {
            let local = rows.iter().map(|&group| locals[group] as usize - 1);
            let local: Vec<usize> = local.collect();
            count = local
                .iter()
                .fold(count, |count, local| count.max(local + 1));
            touched.local.push(local);
            touched.counts.push(count);
        }
        touched.groups.iter().for_each(|&group| locals[group] = 0);
        Ok(touched)
    }

    /// The number of the group of each row of each delta.
    fn numbers(&mut self, deltas: &[RecordBatch]) -> Result<Vec<Vec<usize>>> {
        let (keys, grouping) = (&mut self.keys, &self.spec.grouping);
        let numbers = deltas.iter();
        numbers
            .map(|rows| keys.number(grouping.run_keys(rows), rows.num_rows()))
            .collect()
    }

    /// The states that touched groups had before, and their local numbers.
    fn old_states(&self, touched: &Touched) -> Result<Option<(RecordBatch, Vec<usize>)>> {
        let known = touched.groups.iter().enumerate();
        let known = known.filter(|(_, group)| **group < self.states.len());
        let (locals, groups): (Vec<_>, Vec<_>) = known.unzip();
        if locals.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.states.rows_of(&groups)?, locals)))
    }

    fn update(&mut self, out: &mut Vec<StreamElement>) -> Result<()> {
        let deltas = std::mem::take(&mut self.deltas);
        let touched = self.touched(&deltas)?;
        let old = self.old_states(&touched)?;
        if let Some((states, locals)) = &old {
            self.scratch.merge_into(states, locals, locals.len())?;
        }
        for (number, delta) in deltas.iter().enumerate() {
            let locals = &touched.local[number];
            self.scratch
                .merge_into(delta, locals, touched.counts[number])?;
        }
        let sources: Vec<&RecordBatch> = deltas.iter().collect();
        let first = interleave_record_batch(&sources, &touched.first)?;
        let keys = self.spec.grouping.run_keys(&first).to_vec();
        let states = self.scratch.take_states(keys)?;
        let (old, locals) = old.unzip();
        match contain(|| self.old_and_new(old.as_ref(), &states)) {
            Ok(Ok((old, new))) => self.emit(old.zip(locals), new, out)?,
            Ok(Err(_)) | Err(_) => self.emit_apart(old, &states, out)?,
        }
        self.states.put(&touched.groups, states)
    }

    /// The results that touched groups had before, if they had any, and those that they have now.
    fn old_and_new(
        &mut self,
        old: Option<&RecordBatch>,
        new: &RecordBatch,
    ) -> Result<(Option<RecordBatch>, RecordBatch)> {
        let new = self.results(new)?;
        Ok((old.map(|old| self.results(old)).transpose()?, new))
    }

    /// Emits the results of these states where some fail. An old result that fails was never emitted.
    fn emit_apart(
        &mut self,
        old: Option<RecordBatch>,
        new: &RecordBatch,
        out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        // The error has left half of a result in it.
        self.scratch = Groups::new(&self.spec.grouping)?;
        let result = GroupResults {
            grouping: &self.spec.grouping,
            output: &self.spec.output,
            schema: &self.spec.schema,
            window: &|_| Ok(None),
        };
        let gone = old.map(|old| result.split(&old, &self.errors).done);
        let SplitRows { done, failed } = result.split(new, &self.errors);
        let gone = gone.into_iter().flatten().map(appearing).map(disappearing);
        out.extend(
            gone.chain(done.into_iter().map(appearing))
                .map(StreamElement::rows),
        );
        if !failed.is_empty() {
            out.extend(
                self.errors
                    .give_up(&result.without_values(new)?, false, &failed),
            );
        }
        Ok(())
    }

    fn results(&mut self, states: &RecordBatch) -> Result<RecordBatch> {
        let results = self.scratch.results_of(states)?;
        results.arrange(&self.spec.output, None, &self.spec.schema)
    }

    fn emit(
        &self,
        old: Option<(RecordBatch, Vec<usize>)>,
        new: RecordBatch,
        out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        let schema = with_diff(&self.spec.schema);
        let (old, new) = match old {
            Some((old, locals)) => drop_unchanged(old, new, &locals)?,
            None => (None, new),
        };
        let with = |rows: RecordBatch, diff| -> Result<RecordBatch> {
            let mut columns = rows.columns().to_vec();
            columns.push(diffs(diff, rows.num_rows()));
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        let mut parts = Vec::with_capacity(2);
        for (rows, diff) in [(old, -1), (Some(new), 1)] {
            if let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) {
                parts.push(with(rows, diff)?);
            }
        }
        if !parts.is_empty() {
            out.push(StreamElement::rows(concat_batches(&schema, &parts)?));
        }
        Ok(())
    }
}

/// Which groups a step touches, numbered locally in the order in which they come.
#[derive(Default)]
struct Touched {
    /// Local number to group.
    groups: Vec<usize>,
    /// Local number to the first delta row of the group.
    first: Vec<(usize, usize)>,
    /// For each delta, the local number of each row.
    local: Vec<Vec<usize>>,
    /// For each delta, the number of groups met when it has been merged.
    counts: Vec<usize>,
}

/// Leaves out the groups whose result has not changed. Row `i` of `old` became row `locals[i]` of `new`.
fn drop_unchanged(
    old: RecordBatch,
    new: RecordBatch,
    locals: &[usize],
) -> Result<(Option<RecordBatch>, RecordBatch)> {
    let paired = UInt32Array::from_iter_values(locals.iter().map(|&local| local as u32));
    let mut changed = BooleanArray::from(vec![false; old.num_rows()]);
    for (before, after) in old.columns().iter().zip(new.columns()) {
        changed = or(&changed, &differs(before, &take(after, &paired, None)?))?;
    }
    if changed.true_count() == changed.len() {
        return Ok((Some(old), new));
    }
    let mut keep = vec![true; new.num_rows()];
    for (row, &local) in locals.iter().enumerate() {
        keep[local] = changed.value(row);
    }
    let old = arrow::compute::filter_record_batch(&old, &changed)?;
    let kept = (0u32..)
        .zip(&keep)
        .filter(|(_, keep)| **keep)
        .map(|(row, _)| row);
    let new = take_record_batch(&new, &UInt32Array::from_iter_values(kept))?;
    Ok((Some(old), new))
}

/// Row by row, NULL equal to NULL; columns that cannot be compared count as different.
fn differs(before: &ArrayRef, after: &ArrayRef) -> BooleanArray {
    distinct(before, after).unwrap_or_else(|_| BooleanArray::from(vec![true; before.len()]))
}

impl Stage for KeyedStage {
    fn partial(&mut self, _window: i64, rows: RecordBatch) -> Result<()> {
        self.deltas.push(rows);
        Ok(())
    }

    fn end_of_step(&mut self, _watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()> {
        if self.deltas.is_empty() {
            Ok(())
        } else {
            self.update(out)
        }
    }
    fn save(&mut self) -> Result<StageState> {
        Ok(StageState {
            runs: self.states.runs(),
            ..StageState::default()
        })
    }

    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()> {
        if states.iter().any(|state| !state.runs.is_empty()) {
            // The first step was before the restart: the total of no rows is in the runs.
            self.deltas.clear();
        }
        let runs = states.iter().flat_map(|state| &state.runs);
        for run in share.cut_all(runs, &self.spec.grouping)? {
            let groups = self.numbers(std::slice::from_ref(&run.rows))?;
            self.states.restore(&groups[0], run);
        }
        Ok(())
    }
}
