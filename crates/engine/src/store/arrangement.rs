//! The rows of a view whose result changes, by their keys.
//!
//! ```text
//!   key --hash--> KeyIndex --> (slot, row) --> Page: columns, count, bit
//! ```
//!
//! The **key** is the columns that tell rows apart: the keys of the GROUP BY, of which each has one row; else
//! all columns, and equal rows are one row with a count. The changes of a step are summed up by key. A
//! row that disappears loses its bit. A row that appears, or whose count changes, is added: the rows that a
//! step adds are a new page. So what was a page once stays as it is, for those who read it.
//!
//! Each step then moves some rows into a new page, a number in proportion to its changes: out of the page
//! with the most rows that are not alive, as long as there are more of those than [`MAX_GARBAGE`] and
//! one for each row, and out of the smallest pages, as long as there are more than [`MAX_SMALL`]. So memory
//! is bounded by the result, and no step waits until all of it is copied.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int8Array, Int64Array, RecordBatch, UInt32Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, cast, interleave_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int64_array;
use datafusion::common::exec_err;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;

use super::key_index::KeyIndex;
use super::version::Page;
use super::{FULL, FULL_BYTES, RowPlace, ViewVersion};
use crate::batch_bytes::batch_bytes;
use crate::dataflow::{DIFF_COLUMN, KeyNumbers, Run};

/// Rows that are not alive and kept beyond one for each row that is.
const MAX_GARBAGE: usize = 65_536;

/// The number of small pages that may exist.
const MAX_SMALL: usize = 64;

/// The number of pages merged into one, at most.
const MAX_JOINED: usize = 32;

pub(super) struct Arrangement {
    /// The columns that tell rows apart.
    key: Vec<usize>,
    /// Whether a key has one row at most.
    is_unique: bool,
    index: KeyIndex,
    /// The keys of the step at hand.
    numbers: KeyNumbers,
    holes: Vec<u32>,
}

/// What a step does to the rows of one key.
#[derive(Default)]
struct KeyChange {
    sum: i64,
    /// The batch and the row of the last row that appears, or of one that disappears if none does.
    row: (usize, usize),
    appears: bool,
}

/// A row that comes into a page.
struct NewRow {
    hash: u32,
    /// Where it is now, or the row that it replaces.
    old: Option<RowPlace>,
}

impl Arrangement {
    /// No rows of `schema`, each with a key of its own in the columns `key`; without those, rows may be
    /// equal.
    ///
    /// # Errors
    /// If the columns of the key are of a type that cannot be compared.
    pub fn new(schema: &SchemaRef, key: Option<&[usize]>) -> Result<Self> {
        let all = || (0..schema.fields().len()).collect();
        let columns = key.map_or_else(all, <[usize]>::to_vec);
        Ok(Self {
            numbers: KeyNumbers::of(Arc::new(schema.project(&columns)?))?,
            key: columns,
            is_unique: key.is_some(),
            index: KeyIndex::default(),
            holes: Vec::new(),
        })
    }

    pub fn clear(&mut self) {
        self.index = KeyIndex::default();
        self.holes.clear();
    }

    /// Puts the rows of a restored version into the index.
    pub fn index_all(&mut self, version: &ViewVersion) -> Result<()> {
        for (slot, page) in (0u32..).zip(version.slots.iter().flatten()) {
            let keys = self
                .key
                .iter()
                .map(|&column| page.run().rows.column(column));
            let hashes = hashes_of(keys, page.len())?;
            for row in page.live_rows() {
                self.index
                    .insert(hashes[row as usize], RowPlace { slot, row });
            }
        }
        Ok(())
    }

    /// Applies the changes of one step, each batch with the diff at the end.
    ///
    /// # Errors
    /// If a row disappears that is not there. The version is as before then.
    pub fn apply(&mut self, version: &mut Arc<ViewVersion>, batches: &[RecordBatch]) -> Result<()> {
        let (keys, changes) = self.changes(batches)?;
        let hashes = hashes_of(&keys, changes.len())?;
        let found = self.find(version, &keys, &hashes)?;
        let (mut gone, mut rows, mut counts, mut new) = (Vec::new(), vec![], vec![], vec![]);
        for ((change, hash), old) in changes.iter().zip(hashes).zip(found) {
            let before = old.map_or(0, |place| version.count(place));
            let count = before + change.sum;
            if count < 0 || (self.is_unique && count > 1) {
                return exec_err!("a key that has {before} rows changes by {}", change.sum);
            }
            let is_same = count == before && !(self.is_unique && change.appears);
            if count > 0 && !is_same {
                rows.push(change.row);
                counts.push(count);
                new.push(NewRow { hash, old });
            } else if let (0, Some(old)) = (count, old) {
                gone.push((hash, old));
            }
        }
        let pages = new_pages(version.schema(), batches, &rows, &counts)?;
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        // Nothing fails from here on: what was read before is of the version before.
        let version = Arc::make_mut(version);
        version.begin_change();
        for &(hash, place) in &gone {
            self.index.remove(hash, place);
            self.forget(version, place);
        }
        let changed = gone.len() + new.len();
        let mut new = new.into_iter();
        for page in pages {
            self.put(version, page, &mut new);
        }
        self.tidy(version, FULL + 2 * changed)
    }

    /// The rows of these keys, one at most for each, as a version of their own.
    pub fn look_up(&self, version: &ViewVersion, keys: &[ArrayRef]) -> Result<ViewVersion> {
        let count = keys.first().map_or(1, |column| column.len());
        let found = self.find(version, keys, &hashes_of(keys, count)?)?;
        let mut places: Vec<RowPlace> = found.into_iter().flatten().collect();
        places.sort_unstable_by_key(|place| (place.slot, place.row));
        places.dedup();
        let mut rows = ViewVersion::new(Arc::clone(version.schema()), true);
        if !places.is_empty() {
            rows.slots.push(Some(version.copied(&places)?));
            rows.len = places.len();
        }
        Ok(rows)
    }

    /// The keys that the batches change, and how.
    fn changes(&mut self, batches: &[RecordBatch]) -> Result<(Vec<ArrayRef>, Vec<KeyChange>)> {
        let mut changes: Vec<KeyChange> = Vec::new();
        // What a step that failed has left.
        self.numbers.take()?;
        for (number, batch) in batches.iter().enumerate() {
            let Some((diffs, columns)) = batch.columns().split_last() else {
                return exec_err!("a change without a diff");
            };
            let diffs = cast(diffs, &DataType::Int64)?;
            let keys: Vec<ArrayRef> = self
                .key
                .iter()
                .map(|&it| Arc::clone(&columns[it]))
                .collect();
            let numbers = self.numbers.number(&keys, batch.num_rows())?;
            changes.resize_with(self.numbers.count(), KeyChange::default);
            for (row, (key, diff)) in numbers
                .iter()
                .zip(as_int64_array(&diffs)?.values())
                .enumerate()
            {
                let change = &mut changes[*key];
                change.sum += diff;
                if *diff > 0 || !change.appears {
                    change.row = (number, row);
                    change.appears = *diff > 0;
                }
            }
        }
        Ok((self.numbers.take()?, changes))
    }

    /// The place of the row of each of these keys.
    fn find(
        &self,
        version: &ViewVersion,
        keys: &[ArrayRef],
        hashes: &[u32],
    ) -> Result<Vec<Option<RowPlace>>> {
        let mut found = vec![None; hashes.len()];
        let mut wanted: Vec<u32> = (0..hashes.len() as u32).collect();
        for nth in 0.. {
            // Keys that have the hash of another are rare: the first candidate is the row, or there is none.
            let candidates = wanted.iter().filter_map(|&key| {
                let place = self.index.candidates(hashes[key as usize]).nth(nth)?;
                Some((key, place))
            });
            let (candidates, places): (Vec<u32>, Vec<RowPlace>) = candidates.unzip();
            if candidates.is_empty() {
                break;
            }
            let is_key = self.have_keys(version, &places, keys, &candidates)?;
            wanted.clear();
            for ((key, place), is_key) in candidates.iter().zip(places).zip(&is_key) {
                match is_key {
                    true => found[*key as usize] = Some(place),
                    false => wanted.push(*key),
                }
            }
        }
        Ok(found)
    }

    /// Whether the row at each of `places` has the key of this number.
    fn have_keys(
        &self,
        version: &ViewVersion,
        places: &[RowPlace],
        keys: &[ArrayRef],
        numbers: &[u32],
    ) -> Result<BooleanBuffer> {
        let there = version.gather(places, &self.key)?;
        let numbers = UInt32Array::from(numbers.to_vec());
        let mut equal = BooleanArray::new(BooleanBuffer::new_set(places.len()), None);
        for (there, keys) in there.iter().zip(keys) {
            equal = and(&equal, &are_equal(there, &take(keys, &numbers, None)?)?)?;
        }
        Ok(equal.values().clone())
    }

    /// Adds a page, for the rows of which `rows` says where they were.
    fn put(
        &mut self,
        version: &mut ViewVersion,
        page: Page,
        rows: &mut impl Iterator<Item = NewRow>,
    ) {
        let slot = self.holes.pop().unwrap_or_else(|| {
            version.slots.push(None);
            version.slots.len() as u32 - 1
        });
        for (row, new) in (0..page.len() as u32).zip(rows) {
            let place = RowPlace { slot, row };
            match new.old {
                Some(old) => {
                    self.index.replace(new.hash, old, place);
                    self.forget(version, old);
                }
                None => self.index.insert(new.hash, place),
            }
        }
        version.len += page.len();
        version.slots[slot as usize] = Some(page);
    }

    /// The row at this place is not alive any more; a page without any is dropped.
    fn forget(&mut self, version: &mut ViewVersion, place: RowPlace) {
        let slot = &mut version.slots[place.slot as usize];
        if let Some(page) = slot {
            page.remove(place.row);
            version.len -= 1;
            if page.live() == 0 {
                *slot = None;
                self.holes.push(place.slot);
            }
        }
    }

    /// Compacts pages while there is need, but moves only about `rows` rows.
    fn tidy(&mut self, version: &mut ViewVersion, rows: usize) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let places = rows_to_move(version);
            if places.is_empty() {
                return Ok(());
            }
            let page = version.copied(&places)?;
            let keys = self
                .key
                .iter()
                .map(|&column| page.run().rows.column(column));
            let hashes = hashes_of(keys, page.len())?;
            left = left.saturating_sub(places.len());
            let moved = hashes.into_iter().zip(places);
            let mut moved = moved.map(|(hash, place)| NewRow {
                hash,
                old: Some(place),
            });
            self.put(version, page, &mut moved);
        }
        Ok(())
    }
}

impl ViewVersion {
    fn count(&self, place: RowPlace) -> i64 {
        let page = self.slots[place.slot as usize].as_ref();
        page.map_or(0, |page| page.count(place.row))
    }

    /// These rows as a page of their own.
    fn copied(&self, places: &[RowPlace]) -> Result<Page> {
        let width = self.schema().fields().len();
        let columns = self.gather(places, &(0..width).collect::<Vec<_>>())?;
        let counts: Vec<i64> = places.iter().map(|place| self.count(*place)).collect();
        page_of(self.schema(), columns, &counts)
    }
}

/// Rows that are to be copied into a page of their own; none if all is tidy.
fn rows_to_move(version: &ViewVersion) -> Vec<RowPlace> {
    let pages = || {
        let slots = (0u32..).zip(&version.slots);
        slots.filter_map(|(slot, page)| Some((slot, page.as_ref()?)))
    };
    let (rows, live) = pages().fold((0, 0), |(rows, live), (_, page)| {
        (rows + page.len(), live + page.live())
    });
    let mut from: Vec<(u32, &Page)> = Vec::new();
    if rows > 2 * live + MAX_GARBAGE {
        let garbage = |page: &Page| 1.0 - page.live() as f64 / page.len() as f64;
        from.extend(pages().max_by(|a, b| garbage(a.1).total_cmp(&garbage(b.1))));
    } else {
        from.extend(pages().filter(|(_, page)| size_of_live(page) < FULL / 2));
        if from.len() <= MAX_SMALL {
            return Vec::new();
        }
        from.sort_unstable_by_key(|(_, page)| size_of_live(page));
        let mut size = 0;
        let fitting = from.iter().take(MAX_JOINED).take_while(|(_, page)| {
            size += size_of_live(page);
            size <= FULL
        });
        from.truncate(fitting.count());
    }
    let places = from.iter().flat_map(|&(slot, page)| {
        let rows = page.live_rows().into_iter();
        rows.map(move |row| RowPlace { slot, row })
    });
    places.collect()
}

/// How much of a full page the live rows of this one take: as rows of a usual size.
fn size_of_live(page: &Page) -> usize {
    let rows_of_bytes = page.bytes().saturating_mul(FULL) / FULL_BYTES;
    page.live() * page.len().max(rows_of_bytes) / page.len().max(1)
}

/// Some rows of the batches, each with its count, as pages.
fn new_pages(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    rows: &[(usize, usize)],
    counts: &[i64],
) -> Result<Vec<Page>> {
    let all: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let bytes: usize = batches.iter().map(batch_bytes).sum();
    let most = (FULL_BYTES / (bytes / all.max(1)).max(1)).clamp(1, FULL);
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let pages = rows.chunks(most).zip(counts.chunks(most));
    let pages = pages.map(|(rows, counts)| {
        let mut columns = interleave_record_batch(&batches, rows)?.columns().to_vec();
        columns.pop();
        page_of(schema, columns, counts)
    });
    pages.collect()
}

/// Rows of `schema`, each with its count, as a page.
fn page_of(schema: &SchemaRef, mut columns: Vec<ArrayRef>, counts: &[i64]) -> Result<Page> {
    let counts: ArrayRef = match counts.iter().all(|count| *count == 1) {
        true => Arc::new(Int8Array::from_value(1, counts.len())),
        false => Arc::new(Int64Array::from(counts.to_vec())),
    };
    let field = Field::new(DIFF_COLUMN, counts.data_type().clone(), false);
    let fields = schema.fields().iter().cloned().chain([Arc::new(field)]);
    let schema = Schema::new(fields.collect::<Vec<_>>());
    columns.push(counts);
    Page::new(
        Run::new(0, RecordBatch::try_new(Arc::new(schema), columns)?),
        true,
    )
}

/// Row by row, NULL equal to NULL.
fn are_equal(left: &ArrayRef, right: &ArrayRef) -> Result<BooleanArray> {
    if let Ok(equal) = not_distinct(left, right) {
        return Ok(equal);
    }
    // Columns of lists and structs.
    let rows = RowConverter::new(vec![SortField::new(left.data_type().clone())])?;
    let left = rows.convert_columns(std::slice::from_ref(left))?;
    let right = rows.convert_columns(std::slice::from_ref(right))?;
    Ok(left
        .iter()
        .zip(right.iter())
        .map(|(left, right)| Some(left == right))
        .collect())
}

/// The hash of each row; the same in every process of one build.
fn hashes_of<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>, rows: usize) -> Result<Vec<u32>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &RandomState::default(), &mut hashes)?;
    Ok(hashes.into_iter().map(|hash| hash as u32).collect())
}
