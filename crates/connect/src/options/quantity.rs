//! Quantities with their unit in the value: `'5 seconds'`, `'1 min 30 s'`, `'64MiB'`.
//!
//! ```text
//!   quantity = part { part }             parts add up; between words blanks and commas are free
//!   part     = number unit | clock       a clock only where time is measured
//!   number   = [+|-] digits [. digits]   `_` between digits is ignored
//!   clock    = [+|-] HH:MM[:SS[.f]]
//! ```
//!
//! Units are case-insensitive, `m` is a minute. A number without a unit is refused: 30 of what? A day
//! is 24 hours and a week seven of them; a month or a year has no fixed length and is refused.
//! [`Duration`] is read by this grammar in options, [`Duration::signed_micros`] in `INTERVAL`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, with its unit: `'5 seconds'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Duration(pub time::Duration);

/// A number of bytes, with its unit: `'64MiB'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct ByteSize(pub u64);

/// What is measured, and in which units.
struct Dimension {
    /// Smallest first; the first name of each is the one shown.
    units: &'static [QuantityUnit],
    /// The number of `units` that a value is shown in.
    shown: usize,
    has_clock: bool,
    example: &'static str,
}

/// What a unit is worth in the smallest step of its dimension, and its names.
type QuantityUnit = (i128, &'static str);

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;

/// Lengths of time, in nanoseconds.
static TIME: Dimension = Dimension {
    units: &[
        (1_000, "us µs usec usecs microsecond microseconds"),
        (1_000_000, "ms msec msecs millisecond milliseconds"),
        (SECOND, "s sec secs second seconds"),
        (MINUTE, "min m mins minute minutes"),
        (HOUR, "h hr hrs hour hours"),
        (24 * HOUR, "d day days"),
        (7 * 24 * HOUR, "w week weeks"),
    ],
    // Weeks are only read: seven days have always been shown as `7 d`.
    shown: 6,
    has_clock: true,
    example: Duration::EXAMPLE,
};

/// Amounts of data, in bytes.
static SIZE: Dimension = Dimension {
    units: &[
        (1, "B"),
        (1_000, "kB"),
        (1 << 10, "KiB"),
        (1_000_000, "MB"),
        (1 << 20, "MiB"),
        (1_000_000_000, "GB"),
        (1 << 30, "GiB"),
        (1_000_000_000_000, "TB"),
        (1 << 40, "TiB"),
    ],
    shown: 9,
    has_clock: false,
    example: ByteSize::EXAMPLE,
};

/// Units of time without a fixed length.
const CALENDAR: &str = "month months mon mons quarter quarters year years yr yrs y \
    decade decades century centuries millennium millennia";

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unparsable {
    /// The text ends, or something else follows, where a number must be.
    #[error("{text:?} does not start with a number; write for example {example}")]
    NoNumber {
        /// The whole text, as written.
        text: String,
        /// A text that would be accepted.
        example: &'static str,
    },
    /// A number has two signs or points, or a clock time is not of its form; and what it should be.
    #[error("{0:?} is not {1}")]
    Malformed(String, &'static str),
    /// A number has no unit behind it.
    #[error("{text:?} has no unit; the units are {units}")]
    NoUnit {
        /// The whole text, as written.
        text: String,
        /// The units that are accepted.
        units: String,
    },
    /// There is no such unit.
    #[error("{unit:?} is not a unit; the units are {units}")]
    UnknownUnit {
        /// The unit, as written.
        unit: String,
        /// The units that are accepted.
        units: String,
    },
    /// Not all spans of this unit are equally long.
    #[error("{0:?} has no fixed length; write it in days")]
    NoFixedLength(String),
    /// The sum is larger than the option or INTERVAL can hold.
    #[error("{text:?} is too large; the limit is {limit}")]
    TooLarge {
        /// The whole text, as written.
        text: String,
        /// The largest quantity accepted.
        limit: &'static str,
    },
    /// An INTERVAL is not a whole number of microseconds.
    #[error("{0:?} is finer than a microsecond")]
    TooFine(String),
    /// An option, which is never less than zero, would be.
    #[error("{0:?} is less than zero")]
    Negative(String),
}

/// A sum of parts in the smallest step of its dimension, rounded to the nearest one.
struct Total {
    steps: i128,
    is_exact: bool,
}

impl Total {
    const ZERO: Self = Self {
        steps: 0,
        is_exact: true,
    };

    fn plus(self, part: Self) -> Option<Self> {
        Some(Self {
            steps: self.steps.checked_add(part.steps)?,
            is_exact: self.is_exact && part.is_exact,
        })
    }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || c == ','
}

fn is_numeric(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '_' | ':' | '+' | '-')
}

/// The longest start of `text` of which every character `is` so, and the rest.
fn split(text: &str, is: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is(c)).unwrap_or(text.len()))
}

/// Adds up the parts of `text`; `limit` is for the error.
fn parse(text: &str, of: &Dimension, limit: &'static str) -> Result<Total, Unparsable> {
    let too_large = || Unparsable::TooLarge {
        text: text.to_owned(),
        limit,
    };
    let mut total = Total::ZERO;
    let mut rest = text.trim_start_matches(is_separator);
    loop {
        let (number, after) = split(rest, is_numeric);
        if number.is_empty() {
            return Err(Unparsable::NoNumber {
                text: text.to_owned(),
                example: of.example,
            });
        }
        rest = after.trim_start_matches(is_separator);
        let part = if number.contains(':') && of.has_clock {
            clock(number)?
        } else {
            let (unit, after) = split(rest, |c| !is_separator(c) && !is_numeric(c));
            rest = after.trim_start_matches(is_separator);
            scaled(number, of.worth(unit, text)?)?
        };
        total = part
            .and_then(|part| total.plus(part))
            .ok_or_else(too_large)?;
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// The sign of a number or clock, and what is behind it.
fn sign(text: &str) -> (i128, &str) {
    match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// `HH:MM` or `HH:MM:SS[.f]`; `None` if it is too large.
fn clock(text: &str) -> Result<Option<Total>, Unparsable> {
    let (sign, unsigned) = sign(text);
    let parts: Vec<&str> = unsigned.split(':').collect();
    let form = "a time such as 01:30 or 00:01:30";
    let bad = || Unparsable::Malformed(text.to_owned(), form);
    if !(2..=3).contains(&parts.len()) || unsigned.contains(['+', '-']) {
        return Err(bad());
    }
    let mut total = Some(Total::ZERO);
    for (number, worth) in parts.into_iter().zip([HOUR, MINUTE, SECOND]) {
        let part = scaled(number, worth).map_err(|_| bad())?;
        total = total.zip(part).and_then(|(total, part)| total.plus(part));
    }
    Ok(total.map(|total| Total {
        steps: sign * total.steps,
        ..total
    }))
}

/// `number` times `worth`; `None` if it is too large.
fn scaled(number: &str, worth: i128) -> Result<Option<Total>, Unparsable> {
    /// More digits of a fraction cannot change the nearest step.
    const FRACTION_DIGITS_MAX: usize = 18;
    let (sign, digits) = sign(number);
    let digits = digits.replace('_', "");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return Err(Unparsable::Malformed(number.to_owned(), "a number"));
    }
    let fraction = fraction.trim_end_matches('0');
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    // Both are texts of digits: only one that is empty or too large does not parse.
    let numerator = kept.parse::<i128>().unwrap_or(0) * worth;
    let denominator = 10_i128.pow(kept.len() as u32);
    let rounded = (numerator + denominator / 2) / denominator;
    let whole = match whole {
        "" => Some(0),
        whole => whole.parse::<i128>().ok(),
    };
    let steps = whole.and_then(|whole| whole.checked_mul(worth)?.checked_add(rounded));
    Ok(steps.map(|steps| Total {
        steps: sign * steps,
        is_exact: kept.len() == fraction.len() && numerator % denominator == 0,
    }))
}

impl Dimension {
    fn worth(&self, unit: &str, text: &str) -> Result<i128, Unparsable> {
        let has = |names: &str| names.split(' ').any(|name| name.eq_ignore_ascii_case(unit));
        if let Some((worth, _)) = self.units.iter().find(|(_, names)| has(names)) {
            return Ok(*worth);
        }
        let units = self.units.iter().map(shown_name);
        let units = units.collect::<Vec<_>>().join(", ");
        let (text, unit) = (text.to_owned(), unit.to_owned());
        Err(match () {
            () if unit.is_empty() => Unparsable::NoUnit { text, units },
            () if self.has_clock && has(CALENDAR) => Unparsable::NoFixedLength(unit),
            () => Unparsable::UnknownUnit { unit, units },
        })
    }

    /// Writes a value in the largest unit of which it is a whole number.
    fn show(&self, value: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = &self.units[..self.shown];
        let whole = |unit: &&QuantityUnit| value >= unit.0 && value % unit.0 == 0;
        let unit = units.iter().rfind(whole).unwrap_or(&units[0]);
        let value = value as f64 / unit.0 as f64;
        f.pad(&format!("{value} {}", shown_name(unit)))
    }
}

fn shown_name(unit: &QuantityUnit) -> &'static str {
    unit.1.split(' ').next().unwrap_or_default()
}

/// `total` as an unsigned number of steps.
fn unsigned(total: &Total, text: &str, limit: &'static str) -> Result<u64, Unparsable> {
    let text = text.to_owned();
    u64::try_from(total.steps).map_err(|_| match total.steps < 0 {
        true => Unparsable::Negative(text),
        false => Unparsable::TooLarge { text, limit },
    })
}

impl FromStr for Duration {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        const LIMIT: &str = "213503 days";
        let nanos = unsigned(&parse(text, &TIME, LIMIT)?, text, LIMIT)?;
        Ok(Self(time::Duration::from_nanos(nanos)))
    }
}

impl FromStr for ByteSize {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        const LIMIT: &str = "16777215 TiB";
        unsigned(&parse(text, &SIZE, LIMIT)?, text, LIMIT).map(Self)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TIME.show(self.0.as_nanos().cast_signed(), f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SIZE.show(self.0.into(), f)
    }
}

impl Duration {
    const EXAMPLE: &'static str = "'5 seconds'";

    /// From a number of seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// From a number of milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(time::Duration::from_millis(milliseconds))
    }

    /// The microseconds of a text that is an INTERVAL: written as any other duration, but it may be less
    /// than zero, and must be a whole number of microseconds.
    pub fn signed_micros(text: &str) -> Result<i64, Unparsable> {
        const LIMIT: &str = "106751991 days";
        let total = parse(text, &TIME, LIMIT)?;
        let text = text.to_owned();
        if !total.is_exact || total.steps % 1_000 != 0 {
            return Err(Unparsable::TooFine(text));
        }
        i64::try_from(total.steps / 1_000).map_err(|_| Unparsable::TooLarge { text, limit: LIMIT })
    }
}

impl ByteSize {
    const EXAMPLE: &'static str = "'64 MiB'";

    /// From whole mebibytes, of 1,048,576 bytes each.
    pub const fn mib(number: u64) -> Self {
        Self(number << 20)
    }

    /// As a length in memory; `usize::MAX` if it is more.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

macro_rules! written_as_text {
    ($type:ident, $kind:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-kind": $kind, "x-example": Self::EXAMPLE })
            }
        }
    };
}

written_as_text!(Duration, "duration");
written_as_text!(ByteSize, "byte size");

#[cfg(test)]
mod tests {
    use super::*;

    /// What is accepted, and the nanoseconds it means in an option and in INTERVAL.
    const DURATIONS: &[(&str, i128)] = &[
        ("5 seconds", 5 * SECOND),
        ("100ms", 100_000_000),
        (" 1.5 S ", 1_500_000_000),
        ("1 minute 30 seconds", 90 * SECOND),
        ("1h30min", 90 * MINUTE),
        ("2h30m", 150 * MINUTE),
        ("5 m", 5 * MINUTE),
        ("5 M", 5 * MINUTE),
        ("0 s", 0),
        ("-0 s", 0),
        ("7 days", 168 * HOUR),
        ("2 weeks", 336 * HOUR),
        ("1W", 168 * HOUR),
        ("1 hour, 30 minutes", 90 * MINUTE),
        (",1 hr,", HOUR),
        (".5s", 500_000_000),
        ("5. s", 5 * SECOND),
        ("+5 secs", 5 * SECOND),
        ("1_000 msec", SECOND),
        ("10 us", 10_000),
        ("10 µs", 10_000),
        ("10 usecs", 10_000),
        ("90 s -30 s", 60 * SECOND),
        ("00:01:30.25", 90_250_000_000),
        ("1:30", 90 * MINUTE),
        ("1 day 01:00", 25 * HOUR),
        ("00:00", 0),
        ("0.000001 s", 1_000),
        ("1.2300000000000000000000 s", 1_230_000_000),
    ];

    fn nanos(text: &str) -> Result<u128, String> {
        let parsed: Result<Duration, _> = text.parse();
        parsed
            .map(|found| found.0.as_nanos())
            .map_err(|error| error.to_string())
    }

    fn micros(text: &str) -> Result<i64, String> {
        Duration::signed_micros(text).map_err(|error| error.to_string())
    }

    fn bytes(text: &str) -> Result<u64, String> {
        let parsed: Result<ByteSize, _> = text.parse();
        parsed
            .map(|found| found.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn options_and_intervals_read_the_same_durations() {
        for &(text, expected) in DURATIONS {
            assert_eq!(nanos(text), Ok(expected as u128), "{text}");
            assert_eq!(micros(text), Ok((expected / 1_000) as i64), "{text}");
        }
    }

    #[test]
    fn options_and_intervals_refuse_the_same_texts() {
        let no_number = "does not start with a number; write for example '5 seconds'";
        let units = "the units are us, ms, s, min, h, d, w";
        let (no_unit, unknown) = (
            format!("has no unit; {units}"),
            format!("is not a unit; {units}"),
        );
        let (number, clock) = ("is not a number", "is not a time such as 01:30 or 00:01:30");
        let calendar = "has no fixed length; write it in days";
        for (text, part, reason) in [
            ("", "", no_number),
            ("soon", "soon", no_number),
            ("5 s and more", "5 s and more", no_number),
            ("5", "5", &no_unit),
            ("1,000 s", "1,000 s", &no_unit),
            ("5 parsecs", "parsecs", &unknown),
            ("5 ns", "ns", &unknown),
            ("1..5 s", "1..5", number),
            (". s", ".", number),
            ("--5 seconds", "--5", number),
            ("1:2:3:4", "1:2:3:4", clock),
            ("1:-2", "1:-2", clock),
            ("1 month", "month", calendar),
            ("2 Mons", "Mons", calendar),
            ("2 centuries", "centuries", calendar),
        ] {
            let expected = format!("{part:?} {reason}");
            assert_eq!(nanos(text), Err(expected.clone()));
            assert_eq!(micros(text), Err(expected));
        }
    }

    #[test]
    fn what_only_an_option_or_only_an_interval_can_hold() {
        assert_eq!(nanos("-5 s").unwrap_err(), "\"-5 s\" is less than zero");
        assert_eq!(micros("-5 s"), Ok(-5_000_000));
        assert_eq!(micros("-01:00"), Ok(-3_600_000_000));
        assert_eq!(nanos("1.5 us"), Ok(1_500));
        assert_eq!(nanos("0.3333333333 s"), Ok(333_333_333));
        assert_eq!(nanos("0.6666666666666666666666 s"), Ok(666_666_667));
        for text in ["1.5 us", "0.0000001 seconds", "0.00000000001 s"] {
            assert_eq!(
                micros(text).unwrap_err(),
                format!("{text:?} is finer than a microsecond")
            );
        }
        let long = "1000000 days";
        assert_eq!(
            nanos(long).unwrap_err(),
            format!("{long:?} is too large; the limit is 213503 days")
        );
        assert_eq!(micros(long), Ok(86_400_000_000_000_000));
        let number = "9".repeat(60);
        for long in [
            "9999999999999 weeks".into(),
            format!("{number} s"),
            format!("{number}:00"),
        ] {
            let error = micros(&long).unwrap_err();
            assert!(error.ends_with("the limit is 106751991 days"), "{error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64MiB", 64 << 20),
            ("1 kb", 1_000),
            ("0.5 KiB", 512),
            ("1_000 B", 1_000),
            ("1 KiB 1 B", 1_025),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        let units = "the units are B, kB, KiB, MB, MiB, GB, GiB, TB, TiB";
        let huge = "99999999999999999999 TiB";
        for (text, expected) in [
            ("64 M", format!("\"M\" is not a unit; {units}")),
            ("1 month", format!("\"month\" is not a unit; {units}")),
            ("1:30 B", "\"1:30\" is not a number".to_owned()),
            ("-1 B", "\"-1 B\" is less than zero".to_owned()),
            (
                huge,
                format!("{huge:?} is too large; the limit is 16777215 TiB"),
            ),
        ] {
            assert_eq!(bytes(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn shown_as_they_are_read() {
        for text in ["5 s", "100 ms", "90 s", "2 h", "0 us", "1.5 us", "14 d"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        for text in ["64 MiB", "1 kB", "1 KiB", "999 B", "0 B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }
}
