//! The event time of a source: which column it is, and what the values of a batch span.

use std::time::Duration;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::dataflow::{earliest, in_us, latest, times};

/// Which column is event time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkConfig {
    /// The name of the column.
    pub column: String,
    /// How far rows may come out of order.
    pub delay: Duration,
}

/// A [`WatermarkConfig`] whose column has been found.
#[derive(Debug, Clone)]
pub(crate) struct EventTimeColumn {
    /// The index of the column.
    pub column: usize,
    /// The index of the column, and the fields below it, that have the same values, if there are such.
    pub field: Option<(usize, Vec<String>)>,
    /// How far rows may come out of order.
    pub delay: Duration,
}

/// The least and the greatest event time of some batches, in whole microseconds.
pub(crate) fn span_us(batches: &[RecordBatch], column: usize) -> Option<(i64, i64)> {
    let spans = batches.iter().filter_map(|batch| {
        let column = batch.column(column);
        let times = times(column).ok()?;
        let (first, last) = (earliest(&times)?, latest(&times)?);
        Some((
            in_us(column.data_type(), first)?,
            in_us(column.data_type(), last)?,
        ))
    });
    spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}
