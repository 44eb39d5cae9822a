//! The current result of a view.
//!
//! An append-only view keeps the batches as they came. A changing view keeps each distinct row with its
//! count, so that `-1` finds what `+1` added.
//!
//! [`Store::save`] returns the result as [`Run`]s; runs that an earlier save returned keep their ids. The
//! runs of an append-only view are the batches themselves. Those of a changing view are its **change
//! log**: every change with its diff, so saving adds nothing to the cost of a step. When the change log
//! is more than twice as long as the result, a background thread compacts it ([`Compaction`]), and the
//! sum of the changes replaces them. If that thread falls behind, the store waits for it: a change log
//! is bounded, however much changes between two saves. Both kinds merge small batches in levels
//! ([`Batches`]): a row is copied a few times, and never many rows at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int64_array;
use datafusion::common::hash_utils::RandomState;
use datafusion::error::{DataFusionError, Result};

use crate::dataflow::{DIFF_COLUMN, Run, batch_of};

/// Neighbouring batches of a level that are merged into one of the next level.
const FAN_IN: usize = 8;

/// Rows from which on a batch is not merged further.
const FULL: usize = 8_192;

/// Rows that a change log may have beyond twice its result before it is compacted.
const MAX_CHANGE_LOG: usize = 131_072;

/// How many times too long a change log may get before the store waits for its compaction.
const MAX_BEHIND: usize = 4;

/// The count of each row, by its bytes in the row format; never 0.
type Counts = HashMap<Box<[u8]>, i64, RandomState>;

pub(crate) enum Store {
    /// The rows of an append-only view.
    Appended(Batches),
    /// The rows of a view that are added and removed.
    Changing(Changing),
}

/// Batches in the order in which they came, the small ones merged.
#[derive(Default)]
pub(crate) struct Batches {
    /// Each with its level; a full one has the last, `u32::MAX`.
    runs: Vec<(u32, Run)>,
}

pub(crate) struct Changing {
    schema: SchemaRef,
    rows: RowConverter,
    counts: Counts,
    /// `None` until the first save.
    change_log: Option<ChangeLog>,
}

/// All changes since the view was empty, some of them summed up; each batch ends with the diff.
#[derive(Default)]
struct ChangeLog {
    batches: Batches,
    length: usize,
    compaction: Option<Compaction>,
}

/// A compaction of part of a change log, on its own thread.
struct Compaction {
    /// The ids of the runs that it sums up.
    of: Vec<u64>,
    sum: JoinHandle<Result<RecordBatch>>,
}

impl Store {
    /// An empty store for rows of `schema` (without the diff).
    pub fn new(schema: SchemaRef, changes: bool) -> Result<Self> {
        if !changes {
            return Ok(Self::Appended(Batches::default()));
        }
        Ok(Self::Changing(Changing {
            rows: converter(&schema)?,
            schema,
            counts: HashMap::default(),
            change_log: None,
        }))
    }

    /// Applies what a step produced; batches of a changing view end with the diff.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Appended(batches) => batches.push(batch.clone()),
            Self::Changing(changing) => changing.apply(batch),
        }
    }

    pub fn clear(&mut self) {
        match self {
            Self::Appended(batches) => *batches = Batches::default(),
            Self::Changing(changing) => changing.clear(),
        }
    }

    /// All rows that the view has now.
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Appended(batches) => Ok(batches.rows().cloned().collect()),
            Self::Changing(changing) => changing.snapshot().map(|batch| vec![batch]),
        }
    }

    /// The result as runs. Runs of an earlier save that are still current have the same ids.
    ///
    /// A changing view keeps a change log from the first save on, which copies all rows; so a view that
    /// will be saved is saved once while it is empty.
    pub fn save(&mut self) -> Result<Vec<Run>> {
        match self {
            Self::Appended(batches) => Ok(batches.to_runs()),
            Self::Changing(changing) => changing.save(),
        }
    }

    /// Restores what was saved, into an empty store.
    pub fn restore(&mut self, runs: &[Run]) -> Result<()> {
        match self {
            Self::Appended(batches) => batches.restore(runs),
            Self::Changing(changing) => changing.restore(runs)?,
        }
        Ok(())
    }
}

impl Batches {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() >= FULL {
            self.close()?;
        }
        self.add(Run::new(0, batch));
        self.level()
    }

    /// Merges the small batches at the end, before a full one is added.
    fn close(&mut self) -> Result<()> {
        let small = self.runs.iter().rev();
        let small = small.take_while(|(level, _)| *level != u32::MAX).count();
        if small > 0 {
            self.join(self.runs.len() - small, u32::MAX)?;
        }
        Ok(())
    }

    fn add(&mut self, run: Run) {
        let level = if run.rows.num_rows() >= FULL {
            u32::MAX
        } else {
            0
        };
        self.runs.push((level, run));
    }

    /// Merges the last [`FAN_IN`] batches if they are of one level, and repeats that.
    fn level(&mut self) -> Result<()> {
        while let Some(from) = self.runs.len().checked_sub(FAN_IN) {
            let level = self.runs[from].0;
            if level == u32::MAX || self.runs[from..].iter().any(|(other, _)| *other != level) {
                break;
            }
            self.join(from, level + 1)?;
        }
        Ok(())
    }

    /// Merges all batches from index `from` on into one of `level`.
    fn join(&mut self, from: usize, level: u32) -> Result<()> {
        if let [(_, first), _, ..] = &self.runs[from..] {
            let schema = first.rows.schema();
            let rows = concat_batches(&schema, self.runs[from..].iter().map(|it| &it.1.rows))?;
            self.runs.truncate(from);
            self.add(Run::new(0, rows));
        }
        if let Some((of, _)) = self.runs.last_mut() {
            *of = level.max(*of);
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = &RecordBatch> {
        self.runs.iter().map(|(_, run)| &run.rows)
    }

    fn to_runs(&self) -> Vec<Run> {
        self.runs.iter().map(|(_, run)| run.clone()).collect()
    }

    fn restore(&mut self, runs: &[Run]) {
        runs.iter().for_each(|run| self.add(run.clone()));
    }
}

impl Changing {
    fn clear(&mut self) {
        self.counts.clear();
        self.change_log = None;
    }

    fn apply(&mut self, batch: &RecordBatch) -> Result<()> {
        let (columns, diff) = split_diff(batch)?;
        add_all(&mut self.counts, &self.rows, columns, &diff)?;
        if let Some(change_log) = &mut self.change_log {
            let change = with_counts(&self.schema, columns.to_vec(), diff)?;
            change_log.push(change)?;
            change_log.shorten(&self.schema, self.counts.len());
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<RecordBatch> {
        let parser = self.rows.parser();
        let rows = self.counts.iter().flat_map(|(row, count)| {
            std::iter::repeat_n(parser.parse(row), usize::try_from(*count).unwrap_or(0))
        });
        let rows: Vec<_> = rows.collect();
        let count = rows.len();
        let columns = self.rows.convert_rows(rows)?;
        Ok(batch_of(&self.schema, columns, count)?)
    }

    fn save(&mut self) -> Result<Vec<Run>> {
        let change_log = match &mut self.change_log {
            Some(change_log) => change_log,
            None => {
                let mut change_log = ChangeLog::default();
                if !self.counts.is_empty() {
                    let sum = rows_of(&self.schema, &self.rows, &self.counts)?;
                    change_log.add(Run::new(0, sum));
                }
                self.change_log.insert(change_log)
            }
        };
        change_log.shorten(&self.schema, self.counts.len());
        Ok(change_log.batches.to_runs())
    }

    fn restore(&mut self, runs: &[Run]) -> Result<()> {
        for run in runs {
            let (columns, diff) = split_diff(&run.rows)?;
            add_all(&mut self.counts, &self.rows, columns, &diff)?;
        }
        let mut change_log = ChangeLog::default();
        runs.iter().for_each(|run| change_log.add(run.clone()));
        self.change_log = Some(change_log);
        Ok(())
    }
}

impl ChangeLog {
    fn push(&mut self, change: RecordBatch) -> Result<()> {
        self.length += change.num_rows();
        self.batches.push(change)
    }

    fn add(&mut self, run: Run) {
        self.length += run.rows.num_rows();
        self.batches.add(run);
    }

    /// Bounds the length of the change log of a result with this many distinct rows.
    fn shorten(&mut self, schema: &SchemaRef, distinct: usize) {
        let limit = 2 * distinct + MAX_CHANGE_LOG;
        if self
            .compaction
            .as_ref()
            .is_some_and(|it| it.sum.is_finished())
            || self.length > MAX_BEHIND * limit
        {
            self.finish_compaction();
        }
        if self.length > limit {
            self.begin_compaction(schema);
        }
    }

    /// Starts to compact the present batches.
    fn begin_compaction(&mut self, schema: &SchemaRef) {
        if self.compaction.is_some() {
            return;
        }
        let runs = self.batches.to_runs();
        // None of these may be merged with later batches until the sum replaces them.
        for (level, _) in &mut self.batches.runs {
            *level = u32::MAX;
        }
        let of = runs.iter().map(|run| run.id).collect();
        let schema = SchemaRef::clone(schema);
        let thread = std::thread::Builder::new().name("headwater-sum".into());
        match thread.spawn(move || sum(&schema, &runs)) {
            Ok(sum) => self.compaction = Some(Compaction { of, sum }),
            Err(error) => tracing::warn!(%error, "no thread to compact the change log of a view"),
        }
    }

    /// Waits for the compaction, if there is one, and replaces its batches by their sum.
    fn finish_compaction(&mut self) {
        let Some(compaction) = self.compaction.take() else {
            return;
        };
        let sum = match compaction.sum.join() {
            Ok(Ok(sum)) => sum,
            Ok(Err(error)) => {
                return tracing::warn!(%error, "the change log of a view was not compacted");
            }
            Err(_) => return tracing::warn!("the change log of a view was not compacted: a panic"),
        };
        let runs = &mut self.batches.runs;
        debug_assert!(
            runs.iter()
                .map(|(_, run)| run.id)
                .take(compaction.of.len())
                .eq(compaction.of.iter().copied()),
            "what is being compacted stays at the front"
        );
        let summed = runs[..compaction.of.len()].iter();
        self.length -= summed.map(|(_, run)| run.rows.num_rows()).sum::<usize>();
        self.length += sum.num_rows();
        runs.splice(..compaction.of.len(), [(u32::MAX, Run::new(0, sum))]);
    }
}

/// The sum of the changes in `runs`.
fn sum(schema: &SchemaRef, runs: &[Run]) -> Result<RecordBatch> {
    let (rows, mut counts) = (converter(schema)?, Counts::default());
    for run in runs {
        let (columns, diff) = split_diff(&run.rows)?;
        add_all(&mut counts, &rows, columns, &diff)?;
    }
    rows_of(schema, &rows, &counts)
}

fn converter(schema: &SchemaRef) -> Result<RowConverter> {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| SortField::new(field.data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
}

/// Each row of `counts` with its count as the diff.
fn rows_of(schema: &SchemaRef, rows: &RowConverter, counts: &Counts) -> Result<RecordBatch> {
    let parser = rows.parser();
    let columns = rows.convert_rows(counts.keys().map(|row| parser.parse(row)))?;
    let diff = Int64Array::from_iter_values(counts.values().copied());
    with_counts(schema, columns, diff)
}

/// Rows of `schema`, each with its count as the diff.
fn with_counts(
    schema: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    counts: Int64Array,
) -> Result<RecordBatch> {
    let field = Field::new(DIFF_COLUMN, DataType::Int64, false);
    let fields = schema.fields().iter().cloned().chain([Arc::new(field)]);
    columns.push(Arc::new(counts));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn add_all(
    counts: &mut Counts,
    converter: &RowConverter,
    columns: &[ArrayRef],
    diff: &Int64Array,
) -> Result<()> {
    let rows = converter.convert_columns(columns)?;
    for (row, diff) in rows.iter().zip(diff.values()) {
        add(counts, row.data(), *diff);
    }
    Ok(())
}

/// Within one batch a row may be removed before it is added: then its count is below zero for a while.
fn add(counts: &mut Counts, row: &[u8], diff: i64) {
    match counts.get_mut(row) {
        Some(count) if *count + diff == 0 => {
            counts.remove(row);
        }
        Some(count) => *count += diff,
        None => {
            counts.insert(row.into(), diff);
        }
    }
}

/// The columns of a change, and its diffs.
fn split_diff(batch: &RecordBatch) -> Result<(&[ArrayRef], Int64Array)> {
    match batch.columns().split_last() {
        Some((diff, columns)) => {
            let diff = cast(diff, &DataType::Int64)?;
            Ok((columns, as_int64_array(&diff)?.clone()))
        }
        None => Err(DataFusionError::Internal("a change without a diff".into())),
    }
}

#[cfg(test)]
mod tests;
