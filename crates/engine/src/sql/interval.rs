//! Intervals of windows and watermarks, as whole microseconds.
//!
//! `INTERVAL '1 minute'`, `INTERVAL '5' SECOND`, `INTERVAL 5 SECOND` and the string alone all mean a
//! text, which is read by the grammar of durations that options have ([`Duration`]). The sign is
//! kept: the caller decides whether less than zero makes sense.

use datafusion::sql::sqlparser::ast::{Expr, Interval, UnaryOperator, Value};
use headwater_connect::options::Duration;

/// What to write if an interval is refused.
pub(super) const HINT: &str = "Write a number and a unit, e.g. INTERVAL '30 days'.";

/// Microseconds of a day of 24 hours.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// The microseconds of an expression that is an interval, or why it is not one.
pub(super) fn micros(expr: &Expr) -> Result<i64, String> {
    let text = match expr {
        Expr::Interval(interval) => literal(interval)?,
        Expr::Nested(inner) => return micros(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            _ => return Err(format!("{expr} is not an interval")),
        },
        _ => return Err(format!("{expr} is not an interval")),
    };
    Duration::signed_micros(&text).map_err(|error| error.to_string())
}

/// The number and the unit of `INTERVAL ...`.
fn literal(interval: &Interval) -> Result<String, String> {
    let value = &interval.value;
    let number = number(value).ok_or_else(|| format!("interval {value} is not constant"))?;
    if interval.last_field.is_some() {
        return Err("an interval over a range of fields is not supported".to_owned());
    }
    Ok(match &interval.leading_field {
        None => number,
        Some(unit) => format!("{number} {unit}"),
    })
}

fn number(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text.clone()),
            _ => None,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => number(expr).map(|text| format!("-{text}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros_of(sql: &str) -> Result<i64, String> {
        let tokens = crate::sql::script::lex(sql).unwrap();
        let mut cursor = crate::sql::token_cursor::TokenCursor::new(sql, &tokens);
        micros(&cursor.parse(|parser| parser.parse_expr()).unwrap())
    }

    #[test]
    fn every_way_of_writing_it_is_read() {
        for (sql, expected) in [
            ("INTERVAL '1 second 500 milliseconds'", 1_500_000),
            ("INTERVAL '5' SECOND", 5_000_000),
            ("INTERVAL '5' MINUTES", 300_000_000),
            ("INTERVAL 5 SECOND", 5_000_000),
            ("INTERVAL -5 SECOND", -5_000_000),
            ("INTERVAL '00:01:30.25'", 90_250_000),
            ("INTERVAL '2 weeks'", 1_209_600_000_000),
            ("INTERVAL '-5 seconds'", -5_000_000),
            ("(INTERVAL '5 m')", 300_000_000),
            ("'10 seconds'", 10_000_000),
        ] {
            assert_eq!(micros_of(sql), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn what_is_not_a_fixed_span_is_refused_with_a_reason() {
        for (sql, expected) in [
            (
                "INTERVAL '1 month'",
                "\"month\" has no fixed length; write it in days",
            ),
            (
                "INTERVAL '2' YEAR",
                "\"YEAR\" has no fixed length; write it in days",
            ),
            (
                "INTERVAL '1-2' YEAR TO MONTH",
                "an interval over a range of fields is not supported",
            ),
            ("INTERVAL (ts) SECOND", "interval (ts) is not constant"),
            ("5", "5 is not an interval"),
            ("ts", "ts is not an interval"),
        ] {
            assert_eq!(micros_of(sql).unwrap_err(), expected, "{sql}");
        }
    }
}
