//! Columns of a source that are computed from its others when a row arrives.
//!
//! They are computed once, before the log and before the watermark, so a computed column may be the event
//! time, and every reader of the source or its log has the same value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::SchemaRef;
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::frontier::Frontier;
use super::query_errors::{contain, reason_of};
use super::stream_element::batch_of;
use super::transform::{self, Transform};

/// Where a column of a source comes from.
#[derive(Debug, Clone)]
pub enum ColumnOrigin {
    /// What arrives, by the number of the column there.
    Payload(usize),
    /// The one column that these steps make of the payload.
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
    /// The rows with all columns, in their order.
    pub rows: RecordBatch,
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
        let (mut whole, mut failed) = (Vec::new(), Vec::new());
        self.add(payload, 0, &mut whole, &mut failed);
        let rows = match whole.len() {
            1 => whole.remove(0),
            _ => concat_batches(&self.schema, &whole).expect("batches of this schema"),
        };
        ComputedRows { rows, failed }
    }

    fn add(
        &self,
        payload: &RecordBatch,
        first: usize,
        whole: &mut Vec<RecordBatch>,
        failed: &mut Vec<(usize, String)>,
    ) {
        let computed = contain(|| self.compute(payload));
        let computed = computed.map_or_else(Err, |done| done.map_err(|error| reason_of(&error)));
        match (computed, payload.num_rows()) {
            (Ok(rows), _) => whole.push(rows),
            // No row, no error of a row: nothing to halve.
            (Err(_), 0) => {}
            (Err(error), 1) => failed.push((first, error)),
            (Err(_), rows) => {
                let half = rows / 2;
                self.add(&payload.slice(0, half), first, whole, failed);
                let rest = payload.slice(half, rows - half);
                self.add(&rest, first + half, whole, failed);
            }
        }
    }

    fn compute(&self, payload: &RecordBatch) -> Result<RecordBatch> {
        let fields = self.schema.fields().iter();
        let columns = self.columns.iter().zip(fields).map(|(origin, field)| {
            let steps = match origin {
                ColumnOrigin::Payload(column) => return Ok(Arc::clone(payload.column(*column))),
                ColumnOrigin::Computed(steps) => steps,
            };
            let computed = transform::apply(steps, payload, &mut Frontier::NONE.clone())?;
            let Some(computed) = computed.filter(|rows| rows.num_columns() == 1) else {
                return exec_err!("{} is not computed for each row", field.name());
            };
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let column = cast_with_options(computed.column(0), field.data_type(), &strict)?;
            if !field.is_nullable() && column.null_count() > 0 {
                return exec_err!("column {} is NULL", field.name());
            }
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(batch_of(&self.schema, columns, payload.num_rows())?)
    }
}
