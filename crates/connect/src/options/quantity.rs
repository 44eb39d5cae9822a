//! Quantities with their unit in the value: `'5 seconds'`, `'1 min 30 s'`, `'64MiB'`.
//!
//! Blanks between number and unit are free, units are case-insensitive, fractions are allowed, and
//! several pairs add up. A number without a unit is refused: 30 of what?

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

/// A name of a unit and what it is worth in the smallest one.
type Unit = (&'static str, u128);

/// In nanoseconds; the first name of each worth is the one shown.
const TIMES: &[Unit] = &[
    ("us", 1_000),
    ("µs", 1_000),
    ("microsecond", 1_000),
    ("microseconds", 1_000),
    ("ms", 1_000_000),
    ("millisecond", 1_000_000),
    ("milliseconds", 1_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("second", 1_000_000_000),
    ("seconds", 1_000_000_000),
    ("min", 60_000_000_000),
    ("minute", 60_000_000_000),
    ("minutes", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("hour", 3_600_000_000_000),
    ("hours", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("day", 86_400_000_000_000),
    ("days", 86_400_000_000_000),
];

/// In bytes.
const SIZES: &[Unit] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unparsable {
    /// It does not start with a number.
    #[error("{text:?} does not start with a number; write for example {example}")]
    NoNumber {
        /// As given.
        text: String,
        /// One that is right.
        example: &'static str,
    },
    /// A number stands alone.
    #[error("{text:?} has no unit; the units are {units}")]
    NoUnit {
        /// As given.
        text: String,
        /// Those accepted.
        units: String,
    },
    /// A unit that is none.
    #[error("{unit:?} is no unit here; the units are {units}")]
    UnknownUnit {
        /// As given.
        unit: String,
        /// Those accepted.
        units: String,
    },
    /// Too large to be counted.
    #[error("{text:?} is too large")]
    TooLarge {
        /// As given.
        text: String,
    },
}

/// Adds up the pairs of number and unit in `text`.
fn parse(text: &str, units: &[Unit], example: &'static str) -> Result<u128, Unparsable> {
    let too_large = || Unparsable::TooLarge {
        text: text.to_owned(),
    };
    let mut rest = text.trim();
    let mut sum = 0u128;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
        let (number, after) = rest.split_at(digits.unwrap_or(rest.len()));
        let (whole, part) = split_number(number)
            .ok_or_else(|| Unparsable::NoNumber {
                text: text.to_owned(),
                example,
            })?
            .map_err(|()| too_large())?;
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let worth = worth(unit, text, units)?;
        let value = whole.checked_mul(worth).ok_or_else(too_large)?;
        let value = value + (part * worth as f64).round() as u128;
        sum = sum.checked_add(value).ok_or_else(too_large)?;
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

/// The whole and the fractional part; `None` if it is no number, an error if it is too large.
fn split_number(number: &str) -> Option<Result<(u128, f64), ()>> {
    let number = number.replace('_', "");
    let (whole, part) = number.split_once('.').unwrap_or((&number, ""));
    if !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let part: f64 = if part.is_empty() {
        0.0
    } else {
        format!("0.{part}").parse().ok()?
    };
    Some(whole.parse().map(|whole| (whole, part)).map_err(drop))
}

fn worth(unit: &str, text: &str, units: &[Unit]) -> Result<u128, Unparsable> {
    let found = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    found.map(|(_, worth)| *worth).ok_or_else(|| {
        let (text, unit, units) = (text.to_owned(), unit.to_owned(), listed(units));
        if unit.is_empty() {
            Unparsable::NoUnit { text, units }
        } else {
            Unparsable::UnknownUnit { unit, units }
        }
    })
}

/// The first name of each unit.
fn listed(units: &[Unit]) -> String {
    let firsts = units.chunk_by(|a, b| a.1 == b.1).map(|names| names[0].0);
    firsts.collect::<Vec<_>>().join(", ")
}

/// In the largest unit of which it is a whole number.
fn show(value: u128, units: &[Unit], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = |worth: u128| value.is_multiple_of(worth) && value >= worth;
    let worth = units
        .iter()
        .map(|unit| unit.1)
        .filter(|&worth| whole(worth))
        .max();
    let worth = worth.unwrap_or(units[0].1);
    let name = units
        .iter()
        .find(|unit| unit.1 == worth)
        .map_or("", |unit| unit.0);
    let value = value as f64 / worth as f64;
    f.pad(&format!("{value} {name}"))
}

impl FromStr for Duration {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let nanos = parse(text, TIMES, Self::EXAMPLE)?;
        let nanos = u64::try_from(nanos).map_err(|_| Unparsable::TooLarge {
            text: text.to_owned(),
        })?;
        Ok(Self(time::Duration::from_nanos(nanos)))
    }
}

impl FromStr for ByteSize {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let bytes = parse(text, SIZES, Self::EXAMPLE)?;
        let bytes = u64::try_from(bytes).map_err(|_| Unparsable::TooLarge {
            text: text.to_owned(),
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0.as_nanos(), TIMES, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0.into(), SIZES, f)
    }
}

impl Duration {
    const EXAMPLE: &'static str = "'5 seconds'";

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(time::Duration::from_millis(milliseconds))
    }
}

impl ByteSize {
    const EXAMPLE: &'static str = "'64 MiB'";

    /// So many times 1,048,576 bytes.
    pub const fn mib(number: u64) -> Self {
        Self(number << 20)
    }

    /// As a length in memory; the largest there can be if it is more.
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

    fn nanos(text: &str) -> Result<u128, String> {
        let parsed: Result<Duration, _> = text.parse();
        parsed
            .map(|found| found.0.as_nanos())
            .map_err(|error| error.to_string())
    }

    fn bytes(text: &str) -> Result<u64, String> {
        let parsed: Result<ByteSize, _> = text.parse();
        parsed
            .map(|found| found.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn durations() {
        assert_eq!(nanos("5 seconds"), Ok(5_000_000_000));
        assert_eq!(nanos("100ms"), Ok(100_000_000));
        assert_eq!(nanos(" 1.5 S "), Ok(1_500_000_000));
        assert_eq!(nanos("1 minute 30 seconds"), Ok(90_000_000_000));
        assert_eq!(nanos("1h30min"), Ok(5_400_000_000_000));
        assert_eq!(nanos("0 s"), Ok(0));
        assert_eq!(nanos("7 days"), Ok(7 * 86_400_000_000_000));
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1 kb"), Ok(1_000));
        assert_eq!(bytes("0.5 KiB"), Ok(512));
        assert_eq!(bytes("1_000 B"), Ok(1_000));
    }

    #[test]
    fn what_is_none_says_what_would_be() {
        assert_eq!(
            nanos("5").unwrap_err(),
            "\"5\" has no unit; the units are us, ms, s, min, h, d"
        );
        assert_eq!(
            nanos("5 parsecs").unwrap_err(),
            "\"parsecs\" is no unit here; the units are us, ms, s, min, h, d"
        );
        for text in ["", "soon", "-5 s", ".5 s", "1..5 s", "5 s and more"] {
            let error = nanos(text).unwrap_err();
            assert!(
                error.contains("number") || error.contains("no unit"),
                "{text}: {error}"
            );
        }
        assert_eq!(
            bytes("64 M").unwrap_err(),
            "\"M\" is no unit here; the units are B, kB, KiB, MB, MiB, GB, GiB, TB, TiB"
        );
        let huge = "99999999999999999999 TiB";
        assert_eq!(bytes(huge).unwrap_err(), format!("{huge:?} is too large"));
        assert_eq!(
            nanos("1000000 days").unwrap_err(),
            "\"1000000 days\" is too large"
        );
        let number = "9".repeat(60);
        assert!(
            bytes(&format!("{number} B"))
                .unwrap_err()
                .ends_with("too large")
        );
    }

    #[test]
    fn shown_as_they_are_read() {
        for text in ["5 s", "100 ms", "90 s", "2 h", "0 us", "1.5 us"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        for text in ["64 MiB", "1 kB", "1 KiB", "999 B", "0 B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }
}
