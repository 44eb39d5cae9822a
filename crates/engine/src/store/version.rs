//! The rows of a view between two steps, shared by all who read them.
//!
//! A [`ViewVersion`] is a list of pages. A page is an immutable batch, and a bitmap of the rows that are
//! still there. Versions share batches and bitmaps: the next version copies only the bitmaps that it changes, and
//! not even those if nobody reads this one.
//!
//! The batches of a view whose result changes end with the count of each row, in place of the diff. Such a
//! version is saved as its batches, each a run that is written once, and one more run with the bitmaps.

use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, UInt32Array,
};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::{cast, filter_record_batch, interleave, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::cast::{as_binary_array, as_int64_array, as_uint32_array};
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::RowPlace;
use crate::batch_bytes::batch_bytes;
use crate::dataflow::{Run, appearing, batch_of};

/// The columns of the run of bitmaps, whose last one tells it from a run of rows.
const BITMAP_COLUMNS: [&str; 2] = ["_rows", "_alive"];

/// Rows that were added together, and which of them are still there.
#[derive(Debug, Clone)]
pub(super) struct Page {
    rows: Arc<PageRows>,
    /// A bit for each row, of which the highest may be more than there are rows; `None` if all are alive.
    alive: Option<Arc<Vec<u64>>>,
    /// The number of rows that are alive; not 0 in a version.
    live: usize,
    /// How often its rows have been merged.
    pub level: u32,
}

#[derive(Debug)]
struct PageRows {
    run: Run,
    /// How often each row is there; `None` if that is once, or the view only grows.
    counts: Option<Int64Array>,
    bytes: usize,
}

impl Page {
    /// All rows of a run, the last column of which is their count if the view `changes`.
    pub fn new(run: Run, changes: bool) -> Result<Self> {
        let mut counts = None;
        if let (true, Some(last)) = (changes, run.rows.columns().last()) {
            let last = as_int64_array(&cast(last, &DataType::Int64)?)?.clone();
            counts = last.values().iter().any(|it| *it != 1).then_some(last);
        }
        Ok(Self {
            live: run.rows.num_rows(),
            alive: None,
            level: 0,
            rows: Arc::new(PageRows {
                bytes: batch_bytes(&run.rows),
                counts,
                run,
            }),
        })
    }

    pub fn run(&self) -> &Run {
        &self.rows.run
    }

    /// The number of its rows, of which [`live`](Self::live) are alive.
    pub fn len(&self) -> usize {
        self.rows.run.rows.num_rows()
    }

    pub fn live(&self) -> usize {
        self.live
    }

    /// The size of its rows in bytes, those that are not alive too.
    pub fn bytes(&self) -> usize {
        self.rows.bytes
    }

    /// How often this row is there.
    pub fn count(&self, row: u32) -> i64 {
        let counts = self.rows.counts.as_ref();
        counts.map_or(1, |counts| counts.value(row as usize))
    }

    fn mask(&self) -> Option<BooleanBuffer> {
        let words = self.alive.as_ref()?;
        let bits = Buffer::from_slice_ref(words.as_slice());
        Some(BooleanBuffer::new(bits, 0, self.len()))
    }

    /// The numbers of the rows that are alive.
    pub fn live_rows(&self) -> Vec<u32> {
        match self.mask() {
            Some(mask) => mask.set_indices_u32().collect(),
            None => (0..self.len() as u32).collect(),
        }
    }

    /// A row is not alive any more.
    pub fn remove(&mut self, row: u32) {
        let words = self.len().div_ceil(64);
        let alive = self
            .alive
            .get_or_insert_with(|| Arc::new(vec![u64::MAX; words]));
        Arc::make_mut(alive)[row as usize / 64] &= !(1 << (row % 64));
        self.live -= 1;
    }

    /// These columns of the rows that are alive, each row as often as it is there.
    fn read(&self, schema: &SchemaRef, columns: &[usize]) -> Result<RecordBatch> {
        let rows = &self.rows.run.rows;
        let all = columns
            .iter()
            .map(|&column| Arc::clone(rows.column(column)));
        let (all, mask) = (all.collect::<Vec<_>>(), self.mask());
        if columns.is_empty() {
            let counts = |counts: &Int64Array| self.repeated(counts).len();
            let count = self.rows.counts.as_ref().map_or(self.live, counts);
            return Ok(batch_of(schema, all, count)?);
        }
        let all = batch_of(schema, all, self.len())?;
        Ok(match (&self.rows.counts, mask) {
            (Some(counts), _) => take_record_batch(&all, &self.repeated(counts))?,
            (None, Some(mask)) => filter_record_batch(&all, &BooleanArray::new(mask, None))?,
            (None, None) => all,
        })
    }

    /// The numbers of the rows that are alive, each as often as it is there.
    fn repeated(&self, counts: &Int64Array) -> UInt32Array {
        let times = |row: u32| usize::try_from(counts.value(row as usize)).unwrap_or(0);
        let rows = self.live_rows().into_iter();
        UInt32Array::from_iter_values(rows.flat_map(|row| std::iter::repeat_n(row, times(row))))
    }
}

/// The rows of a view at one moment.
#[derive(Debug)]
pub(crate) struct ViewVersion {
    /// The columns of the view.
    schema: SchemaRef,
    changes: bool,
    /// The pages by their slots; a slot of a view whose result changes may be empty.
    pub(super) slots: Vec<Option<Page>>,
    /// The number of rows, equal ones counted once.
    pub(super) len: usize,
    /// The bitmaps as they are saved, once they have been.
    bitmaps: OnceLock<Run>,
}

/// A copy, to be changed into the next version.
impl Clone for ViewVersion {
    fn clone(&self) -> Self {
        Self {
            schema: Arc::clone(&self.schema),
            changes: self.changes,
            slots: self.slots.clone(),
            len: self.len,
            bitmaps: OnceLock::new(),
        }
    }
}

impl ViewVersion {
    /// No rows of `schema` (without the diff).
    pub fn new(schema: SchemaRef, changes: bool) -> Self {
        Self {
            schema,
            changes,
            slots: Vec::new(),
            len: 0,
            bitmaps: OnceLock::new(),
        }
    }

    /// The version that was saved as `runs`, and that is saved as the same runs again.
    ///
    /// # Errors
    /// If the runs are not those of a view with these columns.
    pub fn restored(schema: SchemaRef, changes: bool, runs: &[Run]) -> Result<Self> {
        let mut version = Self::new(schema, changes);
        let bitmaps = runs.last().filter(|run| changes && is_bitmaps(run));
        let rows = &runs[..runs.len() - usize::from(bitmaps.is_some())];
        for run in rows {
            let width = version.schema.fields().len() + usize::from(changes);
            if run.rows.num_columns() != width {
                return exec_err!("a run of {} columns, not {width}", run.rows.num_columns());
            }
            version.slots.push(Some(Page::new(run.clone(), changes)?));
        }
        if let Some(run) = bitmaps {
            version.set_bitmaps(&run.rows)?;
            version.bitmaps = OnceLock::from(run.clone());
        }
        version.len = version.pages().map(Page::live).sum();
        Ok(version)
    }

    /// Whether these runs hold the pages of a version, not a log of changes as older builds wrote it.
    pub fn is_saved_as(runs: &[Run]) -> bool {
        runs.last().is_none_or(is_bitmaps)
    }

    fn set_bitmaps(&mut self, bitmaps: &RecordBatch) -> Result<()> {
        let lengths = as_uint32_array(bitmaps.column(0))?.values();
        let alive = as_binary_array(bitmaps.column(1))?;
        if !lengths
            .iter()
            .map(|it| *it as usize)
            .eq(self.pages().map(Page::len))
        {
            return exec_err!("bitmaps that are those of other pages");
        }
        for (page, bits) in self.slots.iter_mut().flatten().zip(alive) {
            let Some(bits) = bits else { continue };
            let (words, rest) = bits.as_chunks();
            if words.len() != page.len().div_ceil(64) || !rest.is_empty() {
                return exec_err!("a bitmap of {} bytes for {} rows", bits.len(), page.len());
            }
            let words = words.iter().map(|word| u64::from_le_bytes(*word));
            page.alive = Some(Arc::new(words.collect()));
            page.live = page.mask().map_or(0, |mask| mask.count_set_bits());
        }
        Ok(())
    }

    /// The version as runs. A run of an earlier version that is still current has the same id.
    pub fn to_runs(&self) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = self.pages().map(|page| page.run().clone()).collect();
        if self.changes && !runs.is_empty() {
            let bitmaps = match self.bitmaps.get() {
                Some(bitmaps) => bitmaps.clone(),
                None => {
                    let run = Run::new(0, self.bitmap_rows()?);
                    self.bitmaps.get_or_init(|| run).clone()
                }
            };
            runs.push(bitmaps);
        }
        Ok(runs)
    }

    /// For each page its number of rows, and its bitmap if some are not alive.
    fn bitmap_rows(&self) -> Result<RecordBatch> {
        let lengths = self.pages().map(|page| page.len() as u32);
        let bitmaps = self.pages().map(|page| {
            let words = page.alive.as_ref()?.iter();
            Some(words.flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>())
        });
        let columns: [ArrayRef; 2] = [
            Arc::new(UInt32Array::from_iter_values(lengths)),
            Arc::new(bitmaps.collect::<BinaryArray>()),
        ];
        let columns = BITMAP_COLUMNS.into_iter().zip(columns);
        let columns = columns.map(|(name, column)| (name, column, true));
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn pages(&self) -> impl Iterator<Item = &Page> {
        self.slots.iter().flatten()
    }

    /// The version is about to be changed.
    pub(super) fn begin_change(&mut self) {
        self.bitmaps = OnceLock::new();
    }

    /// The number of rows, equal ones counted once.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The number of its slots, each of which [`read_slot`](Self::read_slot) reads.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// These columns of the rows of one slot, as a batch of `schema`; `None` if it is empty.
    pub fn read_slot(
        &self,
        slot: usize,
        schema: &SchemaRef,
        columns: &[usize],
    ) -> Option<Result<RecordBatch>> {
        let page = self.slots[slot].as_ref()?;
        Some(page.read(schema, columns))
    }

    /// All rows, as they are published to those who read the view.
    pub fn published(&self) -> Result<Vec<RecordBatch>> {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        let batches = self.pages().map(|page| page.read(&self.schema, &columns));
        batches
            .map(|batch| match self.changes {
                true => batch.map(appearing),
                false => batch,
            })
            .collect()
    }

    /// These columns of some rows, counted as columns of the runs.
    pub(super) fn gather(&self, rows: &[RowPlace], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut numbers = vec![u32::MAX; self.slots.len()];
        let mut runs = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        for place in rows {
            let slot = place.slot as usize;
            if numbers[slot] == u32::MAX {
                numbers[slot] = runs.len() as u32;
                runs.extend(self.slots[slot].as_ref().map(|page| &page.run().rows));
            }
            places.push((numbers[slot] as usize, place.row as usize));
        }
        let gathered = columns.iter().map(|&column| {
            let from: Vec<&dyn Array> =
                runs.iter().map(|run| run.column(column).as_ref()).collect();
            Ok(interleave(&from, &places)?)
        });
        gathered.collect()
    }
}

fn is_bitmaps(run: &Run) -> bool {
    let schema = run.rows.schema_ref();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    names.eq(BITMAP_COLUMNS)
}
