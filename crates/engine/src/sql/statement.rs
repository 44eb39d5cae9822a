//! The statements, as read: our own tree for what is ours, `sqlparser`'s for queries.
//!
//! ```text
//!   script -> Vec<Spanned<Statement>>
//!               CreateSource { columns, watermark, options }     ours
//!               CreateStream { query: SqlQuery { ast, text } }   the query is sqlparser's
//! ```
//!
//! Every name, option and query knows its place in the script, in bytes. Nothing here has been
//! looked up: whether a name exists, an option is known or a query can run is for those who plan.

use std::ops::Range;
use std::time::Duration;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::script::locate;

/// Something together with its place in the script, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The thing.
    pub node: T,
    /// From its first byte to behind its last, without the semicolon.
    pub span: Range<usize>,
}

/// A name as written: the case is kept, quotes are taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name without quotes.
    pub value: String,
    /// Whether it stood in quotes, so that only the exact spelling is meant.
    pub quoted: bool,
    /// Its place in the script, in bytes.
    pub span: Range<usize>,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.value)
    }
}

/// A query: `sqlparser`'s tree and the text it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlQuery {
    /// The tree. Its spans are lines and columns of the whole script: see [`SqlQuery::position`].
    pub ast: Box<Query>,
    /// The text as written.
    pub text: String,
    /// Where the text stands in the script, in bytes.
    pub span: Range<usize>,
    /// Line and column, both from 1, of the first character in the script.
    pub origin: Location,
}

impl SqlQuery {
    /// The bytes of the script that a span of the tree (or of a plan made from it) covers; none
    /// for the empty span.
    pub fn position(&self, span: Span) -> Option<Range<usize>> {
        locate(&self.text, self.span.start, self.origin, span)
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE SOURCE`, or `@source(...) CREATE STREAM`.
    CreateSource(CreateSource),
    /// `CREATE STREAM name AS query`.
    CreateStream(CreateStream),
    /// `CREATE STREAM name` without a query: a named set of sources.
    CreateSourceGroup(CreateSourceGroup),
    /// `START STREAM name` and its like.
    Lifecycle {
        /// What happens to it.
        action: StreamAction,
        /// The stream, or a view.
        stream: Name,
    },
    /// `START SINK name`: tries one that has failed again.
    StartSink(Name),
    /// `ATTACH SOURCE` and `DETACH SOURCE`.
    Attach(Attach),
    /// REPLAY SOURCE ... INTO STREAM ...
    Replay(Replay),
    /// `ALTER SOURCE name SET (...)`.
    AlterSource(AlterSource),
    /// `REPROCESS name__bad`: the name of the bad rows.
    Reprocess(Name),
    /// `CREATE VIEW name AS query`.
    CreateView(CreateView),
    /// `CREATE SINK`, or `@sink(...) CREATE STREAM`.
    CreateSink(CreateSink),
    /// `INSERT INTO name query`: feeds a sink that was declared with its columns.
    InsertInto {
        /// The sink.
        target: Name,
        /// Its columns in the order of the query's, when they are listed.
        columns: Vec<Name>,
        /// What feeds it.
        query: SqlQuery,
    },
    /// A query that ends: `SELECT`, `WITH` or `VALUES`.
    Query(SqlQuery),
    /// `SUBSCRIBE TO name`.
    Subscribe(Name),
    /// `SHOW SOURCES` and its like.
    Show(Shown),
    /// `DESCRIBE name`.
    Describe(Name),
    /// `EXPLAIN`, of a plan or of guarantees.
    Explain(Explain),
    /// `DROP SOURCE|STREAM|VIEW|SINK`.
    Drop(Drop),
}

/// `CREATE SOURCE [IF NOT EXISTS] name [(columns, WATERMARK ...)] [WITH (...)]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSource {
    /// The source's name.
    pub name: Name,
    /// Whether an existing source of this name is left as it is.
    pub if_not_exists: bool,
    /// The columns in order; empty when the connector is to say them.
    pub columns: Vec<Column>,
    /// Which column is event time.
    pub watermark: Option<Watermark>,
    /// The options; of an annotation, those of `@source` with `connector` and `format` among them.
    pub options: Vec<OptionEntry>,
}

/// `ALTER SOURCE name SET (option = value, ...)`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterSource {
    /// The source.
    pub source: Name,
    /// The options that it is to have now; at least one, none twice.
    pub options: Vec<OptionEntry>,
}

/// A column of a source or a declared sink.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The name, unique among the columns in its exact case.
    pub name: Name,
    /// The Arrow type.
    pub data_type: DataType,
    /// Whether NULL may stand in it; false after `NOT NULL`.
    pub nullable: bool,
}

/// `WATERMARK FOR column AS column [- INTERVAL '...']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// The event time; always one of the declared columns, in its declared spelling.
    pub column: Name,
    /// How far rows may come out of order; whole microseconds, zero when rows come in order.
    pub delay: Duration,
}

/// `CREATE STREAM [IF NOT EXISTS] name [WITH (...)] AS query [EMIT ON ...]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateStream {
    /// The stream's name.
    pub name: Name,
    /// Whether an existing stream of this name is left as it is.
    pub if_not_exists: bool,
    /// The options, e.g. `start`.
    pub options: Vec<OptionEntry>,
    /// What it computes.
    pub query: SqlQuery,
    /// When it emits, if that was said.
    pub emit: Option<Emit>,
}

/// `CREATE STREAM [IF NOT EXISTS] name [(columns)] [WITH (...)]`: the rows of the sources that are
/// attached to it.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSourceGroup {
    /// The stream's name.
    pub name: Name,
    /// Whether an existing stream of this name is left as it is.
    pub if_not_exists: bool,
    /// The columns in order; empty when the first source attached is to say them.
    pub columns: Vec<Column>,
    /// Which column is event time; without a delay, which is for the sources to say.
    pub watermark: Option<Watermark>,
    /// The options: `description`.
    pub options: Vec<OptionEntry>,
}

/// What can happen to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamAction {
    /// `START STREAM`.
    Start,
    /// `PAUSE STREAM`.
    Pause,
    /// `RESUME STREAM`.
    Resume,
    /// `STOP STREAM`.
    Stop,
}

/// `ATTACH SOURCE source TO STREAM stream`, or `DETACH SOURCE source FROM STREAM stream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The source.
    pub source: Name,
    /// The stream.
    pub stream: Name,
    /// Whether it is attached rather than detached.
    pub attach: bool,
}

/// `CREATE [MATERIALIZED] VIEW [IF NOT EXISTS] name [WITH (...)] AS query`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// The view's name.
    pub name: Name,
    /// Whether an existing view of this name is left as it is.
    pub if_not_exists: bool,
    /// The options, e.g. `start`.
    pub options: Vec<OptionEntry>,
    /// What it keeps.
    pub query: SqlQuery,
}

/// When a windowed stream emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// `EMIT ON UPDATE`: a changed result after each step.
    OnUpdate,
    /// `EMIT ON WINDOW CLOSE`: once, when the window closes.
    OnWindowClose,
}

/// `CREATE SINK [IF NOT EXISTS] name FROM input WITH (...)`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSink {
    /// The sink's name.
    pub name: Name,
    /// Whether an existing sink of this name is left as it is.
    pub if_not_exists: bool,
    /// What goes into it.
    pub input: SinkInput,
    /// The options; of an annotation, those of `@sink` with `connector` and `format` among them.
    pub options: Vec<OptionEntry>,
}

/// Where a sink's rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkInput {
    /// A stream, view or source.
    Named(Name),
    /// A query of its own.
    Query(SqlQuery),
    /// These columns, fed by `INSERT INTO`.
    Declared(Vec<Column>),
}

/// What `SHOW` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// `SHOW SOURCES`.
    Sources,
    /// `SHOW STREAMS`.
    Streams,
    /// `SHOW VIEWS`.
    Views,
    /// `SHOW SINKS`.
    Sinks,
    /// `SHOW CONNECTORS`.
    Connectors,
}

/// `EXPLAIN [GUARANTEES] target`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// Whether delivery guarantees are asked for rather than the plan.
    pub guarantees: bool,
    /// Of what.
    pub target: ExplainTarget,
}

/// What is explained.
#[derive(Debug, Clone, PartialEq)]
pub enum ExplainTarget {
    /// Something that exists.
    Name(Name),
    /// A query.
    Query(SqlQuery),
    /// A statement that would create something.
    Statement(Box<Statement>),
}

/// `DROP kind [IF EXISTS] name [CASCADE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// What kind of thing.
    pub kind: Kind,
    /// Which.
    pub name: Name,
    /// Whether it is no error that it is not there.
    pub if_exists: bool,
    /// Whether what depends on it goes too.
    pub cascade: bool,
}

/// The kinds of things that statements create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Brings rows in.
    Source,
    /// A continuous query.
    Stream,
    /// A kept result.
    View,
    /// Takes rows out.
    Sink,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Stream => "stream",
            Self::View => "view",
            Self::Sink => "sink",
        })
    }
}

/// One `key = value` of a `WITH` list or an annotation.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionEntry {
    /// The key as written, without quotes: `websocket.headers.X-Key`.
    pub key: String,
    /// Where the key stands, in bytes of the script.
    pub key_span: Range<usize>,
    /// The value.
    pub value: OptionValue,
    /// Where the value stands, in bytes of the script.
    pub value_span: Range<usize>,
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// In quotes, or a bare word.
    String(String),
    /// Digits as written, with sign, point and exponent: `-1`, `1.5`, `1e6`.
    Number(String),
    /// `TRUE` or `FALSE`.
    Bool(bool),
}

impl OptionValue {
    /// The value as JSON; a number that JSON cannot hold becomes a string.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::String(text) => text.clone().into(),
            Self::Bool(flag) => (*flag).into(),
            Self::Number(digits) => match serde_json::from_str(digits) {
                Ok(number @ serde_json::Value::Number(_)) => number,
                _ => digits.clone().into(),
            },
        }
    }
}

impl std::fmt::Display for OptionValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::String(text) | Self::Number(text) => f.write_str(text),
            Self::Bool(flag) => write!(f, "{flag}"),
        }
    }
}

/// REPLAY SOURCE: the past of a source through the query of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The source.
    pub source: Name,
    /// The first event time.
    pub from: Option<Instant>,
    /// The first event time after it.
    pub to: Option<Instant>,
    /// How many times faster than it happened; as fast as it goes without it.
    pub speed: Option<f64>,
    /// The stream whose query is run.
    pub stream: Name,
}

/// A time, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instant {
    /// The text between the quotes.
    pub text: String,
    /// Where it stands.
    pub span: std::ops::Range<usize>,
}
