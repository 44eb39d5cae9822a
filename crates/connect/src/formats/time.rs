//! Dates and timestamps in text, read and written without a time zone database.
//!
//! Read are RFC 3339 (`2023-11-14T22:13:20.123Z`, `…+01:00`), the same with a blank for the `T`, with
//! no offset, which then means UTC, and a date alone, which means its midnight. Years have four
//! digits. A leap second (`:60`) is the first instant of the next minute. Fractions finer than the
//! column are cut off, never rounded up into the future.
//!
//! `jiff` takes 2 to 3 times as long, reads `:60` as `:59` and refuses a tenth digit of a fraction; see
//! `cargo test --release -p headwater-connect --lib formats::time -- --ignored --nocapture`.

use arrow::datatypes::TimeUnit;

use super::fault::DecodeFault;
use crate::calendar::{DAY_SECONDS, civil_from_days, days_from_civil, days_in_month};
use crate::time_unit;

const NANOS_PER_SECOND: i64 = time_unit::per_second(TimeUnit::Nanosecond);

/// The days from 1970-01-01 to `YYYY-MM-DD`.
pub(super) fn parse_date(text: &[u8]) -> Option<i32> {
    let (days, rest) = date(text)?;
    rest.is_empty().then_some(days)
}

/// The instant in `unit`s since 1970-01-01 UTC. `Type` if the text is not a timestamp, `Range` if the
/// unit cannot express it.
pub(super) fn parse_timestamp(text: &[u8], unit: TimeUnit) -> Result<i64, DecodeFault> {
    let (seconds, nanos) = instant(text).ok_or(DecodeFault::Type)?;
    let whole = time_unit::convert_wide(seconds, TimeUnit::Second, unit);
    let part = time_unit::convert_wide(nanos, TimeUnit::Nanosecond, unit);
    i64::try_from(whole + part).map_err(|_| DecodeFault::Range)
}

/// Seconds since 1970-01-01 UTC, and nanoseconds in `0 .. 1_000_000_000`.
fn instant(text: &[u8]) -> Option<(i64, i64)> {
    let (days, rest) = date(text)?;
    let midnight = i64::from(days) * DAY_SECONDS;
    let [b'T' | b't' | b' ', rest @ ..] = rest else {
        return rest.is_empty().then_some((midnight, 0));
    };
    let (of_day, rest) = time_of_day(rest)?;
    let (nanos, rest) = fraction(rest)?;
    Some((midnight + of_day - offset(rest)?, nanos))
}

fn two(text: &[u8]) -> Option<i64> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

fn date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (date, rest) = text.split_at_checked(10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = two(&date[..2])? * 100 + two(&date[2..4])?;
    let (month, day) = (two(&date[5..7])?, two(&date[8..])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // Of four digits, the year fits.
    Some((days_from_civil(year, month, day) as i32, rest))
}

/// Seconds since midnight; the seconds may be absent.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour_minute, rest) = text.split_at_checked(5)?;
    let (hour, minute) = (two(&hour_minute[..2])?, two(&hour_minute[3..])?);
    if hour_minute[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let (second, rest) = match rest {
        [b':', a, b, rest @ ..] => (two(&[*a, *b])?, rest),
        rest => (0, rest),
    };
    (second <= 60).then_some((hour * 3600 + minute * 60 + second, rest))
}

/// Nanoseconds; digits beyond the ninth are cut off.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.' | b',', rest @ ..] = text else {
        return Some((0, text));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digit = |place: usize| {
        rest[..length]
            .get(place)
            .map_or(0, |byte| i64::from(byte - b'0'))
    };
    let nanos = (0..9).fold(0, |nanos, place| nanos * 10 + digit(place));
    (length > 0).then_some((nanos, &rest[length..]))
}

/// Seconds east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, rest) = match text {
        b"" | b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (two(rest)?, 0),
        4 => (two(&rest[..2])?, two(&rest[2..])?),
        5 if rest[2] == b':' => (two(&rest[..2])?, two(&rest[3..])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Appends `YYYY-MM-DD`. Years beyond four digits are written with a sign, as ISO 8601 does.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        write_two(year / 100, out);
        write_two(year % 100, out);
    } else {
        out.extend_from_slice(format!("{year:+05}").as_bytes());
    }
    out.push(b'-');
    write_two(month, out);
    out.push(b'-');
    write_two(day, out);
}

/// Appends `YYYY-MM-DDTHH:MM:SS[.f]Z`, with 0, 3, 6 or 9 digits of fraction: as few as are needed.
pub(super) fn write_timestamp(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let per_second = time_unit::per_second(unit);
    let seconds = value.div_euclid(per_second);
    let nanos = value.rem_euclid(per_second) * (NANOS_PER_SECOND / per_second);
    write_date(seconds.div_euclid(DAY_SECONDS), out);
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    for (mark, part) in [
        (b'T', of_day / 3600),
        (b':', of_day / 60 % 60),
        (b':', of_day % 60),
    ] {
        out.push(mark);
        write_two(part, out);
    }
    write_fraction(nanos, out);
    out.push(b'Z');
}

fn write_fraction(nanos: i64, out: &mut Vec<u8>) {
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    let groups = [nanos / 1_000_000, nanos / 1_000 % 1_000, nanos % 1_000];
    let last = groups.iter().rposition(|group| *group != 0).unwrap_or(0);
    for group in &groups[..=last] {
        out.push(b'0' + (group / 100) as u8);
        write_two(group % 100, out);
    }
}

/// Appends a number below 100.
fn write_two(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

#[cfg(test)]
mod tests;
