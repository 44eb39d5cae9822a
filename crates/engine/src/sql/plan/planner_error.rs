//! Errors of DataFusion, made into typed [`SqlError`]s.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use crate::sql::error::lower_first;
use crate::sql::{SqlError, SqlQuery, sqlstate};

/// SQLSTATE: an error of the data that has no code of its own.
const DATA_EXCEPTION: &str = "22000";
/// SQLSTATE: a number that its type cannot hold.
const OUT_OF_RANGE: &str = "22003";
/// SQLSTATE: a division by zero.
const DIVISION_BY_ZERO: &str = "22012";
/// SQLSTATE: a text that is no value of the type.
const INVALID_TEXT: &str = "22P02";

/// The error with its position in the query, if DataFusion knows it.
pub(super) fn explain_in(error: DataFusionError, query: &SqlQuery) -> SqlError {
    let span = error.diagnostic().and_then(|found| found.span);
    let position = span.and_then(|span| {
        let at = |at: datafusion::common::Location| Location {
            line: at.line,
            column: at.column,
        };
        query.position(Span {
            start: at(span.start),
            end: at(span.end),
        })
    });
    explain(error).at(position)
}

pub(crate) fn explain(error: DataFusionError) -> SqlError {
    let diagnostic = error.diagnostic().map(|found| found.message.clone());
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) => {
            let state = match inner.as_ref() {
                SchemaError::FieldNotFound { .. } => sqlstate::UNDEFINED_COLUMN,
                SchemaError::AmbiguousReference { .. } => sqlstate::AMBIGUOUS_COLUMN,
                _ => sqlstate::DUPLICATE_COLUMN,
            };
            SqlError::new(state, sentence(&inner.to_string()))
        }
        DataFusionError::NotImplemented(what) => {
            SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, sentence(what))
        }
        DataFusionError::SQL(inner, _) => SqlError::syntax(sentence(&inner.to_string())),
        other => {
            let message = diagnostic.unwrap_or_else(|| other.message().into_owned());
            let state = match other {
                DataFusionError::External(inner) => {
                    let ours = inner.downcast_ref::<SqlError>();
                    ours.map(|error| error.sqlstate)
                }
                DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
                    ArrowError::ArithmeticOverflow(_) => Some(sqlstate::NUMERIC_VALUE_OUT_OF_RANGE),
                    ArrowError::DivideByZero => Some(sqlstate::DIVISION_BY_ZERO),
                    _ => None,
                },
                _ => None,
            };
            let state = state.unwrap_or_else(|| sqlstate_by_datafusion_words(&message));
            SqlError::new(state, sentence(&message))
        }
    }
}

/// The SQLSTATE of an error that an expression gives for a row.
pub(crate) fn sqlstate_of(error: &DataFusionError) -> &'static str {
    let ours = |error: &(dyn std::error::Error + 'static)| {
        let ours = error.downcast_ref::<SqlError>();
        ours.map_or(DATA_EXCEPTION, |error| error.sqlstate)
    };
    match error.find_root() {
        DataFusionError::External(error) => ours(error.as_ref()),
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::DivideByZero => DIVISION_BY_ZERO,
            ArrowError::ArithmeticOverflow(_) => OUT_OF_RANGE,
            ArrowError::CastError(_) | ArrowError::ParseError(_) => INVALID_TEXT,
            ArrowError::ExternalError(error) => ours(error.as_ref()),
            _ => DATA_EXCEPTION,
        },
        _ => DATA_EXCEPTION,
    }
}

/// The SQLSTATE of an error of DataFusion's planner. DataFusion has one variant for all of these
/// mistakes, so only its own words distinguish them. No other code sorts errors by their text.
fn sqlstate_by_datafusion_words(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    if lower.contains("invalid function") || lower.contains("no function matches") {
        sqlstate::UNDEFINED_FUNCTION
    } else if lower.contains("table") && lower.contains("not found") {
        sqlstate::UNDEFINED_TABLE
    } else if lower.contains("group by") {
        sqlstate::GROUPING_ERROR
    } else if lower.contains("coerc") || lower.contains("type") {
        sqlstate::DATATYPE_MISMATCH
    } else {
        sqlstate::SYNTAX_ERROR
    }
}

/// The first line, with a lower-case first letter and without a full stop.
fn sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let line = line.trim_end_matches('.');
    let line = line.strip_prefix("Error during planning: ").unwrap_or(line);
    let line = line.strip_prefix("Schema error: ").unwrap_or(line);
    lower_first(line)
}
