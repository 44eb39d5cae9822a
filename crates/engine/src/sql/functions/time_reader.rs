//! Reads text by a pattern, as PostgreSQL's `to_timestamp` and `to_date` do.
//!
//! A template takes as many characters as it has, or all digits there are when no digit can follow it.
//! Blanks before and after a value are skipped, a mark of the pattern stands for any mark or for none, and
//! other text for as many characters: all of that until `FX`, from where lengths are exact. What the text
//! lacks at its end is left at its start: month 1, day 1, midnight.

use std::ops::RangeInclusive;

use headwater_connect::calendar::{DAY_SECONDS, days_from_civil};

use super::found_time::{FoundTime, out_of_range};
use super::time_pattern::{TimeField as F, TimePattern, TimePiece};
use super::time_scan::TimeScan;
use super::time_writer::SECOND_US;
use crate::sql::{Result, SqlError, sqlstate};

/// The first day, 4714-11-01 BC, and the last of a DATE, both as in PostgreSQL.
const DAY_RANGE: RangeInclusive<i64> =
    days_from_civil(-4_713, 11, 1)..=days_from_civil(5_874_898, 5, 31);
const YEAR_2000_US: i64 = days_from_civil(2000, 1, 1) * DAY_SECONDS * SECOND_US;

/// A pattern by which text is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TimeReader {
    pattern: TimePattern,
}

impl TimeReader {
    /// Refuses templates that have no meaning when text is read, or none together.
    pub fn new(pattern: &str) -> Result<Self> {
        let pattern = TimePattern::new(pattern)?;
        let (mut iso, mut gregorian) = (None, None);
        for template in pattern.templates() {
            match template.field {
                F::Zone | F::ZoneOffset => {
                    let what = format!("the template {} in a pattern to read", template.name);
                    return Err(
                        SqlError::not_built(what).hint("TZH and TZM read +02, +0200 and +02:00.")
                    );
                }
                F::IsoYear(_) | F::IsoWeek | F::IsoDayOfWeek | F::IsoDayOfYear => {
                    iso = iso.or(Some(template.name));
                }
                F::Year(_)
                | F::YearWithComma
                | F::MonthName
                | F::MonthShort
                | F::RomanMonth
                | F::Month
                | F::Day
                | F::DayOfYear
                | F::DayOfWeek
                | F::WeekOfMonth
                | F::WeekOfYear => gregorian = gregorian.or(Some(template.name)),
                _ => {}
            }
        }
        match (iso, gregorian) {
            (Some(iso), Some(gregorian)) => {
                let message = format!("{iso} is of ISO weeks, and {gregorian} is not");
                Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message)
                    .hint("Use IYYY, IW and ID alone, or YYYY, MM and DD."))
            }
            _ => Ok(Self { pattern }),
        }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn timestamp_us(&self, text: &str) -> Result<i64> {
        let found = self.scan(text)?;
        let time = found.time(text)?;
        let seconds = time.days * DAY_SECONDS + time.seconds - found.zone_seconds(text)?;
        let us = seconds
            .checked_mul(SECOND_US)
            .filter(|_| DAY_RANGE.contains(&time.days));
        let us = us.and_then(|us| us.checked_add(time.micros));
        let us = us.and_then(|us| rounded(us, found.fraction_digits));
        us.ok_or_else(|| {
            let message = format!("timestamp out of range: {text:?}");
            SqlError::new(sqlstate::DATETIME_OVERFLOW, message)
        })
    }

    /// The date in days since 1970-01-01.
    pub fn date(&self, text: &str) -> Result<i32> {
        let found = self.scan(text)?;
        let days = found.time(text)?.days;
        found.zone_seconds(text)?;
        let days = i32::try_from(days)
            .ok()
            .filter(|_| DAY_RANGE.contains(&days));
        days.ok_or_else(|| out_of_range(text))
    }

    fn scan(&self, text: &str) -> Result<FoundTime> {
        let mut scan = TimeScan::new(text);
        let pieces = &self.pattern.pieces;
        for (at, piece) in pieces.iter().enumerate() {
            if scan.rest().is_empty() {
                break;
            }
            match piece {
                TimePiece::Separator(_) => {
                    if at == 0 {
                        scan.skip_blanks();
                    }
                    scan.separator();
                }
                TimePiece::Text(_) => {
                    if at == 0 {
                        scan.skip_blanks();
                    }
                    scan.text();
                }
                TimePiece::Template(template) => {
                    if template.field == F::Exact {
                        scan.exact = true;
                        continue;
                    }
                    scan.skip_blanks();
                    scan.open_ended =
                        template.fill || template.ordinal.is_some() || ends(pieces.get(at + 1));
                    scan.template(template)?;
                    scan.skipped = 0;
                    scan.skip_blanks();
                }
            }
        }
        Ok(scan.found)
    }
}

/// Whether no digit can follow before this piece.
fn ends(next: Option<&TimePiece>) -> bool {
    match next {
        None | Some(TimePiece::Separator(_)) => true,
        Some(TimePiece::Text(text)) => !text.is_ascii_digit(),
        Some(TimePiece::Template(template)) => matches!(
            template.field,
            F::Meridiem { .. }
                | F::Era { .. }
                | F::MonthName
                | F::MonthShort
                | F::RomanMonth
                | F::DayName
                | F::DayShort
                | F::ZoneHours
                | F::Exact
        ),
    }
}

/// A time rounded to this many digits of a second; a half goes away from the year 2000, where PostgreSQL
/// counts from.
fn rounded(us: i64, digits: usize) -> Option<i64> {
    if digits == 0 {
        return Some(us);
    }
    let unit = 10_i64.pow(6 - digits as u32);
    let since_2000 = us.checked_sub(YEAR_2000_US)?;
    let nearest = (since_2000.abs().checked_add(unit / 2)?) / unit * unit;
    (nearest * since_2000.signum()).checked_add(YEAR_2000_US)
}
