//! Errors of DataFusion, made into typed [`SqlError`]s.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use crate::dataflow::reason_of;
use crate::sql::error::lower_first;
use crate::sql::{SqlError, SqlQuery, sqlstate};

/// The error with its position in the query, if DataFusion knows it.
pub(crate) fn explain_in(error: DataFusionError, query: &SqlQuery) -> SqlError {
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
            let text = inner.to_string();
            let state = match inner.as_ref() {
                SchemaError::FieldNotFound { .. } => sqlstate::UNDEFINED_COLUMN,
                SchemaError::AmbiguousReference { .. } => sqlstate::AMBIGUOUS_COLUMN,
                _ => sqlstate::DUPLICATE_COLUMN,
            };
            let (message, hint) = text.split_once(". ").unwrap_or((&text, ""));
            SqlError::new(state, sentence(message)).maybe_hint(suggestion(hint))
        }
        DataFusionError::NotImplemented(what) => {
            SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, sentence(what))
        }
        DataFusionError::SQL(inner, _) => SqlError::syntax(sentence(&inner.to_string())),
        other => {
            let text = match other {
                DataFusionError::ArrowError(..) => reason_of(other),
                _ => other.message().into_owned(),
            };
            if let Some(error) = undefined_call(&text) {
                return error;
            }
            if let Some(error) = repeated_column(&text) {
                return error;
            }
            let message = diagnostic.unwrap_or(text);
            let state = match other {
                DataFusionError::ArrowError(..) => sqlstate_of(other),
                _ => sqlstate_by_datafusion_words(&message),
            };
            SqlError::new(state, sentence(&message))
        }
    }
}

/// What DataFusion suggests for the name of a column, as a hint.
fn suggestion(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    if let Some(names) = line.strip_prefix("Valid fields are ") {
        return Some(format!("There are {}.", names.trim_end_matches('.')));
    }
    let name = line.strip_prefix("Did you mean ")?;
    Some(format!(
        "Did you mean {}?",
        name.trim_matches(['\'', '?', '.'])
    ))
}

/// The error about a call that no function takes, of which DataFusion tells all that it has tried.
fn undefined_call(text: &str) -> Option<SqlError> {
    const BEFORE: &str = "No function matches the given name and argument types '";
    const TYPES: &[(&str, &str)] = &[
        ("UInt64", "BIGINT UNSIGNED"),
        ("UInt32", "INT UNSIGNED"),
        ("UInt16", "SMALLINT UNSIGNED"),
        ("UInt8", "TINYINT UNSIGNED"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "REAL"),
        ("Utf8", "VARCHAR"),
        ("Boolean", "BOOLEAN"),
        ("Binary", "BYTEA"),
        ("Date32", "DATE"),
        ("Decimal128", "DECIMAL"),
        ("Timestamp(µs, \"+00:00\")", "TIMESTAMPTZ"),
        ("Timestamp(µs)", "TIMESTAMP"),
    ];
    let (call, _) = text.split_once(BEFORE)?.1.split_once("'.")?;
    let types = TYPES.iter();
    let call = types.fold(call.to_owned(), |call, (arrow, sql)| {
        call.replace(arrow, sql)
    });
    let error = SqlError::new(
        sqlstate::UNDEFINED_FUNCTION,
        format!("function {call} does not exist"),
    );
    Some(error.hint(
        "It takes other types, or another number of arguments: CAST them, or leave some out.",
    ))
}

/// The error about a column that `*` and another item of a SELECT have.
fn repeated_column(text: &str) -> Option<SqlError> {
    let (before, rest) = text.split_once("unique expression names but the expression \"")?;
    let (name, _) = rest.split_once("\" at position")?;
    let name = name
        .rsplit('.')
        .next()
        .filter(|_| before.starts_with("Projections"))?;
    let message = format!("column {name:?} specified more than once");
    let error = SqlError::new(sqlstate::DUPLICATE_COLUMN, message);
    Some(error.hint("Give one of them another name with AS."))
}

/// The name of the function that there is not, if the error is about that.
pub(super) fn unknown_function(error: &SqlError) -> Option<&str> {
    let name = error.message.strip_prefix("invalid function '")?;
    name.strip_suffix('\'')
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
            _ => sqlstate::DATA_EXCEPTION,
        },
        _ => sqlstate::DATA_EXCEPTION,
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
