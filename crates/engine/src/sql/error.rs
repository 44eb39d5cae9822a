//! Errors of SQL text, written so that a person can repair the statement.
//!
//! An error has the five parts that PostgreSQL clients know: a SQLSTATE, a message, a detail, a
//! hint, and a position, here a byte range of the script so that the position can be drawn under
//! the text. The message is one lower-case line with the value and the limit; the hint is a
//! sentence that says what to do.
//!
//! `parser_error` makes these of `sqlparser`'s errors, `plan/planner_error` of DataFusion's. The
//! server draws them.

use std::ops::{ControlFlow, Range};

pub(super) use crate::dataflow::lower_first;

/// The result of reading or rewriting SQL.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// The SQLSTATE codes of errors in SQL.
pub mod sqlstate {
    /// The text matches no statement of the grammar.
    pub const SYNTAX_ERROR: &str = "42601";
    /// The statement is valid SQL, and Headwater does not support it.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// A name matches several columns.
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    /// A name matches several tables.
    pub const AMBIGUOUS_TABLE: &str = "42P09";
    /// A column does not exist.
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// A source, stream, view or sink does not exist.
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// Two columns have the same name.
    pub const DUPLICATE_COLUMN: &str = "42701";
    /// A function does not exist, or not with these arguments.
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// A data type does not exist.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// A value has the wrong type.
    pub const DATATYPE_MISMATCH: &str = "42804";
    /// No cast leads from one type to the other.
    pub const CANNOT_COERCE: &str = "42846";
    /// A window or an aggregate is not allowed here.
    pub const GROUPING_ERROR: &str = "42803";
    /// A number does not fit into its type.
    pub const NUMERIC_VALUE_OUT_OF_RANGE: &str = "22003";
    /// A number is divided by zero.
    pub const DIVISION_BY_ZERO: &str = "22012";
    /// A logarithm of zero or of a negative number.
    pub const INVALID_LOGARITHM: &str = "2201E";
    /// A power or root that is no real number.
    pub const INVALID_POWER: &str = "2201F";
    /// Bytes are no text in UTF-8.
    pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    /// A part of a text or of bytes has a negative length.
    pub const SUBSTRING_ERROR: &str = "22011";
    /// There is no byte of this number.
    pub const ARRAY_SUBSCRIPT_ERROR: &str = "2202E";
    /// The bounds or the number of the buckets of a histogram are wrong.
    pub const INVALID_WIDTH_BUCKET: &str = "2201G";
    /// A text is no value of the type.
    pub const INVALID_TEXT: &str = "22P02";
    /// A date or time in text does not follow its pattern, or the pattern is wrong.
    pub const INVALID_DATETIME_FORMAT: &str = "22007";
    /// A date or time is outside its range.
    pub const DATETIME_OVERFLOW: &str = "22008";
    /// The offset of a time zone is outside its range.
    pub const INVALID_TIME_ZONE: &str = "22009";
    /// A regular expression, or a pattern of SIMILAR TO, is wrong.
    pub const INVALID_REGEX: &str = "2201B";
    /// A number or interval is outside its range.
    pub const INVALID_PARAMETER: &str = "22023";
    /// Something of this name exists, and is of another kind.
    pub const WRONG_KIND: &str = "42809";
    /// Something of this name already exists.
    pub const DUPLICATE_TABLE: &str = "42P07";
    /// The name has more bytes than the name of its folder may have.
    pub const NAME_TOO_LONG: &str = "42622";
    /// The engine reserves the name.
    pub const RESERVED_NAME: &str = "42939";
    /// Something else still needs it.
    pub const DEPENDENT_OBJECTS: &str = "2BP01";
    /// It is not in the state that the statement needs.
    pub const NOT_IN_STATE: &str = "55000";
    /// The query was cancelled before it finished.
    pub const QUERY_CANCELED: &str = "57014";
    /// More than a limit of the engine allows.
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    /// The statement is nested or chained beyond the limit.
    pub const STATEMENT_TOO_COMPLEX: &str = "54001";
    /// An error of the data that has no code of its own.
    pub const DATA_EXCEPTION: &str = "22000";

    /// The code of an error of a row which is written as this text.
    pub(crate) fn of_row(code: &str) -> Option<&'static str> {
        const ALL: &[&str] = &[
            NUMERIC_VALUE_OUT_OF_RANGE,
            DIVISION_BY_ZERO,
            INVALID_LOGARITHM,
            INVALID_POWER,
            INVALID_TEXT,
            INVALID_DATETIME_FORMAT,
            DATETIME_OVERFLOW,
            INVALID_TIME_ZONE,
            INVALID_REGEX,
            INVALID_PARAMETER,
            CHARACTER_NOT_IN_REPERTOIRE,
            SUBSTRING_ERROR,
            ARRAY_SUBSCRIPT_ERROR,
            INVALID_WIDTH_BUCKET,
            DATA_EXCEPTION,
        ];
        ALL.iter().find(|it| **it == code).copied()
    }
}

/// Why a piece of SQL was refused. `Display` writes the message alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// Five characters of the SQL standard, e.g. `42601`; see [`sqlstate`].
    pub sqlstate: &'static str,
    /// What is wrong: one lower-case line with the value and the limit.
    pub message: String,
    /// More about the cause.
    pub detail: Option<String>,
    /// What to do about it, as a sentence.
    pub hint: Option<String>,
    /// The position in the script, in bytes. Empty at the end of the text when something is missing.
    pub position: Option<Range<usize>>,
}

impl SqlError {
    /// An error without a detail, a hint or a position.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// The text matches no statement of the grammar.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(sqlstate::SYNTAX_ERROR, message)
    }

    /// `what` is valid SQL, and Headwater does not support it.
    pub fn not_built(what: impl std::fmt::Display) -> Self {
        let message = format!("{what} is not supported");
        Self::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
    }

    /// Sets the hint, a sentence that says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the hint if there is one.
    pub fn maybe_hint(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds more about the cause.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the position, in bytes of the script.
    pub fn at(mut self, position: impl Into<Option<Range<usize>>>) -> Self {
        self.position = position.into();
        self
    }
}

/// What a visitor of `sqlparser`'s tree returns: the walk stops at the first error.
pub(super) type VisitFlow = ControlFlow<Box<SqlError>>;

/// Continues the walk unless there is an error.
pub(super) fn stop_at_error<T>(result: Result<T>) -> VisitFlow {
    match result {
        Ok(_) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// The error at which a walk stopped, if it did.
pub(super) fn visited(flow: VisitFlow) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}
