//! Errors of DataFusion, made into typed [`SqlError`]s.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use crate::sql::error::lower_first;
use crate::sql::{SqlError, SqlQuery, sqlstate};

/// SQLSTATE: an error of the data that has no code of its own.
const DATA_EXCEPTION: &str = "22000";

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
    if let Some(ours) = own(&error) {
        let message = diagnostic.map(|message| sentence(&message));
        return SqlError {
            message: message.unwrap_or_else(|| ours.message.clone()),
            ..ours.clone()
        };
    }
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
                DataFusionError::ArrowError(..) => sqlstate_of(other),
                _ => sqlstate_by_datafusion_words(&message),
            };
            SqlError::new(state, sentence(&message))
        }
    }
}

/// The SQLSTATE of an error that an expression gives for a row.
pub(crate) fn sqlstate_of(error: &DataFusionError) -> &'static str {
    if let Some(ours) = own(error) {
        return ours.sqlstate;
    }
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::DivideByZero => sqlstate::DIVISION_BY_ZERO,
            ArrowError::ArithmeticOverflow(_) => sqlstate::NUMERIC_VALUE_OUT_OF_RANGE,
            ArrowError::CastError(_) | ArrowError::ParseError(_) => sqlstate::INVALID_TEXT,
            _ => DATA_EXCEPTION,
        },
        _ => DATA_EXCEPTION,
    }
}

/// The error of our own that DataFusion carries.
fn own(error: &DataFusionError) -> Option<&SqlError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(ours) = error.downcast_ref::<SqlError>() {
            return Some(ours);
        }
        next = error.source();
    }
    None
}

/// The SQLSTATE of an error of DataFusion's planner. DataFusion has one variant for all of these
/// mistakes, so only its own words distinguish them. No other code sorts errors by their text.
fn sqlstate_by_datafusion_words(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    if lower.contains("invalid function") || lower.contains("no function matches") {
        sqlstate::UNDEFINED_FUNCTION
    } else if lower.contains("table") && lower.contains("not found") {
        sqlstate::UNDEFINED_TABLE
    } else if lower.contains("unique expression names") {
        sqlstate::DUPLICATE_COLUMN
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
