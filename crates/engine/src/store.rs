//! The current result of a view.
//!
//! A view whose rows only ever appear keeps the batches as they came. A view whose rows may be
//! taken back keeps each distinct row with its count, so that `-1` finds what `+1` brought.

use std::collections::HashMap;

use arrow::array::{Int8Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int8_array;
use datafusion::common::hash_utils::RandomState;
use datafusion::error::{DataFusionError, Result};

/// Batches are put together when there are this many.
const MAX_BATCHES: usize = 1_024;

/// The rows of a view.
pub(crate) enum Store {
    /// Rows only appear.
    Appended {
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    },
    /// Rows appear and go.
    Changing(Changing),
}

pub(crate) struct Changing {
    schema: SchemaRef,
    rows: RowConverter,
    /// How often each row is there, by its bytes in the row format; never 0.
    counts: HashMap<Box<[u8]>, i64, RandomState>,
}

impl Store {
    /// An empty store for rows of `schema` (without the diff).
    pub fn new(schema: SchemaRef, changes: bool) -> Result<Self> {
        if !changes {
            return Ok(Self::Appended {
                schema,
                batches: Vec::new(),
            });
        }
        let fields = schema
            .fields()
            .iter()
            .map(|field| SortField::new(field.data_type().clone()));
        let rows = RowConverter::new(fields.collect())?;
        Ok(Self::Changing(Changing {
            schema,
            rows,
            counts: HashMap::default(),
        }))
    }

    /// Adds what a step brought; batches of a changing view end with the diff.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Appended { schema, batches } => {
                batches.push(batch.clone());
                if batches.len() >= MAX_BATCHES {
                    *batches = vec![concat_batches(schema, batches.iter())?];
                }
                Ok(())
            }
            Self::Changing(changing) => changing.apply(batch),
        }
    }

    /// Takes all rows away.
    pub fn clear(&mut self) {
        match self {
            Self::Appended { batches, .. } => batches.clear(),
            Self::Changing(changing) => changing.counts.clear(),
        }
    }

    /// All rows as they are now.
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Appended { batches, .. } => Ok(batches.clone()),
            Self::Changing(changing) => changing.snapshot().map(|batch| vec![batch]),
        }
    }
}

impl Changing {
    fn apply(&mut self, batch: &RecordBatch) -> Result<()> {
        let (columns, diff) = split_diff(batch)?;
        let rows = self.rows.convert_columns(columns)?;
        for (row, diff) in rows.iter().zip(diff.values()) {
            self.add(row.data(), i64::from(*diff));
        }
        Ok(())
    }

    /// A row may go before it comes within one batch: then its count is below zero for a while.
    fn add(&mut self, row: &[u8], diff: i64) {
        match self.counts.get_mut(row) {
            Some(count) if *count + diff == 0 => {
                self.counts.remove(row);
            }
            Some(count) => *count += diff,
            None => {
                self.counts.insert(row.into(), diff);
            }
        }
    }

    fn snapshot(&self) -> Result<RecordBatch> {
        let parser = self.rows.parser();
        let rows = self.counts.iter().flat_map(|(row, count)| {
            std::iter::repeat_n(parser.parse(row), usize::try_from(*count).unwrap_or(0))
        });
        let rows: Vec<_> = rows.collect();
        let count = rows.len();
        let columns = self.rows.convert_rows(rows)?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }
}

fn split_diff(batch: &RecordBatch) -> Result<(&[arrow::array::ArrayRef], &Int8Array)> {
    match batch.columns().split_last() {
        Some((diff, columns)) => Ok((columns, as_int8_array(diff)?)),
        None => Err(DataFusionError::Internal("a change without a diff".into())),
    }
}
