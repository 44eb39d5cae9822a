//! Columns of a source that are computed from its others when a row arrives.
//!
//! They are computed once, before the log and before the watermark, so a computed column may be the event
//! time, and every reader of the source or its log has the same value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use super::frontier::Frontier;
use super::query_errors::{SplitRows, contain, reason_of};
use super::stream_element::batch_of;
use super::transform::{self, Transform};
use crate::batch_bytes::{STEP_BYTES, batch_bytes};

/// Where a column of a source comes from.
#[derive(Debug, Clone)]
pub enum ColumnOrigin {
    /// What arrives, by the number of the column there.
    Payload(usize),
    /// The one column that these steps make of the payload, of the type of the column.
    Computed(Vec<Transform>),
}

/// Makes the columns of a source from its payload.
#[derive(Debug, Clone)]
pub struct SourceColumns {
    columns: Vec<ColumnOrigin>,
    schema: SchemaRef,
}

/// Rows that could be computed, and those that could not.
pub(crate) struct ComputedRows {
    /// The rows with all columns, in their order; in one batch unless that would be large.
    pub rows: Vec<RecordBatch>,
    /// The numbers of the rows that failed, ascending, each with its error.
    pub failed: Vec<(usize, String)>,
}

impl SourceColumns {
    /// The columns of `schema`, each from its origin.
    pub fn new(columns: Vec<ColumnOrigin>, schema: SchemaRef) -> Self {
        Self { columns, schema }
    }

    /// Computes the columns of `payload`. Where rows fail, the others are found by halving.
    pub(crate) fn apply(&self, payload: &RecordBatch) -> ComputedRows {
        let compute = |part: &RecordBatch, _| contain(|| self.compute(part)).flatten().map(Some);
        let (mut whole, failed) = match SplitRows::of(payload, compute) {
            Ok(split) => (split.done, split.failed),
            // No row, no error of a row.
            Err(_) => (Vec::new(), Vec::new()),
        };
        let is_small = whole.iter().map(batch_bytes).sum::<usize>() <= STEP_BYTES;
        if whole.len() > 1 && is_small {
            let joined = concat_batches(&self.schema, &whole).expect("batches of this schema");
            whole = vec![joined];
        }
        ComputedRows {
            rows: whole,
            failed,
        }
    }

    /// # Errors
    /// Names the column that a row has failed for.
    fn compute(&self, payload: &RecordBatch) -> Result<RecordBatch, String> {
        let fields = self.schema.fields().iter();
        let columns = self.columns.iter().zip(fields).map(|(origin, field)| {
            let steps = match origin {
                ColumnOrigin::Payload(column) => return Ok(Arc::clone(payload.column(*column))),
                ColumnOrigin::Computed(steps) => steps,
            };
            let named = |why: &str| format!("column {:?}: {why}", field.name());
            let computed = transform::apply(steps, payload, &mut Frontier::NONE.clone());
            let computed = computed.map_err(|error| named(&reason_of(&error)))?;
            let Some(computed) = computed.filter(|rows| rows.num_columns() == 1) else {
                return Err(named("it is not computed for each row"));
            };
            let column = Arc::clone(computed.column(0));
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(format!("column {} is NULL", field.name()));
            }
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, String>>()?;
        batch_of(&self.schema, columns, payload.num_rows()).map_err(|error| error.to_string())
    }
}
