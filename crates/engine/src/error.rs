//! The errors of the library's functions.

use std::io;

use crate::record::{Mismatch, RecordError};
use crate::sql::SqlError;

/// The result of the library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of the library failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A statement is wrong; see its position, detail and hint.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// One statement has several mistakes; each has its own position.
    #[error("{}", several(.0))]
    Statement(Vec<SqlError>),
    /// There is no source of this name.
    #[error("there is no source {name:?}; create it with CREATE SOURCE")]
    SourceNotFound {
        /// The name that was looked up.
        name: String,
    },
    /// There is no source, stream or view of this name.
    #[error("there is no source, stream or view {name:?}")]
    NotFound {
        /// The name that was looked up.
        name: String,
    },
    /// The type's columns are not those of the source or stream.
    #[error(transparent)]
    SchemaMismatch(#[from] Mismatch),
    /// Rows could not become structs, or structs rows.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A setting is out of range.
    #[error("{what}")]
    Config {
        /// The setting, its value and the limit.
        what: String,
    },
    /// A running query failed; it gives no further results.
    #[error("the query failed: {reason}")]
    QueryFailed {
        /// The error at which it stopped.
        reason: String,
    },
    /// A subscriber was too slow, and rows were dropped.
    #[error("{rows} rows were missed: the subscriber was too slow")]
    Missed {
        /// The number of dropped rows.
        rows: u64,
    },
    /// The stream itself missed rows of its inputs; later rows follow.
    #[error("{rows} rows of the inputs were missed: {reason}")]
    Gap {
        /// The number of missed rows.
        rows: u64,
        /// Why they were missed.
        reason: String,
    },
    /// A subscriber with `WhenFull::Disconnect` was too slow and was disconnected.
    #[error("the subscriber was disconnected: more than {rows} rows were waiting for it")]
    TooSlow {
        /// The maximum number of rows that wait for it.
        rows: usize,
    },
    /// The database is closed.
    #[error("the database is closed")]
    Closed,
    /// The data folder cannot be opened, read or written.
    #[error("the data folder: {0}")]
    Data(String),
    /// The operating system refused a thread, a file or another resource.
    #[error("cannot start: {0}")]
    Start(String),
}

impl Error {
    pub(crate) fn config(what: impl std::fmt::Display) -> Self {
        Self::Config {
            what: what.to_string(),
        }
    }

    pub(crate) fn data(error: impl std::fmt::Display) -> Self {
        Self::Data(error.to_string())
    }

    /// The operating system refused a thread for `what`, or what a thread needs; any other error is one of
    /// the data folder.
    pub(crate) fn no_thread(what: &str, error: &io::Error) -> Self {
        use io::ErrorKind::{OutOfMemory, WouldBlock};
        match error.kind() {
            WouldBlock | OutOfMemory => Self::Start(format!(
                "there is no thread for {what} ({error}): raise the limit of threads (ulimit -u, pids.max of \
                 the cgroup) or of memory (ulimit -v)"
            )),
            _ => Self::data(error),
        }
    }

    /// The mistakes in the SQL: at least one if this error is about SQL, else none.
    pub fn sql_errors(&self) -> &[SqlError] {
        match self {
            Self::Sql(error) => std::slice::from_ref(error),
            Self::Statement(errors) => errors,
            _ => &[],
        }
    }
}

fn several(errors: &[SqlError]) -> String {
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    messages.join("; ")
}
