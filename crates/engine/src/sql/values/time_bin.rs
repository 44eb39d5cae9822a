//! `date_bin`: the start of the interval into which a time falls, counted from an origin.

use arrow::datatypes::{IntervalMonthDayNano, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;
use headwater_connect::calendar::DAY_SECONDS;
use headwater_connect::time_unit::{convert_wide, per_second};

use crate::sql::functions::external;
use crate::sql::{SqlError, sqlstate};

const NANOSECOND: TimeUnit = TimeUnit::Nanosecond;

/// Intervals of one length.
pub(super) enum TimeBin {
    /// In units of the column.
    Units { stride: i64, origin: i64 },
    /// In nanoseconds, where the units of the column are too coarse.
    Nanoseconds {
        stride: i128,
        origin: i128,
        column: TimeUnit,
    },
}

impl TimeBin {
    /// `None` if an argument is NULL.
    pub fn new(
        stride: &ScalarValue,
        origin: Option<&ColumnarValue>,
        column: TimeUnit,
    ) -> Result<Option<Self>> {
        let ScalarValue::IntervalMonthDayNano(Some(stride)) = stride else {
            return Ok(None);
        };
        let stride = length(*stride).map_err(external)?;
        let origin = match origin {
            None => 0,
            Some(ColumnarValue::Scalar(origin)) => match instant(origin) {
                Some(origin) => origin,
                None => return Ok(None),
            },
            Some(ColumnarValue::Array(_)) => {
                let what = "date_bin() with an origin that is not constant";
                return Err(external(SqlError::not_built(what)));
            }
        };
        let unit = i128::from(per_second(NANOSECOND) / per_second(column));
        let in_units = |nanos: i128| (nanos % unit == 0).then(|| i64::try_from(nanos / unit).ok());
        Ok(Some(match (in_units(stride), in_units(origin)) {
            (Some(Some(stride)), Some(Some(origin))) => Self::Units { stride, origin },
            _ => Self::Nanoseconds {
                stride,
                origin,
                column,
            },
        }))
    }

    /// The start of the interval; `None` if it is out of range.
    #[inline]
    pub fn apply(&self, time: i64) -> Option<i64> {
        match *self {
            Self::Units { stride, origin } => {
                time.checked_sub(time.checked_sub(origin)?.rem_euclid(stride))
            }
            Self::Nanoseconds {
                stride,
                origin,
                column,
            } => {
                let time = convert_wide(time, column, NANOSECOND);
                let start = time - (time - origin).rem_euclid(stride);
                i64::try_from(start.div_euclid(convert_wide(1, column, NANOSECOND))).ok()
            }
        }
    }
}

/// The nanoseconds of an interval, which are at least 1.
pub(super) fn length(stride: IntervalMonthDayNano) -> Result<i128, SqlError> {
    if stride.months != 0 {
        let what = "date_bin() with an interval of months or years";
        return Err(SqlError::not_built(what).hint("Write DATE_TRUNC('month', ts)."));
    }
    let day = convert_wide(DAY_SECONDS, TimeUnit::Second, NANOSECOND);
    let nanos = i128::from(stride.days) * day + i128::from(stride.nanoseconds);
    if nanos <= 0 {
        let message = "stride must be greater than zero";
        return Err(SqlError::new(sqlstate::DATETIME_OVERFLOW, message));
    }
    Ok(nanos)
}

/// Nanoseconds since 1970; `None` if it is NULL.
fn instant(origin: &ScalarValue) -> Option<i128> {
    let (value, unit) = match origin {
        ScalarValue::TimestampSecond(value, _) => (value, TimeUnit::Second),
        ScalarValue::TimestampMillisecond(value, _) => (value, TimeUnit::Millisecond),
        ScalarValue::TimestampMicrosecond(value, _) => (value, TimeUnit::Microsecond),
        ScalarValue::TimestampNanosecond(value, _) => (value, NANOSECOND),
        _ => return None,
    };
    value.map(|value| convert_wide(value, unit, NANOSECOND))
}
