//! What can go wrong between Headwater and the outside.
//!
//! One enum for the crate. A variant says what happened in the user's world and carries the values;
//! the sentence is made in one place, here. [`Error::retry`] answers whether the same thing, tried
//! again, can end differently: a connector decides that where the error arises, and the lifecycle
//! wrapper acts on it. Problems with options have their own type, `options::Problem`, because they
//! carry places in the user's text and are reported all at once.

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
    /// The outside system answered, and what it said ends this attempt.
    #[error("{target} refused: {reason}")]
    Refused {
        /// Who answered.
        target: String,
        /// What it said.
        reason: String,
        /// Whether to try again.
        retry: Retry,
    },
    /// A command that cannot be run as it is written.
    #[error("cannot run {command}: {reason}")]
    NotRunnable {
        /// The command.
        command: String,
        /// What is missing.
        reason: String,
    },
    /// A command ended, and that was not all that was wanted of it.
    #[error("{command} ended with {how}{}", after_colon(stderr_tail))]
    Exited {
        /// The command.
        command: String,
        /// `exit code 1` or `signal 9`.
        how: String,
        /// Its last lines on stderr.
        stderr_tail: String,
        /// Whether to run it again.
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
    /// `start` was called with a token that was cancelled before.
    #[error("the source was told to stop before it was started")]
    Cancelled,
    /// `start` was called without anything to write to.
    #[error("the source has no output to write to")]
    NoOutput,
    /// `start` was called on a source that has not ended.
    #[error("the source is already {state}")]
    AlreadyRunning {
        /// The state it is in.
        state: crate::State,
    },
    /// The source went on emitting after it was told to stop.
    #[error("the source was told to stop")]
    Stopped,
    /// Code of a connector or format panicked; the panic was contained.
    #[error("the {what} panicked: {message}")]
    Panicked {
        /// `source` or `decoder`.
        what: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A source that fails again and again was given up.
    #[error("given up after {failures} failures without a healthy period ({limit}): {last}")]
    TooManyRestarts {
        /// Failures since the last healthy period.
        failures: u32,
        /// What was allowed.
        limit: crate::Limit,
        /// The last failure.
        last: Box<Error>,
    },
    /// A source emitted frames although it was declared to emit rows.
    #[error("the source emits frames, but has no format to decode them with")]
    NoDecoder,
    /// A sink that writes bytes was made without a format.
    #[error("the sink writes bytes, but has no format to make them with")]
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
        /// Its name.
        column: String,
        /// Why.
        reason: String,
    },
    /// A source without columns.
    #[error("connector {connector} needs columns: it does not know any of its own")]
    ColumnsMissing {
        /// The connector.
        connector: String,
    },
    /// No connector has this name.
    #[error("there is no connector {name:?}")]
    UnknownConnector {
        /// As asked for.
        name: String,
        /// The most similar name there is.
        nearest: Option<String>,
    },
    /// The connector cannot do this.
    #[error("connector {connector} is no {role}")]
    WrongRole {
        /// The connector.
        connector: String,
        /// `source` or `sink`.
        role: &'static str,
    },
    /// A connector of this name exists already.
    #[error("there is already a connector {name:?}")]
    DuplicateConnector {
        /// The name.
        name: String,
    },
    /// A connector whose declaration breaks a rule that every connector keeps.
    #[error("connector {connector} is declared wrongly: {reason}")]
    BadConnector {
        /// The connector.
        connector: String,
        /// The rule.
        reason: String,
    },
    /// A saved cursor that this connector cannot have written.
    #[error("the saved cursor is not one of this connector: {reason}")]
    BadCursor {
        /// What does not fit.
        reason: String,
    },
    /// The outside is not what a saved receipt speaks of.
    #[error("cannot go on writing to {target}: {reason}")]
    BadReceipt {
        /// What is written to.
        target: String,
        /// What does not fit.
        reason: String,
    },
    /// A frame that is no row, in a source that shall fail on one.
    #[error("a row is bad, and error.strategy is 'fail': {reason}")]
    BadRow {
        /// Why it is no row.
        reason: String,
    },
    /// No source of this kind can be made.
    #[error("there is no source of kind {kind:?}, there are {}", registered.join(", "))]
    UnknownSourceKind {
        /// As asked for.
        kind: String,
        /// Those that there are.
        registered: Vec<String>,
    },
    /// A source cannot be made of the options, credentials or cursor it was given.
    #[error("source {id:?} cannot be made: {reason}")]
    BadConfig {
        /// Its id.
        id: String,
        /// All that is wrong.
        reason: String,
    },
    /// A source could be made, and what it reads cannot be reached.
    #[error("source {id:?}: {last}")]
    NotReached {
        /// Its id.
        id: String,
        /// What came of trying.
        last: Box<Error>,
    },
    /// There is an active source of this id.
    #[error("there is already an active source {id:?}")]
    SourceExists {
        /// The id.
        id: String,
    },
    /// There is no active source of this id.
    #[error("there is no active source {id:?}")]
    NoSuchSource {
        /// The id.
        id: String,
    },
    /// A source that was being read has failed for good.
    #[error("source {id:?} failed: {reason}")]
    SourceFailed {
        /// Its id.
        id: String,
        /// What happened.
        reason: std::sync::Arc<str>,
    },
    /// A cursor for a source that does not continue from one.
    #[error("there is a cursor, and sources of kind {kind:?} do not continue from one")]
    NotIncremental {
        /// The kind.
        kind: String,
    },
    /// A cursor could not be kept, or not be found again.
    #[error("cannot {what} the cursor of source {id:?}: {reason}")]
    CursorStore {
        /// `save` or `load`.
        what: &'static str,
        /// The source.
        id: String,
        /// What the store says.
        reason: String,
    },
    /// Somebody else writes to the same place, where only one can.
    #[error("cannot write {target}: another sink or program is writing it")]
    InUse {
        /// What is written to.
        target: String,
    },
    /// Rows could not be made.
    #[error("cannot make rows: {reason}")]
    Generate {
        /// Why.
        reason: String,
    },
    /// Options that were checked before no longer fit; the message says which.
    #[error("{0}")]
    Options(String),
    /// Rows could not be turned into bytes.
    #[error("cannot write rows as {format}: {reason}")]
    Encode {
        /// The format.
        format: &'static str,
        /// Why.
        reason: String,
    },
    /// A format that reads or writes another number of columns.
    #[error("format {format} takes {needs} column, not {has}")]
    ColumnCount {
        /// The format.
        format: &'static str,
        /// How many it takes.
        needs: usize,
        /// How many there are.
        has: usize,
    },
}

impl Error {
    /// Whether trying again can help; decided where the error arises.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { retry, .. }
            | Self::Refused { retry, .. }
            | Self::Exited { retry, .. } => *retry,
            Self::NotReached { last, .. } => last.retry(),
            Self::Io { .. } | Self::Panicked { .. } | Self::CursorStore { .. } => Retry::Backoff,
            Self::LaneClosed(_)
            | Self::InvalidUrl { .. }
            | Self::NotRunnable { .. }
            | Self::Cancelled
            | Self::NoOutput
            | Self::AlreadyRunning { .. }
            | Self::Stopped
            | Self::TooManyRestarts { .. }
            | Self::NoDecoder
            | Self::NoEncoder
            | Self::NotOpen
            | Self::ColumnsDiffer { .. }
            | Self::UnusableColumn { .. }
            | Self::ColumnsMissing { .. }
            | Self::UnknownConnector { .. }
            | Self::WrongRole { .. }
            | Self::DuplicateConnector { .. }
            | Self::BadConnector { .. }
            | Self::BadCursor { .. }
            | Self::BadReceipt { .. }
            | Self::InUse { .. }
            | Self::BadRow { .. }
            | Self::UnknownSourceKind { .. }
            | Self::BadConfig { .. }
            | Self::SourceExists { .. }
            | Self::NoSuchSource { .. }
            | Self::SourceFailed { .. }
            | Self::NotIncremental { .. }
            | Self::Generate { .. }
            | Self::Options(_)
            | Self::Encode { .. }
            | Self::ColumnCount { .. } => Retry::Fatal,
        }
    }

    /// Whether it is about what the rows hold: other rows could be written.
    pub fn is_of_rows(&self) -> bool {
        matches!(self, Self::Encode { .. })
    }

    /// The kind of error in one word, for a program; it never changes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LaneClosed(_) => "lane_closed",
            Self::InvalidUrl { .. } => "invalid_url",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::NotRunnable { .. } => "not_runnable",
            Self::Exited { .. } => "exited",
            Self::Io { .. } => "io",
            Self::Cancelled => "cancelled",
            Self::NoOutput => "no_output",
            Self::AlreadyRunning { .. } => "already_running",
            Self::Stopped => "stopped",
            Self::Panicked { .. } => "panicked",
            Self::TooManyRestarts { .. } => "too_many_restarts",
            Self::NoDecoder => "no_decoder",
            Self::NoEncoder => "no_encoder",
            Self::NotOpen => "not_open",
            Self::ColumnsDiffer { .. } => "columns_differ",
            Self::UnusableColumn { .. } => "unusable_column",
            Self::ColumnsMissing { .. } => "columns_missing",
            Self::UnknownConnector { .. } => "unknown_connector",
            Self::WrongRole { .. } => "wrong_role",
            Self::DuplicateConnector { .. } => "duplicate_connector",
            Self::BadConnector { .. } => "bad_connector",
            Self::BadCursor { .. } => "bad_cursor",
            Self::BadReceipt { .. } => "bad_receipt",
            Self::InUse { .. } => "in_use",
            Self::BadRow { .. } => "bad_row",
            Self::Generate { .. } => "generate",
            Self::Options(_) => "options",
            Self::Encode { .. } => "encode",
            Self::ColumnCount { .. } => "column_count",
            Self::UnknownSourceKind { .. } => "unknown_source_kind",
            Self::BadConfig { .. } => "bad_config",
            Self::NotReached { .. } => "not_reached",
            Self::SourceExists { .. } => "source_exists",
            Self::NoSuchSource { .. } => "no_such_source",
            Self::SourceFailed { .. } => "source_failed",
            Self::NotIncremental { .. } => "not_incremental",
            Self::CursorStore { .. } => "cursor_store",
        }
    }

    /// What a person can do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownConnector { nearest, .. } => nearest
                .as_ref()
                .map(|name| format!("did you mean {name:?}?")),
            Self::BadReceipt { .. } => Some(
                "put back the file as it was; or drop the sink and create it again, with another \
                 path: it then begins with the rows of that moment"
                    .to_owned(),
            ),
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
