//! Where a query begins in what it reads: the option `start`.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

use crate::db::options::only_option;
use crate::error::Result;
use crate::sql::{OptionEntry, SqlError, sqlstate};

/// Where a query begins in what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next row.
    Now,
    /// With the first retained row, if the logs of all its inputs retain rows; else with the next row.
    Retained,
    /// With the first retained row.
    Beginning,
    /// With the first row of this event time, in microseconds, or later.
    At(i64),
}

/// The value of the option `start`; `default` without it.
pub(crate) fn start_of(default: Start, options: &[OptionEntry]) -> Result<Start> {
    let Some(option) = only_option("start", "a stream or view", options)? else {
        return Ok(default);
    };
    let text = option.value.to_string();
    match text.to_ascii_lowercase().as_str() {
        "now" => Ok(Start::Now),
        "beginning" => Ok(Start::Beginning),
        _ => instant_us(&text).map(Start::At).ok_or_else(|| {
            let message = format!("start = {text:?} is neither 'now', 'beginning' nor a time");
            SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .hint("Write a time as '2026-01-31 12:00:00'.")
                .at(option.value_span.clone())
                .into()
        }),
    }
}

/// A time as it is written in SQL, in microseconds since 1970-01-01 UTC.
pub(crate) fn instant_us(text: &str) -> Option<i64> {
    let target = DataType::Timestamp(TimeUnit::Microsecond, None);
    match ScalarValue::from(text).cast_to(&target) {
        Ok(ScalarValue::TimestampMicrosecond(at, _)) => at,
        _ => None,
    }
}
