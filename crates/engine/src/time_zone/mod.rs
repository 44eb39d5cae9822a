//! Time zones: how far the clocks of a place are ahead of UTC, and which instant a local time is.
//!
//! The rules are those that DataFusion is built with (`chrono-tz`), so the files of a machine do not matter.
//! They list the changes of each clock up to 2099; a later year has those of a listed year with the same
//! calendar. What a name means, and which instant a local time is that a clock shows twice or never, is as in
//! PostgreSQL. All numbers are seconds; instants count from 1970-01-01 UTC.

use std::ops::Range;

use chrono::{DateTime, Offset, TimeZone as _};
use chrono_tz::{TZ_VARIANTS, Tz};
use headwater_connect::calendar::{
    DAY_SECONDS, civil_from_days, days_from_civil, is_leap, weekday,
};

/// The first year that the database does not list. The 28 years before have every calendar there is.
const UNLISTED: i64 = 2099;
/// An instant before all changes.
const BEGINNING: i64 = days_from_civil(0, 1, 1) * DAY_SECONDS;

/// Clocks do not change back within this time: of all that are listed, none does within 6 days.
const STEADY: i64 = 5 * DAY_SECONDS;

const HOUR: i64 = 3_600;
const OFFSET_HOURS_MAX: i64 = 167;

/// Abbreviations that PostgreSQL reads as an offset, while a zone of the same name has summer time.
const ABBREVIATIONS: &[(&str, i64)] = &[
    ("CET", HOUR),
    ("EET", 2 * HOUR),
    ("MET", HOUR),
    ("WET", 0),
    ("Z", 0),
];

/// What a clock shows, compared with UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TimeZone {
    /// Always ahead of UTC by this much.
    Offset(i64),
    /// As in a place of the IANA database.
    Place(Tz),
}

impl TimeZone {
    /// The zone of an IANA name in any case, or of an offset as in POSIX: `+02` and `UTC+2` are west of UTC.
    pub fn named(name: &str) -> Option<Self> {
        let same = |(known, _): &&(&str, i64)| known.eq_ignore_ascii_case(name);
        if let Some((_, offset)) = ABBREVIATIONS.iter().find(same) {
            return Some(Self::Offset(*offset));
        }
        let place = Self::place(name).map(Self::Place);
        place.or_else(|| posix(name).map(Self::Offset))
    }

    /// The place of an IANA name in any case.
    pub fn place(name: &str) -> Option<Tz> {
        let in_any_case = || {
            let mut zones = TZ_VARIANTS.iter();
            zones.find(|zone| zone.name().eq_ignore_ascii_case(name))
        };
        name.parse().ok().or_else(|| in_any_case().copied())
    }

    /// The names of all places.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// How far the clock is ahead of UTC at an instant.
    pub fn offset_at(self, instant: i64) -> i64 {
        match self {
            Self::Offset(offset) => offset,
            Self::Place(place) => {
                let (year, ..) = civil_from_days(instant.div_euclid(DAY_SECONDS));
                match year < UNLISTED {
                    true => listed(place, instant.max(BEGINNING)),
                    false => unlisted(place, instant, year),
                }
            }
        }
    }
}

fn listed(place: Tz, instant: i64) -> i64 {
    let time = DateTime::from_timestamp(instant, 0).unwrap_or_default();
    let offset = place.offset_from_utc_datetime(&time.naive_utc());
    offset.fix().local_minus_utc().into()
}

/// The offset in a year behind the list.
fn unlisted(place: Tz, instant: i64, year: i64) -> i64 {
    let first_day = |year| days_from_civil(year, 1, 1);
    let of_month = |month| listed(place, days_from_civil(UNLISTED - 1, month, 1) * DAY_SECONDS);
    let last = of_month(12);
    if (1..12).all(|month| of_month(month) == last) {
        // The clock no longer changes.
        return last;
    }
    let same_calendar = |other: &i64| {
        is_leap(*other) == is_leap(year) && weekday(first_day(*other)) == weekday(first_day(year))
    };
    let other = (UNLISTED - 28..UNLISTED).find(same_calendar);
    let other = other.unwrap_or(UNLISTED - 1);
    listed(
        place,
        instant - (first_day(year) - first_day(other)) * DAY_SECONDS,
    )
}

/// `[name][+-]hours[:minutes[:seconds]]` of POSIX, which counts west of UTC, as seconds ahead of UTC.
fn posix(text: &str) -> Option<i64> {
    let offset = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => {
            text.trim_start_matches(|letter: char| !matches!(letter, '0'..='9' | '+' | '-' | ','))
        }
    };
    let (sign, clock) = match offset.as_bytes().first()? {
        b'-' => (1, &offset[1..]),
        b'+' => (-1, &offset[1..]),
        _ => (-1, offset),
    };
    let mut seconds = 0;
    let mut parts = clock.split(':');
    for (unit, max) in [(HOUR, OFFSET_HOURS_MAX), (60, 59), (1, 59)] {
        let Some(part) = parts.next() else { break };
        let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        let value: i64 = part.parse().ok().filter(|value| digits && *value <= max)?;
        seconds += value * unit;
    }
    parts.next().is_none().then_some(sign * seconds)
}

/// The clock of a zone, for times that are mostly near each other.
#[derive(Debug)]
pub(crate) struct ZoneClock {
    zone: TimeZone,
    /// Instants at which the clock is ahead by `offset`.
    steady: Range<i64>,
    offset: i64,
}

impl ZoneClock {
    pub fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            steady: 0..0,
            offset: 0,
        }
    }

    /// How far the clock is ahead of UTC at an instant.
    pub fn offset_at(&mut self, instant: i64) -> i64 {
        if !self.steady.contains(&instant) {
            self.look_at(instant);
        }
        self.offset
    }

    /// The instant at which the clock shows a local time. Of two instants it is the second; a time that the
    /// clock skips counts as if it were set forward only later.
    pub fn instant_of(&mut self, local: i64) -> i64 {
        let (first, last) = (
            local.saturating_sub(DAY_SECONDS),
            local.saturating_add(DAY_SECONDS),
        );
        let steady = |it: &Self| it.steady.contains(&first) && it.steady.contains(&last);
        if !steady(self) {
            self.look_at(local);
        }
        if steady(self) {
            return local.saturating_sub(self.offset);
        }
        let after = self.zone.offset_at(last);
        let late = local.saturating_sub(after);
        match self.zone.offset_at(late) == after {
            true => late,
            false => local.saturating_sub(self.zone.offset_at(first)),
        }
    }

    fn look_at(&mut self, instant: i64) {
        self.offset = self.zone.offset_at(instant);
        let first = instant.saturating_sub(STEADY / 2);
        let last = first.saturating_add(STEADY);
        let same = |instant| self.zone.offset_at(instant) == self.offset;
        self.steady = match same(first) && same(last) {
            true => first..last,
            false => instant..instant.saturating_add(1),
        };
    }
}

#[cfg(test)]
mod tests;
