//! What is wrong with a statement, told so that a person can repair it.
//!
//! An error has the five parts that PostgreSQL clients know: a SQLSTATE, a message, a detail, a
//! hint, and a position, here a byte range of the script so that the place can be drawn under the
//! text. The message is one lower-case line that names the value and the limit; the hint is a
//! sentence that says what to do.
//!
//! Errors of `sqlparser` come here as text with a line and a column at its end; [`SqlError`] takes
//! them apart again. Drawing an error is left to whoever has the screen.

use std::ops::Range;

/// The result of reading or rewriting SQL.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// The SQLSTATE codes that reading SQL can give.
pub mod sqlstate {
    /// The text is no statement we know.
    pub const SYNTAX_ERROR: &str = "42601";
    /// The statement is understood, and not built.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// A name that fits several columns.
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    /// A name that fits several tables.
    pub const AMBIGUOUS_TABLE: &str = "42P09";
    /// A column that is not there.
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// Two columns of one name.
    pub const DUPLICATE_COLUMN: &str = "42701";
    /// A function that is not there, or not with these arguments.
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// A data type that is not there.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// A value of the wrong type.
    pub const DATATYPE_MISMATCH: &str = "42804";
    /// A window or an aggregate where none may stand.
    pub const GROUPING_ERROR: &str = "42803";
    /// A number or interval outside its range.
    pub const INVALID_PARAMETER: &str = "22023";
    /// Somebody asked for its end before it had one.
    pub const QUERY_CANCELED: &str = "57014";
    /// Nested or chained deeper than we read.
    pub const STATEMENT_TOO_COMPLEX: &str = "54001";
}

/// A refusal of a piece of SQL.
///
/// `Display` gives the message alone; the other parts are for whoever shows it.
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
    /// The place in the script, in bytes. Empty at the end of the text when something is missing.
    pub position: Option<Range<usize>>,
}

impl SqlError {
    /// An error without a detail, a hint or a place.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// The text is no statement we know.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(sqlstate::SYNTAX_ERROR, message)
    }

    /// The statement is understood, and `what` in it is not built.
    pub fn not_built(what: impl std::fmt::Display) -> Self {
        let message = format!("{what} is not supported");
        Self::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
    }

    /// Adds what to do, a sentence.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do when there is something to say.
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

    /// Adds the place, in bytes of the script.
    pub fn at(mut self, position: impl Into<Option<Range<usize>>>) -> Self {
        self.position = position.into();
        self
    }
}
