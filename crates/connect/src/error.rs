//! What can go wrong between Headwater and an external system.
//!
//! One enum for the crate. A variant says what happened in the user's world and carries the values;
//! the sentence is made in one place, here. [`Error::retry`] answers whether a retry can end
//! differently: a connector decides that where the error arises, and the supervisor acts on it. Problems
//! with options have their own type, `options::Problem`, because they carry positions in the user's text and
//! are reported all at once.

use std::time::Duration;

/// The result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Retry after the backoff's wait.
    Backoff,
    /// Retry, but only after this wait, which the other side asked for.
    After(Duration),
    /// Do not retry: the failure would repeat itself.
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
    #[error("{url:?} is not a usable URL: {reason}")]
    InvalidUrl {
        /// The URL, without its secrets.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The external system could not be reached.
    #[error("cannot reach {target}: {reason}")]
    Unreachable {
        /// The system that was tried, as the user names it.
        target: String,
        /// The cause, as a clause.
        reason: String,
        /// Whether a retry can help.
        retry: Retry,
    },
    /// The external system answered with a refusal.
    #[error("{target} refused: {reason}")]
    Refused {
        /// The system that answered, as the user names it.
        target: String,
        /// Its answer, as a clause.
        reason: String,
        /// Whether a retry can help.
        retry: Retry,
    },
    /// A command that cannot be run as it is written.
    #[error("cannot run {command}: {reason}")]
    NotRunnable {
        /// The command, as the user wrote it.
        command: String,
        /// What is missing, as a clause.
        reason: String,
    },
    /// A command ended that should have run on, or with a failure.
    #[error("{command} ended with {how}{}", after_colon(stderr_tail))]
    Exited {
        /// The command, as the user wrote it.
        command: String,
        /// `exit code 1` or `signal 9`.
        how: String,
        /// The last lines it wrote to stderr.
        stderr_tail: String,
        /// Whether a retry can help.
        retry: Retry,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// The failed action and its object, e.g. `cannot open /var/log/x`.
        what: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// `start` was called with a token that was cancelled before.
    #[error("the source was stopped before it was started")]
    Cancelled,
    /// `start` was called without anything to write to.
    #[error("the source has no output to write to")]
    NoOutput,
    /// `start` was called on a source that has not ended.
    #[error("the source is already {state}")]
    AlreadyRunning {
        /// The state that the source is in.
        state: crate::State,
    },
    /// The source continued to emit after it was stopped.
    #[error("the source was stopped")]
    Stopped,
    /// Code of a connector or format panicked; the panic was contained.
    #[error("the {what} panicked: {message}")]
    Panicked {
        /// The code that panicked: `source` or `decoder`.
        what: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// A source that failed too often was given up.
    #[error("given up after {failures} failures without a healthy period ({limit}): {last}")]
    TooManyRestarts {
        /// Failures since the last healthy period.
        failures: u32,
        /// The limit that was exceeded.
        limit: crate::Limit,
        /// The last of these failures.
        last: Box<Error>,
    },
    /// A source emitted frames although it was declared to emit rows.
    #[error("the source emits frames, but has no format to decode them")]
    NoDecoder,
    /// A sink that writes bytes was made without a format.
    #[error("the sink writes bytes, but has no format to encode rows")]
    NoEncoder,
    /// A sink was written to before it was opened, or after it was closed.
    #[error("the sink is not open")]
    NotOpen,
    /// A source emitted rows of other columns than it was declared with.
    #[error("the source emitted columns ({found}), declared are ({declared})")]
    ColumnsDiffer {
        /// The names and types emitted.
        found: String,
        /// The names and types declared.
        declared: String,
    },
    /// Columns that the connector or the format cannot fill or write.
    #[error("column {column:?} cannot be used here: {reason}")]
    UnusableColumn {
        /// The name of the column.
        column: String,
        /// Why it cannot be used, as a clause.
        reason: String,
    },
    /// A source without columns.
    #[error("connector {connector} needs columns: it has none of its own")]
    ColumnsMissing {
        /// The name of the connector.
        connector: String,
    },
    /// No connector has this name.
    #[error("there is no connector {name:?}")]
    UnknownConnector {
        /// The name in the statement.
        name: String,
        /// The most similar name of a connector.
        nearest: Option<String>,
    },
    /// The connector does not have this role.
    #[error("connector {connector} is not a {role}")]
    WrongRole {
        /// The name of the connector.
        connector: String,
        /// The missing role: `source` or `sink`.
        role: &'static str,
    },
    /// A connector of this name already exists.
    #[error("there is already a connector {name:?}")]
    DuplicateConnector {
        /// The name that is taken.
        name: String,
    },
    /// A connector whose declaration breaks a rule that every connector keeps.
    #[error("connector {connector} is declared wrongly: {reason}")]
    BadConnector {
        /// The name of the connector.
        connector: String,
        /// The rule that is broken, as a sentence.
        reason: String,
    },
    /// A saved cursor that this connector cannot have written.
    #[error("the saved cursor is not from this connector: {reason}")]
    BadCursor {
        /// What does not match, as a clause.
        reason: String,
    },
    /// A saved receipt does not match the external system.
    #[error("cannot continue writing to {target}: {reason}")]
    BadReceipt {
        /// The file or system that is written to.
        target: String,
        /// What does not match, as a clause.
        reason: String,
    },
    /// An undecodable frame, in a source with `error.strategy = 'fail'`.
    #[error("a row is bad, and error.strategy is 'fail': {reason}")]
    BadRow {
        /// Why it cannot be decoded, as a sentence.
        reason: String,
    },
    /// No source of this kind can be made.
    #[error("there is no source of kind {kind:?}, there are {}", registered.join(", "))]
    UnknownSourceKind {
        /// The kind asked for.
        kind: String,
        /// The kinds that can be made, sorted.
        registered: Vec<String>,
    },
    /// A source cannot be made of these options, credentials or cursor.
    #[error("source {id:?} cannot be made: {reason}")]
    BadConfig {
        /// The id of the source.
        id: String,
        /// All problems, as sentences.
        reason: String,
    },
    /// A source could be made, and its external system cannot be reached.
    #[error("source {id:?}: {last}")]
    NotReached {
        /// The id of the source.
        id: String,
        /// The failure of the attempt.
        last: Box<Error>,
    },
    /// There is an active source of this id.
    #[error("there is already an active source {id:?}")]
    SourceExists {
        /// The id asked for.
        id: String,
    },
    /// There is no active source of this id.
    #[error("there is no active source {id:?}")]
    NoSuchSource {
        /// The id asked for.
        id: String,
    },
    /// A source that was being read has failed for good.
    #[error("source {id:?} failed: {reason}")]
    SourceFailed {
        /// The id of the source.
        id: String,
        /// What happened, as a sentence.
        reason: std::sync::Arc<str>,
    },
    /// A cursor for a source that does not continue from one.
    #[error("there is a cursor, and sources of kind {kind:?} do not continue from one")]
    NotIncremental {
        /// The kind of the source.
        kind: String,
    },
    /// A cursor could not be saved or loaded.
    #[error("cannot {what} the cursor of source {id:?}: {reason}")]
    CursorStore {
        /// The failed action: `save` or `load`.
        what: &'static str,
        /// The id of the source.
        id: String,
        /// The error of the store.
        reason: String,
    },
    /// Another sink or program writes to a target that allows only one writer.
    #[error("cannot write {target}: another sink or program is writing it")]
    InUse {
        /// The file that is written to.
        target: String,
    },
    /// A file that a sink must not write.
    #[error("cannot write {target}: {reason}")]
    RefusedTarget {
        /// The file that is written to.
        target: String,
        /// What is wrong with it, as a clause.
        reason: String,
        /// What the user can do about it, as a sentence.
        hint: &'static str,
    },
    /// The connector `generate` could not make rows.
    #[error("cannot make rows: {reason}")]
    Generate {
        /// The cause, as a clause.
        reason: String,
    },
    /// Checked options cannot be used after all; the message names them.
    #[error("{0}")]
    Options(String),
    /// Rows could not be turned into bytes.
    #[error("cannot write rows as {format}: {reason}")]
    Encode {
        /// The name of the format.
        format: &'static str,
        /// The cause, as a clause.
        reason: String,
    },
    /// A format that reads or writes another number of columns.
    #[error("format {format} takes {needs} column, not {has}")]
    ColumnCount {
        /// The name of the format.
        format: &'static str,
        /// The number of columns it takes.
        needs: usize,
        /// The number of columns declared.
        has: usize,
    },
}

impl Error {
    /// Whether a retry can help; decided where the error arises.
    pub fn retry(&self) -> Retry {
        self.name_and_retry().1
    }

    /// The kind of error in one word, for programs; it never changes.
    pub fn name(&self) -> &'static str {
        self.name_and_retry().0
    }

    fn name_and_retry(&self) -> (&'static str, Retry) {
        use Retry::{Backoff, Fatal};
        match self {
            Self::LaneClosed(_) => ("lane_closed", Fatal),
            Self::InvalidUrl { .. } => ("invalid_url", Fatal),
            Self::Unreachable { retry, .. } => ("unreachable", *retry),
            Self::Refused { retry, .. } => ("refused", *retry),
            Self::NotRunnable { .. } => ("not_runnable", Fatal),
            Self::Exited { retry, .. } => ("exited", *retry),
            Self::Io { .. } => ("io", Backoff),
            Self::Cancelled => ("cancelled", Fatal),
            Self::NoOutput => ("no_output", Fatal),
            Self::AlreadyRunning { .. } => ("already_running", Fatal),
            Self::Stopped => ("stopped", Fatal),
            Self::Panicked { .. } => ("panicked", Backoff),
            Self::TooManyRestarts { .. } => ("too_many_restarts", Fatal),
            Self::NoDecoder => ("no_decoder", Fatal),
            Self::NoEncoder => ("no_encoder", Fatal),
            Self::NotOpen => ("not_open", Fatal),
            Self::ColumnsDiffer { .. } => ("columns_differ", Fatal),
            Self::UnusableColumn { .. } => ("unusable_column", Fatal),
            Self::ColumnsMissing { .. } => ("columns_missing", Fatal),
            Self::UnknownConnector { .. } => ("unknown_connector", Fatal),
            Self::WrongRole { .. } => ("wrong_role", Fatal),
            Self::DuplicateConnector { .. } => ("duplicate_connector", Fatal),
            Self::BadConnector { .. } => ("bad_connector", Fatal),
            Self::BadCursor { .. } => ("bad_cursor", Fatal),
            Self::BadReceipt { .. } => ("bad_receipt", Fatal),
            Self::InUse { .. } => ("in_use", Fatal),
            Self::RefusedTarget { .. } => ("refused_target", Fatal),
            Self::BadRow { .. } => ("bad_row", Fatal),
            Self::Generate { .. } => ("generate", Fatal),
            Self::Options(_) => ("options", Fatal),
            Self::Encode { .. } => ("encode", Fatal),
            Self::ColumnCount { .. } => ("column_count", Fatal),
            Self::UnknownSourceKind { .. } => ("unknown_source_kind", Fatal),
            Self::BadConfig { .. } => ("bad_config", Fatal),
            Self::NotReached { last, .. } => ("not_reached", last.retry()),
            Self::SourceExists { .. } => ("source_exists", Fatal),
            Self::NoSuchSource { .. } => ("no_such_source", Fatal),
            Self::SourceFailed { .. } => ("source_failed", Fatal),
            Self::NotIncremental { .. } => ("not_incremental", Fatal),
            Self::CursorStore { .. } => ("cursor_store", Backoff),
        }
    }

    /// Whether the values of the rows caused it, so that other rows could be written.
    pub fn is_of_rows(&self) -> bool {
        matches!(self, Self::Encode { .. })
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownConnector { nearest, .. } => nearest
                .as_ref()
                .map(|name| format!("did you mean {name:?}?")),
            Self::BadReceipt { .. } => Some(
                "restore the file as it was; or drop the sink and create it again with another \
                 path: it then begins with the rows of that moment"
                    .to_owned(),
            ),
            Self::RefusedTarget { hint, .. } => Some((*hint).to_owned()),
            Self::InUse { .. } => Some("give each sink a file of its own".to_owned()),
            _ => None,
        }
    }
}

/// Several lines as the end of a sentence of one line.
fn after_colon(lines: &str) -> String {
    let lines: Vec<_> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(": {}", lines.join(" | "))
    }
}
