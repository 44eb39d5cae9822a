//! The current result of a view.
//!
//! A view whose rows only ever appear keeps the batches as they came. A view whose rows may be
//! taken back keeps each distinct row with its count, so that `-1` finds what `+1` brought.
//!
//! [`Store::save`] hands the result out as [`Run`]s, of which those that were handed out before keep
//! their ids. Of rows that only appear the runs are the batches themselves. Of rows that come and go
//! they are a **journal**: every change with its diff, so a step costs no more for being saved. When
//! the journal is more than twice as long as the result, a thread of its own adds it up ([`Summing`]),
//! and the sum takes the place of what it was made of. Should that thread fall behind, it is waited
//! for: a journal is bounded, however much changes between two saves. In both, small batches are put
//! together in levels ([`Batches`]): a row is copied a few times, and never many rows at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int64_array;
use datafusion::common::hash_utils::RandomState;
use datafusion::error::{DataFusionError, Result};

use crate::dataflow::{DIFF_COLUMN, Run};

/// So many neighbours of a level are put together into one batch of the next.
const FAN_IN: usize = 8;

/// A batch with this many rows stays as it is.
const FULL: usize = 8_192;

/// A journal is added up when it is this much longer than twice its result, in rows.
const MAX_JOURNAL: usize = 131_072;

/// Nothing is added to a journal that is this many times too long before a sum has shortened it.
const MAX_BEHIND: usize = 4;

/// How often each row is there, by its bytes in the row format; never 0.
type Counts = HashMap<Box<[u8]>, i64, RandomState>;

/// The rows of a view.
pub(crate) enum Store {
    /// Rows only appear.
    Appended(Batches),
    /// Rows appear and go.
    Changing(Changing),
}

/// Batches in the order in which they came, the small ones put together.
#[derive(Default)]
pub(crate) struct Batches {
    /// Each with its level; a full one is of the last.
    runs: Vec<(u32, Run)>,
}

pub(crate) struct Changing {
    schema: SchemaRef,
    rows: RowConverter,
    counts: Counts,
    /// `None` until the first save.
    journal: Option<ChangeLog>,
}

/// All changes since nothing, or the sum of some of them; each batch ends with the diff.
#[derive(Default)]
struct ChangeLog {
    batches: Batches,
    /// Rows of all batches.
    length: usize,
    summing: Option<Summing>,
}

/// The sum of part of a journal, made on a thread of its own.
struct Summing {
    /// The ids of the runs that it is made of.
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
            journal: None,
        }))
    }

    /// Adds what a step brought; batches of a changing view end with the diff.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Appended(batches) => batches.push(batch.clone()),
            Self::Changing(changing) => changing.apply(batch),
        }
    }

    /// Takes all rows away.
    pub fn clear(&mut self) {
        match self {
            Self::Appended(batches) => *batches = Batches::default(),
            Self::Changing(changing) => changing.clear(),
        }
    }

    /// All rows as they are now.
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Appended(batches) => Ok(batches.rows().cloned().collect()),
            Self::Changing(changing) => changing.snapshot().map(|batch| vec![batch]),
        }
    }

    /// The result as runs. What was handed out before and still holds has the same ids.
    ///
    /// A changing view keeps its journal from the first save on, which copies all rows; so a view
    /// that is going to be saved is saved once while it is empty.
    pub fn save(&mut self) -> Result<Vec<Run>> {
        match self {
            Self::Appended(batches) => Ok(batches.to_runs()),
            Self::Changing(changing) => changing.save(),
        }
    }

    /// Takes in what was saved, into an empty store.
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

    /// Puts the small batches at the end together, since a full one comes after them.
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

    /// Puts the last [`FAN_IN`] batches together if they are of one level, and again.
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

    /// Puts all batches from the one at `from` together into one of `level`.
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
        self.journal = None;
    }

    fn apply(&mut self, batch: &RecordBatch) -> Result<()> {
        let (columns, diff) = split_diff(batch)?;
        add_all(&mut self.counts, &self.rows, columns, &diff)?;
        if let Some(journal) = &mut self.journal {
            let change = with_counts(&self.schema, columns.to_vec(), diff)?;
            journal.push(change)?;
            journal.shorten(&self.schema, self.counts.len());
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
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }

    fn save(&mut self) -> Result<Vec<Run>> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            None => {
                let mut journal = ChangeLog::default();
                if !self.counts.is_empty() {
                    let sum = rows_of(&self.schema, &self.rows, &self.counts)?;
                    journal.add(Run::new(0, sum));
                }
                self.journal.insert(journal)
            }
        };
        journal.shorten(&self.schema, self.counts.len());
        Ok(journal.batches.to_runs())
    }

    fn restore(&mut self, runs: &[Run]) -> Result<()> {
        for run in runs {
            let (columns, diff) = split_diff(&run.rows)?;
            add_all(&mut self.counts, &self.rows, columns, &diff)?;
        }
        let mut journal = ChangeLog::default();
        runs.iter().for_each(|run| journal.add(run.clone()));
        self.journal = Some(journal);
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

    /// Keeps the journal of a result with this many distinct rows short.
    fn shorten(&mut self, schema: &SchemaRef, distinct: usize) {
        let limit = 2 * distinct + MAX_JOURNAL;
        if self.summing.as_ref().is_some_and(|it| it.sum.is_finished())
            || self.length > MAX_BEHIND * limit
        {
            self.take_sum();
        }
        if self.length > limit {
            self.begin_sum(schema);
        }
    }

    /// Begins to add up what is there now.
    fn begin_sum(&mut self, schema: &SchemaRef) {
        if self.summing.is_some() {
            return;
        }
        let runs = self.batches.to_runs();
        // None of these may be put together with what comes, until the sum takes their place.
        for (level, _) in &mut self.batches.runs {
            *level = u32::MAX;
        }
        let of = runs.iter().map(|run| run.id).collect();
        let schema = SchemaRef::clone(schema);
        let thread = std::thread::Builder::new().name("headwater-sum".into());
        match thread.spawn(move || sum(&schema, &runs)) {
            Ok(sum) => self.summing = Some(Summing { of, sum }),
            Err(error) => tracing::warn!(%error, "no thread to shorten the journal of a view"),
        }
    }

    /// Puts the sum, if one is being made, in the place of what it is made of. Waits for it.
    fn take_sum(&mut self) {
        let Some(summing) = self.summing.take() else {
            return;
        };
        let sum = match summing.sum.join() {
            Ok(Ok(sum)) => sum,
            Ok(Err(error)) => {
                return tracing::warn!(%error, "the journal of a view was not shortened");
            }
            Err(_) => return tracing::warn!("the journal of a view was not shortened: a panic"),
        };
        let runs = &mut self.batches.runs;
        debug_assert!(
            runs.iter()
                .map(|(_, run)| run.id)
                .take(summing.of.len())
                .eq(summing.of.iter().copied()),
            "what is being added up stays at the front"
        );
        let summed = runs[..summing.of.len()].iter();
        self.length -= summed.map(|(_, run)| run.rows.num_rows()).sum::<usize>();
        self.length += sum.num_rows();
        runs.splice(..summing.of.len(), [(u32::MAX, Run::new(0, sum))]);
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

/// Rows of `schema` with how often each comes or goes.
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

/// A row may go before it comes within one batch: then its count is below zero for a while.
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

/// The columns of a change, and how often each row comes or goes.
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
