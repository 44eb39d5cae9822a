//! What `date_trunc` leaves of a time, and the parts of a second that `date_part` finds.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::error::Result;
use headwater_connect::calendar::{DAY_SECONDS, civil_from_days, days_from_civil};
use headwater_connect::time_unit::per_second;

use crate::sql::{SqlError, sqlstate};

const MINUTE_SECONDS: i64 = 60;
const HOUR_SECONDS: i64 = 3_600;
const WEEK_SECONDS: i64 = 7 * DAY_SECONDS;
/// From 1970-01-01 to the first Monday.
const FIRST_MONDAY: i64 = 4 * DAY_SECONDS;

/// A unit to which times are truncated, in units of the column.
pub(super) enum Truncation {
    /// All times of these many units begin at `offset` and its multiples.
    Fixed { size: i64, offset: i64 },
    /// Months from the first of which on a year is divided.
    Months { months: i64, day: i64 },
    /// Years, of which the first is the year 0 or 1.
    Years { years: i64, first: i64, day: i64 },
}

impl Truncation {
    /// # Errors
    /// If there is no such unit.
    pub fn new(name: &str, column: TimeUnit) -> Result<Self, SqlError> {
        let per = per_second(column);
        let day = DAY_SECONDS * per;
        let fixed = |size, offset| Self::Fixed { size, offset };
        let seconds = |seconds: i64| fixed(seconds * per, 0);
        let years = |years, first| Self::Years { years, first, day };
        let lower = name.trim().to_ascii_lowercase();
        Ok(match lower.as_str() {
            "microsecond" | "microseconds" | "us" | "usec" => fixed((per / 1_000_000).max(1), 0),
            "millisecond" | "milliseconds" | "ms" | "msec" => fixed((per / 1_000).max(1), 0),
            "second" | "seconds" | "s" | "sec" => seconds(1),
            "minute" | "minutes" | "m" | "min" => seconds(MINUTE_SECONDS),
            "hour" | "hours" | "h" | "hr" => seconds(HOUR_SECONDS),
            "day" | "days" | "d" => seconds(DAY_SECONDS),
            "week" | "weeks" | "w" => fixed(WEEK_SECONDS * per, FIRST_MONDAY * per),
            "month" | "months" | "mon" => Self::Months { months: 1, day },
            "quarter" | "qtr" => Self::Months { months: 3, day },
            "year" | "years" | "y" | "yr" => years(1, 0),
            "decade" | "decades" | "dec" => years(10, 0),
            "century" | "centuries" | "c" | "cent" => years(100, 1),
            "millennium" | "millennia" | "mil" => years(1_000, 1),
            _ => {
                let message = format!("unit {name:?} not recognized for type timestamp");
                let error = SqlError::new(sqlstate::INVALID_PARAMETER, message);
                return Err(
                    error.hint("Units are second, minute, hour, day, week, month and year.")
                );
            }
        })
    }

    /// The time at which the unit began; `None` if it is out of range.
    #[inline]
    pub fn apply(&self, time: i64) -> Option<i64> {
        match *self {
            Self::Fixed { size, offset } => {
                let within = time.checked_sub(offset)?.rem_euclid(size);
                time.checked_sub(within)
            }
            Self::Months { months, day } => {
                let (year, month, _) = civil_from_days(time.div_euclid(day));
                days_from_civil(year, (month - 1) / months * months + 1, 1).checked_mul(day)
            }
            Self::Years { years, first, day } => {
                let (year, ..) = civil_from_days(time.div_euclid(day));
                let year = year - (year - first).rem_euclid(years);
                days_from_civil(year, 1, 1).checked_mul(day)
            }
        }
    }
}

/// A part that has a fraction.
#[derive(Debug, Clone, Copy)]
pub(super) enum SecondPart {
    Seconds,
    Milliseconds,
}

impl SecondPart {
    pub fn of(part: &str) -> Option<Self> {
        Some(match part.trim().to_ascii_lowercase().as_str() {
            "second" | "seconds" | "s" | "sec" | "secs" => Self::Seconds,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => Self::Milliseconds,
            _ => return None,
        })
    }

    /// The seconds beyond the whole minutes; `None` of types that have no seconds of their own.
    pub fn of_times(self, times: &ArrayRef) -> Result<Option<ArrayRef>> {
        let unit = match times.data_type() {
            DataType::Timestamp(unit, _) => *unit,
            DataType::Time32(unit) | DataType::Time64(unit) => *unit,
            _ => return Ok(None),
        };
        let minute = MINUTE_SECONDS * per_second(unit);
        let numbers = match times.data_type() {
            DataType::Time32(_) => cast(&cast(times, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(times, &DataType::Int64)?,
        };
        let numbers = numbers.as_primitive::<Int64Type>();
        let parts: Float64Array = numbers.unary(|time| self.part(time.rem_euclid(minute), unit));
        Ok(Some(Arc::new(parts)))
    }

    fn part(self, within: i64, unit: TimeUnit) -> f64 {
        let (per, within) = (per_second(unit), within as f64);
        match self {
            Self::Seconds => within / per as f64,
            // A unit of a second has no thousandth.
            Self::Milliseconds if per < 1_000 => within * 1_000.0,
            Self::Milliseconds => within / (per / 1_000) as f64,
        }
    }
}

/// Years by tens and more, which DataFusion does not count.
#[derive(Debug, Clone, Copy)]
pub(super) enum YearPart {
    Decade,
    Century,
    Millennium,
}

impl YearPart {
    pub fn of(part: &str) -> Option<Self> {
        Some(match part.trim().to_ascii_lowercase().as_str() {
            "decade" | "decades" | "dec" => Self::Decade,
            "century" | "centuries" | "c" | "cent" => Self::Century,
            "millennium" | "millennia" | "mil" => Self::Millennium,
            _ => return None,
        })
    }

    /// The part of each date or time; `None` of types that have no year.
    pub fn of_times(self, times: &ArrayRef) -> Result<Option<ArrayRef>> {
        let (numbers, day) = match times.data_type() {
            DataType::Date32 => (cast(times, &DataType::Int32)?, 1),
            DataType::Timestamp(unit, _) => (Arc::clone(times), DAY_SECONDS * per_second(*unit)),
            _ => return Ok(None),
        };
        let numbers = cast(&numbers, &DataType::Int64)?;
        let parts: Int32Array = numbers.as_primitive::<Int64Type>().unary(|time| {
            let (year, ..) = civil_from_days(time.div_euclid(day));
            self.of_year(year) as i32
        });
        Ok(Some(Arc::new(parts)))
    }

    /// The first century has no year 0, and neither has the one before.
    fn of_year(self, year: i64) -> i64 {
        let since_one = |years: i64| match year > 0 {
            true => (year + years - 1) / years,
            false => -((years - year) / years),
        };
        match self {
            Self::Decade => year.div_euclid(10),
            Self::Century => since_one(100),
            Self::Millennium => since_one(1_000),
        }
    }
}

/// A date has no time of day.
pub(super) fn refuse_part_of_date(part: &str, data_type: &DataType) -> Result<(), SqlError> {
    let of_day = ["hour", "minute", "second", "millisecond", "microsecond"];
    let lower = part.trim().to_ascii_lowercase();
    let is_of_day = of_day.contains(&lower.strip_suffix('s').unwrap_or(&lower));
    if *data_type != DataType::Date32 || !is_of_day {
        return Ok(());
    }
    let error = SqlError::not_built(format!("unit {part:?} of a date"));
    Err(error.hint("A DATE has no time of day: CAST it AS TIMESTAMP."))
}
