//! The syntax tree of the statements: our own types, with `sqlparser`'s tree for queries.
//!
//! ```text
//!   script -> Vec<Spanned<Statement>>
//!               CreateSource { columns, watermark, options }     ours
//!               CreateQuery { query: SqlQuery { ast, text } }    the query is sqlparser's
//! ```
//!
//! Every name, option and query has its position in the script, in bytes. Nothing here has been
//! looked up: whether a name exists, an option is known or a query can run is checked when the
//! statement is executed.

use std::ops::Range;
use std::time::Duration;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::script::QueryText;

/// A node of the syntax tree with its position in the script.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The node, e.g. a [`Statement`].
    pub node: T,
    /// Its bytes in the script, without the semicolon.
    pub span: Range<usize>,
}

/// A name as written: the case is kept, quotes are taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name without quotes.
    pub value: String,
    /// Whether it is in double quotes, so that only the exact spelling matches.
    pub quoted: bool,
    /// Its position in the script, in bytes.
    pub span: Range<usize>,
}

impl Name {
    /// A name of exactly this spelling that is in no script.
    pub fn exact(name: &str) -> Self {
        Self {
            value: name.to_owned(),
            quoted: true,
            span: 0..0,
        }
    }
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
    /// The position of the text in the script, in bytes.
    pub span: Range<usize>,
    /// Line and column, both from 1, of the first character in the script.
    pub origin: Location,
}

impl SqlQuery {
    /// The bytes of the script that a span of the tree (or of a plan made from it) covers; none
    /// for the empty span.
    pub fn position(&self, span: Span) -> Option<Range<usize>> {
        QueryText::new(&self.text, self.span.start, self.origin).position(span)
    }

    /// The tree to be rewritten, and the text that turns its spans into bytes meanwhile.
    pub(super) fn tree_and_text(&mut self) -> (&mut Query, QueryText<'_>) {
        let text = QueryText::new(&self.text, self.span.start, self.origin);
        (&mut self.ast, text)
    }
}

/// A statement of a script, before any name in it is looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE SOURCE`, or `@source(...) CREATE STREAM`.
    CreateSource(CreateSource),
    /// `CREATE STREAM name AS query`, or `CREATE VIEW`.
    CreateQuery(CreateQuery),
    /// `CREATE STREAM name` without a query: a source group.
    CreateSourceGroup(CreateSourceGroup),
    /// `START STREAM name`, `PAUSE`, `RESUME` or `STOP`.
    Lifecycle {
        /// The change of the stream's status.
        action: StreamAction,
        /// The name of the stream or view.
        stream: Name,
    },
    /// `START SINK name`: starts a failed sink again.
    StartSink(Name),
    /// `ATTACH SOURCE` and `DETACH SOURCE`.
    Attach(Attach),
    /// `REPLAY SOURCE name ... INTO STREAM name`.
    Replay(ReplaySource),
    /// `ALTER SOURCE name SET (...)`.
    AlterSource(AlterSource),
    /// `ALTER STREAM name SET (...)`, or `ALTER VIEW`.
    AlterStream(AlterStream),
    /// `REPROCESS name__bad`: decodes the undecodable rows of a source again.
    Reprocess(Name),
    /// `CREATE SINK`, or `@sink(...) CREATE STREAM`.
    CreateSink(CreateSink),
    /// `INSERT INTO name query`: connects a query to a sink that was declared with its columns.
    InsertInto {
        /// The name of the sink.
        target: Name,
        /// Its columns in the order of the query's columns; empty when they are not listed.
        columns: Vec<Name>,
        /// The query whose rows the sink takes.
        query: SqlQuery,
    },
    /// A query that ends: `SELECT`, `WITH` or `VALUES`.
    Query(SqlQuery),
    /// `SUBSCRIBE TO name`: the rows of a stream, view or source as they arrive.
    Subscribe(Name),
    /// `SHOW SOURCES`, `STREAMS`, `VIEWS`, `SINKS` or `CONNECTORS`.
    Show(Shown),
    /// `DESCRIBE name`: the columns of a source, stream, view or sink.
    Describe(Name),
    /// `EXPLAIN` of a plan, or `EXPLAIN GUARANTEES`.
    Explain(Explain),
    /// `DROP SOURCE`, `STREAM`, `VIEW` or `SINK`.
    Drop(Drop),
}

/// `CREATE SOURCE [IF NOT EXISTS] name [(columns, WATERMARK ...)] [WITH (...)]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSource {
    /// The name of the new source.
    pub name: Name,
    /// Whether the statement does nothing when a source of this name exists.
    pub if_not_exists: bool,
    /// The columns in order; empty when the connector defines them.
    pub columns: Vec<ColumnDefinition>,
    /// The event time column and the delay of its watermark.
    pub watermark: Option<WatermarkClause>,
    /// The options; of an annotation, those of `@source` with `connector` and `format` among them.
    pub options: Vec<OptionEntry>,
}

/// `ALTER SOURCE name SET (option = value, ...)`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterSource {
    /// The name of the source.
    pub source: Name,
    /// The options with their new values; at least one, none twice.
    pub options: Vec<OptionEntry>,
}

/// `ALTER STREAM name SET (option = value, ...)`, or `ALTER VIEW`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterStream {
    /// Whether the statement names a stream or a view.
    pub kind: Kind,
    /// The name of the stream or view.
    pub stream: Name,
    /// The options with their new values; at least one, none twice.
    pub options: Vec<OptionEntry>,
}

/// A column of a source or a declared sink.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    /// The name, unique among the columns in its exact case.
    pub name: Name,
    /// The Arrow type of the SQL type.
    pub data_type: DataType,
    /// Whether it can hold NULL; false after `NOT NULL`.
    pub nullable: bool,
    /// The expression after `AS`, of a column that does not arrive but is computed: a query of one column
    /// over the table [`PAYLOAD`].
    pub computed: Option<SqlQuery>,
}

/// The table of the columns that arrive, in the query of a computed column.
pub const PAYLOAD: &str = "payload";

/// `WATERMARK FOR column AS column [- INTERVAL '...']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkClause {
    /// The event time column: one of the declared columns, in its declared spelling.
    pub column: Name,
    /// The field whose values it has: a column and the fields below it. Empty if it is a column that was
    /// declared by itself.
    pub field: Vec<String>,
    /// Maximum delay of out-of-order rows, in whole microseconds; zero when rows arrive in order.
    pub delay: Duration,
}

/// `CREATE STREAM [IF NOT EXISTS] name [WITH (...)] AS query [EMIT ON ...]`, or
/// `CREATE [MATERIALIZED] VIEW`, which has no `EMIT`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateQuery {
    /// Whether it is a stream or a view.
    pub kind: Kind,
    /// The name of the new stream or view.
    pub name: Name,
    /// Whether the statement does nothing when something of this name exists.
    pub if_not_exists: bool,
    /// The options, e.g. `start`.
    pub options: Vec<OptionEntry>,
    /// The continuous query that it runs.
    pub query: SqlQuery,
    /// The `EMIT ON` clause, if there is one.
    pub emit: Option<Emit>,
}

/// `CREATE STREAM [IF NOT EXISTS] name [(columns)] [WITH (...)]`: a stream of the rows of the
/// sources that are attached to it.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSourceGroup {
    /// The name of the new stream.
    pub name: Name,
    /// Whether the statement does nothing when a stream of this name exists.
    pub if_not_exists: bool,
    /// The columns in order; empty when the first attached source defines them.
    pub columns: Vec<ColumnDefinition>,
    /// The event time column, without a delay, which each source sets for itself.
    pub watermark: Option<WatermarkClause>,
    /// The options; `description` is the only one.
    pub options: Vec<OptionEntry>,
}

/// A change of a stream's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamAction {
    /// Starts or resumes it, and starts its failed sources again.
    Start,
    /// Pauses it; its state is kept.
    Pause,
    /// Continues it after a pause.
    Resume,
    /// Stops it and drops its state.
    Stop,
}

/// `ATTACH SOURCE source TO STREAM stream`, or `DETACH SOURCE source FROM STREAM stream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The name of the source.
    pub source: Name,
    /// The name of the source group.
    pub stream: Name,
    /// True for `ATTACH`, false for `DETACH`.
    pub attach: bool,
}

/// When a windowed stream emits a result.
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
    /// The name of the new sink.
    pub name: Name,
    /// Whether the statement does nothing when a sink of this name exists.
    pub if_not_exists: bool,
    /// Where its rows come from.
    pub input: SinkInput,
    /// The options; of an annotation, those of `@sink` with `connector` and `format` among them.
    pub options: Vec<OptionEntry>,
}

/// Where a sink's rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkInput {
    /// From a stream, view or source.
    Named(Name),
    /// From a query in parentheses.
    Query(SqlQuery),
    /// From `INSERT INTO`, which casts to these columns.
    Declared(Vec<ColumnDefinition>),
}

/// What a `SHOW` statement lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The sources of the database.
    Sources,
    /// The streams of the database.
    Streams,
    /// The views of the database.
    Views,
    /// The sinks of the database.
    Sinks,
    /// The connectors that are registered.
    Connectors,
}

/// `EXPLAIN [GUARANTEES]` of a query, a name or a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// Whether delivery guarantees are asked for rather than the plan.
    pub guarantees: bool,
    /// The query, name or statement after `EXPLAIN`.
    pub target: ExplainTarget,
}

/// What an `EXPLAIN` statement explains.
#[derive(Debug, Clone, PartialEq)]
pub enum ExplainTarget {
    /// An existing source, stream, view or sink.
    Name(Name),
    /// A query, as if it were a stream.
    Query(SqlQuery),
    /// A `CREATE` or `INSERT INTO` statement.
    Statement(Box<Statement>),
}

/// `DROP kind [IF EXISTS] name [CASCADE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// The kind of the relation or sink.
    pub kind: Kind,
    /// The name of what is dropped.
    pub name: Name,
    /// Whether the statement does nothing when it does not exist.
    pub if_exists: bool,
    /// Whether everything that depends on it is dropped too.
    pub cascade: bool,
}

/// The kinds of objects that statements create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes rows from a connector or a program.
    Source,
    /// Emits the result of a continuous query.
    Stream,
    /// Keeps the result of a continuous query.
    View,
    /// Writes rows to an external system.
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

/// One `key = value` of a `WITH` list or an annotation. Debug output leaves out the value, which may be a
/// secret.
#[derive(Clone, PartialEq)]
pub struct OptionEntry {
    /// The key as written, without quotes: `websocket.headers.X-Key`.
    pub key: String,
    /// The position of the key, in bytes of the script.
    pub key_span: Range<usize>,
    /// The value, not yet checked against the option's type.
    pub value: OptionValue,
    /// The position of the value, in bytes of the script.
    pub value_span: Range<usize>,
}

impl std::fmt::Debug for OptionEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut entry = f.debug_struct("OptionEntry");
        let entry = entry
            .field("key", &self.key)
            .field("key_span", &self.key_span);
        entry
            .field("value_span", &self.value_span)
            .finish_non_exhaustive()
    }
}

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// In quotes, or a bare word.
    String(String),
    /// Digits as written, with sign, point and exponent: `-1`, `1.5`, `1e6`.
    Number(String),
    /// `TRUE` or `FALSE` without quotes.
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

/// `REPLAY SOURCE`: runs logged rows of a source through the query of a stream again.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaySource {
    /// The name of the source.
    pub source: Name,
    /// The first event time to replay; `None` for the beginning of the log.
    pub from: Option<TimeLiteral>,
    /// The first event time that is not replayed; `None` for the end of the log.
    pub to: Option<TimeLiteral>,
    /// The speed as a multiple of event time; `None` for as fast as possible.
    pub speed: Option<f64>,
    /// The name of the stream whose query is run.
    pub stream: Name,
}

/// A time in quotes, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeLiteral {
    /// The text between the quotes.
    pub text: String,
    /// Its position in the script, in bytes.
    pub span: Range<usize>,
}
