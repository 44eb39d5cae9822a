//! Filters and projections: the stateless operators, batch by batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;

use super::frontier::Frontier;
use super::stream_element::batch_of;

/// One operator of a stateless chain.
#[derive(Debug, Clone)]
pub enum Transform {
    /// Keeps the rows for which the predicate is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Replaces the columns by computed ones.
    Project {
        /// One expression for each new column.
        exprs: Vec<Arc<dyn PhysicalExpr>>,
        /// The names and types of the new columns.
        schema: SchemaRef,
    },
}

impl Transform {
    /// The transformed rows; `None` if none are left.
    fn apply(&self, rows: &RecordBatch, frontier: &mut Frontier) -> Result<Option<RecordBatch>> {
        match self {
            Self::Filter(predicate) => {
                let keep = predicate.evaluate(rows)?.into_array(rows.num_rows())?;
                let keep = as_boolean_array(&keep)?;
                Ok(match keep.true_count() {
                    0 => None,
                    all if all == rows.num_rows() => Some(rows.clone()),
                    _ => {
                        frontier.filter(keep);
                        Some(filter_record_batch(rows, keep)?)
                    }
                })
            }
            Self::Project { exprs, schema } => {
                let columns = evaluate_all(exprs, rows)?;
                Ok(Some(batch_of(schema, columns, rows.num_rows())?))
            }
        }
    }
}

pub(super) fn evaluate_all(
    exprs: &[Arc<dyn PhysicalExpr>],
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    exprs
        .iter()
        .map(|expr| expr.evaluate(rows)?.into_array(rows.num_rows()))
        .collect()
}

/// Applies a chain in order; `None` if no row is left.
pub(super) fn apply(
    steps: &[Transform],
    rows: &RecordBatch,
    frontier: &mut Frontier,
) -> Result<Option<RecordBatch>> {
    let Some((first, rest)) = steps.split_first() else {
        return Ok(Some(rows.clone()));
    };
    let mut done = first.apply(rows, frontier)?;
    for step in rest {
        match &done {
            Some(rows) => done = step.apply(rows, frontier)?,
            None => return Ok(None),
        }
    }
    Ok(done)
}
