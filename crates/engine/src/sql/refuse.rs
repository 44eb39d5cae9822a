//! Valid SQL that is not supported: each is refused by name, with a hint what to do instead.
//!
//! These are statements, and clauses of a query. The clauses matter more: DataFusion's planner
//! ignores some of them (`TABLESAMPLE`, `GROUP BY ... WITH ROLLUP`, `FOR UPDATE`, `CONNECT BY`), and
//! an ignored clause is a wrong answer. What the planner refuses is not listed here.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArguments, GroupByExpr, OrderBy, OrderByKind, Query,
    Select, SelectFlavor, SetExpr, Spanned as _, TableFactor, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

use super::error::{Result, SqlError, VisitFlow, visited};
use super::statement::SqlQuery;
use super::token_cursor::TokenCursor;

const ROWS: &str = "Rows are pushed into a source and cannot be changed afterwards.";
const TRANSACTIONS: &str = "Each statement runs by itself; a step is atomic.";
const SETTINGS: &str = "Set options in the WITH list of the source, stream or sink.";
const SESSION: &str = "Headwater has nothing that it would act on.";
const PERSISTENT: &str = "Everything created stays until it is dropped.";
const INDEXED: &str = "State is kept by key; there is nothing to index.";
const TABLES: &str = "CREATE SOURCE takes rows in, CREATE VIEW keeps a result.";
const FILES: &str = "CREATE SOURCE and CREATE SINK with the file connector read and write files.";

/// The first words of statements that are not supported, each with its hint.
const STATEMENTS: &[(&[&str], &str)] = &[
    (&["REFRESH"], "A view is current after each step."),
    (&["UPDATE"], ROWS),
    (&["DELETE"], ROWS),
    (&["MERGE"], ROWS),
    (&["TRUNCATE"], ROWS),
    (&["REPLACE"], ROWS),
    (&["UPSERT"], ROWS),
    (&["COPY"], FILES),
    (&["LOAD"], FILES),
    (&["START", "TRANSACTION"], TRANSACTIONS),
    (&["BEGIN"], TRANSACTIONS),
    (&["COMMIT"], TRANSACTIONS),
    (&["ROLLBACK"], TRANSACTIONS),
    (&["ABORT"], TRANSACTIONS),
    (&["SAVEPOINT"], TRANSACTIONS),
    (&["RELEASE"], TRANSACTIONS),
    (&["LOCK"], TRANSACTIONS),
    (&["SET"], SETTINGS),
    (&["RESET"], SETTINGS),
    (&["USE"], SETTINGS),
    (&["PRAGMA"], SETTINGS),
    (&["GRANT"], SESSION),
    (&["REVOKE"], SESSION),
    (&["ANALYZE"], SESSION),
    (&["VACUUM"], SESSION),
    (&["COMMENT"], SESSION),
    (&["DISCARD"], SESSION),
    (&["CALL"], SESSION),
    (&["DO"], SESSION),
    (&["LISTEN"], "SUBSCRIBE TO a stream."),
    (&["UNLISTEN"], SESSION),
    (&["NOTIFY"], SESSION),
    (&["PREPARE"], "Send the statement as it is."),
    (&["EXECUTE"], "Send the statement as it is."),
    (&["DEALLOCATE"], SESSION),
    (&["DECLARE"], "Send the query as it is."),
    (&["FETCH"], "Send the query as it is."),
    (&["CLOSE"], SESSION),
];

/// Objects of other databases that CREATE and DROP refuse, each with its hint.
const CREATED: &[(&[&str], &str)] = &[
    (&["TABLE"], TABLES),
    (&["EXTERNAL", "TABLE"], FILES),
    (&["TEMPORARY"], PERSISTENT),
    (&["TEMP"], PERSISTENT),
    (&["CONNECTOR"], "Connectors are registered by code."),
    (&["CONNECTION"], SETTINGS),
    (&["INDEX"], INDEXED),
    (&["UNIQUE", "INDEX"], INDEXED),
    (&["FUNCTION"], "Functions are registered by code."),
    (&["AGGREGATE"], "Functions are registered by code."),
    (&["SCHEMA"], "Names are flat."),
    (&["DATABASE"], "A data folder is a database."),
    (&["TYPE"], "Write the type where it is used."),
    (&["SECRET"], SETTINGS),
    (&["ROLE"], SESSION),
    (&["USER"], SESSION),
    (&["SEQUENCE"], SESSION),
    (&["TRIGGER"], "SUBSCRIBE TO a stream, or CREATE SINK."),
    (&["PROCEDURE"], SESSION),
    (&["EXTENSION"], SESSION),
];

/// The error about a statement that begins with words of [`STATEMENTS`].
pub(super) fn statement(cursor: &TokenCursor) -> Option<SqlError> {
    let (words, hint) = STATEMENTS.iter().find(|(words, _)| cursor.sees(words))?;
    Some(
        SqlError::not_built(words.join(" "))
            .hint(*hint)
            .at(cursor.here()),
    )
}

/// The error about `CREATE` or `DROP` of an object of [`CREATED`]; the cursor is after this verb, which
/// begins at byte `start`.
pub(super) fn object(verb: &str, cursor: &TokenCursor, start: usize) -> Option<SqlError> {
    let (words, hint) = CREATED.iter().find(|(words, _)| cursor.sees(words))?;
    let what = format!("{verb} {}", words.join(" "));
    Some(
        SqlError::not_built(what)
            .hint(*hint)
            .at(start..cursor.here().end),
    )
}

/// The error about an option of `EXPLAIN`; the cursor is after `EXPLAIN`.
pub(super) fn explain_option(cursor: &TokenCursor) -> Option<SqlError> {
    let in_parentheses = cursor.peek() == Some(&Token::LParen)
        && ["ANALYZE", "VERBOSE", "FORMAT", "COSTS", "BUFFERS", "TIMING"]
            .iter()
            .any(|option| {
                cursor
                    .peek_nth(1)
                    .and_then(super::token_cursor::unquoted)
                    .is_some_and(|word| word.eq_ignore_ascii_case(option))
            });
    let words = ["ANALYZE", "VERBOSE", "FORMAT"];
    // The name to be explained can be that of an option; then nothing follows.
    let alone = cursor.remaining() == 1;
    let option = words
        .iter()
        .find(|word| !alone && cursor.sees(&[word]))
        .copied();
    let what = if in_parentheses {
        Some("EXPLAIN with options")
    } else {
        option
    };
    what.map(|what| {
        SqlError::not_built(what)
            .hint("Write EXPLAIN for the plan, EXPLAIN GUARANTEES for the delivery guarantees.")
            .at(cursor.here())
    })
}

/// Refuses the clauses of a query that the planner would ignore.
pub(super) fn clauses(query: &SqlQuery) -> Result<()> {
    visited(query.ast.visit(&mut Clauses { query }))
}

struct Clauses<'a> {
    query: &'a SqlQuery,
}

/// A clause: whether the query has it, its name, and the hint what to do instead.
type Clause<'a> = (bool, &'a str, &'a str);

impl Clauses<'_> {
    /// Refuses the first of these clauses that is present, at `span`.
    fn refuse<const N: usize>(&self, span: Span, clauses: [Clause; N]) -> VisitFlow {
        let Some((_, what, hint)) = clauses.into_iter().find(|(present, ..)| *present) else {
            return ControlFlow::Continue(());
        };
        let position = self.query.position(span);
        let position = position.unwrap_or_else(|| self.query.span.clone());
        ControlFlow::Break(Box::new(SqlError::not_built(what).hint(hint).at(position)))
    }
}

const REMOVE: &str = "Remove it.";

impl Visitor for Clauses<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> VisitFlow {
        let writes = matches!(
            *query.body,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        );
        let locks = !query.locks.is_empty();
        let (xml, format) = (query.for_clause.is_some(), query.format_clause.is_some());
        let (pipes, fills) = (
            !query.pipe_operators.is_empty(),
            fills(query.order_by.as_ref()),
        );
        let without_pipes = "Write it as SELECT ... FROM ... WHERE ....";
        let clauses = [
            (writes, "a query that writes", ROWS),
            (locks, "FOR UPDATE", "Nothing is locked: a step is atomic."),
            (xml, "FOR XML, JSON and BROWSE", REMOVE),
            (query.settings.is_some(), "SETTINGS", SETTINGS),
            (format, "FORMAT", "Give format to the sink."),
            (query.fetch.is_some(), "FETCH", "Write LIMIT."),
            (pipes, "the pipe operator |>", without_pipes),
            (fills, "WITH FILL", REMOVE),
        ];
        self.refuse(query.body.span(), clauses)
    }

    fn pre_visit_select(&mut self, select: &Select) -> VisitFlow {
        let into = "Write CREATE STREAM or CREATE VIEW name AS SELECT ....";
        let bare_from = select.flavor == SelectFlavor::FromFirstNoSelect;
        let (connects, distributes) = (&select.connect_by, &select.distribute_by);
        let as_value = select.value_table_mode.is_some();
        let (excludes, exclude) = (select.exclude.is_some(), "Write SELECT * EXCLUDE (...).");
        let modified = select.select_modifiers.is_some();
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) =
            &select.group_by;
        let rollup = "Write GROUP BY ROLLUP (...), CUBE (...) or GROUPING SETS (...).";
        let clauses = [
            (select.into.is_some(), "SELECT ... INTO", into),
            (bare_from, "FROM without SELECT", "Write SELECT * FROM ...."),
            (select.prewhere.is_some(), "PREWHERE", "Write WHERE."),
            (!connects.is_empty(), "CONNECT BY", REMOVE),
            (!distributes.is_empty(), "DISTRIBUTE BY", REMOVE),
            (as_value, "SELECT AS STRUCT or VALUE", REMOVE),
            (excludes, "EXCLUDE after the list", exclude),
            (modified, "a modifier of SELECT", REMOVE),
            (!modifiers.is_empty(), "WITH ROLLUP, CUBE or TOTALS", rollup),
        ];
        self.refuse(select.select_token.0.span, clauses)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> VisitFlow {
        let at = factor.span();
        match factor {
            TableFactor::Table {
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                let sampled = "Filter with a hash or a random number in WHERE.";
                let hints = !with_hints.is_empty() || !index_hints.is_empty();
                let settings = args.as_ref().is_some_and(|args| args.settings.is_some());
                let clauses = [
                    (sample.is_some(), "TABLESAMPLE", sampled),
                    (version.is_some(), "a version of a table", REMOVE),
                    (*with_ordinality, "WITH ORDINALITY", REMOVE),
                    (!partitions.is_empty(), "PARTITION of a table", REMOVE),
                    (json_path.is_some(), "a path after a table", REMOVE),
                    (hints, "a hint of a table", REMOVE),
                    (settings, "SETTINGS of a table", REMOVE),
                ];
                self.refuse(at, clauses)
            }
            TableFactor::Derived { sample, .. } => {
                self.refuse(at, [(sample.is_some(), "TABLESAMPLE", REMOVE)])
            }
            TableFactor::Function {
                with_ordinality, ..
            } => self.refuse(at, [(*with_ordinality, "WITH ORDINALITY", REMOVE)]),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> VisitFlow {
        match expr {
            Expr::Function(function) => {
                let parameters = !matches!(function.parameters, FunctionArguments::None);
                let query = matches!(function.args, FunctionArguments::Subquery(_));
                let own = "Put it in parentheses of its own.";
                let pattern = foreign_pattern(function);
                let clauses = [
                    (parameters, "a second list of arguments", "Write one list."),
                    (query, "a query for arguments", own),
                    (pattern.is_some(), pattern.unwrap_or_default(), PATTERNS),
                ];
                self.refuse(function.name.span(), clauses)
            }
            Expr::BinaryOp {
                op: BinaryOperator::BitwiseXor,
                left,
                ..
            } => {
                let clause = (true, "the operator ^", "Write power(a, b).");
                self.refuse(left.span(), [clause])
            }
            Expr::Value(value) => {
                let parameter = matches!(value.value, Value::Placeholder(_));
                let clause = (parameter, "a parameter", "Write the value itself.");
                self.refuse(value.span, [clause])
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

const PATTERNS: &str = "Its patterns are not PostgreSQL's: write to_char(ts, 'YYYY-MM-DD HH24:MI:SS') or \
                        to_timestamp(text, 'YYYY-MM-DD HH24:MI:SS').";

/// The functions that take patterns of another system, with the number of their arguments from which on
/// one is a pattern.
const FOREIGN_PATTERNS: &[(&str, usize, &str)] = &[
    ("date_format", 0, "date_format()"),
    ("to_unixtime", 2, "to_unixtime() with a pattern"),
    ("to_time", 2, "to_time() with a pattern"),
    (
        "to_timestamp_seconds",
        2,
        "to_timestamp_seconds() with a pattern",
    ),
    (
        "to_timestamp_millis",
        2,
        "to_timestamp_millis() with a pattern",
    ),
    (
        "to_timestamp_micros",
        2,
        "to_timestamp_micros() with a pattern",
    ),
    (
        "to_timestamp_nanos",
        2,
        "to_timestamp_nanos() with a pattern",
    ),
];

/// What the call does by a pattern of another system, if it does.
fn foreign_pattern(function: &Function) -> Option<&'static str> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let name = function.name.0.last()?.as_ident()?;
    let found = FOREIGN_PATTERNS.iter().find(|(foreign, from, _)| {
        name.value.eq_ignore_ascii_case(foreign) && list.args.len() >= *from
    });
    found.map(|(.., what)| *what)
}

fn fills(order_by: Option<&OrderBy>) -> bool {
    match order_by.map(|order_by| &order_by.kind) {
        Some(OrderByKind::Expressions(by)) => by.iter().any(|by| by.with_fill.is_some()),
        _ => false,
    }
}
