//! The event time of a source: which column it is, and what the values of a batch span.

use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use headwater_connect::time_unit;
use serde::{Deserialize, Serialize};

use crate::dataflow::{earliest, latest, times};

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
    /// How far rows may come out of order.
    pub delay: Duration,
}

/// The latest time of a timestamp column, in whole microseconds.
pub(crate) fn latest_us(column: &ArrayRef) -> Option<i64> {
    in_us(column.data_type(), latest(&times(column).ok()?)?)
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

/// A time of a timestamp column in whole microseconds.
fn in_us(data_type: &DataType, time: i64) -> Option<i64> {
    let DataType::Timestamp(unit, _) = data_type else {
        return None;
    };
    let us = time_unit::convert_saturating(time, *unit, TimeUnit::Microsecond);
    Some(us)
}
