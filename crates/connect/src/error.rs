//! What can go wrong between Headwater and the outside.

use std::time::Duration;

/// The result of everything that talks to the outside.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Try again with backoff.
    Backoff,
    /// Try again, but not before this long: the other side asked for it.
    After(Duration),
    /// Never: the same thing would happen again.
    Fatal,
}

/// A failure of a source or a sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The receiver of the rows has gone.
    #[error(transparent)]
    LaneClosed(#[from] crate::LaneClosed),
    /// A URL that cannot be used.
    #[error("{url:?} is no usable URL: {reason}")]
    InvalidUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The outside system could not be reached.
    #[error("cannot reach {target}: {reason}")]
    Unreachable {
        /// What was tried.
        target: String,
        /// What came back.
        reason: String,
        /// Whether to try again.
        retry: Retry,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done to what, e.g. `cannot open /var/log/x`.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether trying again can help; decided where the error arises.
    pub fn retry(&self) -> Retry {
        match self {
            Self::LaneClosed(_) | Self::InvalidUrl { .. } => Retry::Fatal,
            Self::Unreachable { retry, .. } => *retry,
            Self::Io { .. } => Retry::Backoff,
        }
    }
}
