//! The values that a text had for the templates of a pattern, put together to a time.

use headwater_connect::calendar::{
    civil_from_days, days_from_civil, days_in_month, iso_week_start,
};

use super::time_writer::{JULIAN_EPOCH, SECOND_US};
use crate::sql::{Result, SqlError, sqlstate};

const ZONE_HOURS_MAX: i64 = 15;

/// Values of a text. A value of 0 is one that was not found.
#[derive(Default)]
pub(super) struct FoundTime {
    pub hour: i64,
    /// Whether the hour is one of 12, 1 to 12.
    pub half_day: bool,
    pub afternoon: i64,
    pub minute: i64,
    pub second: i64,
    pub second_of_day: i64,
    pub millis: i64,
    pub micros: i64,
    /// The digits to which the template FF1 to FF6 rounds; 0 without one.
    pub fraction_digits: usize,
    pub year: i64,
    /// Digits of the template that gave the year.
    pub year_digits: usize,
    pub before_christ: i64,
    pub century: i64,
    pub month: i64,
    pub day: i64,
    pub day_of_year: i64,
    /// From 1 to 7, where 1 is Sunday.
    pub day_of_week: i64,
    pub week_of_month: i64,
    pub week: i64,
    /// Whether year, week and day are those of ISO weeks.
    pub iso: bool,
    pub julian_day: i64,
    /// 1 or -1 once the offset of a zone was found.
    pub zone_sign: i64,
    pub zone_hours: i64,
    pub zone_minutes: i64,
}

/// A date and a time of day.
pub(super) struct CalendarTime {
    /// Days counted from 1970-01-01 on.
    pub days: i64,
    /// Seconds that have passed since midnight.
    pub seconds: i64,
    pub micros: i64,
}

impl FoundTime {
    /// Puts the values together.
    pub fn time(&self, text: &str) -> Result<CalendarTime> {
        let (hour, minute, second) = self.time_of_day()?;
        let micros = self.millis * 1000 + self.micros;
        let days = self.days(text)?;
        let in_range = (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second)
            && (0..SECOND_US).contains(&micros);
        if !in_range {
            return Err(out_of_range(text));
        }
        Ok(CalendarTime {
            days,
            seconds: hour * 3600 + minute * 60 + second,
            micros,
        })
    }

    fn time_of_day(&self) -> Result<(i64, i64, i64)> {
        let of_day = self.second_of_day;
        let or = |value: i64, other: i64| if value == 0 { other } else { value };
        let hour = or(self.hour, of_day / 3600);
        let (minute, second) = (
            or(self.minute, of_day / 60 % 60),
            or(self.second, of_day % 60),
        );
        if !self.half_day {
            return Ok((hour, minute, second));
        }
        if !(1..=12).contains(&hour) {
            let message = format!("hour {hour} is invalid for the 12-hour clock");
            return Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message)
                .hint("Use HH24, or give an hour from 1 to 12."));
        }
        Ok((hour % 12 + 12 * self.afternoon, minute, second))
    }

    /// The days from 1970-01-01 to the date.
    fn days(&self, text: &str) -> Result<i64> {
        let (year, mut has_year) = self.calendar_year();
        let (mut date, mut has_month, mut has_day) = ((year, 1, 1), false, false);
        let mut day_of_year = self.day_of_year;
        let mut whole = None;
        if self.julian_day != 0 {
            date = civil_from_days(self.julian_day - JULIAN_EPOCH);
            whole = Some(date);
        }
        if self.week != 0 && self.iso {
            whole = Some(civil_from_days(self.iso_day(date.0)));
        } else if self.week != 0 {
            day_of_year = (self.week - 1) * 7 + 1;
        }
        if let Some(whole) = whole {
            date = whole;
            (has_year, has_month, has_day) = (true, true, true);
        }
        if self.day != 0 || self.week_of_month != 0 {
            let of_week = (self.week_of_month - 1) * 7 + 1;
            date.2 = if self.week_of_month == 0 {
                self.day
            } else {
                of_week
            };
            has_day |= date.2 != 0;
        }
        if self.month != 0 {
            date.1 = self.month;
            has_month = true;
        }
        if day_of_year != 0 && (date.1 <= 1 || date.2 <= 1) {
            if date.0 == 0 && self.before_christ == 0 {
                let message = "cannot calculate day of year without year information";
                return Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message));
            }
            if self.iso {
                date = civil_from_days(iso_week_start(date.0, 1) + day_of_year - 1);
            } else {
                date = by_day_of_year(date, day_of_year);
            }
            (has_month, has_day, has_year) = (true, true, has_year || self.iso);
        }
        let (year, month, day) = date;
        let fits = (!has_month || (1..=12).contains(&month))
            && (!has_day || (1..=31).contains(&day))
            && (!(has_year && has_month && has_day) || day <= days_in_month(year, month));
        match fits {
            true => Ok(days_from_civil(year, month, day)),
            false => Err(out_of_range(text)),
        }
    }

    /// The day of an ISO week in days since 1970-01-01, the Monday if none is given.
    fn iso_day(&self, year: i64) -> i64 {
        let after_monday = match self.day_of_week {
            0 => 0,
            2.. => self.day_of_week - 2,
            _ => 6,
        };
        iso_week_start(year, self.week) + after_monday
    }

    /// The year, where 0 is 1 BC, and whether there was one.
    fn calendar_year(&self) -> (i64, bool) {
        let sign = if self.before_christ == 1 { -1 } else { 1 };
        let century = self.century * sign;
        let year = match (self.year, century) {
            (0, 0) => return (0, false),
            (0, 1..) => (century - 1) * 100 + 1,
            (0, _) => century * 100 + 1,
            (year, century) if century != 0 && self.year_digits <= 2 => match (year % 100, century)
            {
                (0, 0..) => century * 100,
                (0, _) => century * 100 + 1,
                (last, 0..) => (century - 1) * 100 + last,
                (last, _) => (century + 1) * 100 - last + 1,
            },
            (year, _) => {
                let year = year * sign;
                if year < 0 { year + 1 } else { year }
            }
        };
        (year, true)
    }

    /// Seconds east of UTC.
    pub fn zone_seconds(&self, text: &str) -> Result<i64> {
        if self.zone_sign == 0 {
            return Ok(0);
        }
        if !(0..=ZONE_HOURS_MAX).contains(&self.zone_hours) || !(0..60).contains(&self.zone_minutes)
        {
            let message = format!("time zone displacement out of range: {text:?}");
            return Err(SqlError::new(sqlstate::INVALID_TIME_ZONE, message));
        }
        Ok(self.zone_sign * (self.zone_hours * 3600 + self.zone_minutes * 60))
    }
}

/// The month and the day of a day of the year, where they are not given.
fn by_day_of_year((year, month, day): (i64, i64, i64), day_of_year: i64) -> (i64, i64, i64) {
    let (mut found, mut before) = (1, 0);
    while found <= 12 && day_of_year > before + days_in_month(year, found) {
        before += days_in_month(year, found);
        found += 1;
    }
    let month = if month <= 1 { found } else { month };
    (
        year,
        month,
        if day <= 1 { day_of_year - before } else { day },
    )
}

/// The error that the text names a time that does not exist.
pub(super) fn out_of_range(text: &str) -> SqlError {
    let message = format!("date/time field value out of range: {text:?}");
    SqlError::new(sqlstate::DATETIME_OVERFLOW, message)
}
