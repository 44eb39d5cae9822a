//! The parts of an interval that `date_part` finds. A difference of two timestamps is days and a time of less than
//! a day, as in PostgreSQL.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::error::Result;
use headwater_connect::calendar::DAY_SECONDS;
use headwater_connect::time_unit::per_second;

use crate::sql::SqlError;

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
const HOUR_NS: i64 = 60 * MINUTE_NS;

/// A part of an interval.
#[derive(Debug, Clone, Copy)]
pub(super) enum IntervalPart {
    /// Seconds beyond whole minutes with their fraction, times this factor.
    Seconds(f64),
    /// The length of all, in seconds.
    Epoch,
    Microseconds,
    /// Of the time: nanoseconds of the unit, and how many units the next larger one has.
    Time(i64, i64),
    Days,
    /// Of the months: those of the unit, how many units the next larger one has, and the number of the first.
    Months(i32, i32, i32),
}

/// Months, days, and nanoseconds.
type Parts = (i32, i64, i64);

impl IntervalPart {
    /// # Errors
    /// If an interval has no such part.
    pub fn of(part: &str) -> Result<Self, SqlError> {
        const ALL: i32 = i32::MAX;
        Ok(match part.trim().to_ascii_lowercase().as_str() {
            "second" | "seconds" | "s" | "sec" | "secs" => Self::Seconds(1.0),
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => Self::Seconds(1e3),
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" => Self::Microseconds,
            "minute" | "minutes" | "m" | "min" | "mins" => Self::Time(MINUTE_NS, 60),
            "hour" | "hours" | "h" | "hr" | "hrs" => Self::Time(HOUR_NS, i64::MAX),
            "day" | "days" | "d" => Self::Days,
            "month" | "months" | "mon" | "mons" => Self::Months(1, 12, 0),
            "quarter" | "qtr" => Self::Months(3, 4, 1),
            "year" | "years" | "y" | "yr" | "yrs" => Self::Months(12, ALL, 0),
            "decade" | "decades" | "dec" => Self::Months(120, ALL, 0),
            "century" | "centuries" | "c" | "cent" => Self::Months(1_200, ALL, 0),
            "millennium" | "millennia" | "mil" => Self::Months(12_000, ALL, 0),
            "epoch" => Self::Epoch,
            other => {
                let error = SqlError::not_built(format!("unit {other:?} of an interval"));
                return Err(error.hint(
                    "Units are second, minute, hour, day, month, quarter, year and epoch, and those of fractions and centuries.",
                ));
            }
        })
    }

    /// Whether its value has a fraction.
    pub fn has_fraction(self) -> bool {
        matches!(self, Self::Seconds(_) | Self::Epoch)
    }

    /// The part of each interval; `None` of types that are no intervals.
    pub fn of_intervals(self, intervals: &ArrayRef) -> Result<Option<ArrayRef>> {
        let values = match intervals.data_type() {
            DataType::Duration(unit) => {
                let (per, unit) = (per_second(*unit), SECOND_NS / per_second(*unit));
                let numbers = cast(intervals, &DataType::Int64)?;
                let day = DAY_SECONDS * per;
                let parts = |it: i64| (0, it / day, it % day * unit);
                let numbers = numbers.as_primitive::<Int64Type>();
                self.values(numbers.iter().map(|it| it.map(parts)))
            }
            DataType::Interval(_) => {
                let whole = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
                let whole = whole.as_primitive::<IntervalMonthDayNanoType>();
                let parts = whole.iter();
                self.values(
                    parts.map(|it| it.map(|it| (it.months, it.days.into(), it.nanoseconds))),
                )
            }
            _ => return Ok(None),
        };
        Ok(Some(values))
    }

    fn values(self, parts: impl Iterator<Item = Option<Parts>>) -> ArrayRef {
        match self.has_fraction() {
            true => Arc::new(
                parts
                    .map(|it| it.map(|it| self.fraction(it)))
                    .collect::<Float64Array>(),
            ),
            false => Arc::new(
                parts
                    .map(|it| it.map(|it| self.whole(it) as i32))
                    .collect::<Int32Array>(),
            ),
        }
    }

    fn fraction(self, (months, days, time): Parts) -> f64 {
        /// Seconds of a year, of which every fourth has a day more.
        const YEAR_SECONDS: f64 = 365.25 * DAY_SECONDS as f64;
        const MONTH_DAYS: i64 = 30;
        match self {
            Self::Seconds(units) => (time % MINUTE_NS) as f64 * units / SECOND_NS as f64,
            _ => {
                let days = i64::from(months % 12) * MONTH_DAYS + days;
                let years = f64::from(months / 12) * YEAR_SECONDS;
                years + (days * DAY_SECONDS) as f64 + time as f64 / SECOND_NS as f64
            }
        }
    }

    fn whole(self, (months, days, time): Parts) -> i64 {
        match self {
            Self::Microseconds => time % MINUTE_NS / 1_000,
            Self::Time(unit, larger) => time / unit % larger,
            Self::Days => days,
            Self::Months(unit, larger, first) => i64::from(months / unit % larger + first),
            Self::Seconds(_) | Self::Epoch => 0,
        }
    }
}

/// Refuses a part that an interval does not have.
pub(super) fn refuse_part_of_interval(part: &str, data_type: &DataType) -> Result<(), SqlError> {
    match data_type {
        DataType::Interval(_) | DataType::Duration(_) => IntervalPart::of(part).map(|_| ()),
        _ => Ok(()),
    }
}
