//! The current result of a view.
//!
//! A [`Store`] has the present [`ViewVersion`], which it hands out as it is: readers share it, and a step
//! makes the next one. An append-only view keeps the batches as they came, small neighbours merged in
//! levels: a row is copied a few times, and never many rows at once. A changing view finds the rows that
//! disappear by their keys ([`Arrangement`]).
//!
//! A version is saved as [`Run`]s; runs that an earlier save returned keep their ids.

mod arrangement;
mod key_index;
mod version;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::batch_bytes::batch_bytes;
use crate::dataflow::{Run, with_diff};
use arrangement::Arrangement;
use key_index::RowPlace;
use version::Page;
pub(crate) use version::ViewVersion;

/// Neighbouring pages of a level that are merged into one of the next level.
const FAN_IN: usize = 8;

/// Rows of a page that is not merged further, about.
const FULL: usize = 8_192;

/// Bytes of a page that is not merged further, about.
const FULL_BYTES: usize = 16 << 20;

/// The level of a page that is not merged further.
const LAST_LEVEL: u32 = u32::MAX;

pub(crate) struct Store {
    version: Arc<ViewVersion>,
    /// `None` of an append-only view.
    by_key: Option<Arrangement>,
}

impl Store {
    /// An empty store for rows of `schema` (without the diff). If they change and no two have the same
    /// values in some columns, those are the `key`.
    ///
    /// # Errors
    /// If rows change and the columns of the key are of a type that cannot be compared.
    pub fn new(schema: SchemaRef, changes: bool, key: Option<&[usize]>) -> Result<Self> {
        let by_key = || Arrangement::new(&schema, key);
        let mut store = Self {
            by_key: changes.then(by_key).transpose()?,
            version: Arc::new(ViewVersion::new(Arc::clone(&schema), changes)),
        };
        if changes {
            // Finds types that are not supported before there are rows.
            store.apply(&[RecordBatch::new_empty(with_diff(&schema))])?;
        }
        Ok(store)
    }

    /// Applies what a step produced; batches of a changing view end with the diff.
    ///
    /// # Errors
    /// If a row disappears that is not there: the rows are those before the step then. Or if a page cannot
    /// be made.
    pub fn apply(&mut self, batches: &[RecordBatch]) -> Result<()> {
        match &mut self.by_key {
            Some(by_key) => by_key.apply(&mut self.version, batches),
            None => {
                let version = Arc::make_mut(&mut self.version);
                let mut batches = batches.iter().filter(|batch| batch.num_rows() > 0);
                batches.try_for_each(|batch| version.append(batch))
            }
        }
    }

    pub fn clear(&mut self) {
        let schema = Arc::clone(self.version.schema());
        self.version = Arc::new(ViewVersion::new(schema, self.by_key.is_some()));
        if let Some(by_key) = &mut self.by_key {
            by_key.clear();
        }
    }

    /// The number of rows, equal ones counted once.
    pub fn len(&self) -> usize {
        self.version.len()
    }

    /// All rows that the view has now.
    pub fn version(&self) -> Arc<ViewVersion> {
        Arc::clone(&self.version)
    }

    /// The rows of a changing view with these values in the columns of its key: a column for each, and a
    /// row for each key.
    pub fn look_up(&self, keys: &[ArrayRef]) -> Result<Arc<ViewVersion>> {
        match &self.by_key {
            Some(by_key) => by_key.look_up(&self.version, keys).map(Arc::new),
            None => Ok(self.version()),
        }
    }

    /// Restores what was saved, into an empty store.
    pub fn restore(&mut self, runs: &[Run]) -> Result<()> {
        let schema = Arc::clone(self.version.schema());
        let Some(by_key) = &mut self.by_key else {
            self.version = Arc::new(ViewVersion::restored(schema, false, runs)?);
            return Ok(());
        };
        if ViewVersion::is_saved_as(runs) {
            self.version = Arc::new(ViewVersion::restored(schema, true, runs)?);
            return by_key.index_all(&self.version);
        }
        // Older builds wrote the changes since the view was empty, each with its diff.
        let mut sum = Self::new(schema, true, None)?;
        let changes: Vec<RecordBatch> = runs.iter().map(|run| run.rows.clone()).collect();
        sum.apply(&changes)?;
        self.apply(&sum.version.published()?)
    }
}

/// The pages of an append-only view, in the order in which they came.
impl ViewVersion {
    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        self.len += batch.num_rows();
        if is_full(batch) {
            self.close()?;
        }
        self.push(batch.clone(), 0)?;
        self.level()
    }

    /// Merges the small pages at the end, before a full one is added.
    fn close(&mut self) -> Result<()> {
        let small = self.slots.iter().rev().flatten();
        let small = small.take_while(|page| page.level != LAST_LEVEL).count();
        match small {
            0 => Ok(()),
            _ => self.join(self.slots.len() - small, LAST_LEVEL),
        }
    }

    fn push(&mut self, rows: RecordBatch, level: u32) -> Result<()> {
        let level = if is_full(&rows) { LAST_LEVEL } else { level };
        let mut page = Page::new(Run::new(0, rows), false)?;
        page.level = level;
        self.slots.push(Some(page));
        Ok(())
    }

    /// Merges the last [`FAN_IN`] pages if they are of one level, and repeats that.
    fn level(&mut self) -> Result<()> {
        while let Some(from) = self.slots.len().checked_sub(FAN_IN) {
            let mut levels = self.slots[from..].iter().flatten().map(|page| page.level);
            let Some(level) = levels.next().filter(|level| *level != LAST_LEVEL) else {
                break;
            };
            if levels.any(|other| other != level) {
                break;
            }
            self.join(from, level + 1)?;
        }
        Ok(())
    }

    /// Merges all pages from this slot on into one of `level`.
    fn join(&mut self, from: usize, level: u32) -> Result<()> {
        let mut pages = self.slots[from..]
            .iter()
            .flatten()
            .map(|page| &page.run().rows);
        let Some(first) = pages.next() else {
            return Ok(());
        };
        let rows = concat_batches(first.schema_ref(), std::iter::once(first).chain(pages))?;
        self.slots.truncate(from);
        self.push(rows, level)
    }
}

fn is_full(rows: &RecordBatch) -> bool {
    rows.num_rows() >= FULL || batch_bytes(rows) >= FULL_BYTES
}

#[cfg(test)]
mod tests;
