//! The days of a time zone: which one an instant is in, and when each begins.
//!
//! ```text
//!   Sao Paulo, 2018      | 3 November, 24 hours | 4 November, 23 hours | 5 November
//!                        00:00                  01:00                  00:00
//! ```
//!
//! A day begins at its first instant: at midnight, or where clocks go forward over midnight when they do. It
//! ends where the next one begins, so the days follow each other without a gap. Where clocks go back over
//! midnight, the hour that is repeated belongs to the later day. A day that a zone left out has no instant:
//! it begins and ends where the next one begins.
//!
//! The rules are those of `time_zone`, which are compiled in, so a replay does not depend on the machine.

use std::fmt;

use arrow::datatypes::TimeUnit;
use chrono_tz::Tz;
use headwater_connect::time_unit::per_second;

use crate::time_zone::TimeZone;

const SECONDS_PER_DAY: i64 = 86_400;

/// Local time is never further from UTC, seconds.
const OFFSET_MAX: i128 = 16 * 3_600;

/// The days by the calendar of a time zone, counted from 1970-01-01.
#[derive(Debug, Clone, Copy)]
pub struct LocalDays {
    zone: TimeZone,
    units_per_second: i64,
}

/// The zone and the unit of the instants, as they are part of fingerprints.
impl fmt::Display for LocalDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone {
            TimeZone::Place(zone) => write!(f, "{} {}", zone.name(), self.units_per_second),
            TimeZone::Offset(offset) => write!(f, "{offset} {}", self.units_per_second),
        }
    }
}

impl LocalDays {
    /// The days of `zone`, whose instants are in this unit.
    pub fn new(zone: Tz, unit: TimeUnit) -> Self {
        Self {
            zone: TimeZone::Place(zone),
            units_per_second: per_second(unit),
        }
    }

    /// The day that an instant is in.
    pub(super) fn day_of(&self, time: i64) -> i64 {
        let second = i128::from(time.div_euclid(self.units_per_second));
        let local = second + self.offset_at(second);
        // It fits: a number of seconds is far above that of their days.
        let mut day = local.div_euclid(SECONDS_PER_DAY.into()) as i64;
        while self.first_second(day + 1) <= second {
            day += 1;
        }
        day
    }

    /// The first instant of a day, or the nearest one that there is.
    pub(super) fn start_of(&self, day: i64) -> i64 {
        let start = self.first_second(day) * i128::from(self.units_per_second);
        start.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    fn first_second(&self, day: i64) -> i128 {
        let midnight = i128::from(day) * i128::from(SECONDS_PER_DAY);
        let (mut before, mut after) = (midnight - OFFSET_MAX, midnight + OFFSET_MAX);
        let (old, new) = (self.offset_at(before), self.offset_at(after));
        if old == new {
            return midnight - old;
        }
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            match self.offset_at(middle) == old {
                true => before = middle,
                false => after = middle,
            }
        }
        // From `after` on the clocks show the new time. They may have shown midnight before.
        match midnight - old < after {
            true => midnight - old,
            false => after.max(midnight - new),
        }
    }

    /// How far local time is ahead of UTC, seconds.
    fn offset_at(&self, second: i128) -> i128 {
        let second = second.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.zone.offset_at(second).into()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn days(zone: &str) -> LocalDays {
        LocalDays::new(zone.parse().unwrap(), TimeUnit::Second)
    }

    /// The seconds of the day that begins at this time in UTC.
    fn length(zone: &str, start: &str) -> i64 {
        let days = days(zone);
        let start = format!("{start}Z").parse::<DateTime<Utc>>().unwrap();
        let start = start.timestamp();
        let day = days.day_of(start);
        assert_eq!(days.start_of(day), start, "{zone} {start}");
        assert_eq!(days.day_of(start - 1), day - 1, "{zone} {start}");
        days.start_of(day + 1) - start
    }

    #[test]
    fn a_day_is_as_long_as_the_clocks_make_it() {
        for (zone, start, hours) in [
            ("UTC", "2024-03-31T00:00:00", 24),
            ("Europe/Berlin", "2024-03-30T23:00:00", 23),
            ("Europe/Berlin", "2024-10-26T22:00:00", 25),
            ("Europe/Berlin", "2024-10-27T23:00:00", 24),
            // Clocks go forward at midnight: the day begins at one.
            ("America/Sao_Paulo", "2018-11-04T03:00:00", 23),
            ("Asia/Beirut", "2022-03-26T22:00:00", 23),
            // And back at midnight: the day before has its last hour twice.
            ("America/Sao_Paulo", "2018-02-17T02:00:00", 25),
            // A minute after midnight, so a minute of the day is there twice, an hour apart.
            ("America/St_Johns", "2006-10-29T02:30:00", 25),
            ("Asia/Kathmandu", "2024-03-30T18:15:00", 24),
            ("Australia/Lord_Howe", "2024-04-06T13:00:00", 24),
        ] {
            let minutes = match zone {
                "Australia/Lord_Howe" => 30,
                _ => 0,
            };
            assert_eq!(
                length(zone, start),
                hours * 3_600 + minutes * 60,
                "{zone} {start}"
            );
        }
        // Before there was a standard time: 53 minutes and 28 seconds ahead of UTC.
        assert_eq!(length("Europe/Berlin", "1850-06-30T23:06:32"), 86_400);
    }

    /// Each instant is in the last day of which some instant has come: found here by looking at all of them.
    #[test]
    fn days_follow_each_other_without_a_gap() {
        for (zone, from) in [
            ("Europe/Berlin", "1945-05-20T00:00:00"),
            ("America/Sao_Paulo", "2018-10-30T00:00:00"),
            ("America/St_Johns", "1987-10-20T00:00:00"),
            ("America/Havana", "2023-10-30T00:00:00"),
            ("America/Toronto", "1919-03-25T00:00:00"),
            ("Asia/Beirut", "2023-03-20T00:00:00"),
            ("Asia/Kathmandu", "1985-12-25T00:00:00"),
            ("Africa/Monrovia", "1972-01-03T00:00:00"),
            // A day left out, and one day twice.
            ("Pacific/Apia", "2011-12-25T00:00:00"),
            ("Pacific/Kwajalein", "1969-09-26T00:00:00"),
            ("America/Juneau", "1867-10-14T00:00:00"),
        ] {
            let days = days(zone);
            let from = format!("{from}Z").parse::<DateTime<Utc>>().unwrap();
            let from = from.timestamp();
            let mut last = days.day_of(from);
            for second in (from..from + 10 * SECONDS_PER_DAY).step_by(60) {
                let local = second + days.offset_at(second.into()) as i64;
                let day = local.div_euclid(SECONDS_PER_DAY).max(last);
                assert_eq!(days.day_of(second), day, "{zone} {second}");
                if day > last {
                    let start = days.start_of(day);
                    assert!((second - 59..=second).contains(&start), "{zone} {second}");
                    assert_eq!(days.start_of(last + 1), start, "{zone} {second}");
                }
                last = day;
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_in_a_day() {
        for unit in [
            TimeUnit::Second,
            TimeUnit::Microsecond,
            TimeUnit::Nanosecond,
        ] {
            let days = LocalDays::new(Tz::America__Sao_Paulo, unit);
            for time in [i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX] {
                let day = days.day_of(time);
                assert!(days.start_of(day) <= time, "{unit:?} {time}");
                assert!(
                    time == i64::MAX || days.start_of(day + 1) > time,
                    "{unit:?} {time}"
                );
            }
        }
    }
}
