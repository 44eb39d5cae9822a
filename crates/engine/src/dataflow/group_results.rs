//! The results of groups, of which some may fail: a sum that its type cannot hold.
//!
//! They are made of a run, which stays, so that the results that fail can be told from the others.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;

use super::groups::{Grouping, Groups, OutputColumn, last_instants};
use super::query_errors::{QueryErrors, SplitRows};
use super::stream_element::{StreamElement, batch_of};

/// Finds the first and last instant of the window of each row of a run; `None` without windows.
type WindowsOf<'a> = &'a dyn Fn(&RecordBatch) -> Result<Option<(ArrayRef, ArrayRef)>>;

/// How the states of groups become rows of a result.
pub(super) struct GroupResults<'a> {
    pub grouping: &'a Arc<Grouping>,
    /// The columns of the result, in their order.
    pub output: &'a [OutputColumn],
    /// The names and types of `output`.
    pub schema: &'a SchemaRef,
    pub window: WindowsOf<'a>,
}

impl GroupResults<'_> {
    /// The results of the groups in `run`, and the numbers of those that fail.
    pub fn split(&self, run: &RecordBatch, errors: &QueryErrors) -> SplitRows<RecordBatch> {
        errors.split(run, &|run, _| {
            let results = Groups::new(self.grouping)?.results_of(run)?;
            let window = (self.window)(run)?;
            results.arrange(self.output, window, self.schema).map(Some)
        })
    }

    /// The results of the groups in `run`; then what becomes of those that fail.
    pub fn each(&self, run: &RecordBatch, errors: &QueryErrors) -> Result<Vec<StreamElement>> {
        let split = self.split(run, errors);
        let mut out: Vec<_> = split.done.into_iter().map(StreamElement::rows).collect();
        if !split.failed.is_empty() {
            out.extend(errors.give_up(&self.without_values(run)?, false, &split.failed));
        }
        Ok(out)
    }

    /// The results of the groups in `run` without the columns of aggregates.
    pub fn without_values(&self, run: &RecordBatch) -> Result<RecordBatch> {
        let (keys, window) = (self.grouping.run_keys(run), (self.window)(run)?);
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (column, field) in self.output.iter().zip(self.schema.fields()) {
            let values = match (column, &window) {
                (OutputColumn::Key(number), _) => Arc::clone(&keys[*number]),
                (OutputColumn::WindowStart, Some((start, _))) => Arc::clone(start),
                (OutputColumn::WindowEnd, Some((_, end))) => Arc::clone(end),
                (OutputColumn::WindowTime, Some((_, end))) => last_instants(end)?,
                _ => continue,
            };
            fields.push(Field::new(field.name(), values.data_type().clone(), true));
            columns.push(values);
        }
        Ok(batch_of(
            &Arc::new(Schema::new(fields)),
            columns,
            run.num_rows(),
        )?)
    }
}
