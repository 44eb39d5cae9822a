//! Intervals as whole microseconds.
//!
//! Read are all forms that a window or a watermark needs: `INTERVAL '1 minute'`,
//! `INTERVAL '1 second 500 milliseconds'`, `INTERVAL '1.5 seconds'`, `INTERVAL '00:01:30'`,
//! `INTERVAL '5' SECOND`, `INTERVAL 5 SECOND`, and the string alone. A day is 24 hours and a week
//! seven of them. A month or a year has no fixed length and is refused, as is a number without a
//! unit, and what is finer than a microsecond. The sign is kept: whether less than zero makes
//! sense is for the caller.

use datafusion::sql::sqlparser::ast::{Expr, Interval, UnaryOperator, Value};

/// Why something is no interval: a message, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoInterval {
    pub message: String,
    pub hint: Option<&'static str>,
}

const UNITS: &[(i64, &[&str])] = &[
    (
        1,
        &["microsecond", "microseconds", "us", "usec", "usecs", "µs"],
    ),
    (
        1_000,
        &["millisecond", "milliseconds", "ms", "msec", "msecs"],
    ),
    (SECOND, &["second", "seconds", "s", "sec", "secs"]),
    (60 * SECOND, &["minute", "minutes", "m", "min", "mins"]),
    (3_600 * SECOND, &["hour", "hours", "h", "hr", "hrs"]),
    (86_400 * SECOND, &["day", "days", "d"]),
    (7 * 86_400 * SECOND, &["week", "weeks", "w"]),
];
const SECOND: i64 = 1_000_000;
const NO_FIXED_LENGTH: &[&str] = &[
    "month",
    "months",
    "mon",
    "mons",
    "year",
    "years",
    "y",
    "yr",
    "yrs",
    "quarter",
    "quarters",
    "decade",
    "decades",
    "century",
    "centuries",
    "millennium",
    "millennia",
];
const WRITE_A_UNIT: &str = "Write a number and a unit, e.g. INTERVAL '10 seconds'.";

/// The microseconds of an expression that is an interval.
pub(super) fn micros(expr: &Expr) -> Result<i64, NoInterval> {
    match expr {
        Expr::Interval(interval) => of_literal(interval),
        Expr::Nested(inner) => micros(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => of_text(text),
            _ => Err(wrong(format!("{expr} is no interval"))),
        },
        _ => Err(wrong(format!("{expr} is no interval"))),
    }
}

fn of_literal(interval: &Interval) -> Result<i64, NoInterval> {
    let Some(text) = literal_text(&interval.value) else {
        return Err(wrong(format!(
            "interval {} is not constant",
            interval.value
        )));
    };
    if interval.last_field.is_some() {
        return Err(wrong(
            "an interval over a range of fields is not supported".into(),
        ));
    }
    match &interval.leading_field {
        None => of_text(&text),
        Some(unit) => of_text(&format!("{text} {unit}")),
    }
}

fn literal_text(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text.clone()),
            _ => None,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => literal_text(expr).map(|text| format!("-{text}")),
        _ => None,
    }
}

/// The microseconds of the text of an interval: numbers and units in turn, or a clock time.
pub(super) fn of_text(text: &str) -> Result<i64, NoInterval> {
    let words = words(text);
    if words.is_empty() {
        return Err(wrong("the interval is empty".into()));
    }
    let mut words = words.into_iter();
    let mut total = 0_i64;
    while let Some(word) = words.next() {
        let part = if word.contains(':') {
            clock(&word)
        } else {
            amount(&word, words.next())
        }?;
        total = total.checked_add(part).ok_or_else(|| too_long(text))?;
    }
    Ok(total)
}

/// `1h30m` and `1 hour, 30 minutes` alike: digits and letters apart.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut kind = None;
    for c in text.chars() {
        let next = match c {
            _ if c.is_whitespace() || c == ',' => None,
            '0'..='9' | '.' | ':' | '+' | '-' => Some(true),
            _ => Some(false),
        };
        match (next, words.last_mut()) {
            (None, _) => {}
            (Some(_), Some(word)) if next == kind => word.push(c),
            (Some(_), _) => words.push(c.into()),
        }
        kind = next;
    }
    words
}

fn amount(number: &str, unit: Option<String>) -> Result<i64, NoInterval> {
    let Some(unit) = unit else {
        return Err(wrong(format!("interval {number:?} has no unit")));
    };
    let lower = unit.to_lowercase();
    if NO_FIXED_LENGTH.contains(&lower.as_str()) {
        return Err(NoInterval {
            message: format!("a {} has no fixed length", lower.trim_end_matches('s')),
            hint: Some("Use days: INTERVAL '30 days'."),
        });
    }
    let known = UNITS
        .iter()
        .find(|(_, names)| names.contains(&lower.as_str()));
    match known {
        Some(&(unit, _)) => scaled(number, unit),
        None => Err(wrong(format!("{unit:?} is no unit of time"))),
    }
}

/// `number` of units of `unit` microseconds, exactly.
fn scaled(number: &str, unit: i64) -> Result<i64, NoInterval> {
    let not_a_number = || wrong(format!("{number:?} is no number"));
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err(not_a_number());
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| too_long(number))?
    };
    let Some(fraction) = fraction_of(fraction, unit) else {
        return Err(wrong(format!("{number:?} is finer than a microsecond")));
    };
    let sum = whole
        .checked_mul(unit)
        .and_then(|whole| whole.checked_add(fraction));
    let sum = sum.ok_or_else(|| too_long(number))?;
    Ok(if negative { -sum } else { sum })
}

/// `0.fraction` of `unit` microseconds when that is a whole number of them.
fn fraction_of(fraction: &str, unit: i64) -> Option<i64> {
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 18 {
        return None;
    }
    let numerator = i128::from(fraction.parse::<i64>().ok()?) * i128::from(unit);
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    if numerator % denominator != 0 {
        return None;
    }
    i64::try_from(numerator / denominator).ok()
}

/// `HH:MM` or `HH:MM:SS[.ffffff]`.
fn clock(text: &str) -> Result<i64, NoInterval> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = digits.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return Err(wrong(format!("{text:?} is no time"))),
    };
    let units = [
        (hours, 3_600 * SECOND),
        (minutes, 60 * SECOND),
        (seconds, SECOND),
    ];
    let mut total = 0_i64;
    for (number, unit) in units {
        if number.starts_with(['+', '-']) {
            return Err(wrong(format!("{text:?} is no time")));
        }
        total = total
            .checked_add(scaled(number, unit)?)
            .ok_or_else(|| too_long(text))?;
    }
    Ok(sign * total)
}

fn wrong(message: String) -> NoInterval {
    NoInterval {
        message,
        hint: Some(WRITE_A_UNIT),
    }
}

fn too_long(text: &str) -> NoInterval {
    let message = format!("interval {text:?} is longer than {} microseconds", i64::MAX);
    NoInterval {
        message,
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros_of(sql: &str) -> Result<i64, NoInterval> {
        let tokens = crate::sql::script::lex(sql).unwrap();
        let mut cursor = crate::sql::token_cursor::TokenCursor::new(sql, &tokens);
        micros(&cursor.parse(|parser| parser.parse_expr()).unwrap())
    }

    #[test]
    fn every_way_of_writing_it_is_read() {
        for (sql, expected) in [
            ("INTERVAL '1 minute'", 60_000_000),
            ("INTERVAL '100 milliseconds'", 100_000),
            ("INTERVAL '1 second 500 milliseconds'", 1_500_000),
            ("INTERVAL '1.5 seconds'", 1_500_000),
            ("INTERVAL '.5s'", 500_000),
            ("INTERVAL '5' SECOND", 5_000_000),
            ("INTERVAL '5' MINUTES", 300_000_000),
            ("INTERVAL 5 SECOND", 5_000_000),
            ("INTERVAL '2h30m'", 9_000_000_000),
            ("INTERVAL '1 hour, 30 minutes'", 5_400_000_000),
            ("INTERVAL '00:01:30.25'", 90_250_000),
            ("INTERVAL '1 day'", 86_400_000_000),
            ("INTERVAL '2 weeks'", 1_209_600_000_000),
            ("INTERVAL '-5 seconds'", -5_000_000),
            ("INTERVAL '10 us'", 10),
            ("INTERVAL '0 seconds'", 0),
            ("'10 seconds'", 10_000_000),
        ] {
            assert_eq!(micros_of(sql), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn what_is_no_fixed_span_is_refused_with_a_reason() {
        for (sql, expected) in [
            ("INTERVAL '1 month'", "a month has no fixed length"),
            ("INTERVAL '2' YEAR", "a year has no fixed length"),
            ("INTERVAL '5'", "interval \"5\" has no unit"),
            ("INTERVAL ''", "the interval is empty"),
            ("INTERVAL '5 parsecs'", "\"parsecs\" is no unit of time"),
            ("INTERVAL 'soon'", "interval \"soon\" has no unit"),
            ("INTERVAL '1:2:3:4'", "\"1:2:3:4\" is no time"),
            ("INTERVAL '--5 seconds'", "\"--5\" is no number"),
            (
                "INTERVAL '0.0000001 seconds'",
                "\"0.0000001\" is finer than a microsecond",
            ),
            (
                "INTERVAL '1-2' YEAR TO MONTH",
                "an interval over a range of fields is not supported",
            ),
            ("5", "5 is no interval"),
            ("ts", "ts is no interval"),
        ] {
            assert_eq!(micros_of(sql).unwrap_err().message, expected, "{sql}");
        }
        let long = micros_of("INTERVAL '9999999999999 weeks'").unwrap_err();
        assert!(long.message.contains("is longer than"), "{}", long.message);
    }
}
