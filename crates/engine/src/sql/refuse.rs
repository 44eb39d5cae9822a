//! What is understood and not built, each refused by its name with what to do instead.
//!
//! Two kinds: statements, and clauses of a query. The clauses matter more, for DataFusion's planner
//! passes over some of them without a word (`TABLESAMPLE`, `GROUP BY ... WITH ROLLUP`,
//! `FOR UPDATE`, `CONNECT BY`), and a clause that is passed over is a wrong answer. What the
//! planner refuses by itself is left to it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, GroupByExpr, OrderBy, OrderByKind, Query, Select,
    SelectFlavor, SetExpr, Spanned as _, TableFactor, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

use super::cursor::Cursor;
use super::error::{Result, SqlError};
use super::statement::SqlQuery;

const ROWS: &str = "Rows are pushed into a source and cannot be changed afterwards.";
const TRANSACTIONS: &str = "Each statement stands for itself; a step is atomic by itself.";
const SETTINGS: &str = "Options stand in the WITH list of the source, stream or sink they concern.";
const SESSION: &str = "There is nothing here that it would act on.";

/// The first words of statements that are not built.
const STATEMENTS: &[(&[&str], &str)] = &[
    (&["REFRESH"], "A view is current after each step."),
    (&["UPDATE"], ROWS),
    (&["DELETE"], ROWS),
    (&["MERGE"], ROWS),
    (&["TRUNCATE"], ROWS),
    (&["REPLACE"], ROWS),
    (&["UPSERT"], ROWS),
    (
        &["COPY"],
        "CREATE SOURCE and CREATE SINK with the file connector read and write files.",
    ),
    (
        &["LOAD"],
        "CREATE SOURCE with the file connector reads files.",
    ),
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

/// What others create.
const CREATED: &[(&[&str], &str)] = &[
    (
        &["TABLE"],
        "CREATE SOURCE takes rows in, CREATE VIEW keeps a result.",
    ),
    (
        &["EXTERNAL", "TABLE"],
        "CREATE SOURCE with the file connector reads files.",
    ),
    (
        &["TEMPORARY"],
        "Everything created stays until it is dropped.",
    ),
    (&["TEMP"], "Everything created stays until it is dropped."),
    (
        &["CONNECTOR"],
        "A connector is registered by code; CREATE SOURCE and CREATE SINK use it.",
    ),
    (
        &["CONNECTION"],
        "Put the options into the WITH list of each source and sink.",
    ),
    (
        &["INDEX"],
        "State is kept by key; there is nothing to index.",
    ),
    (
        &["UNIQUE", "INDEX"],
        "State is kept by key; there is nothing to index.",
    ),
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

/// The refusal of a statement that begins with a word of [`STATEMENTS`].
pub(super) fn statement(cursor: &Cursor) -> Option<SqlError> {
    let (words, hint) = STATEMENTS.iter().find(|(words, _)| cursor.sees(words))?;
    Some(
        SqlError::not_built(words.join(" "))
            .hint(*hint)
            .at(cursor.here()),
    )
}

/// The refusal of `CREATE` of something that is not ours; the cursor stands behind `CREATE`, which
/// begins at byte `start`.
pub(super) fn create(cursor: &Cursor, start: usize) -> Option<SqlError> {
    other_kind("CREATE", cursor, start)
}

/// The refusal of `DROP` of something that is not ours.
pub(super) fn drop(cursor: &Cursor, start: usize) -> Option<SqlError> {
    other_kind("DROP", cursor, start)
}

fn other_kind(verb: &str, cursor: &Cursor, start: usize) -> Option<SqlError> {
    let (words, hint) = CREATED.iter().find(|(words, _)| cursor.sees(words))?;
    let what = format!("{verb} {}", words.join(" "));
    Some(
        SqlError::not_built(what)
            .hint(*hint)
            .at(start..cursor.here().end),
    )
}

/// The refusal of an option of `EXPLAIN`; the cursor stands where it would be.
pub(super) fn explain_option(cursor: &Cursor) -> Option<SqlError> {
    let in_parentheses = cursor.peek() == Some(&Token::LParen)
        && ["ANALYZE", "VERBOSE", "FORMAT", "COSTS", "BUFFERS", "TIMING"]
            .iter()
            .any(|option| {
                cursor
                    .peek_nth(1)
                    .and_then(super::cursor::unquoted)
                    .is_some_and(|word| word.eq_ignore_ascii_case(option))
            });
    let words = ["ANALYZE", "VERBOSE", "FORMAT"];
    // What is explained may be called like an option; then nothing follows.
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
            .hint("Write EXPLAIN for the plan, EXPLAIN GUARANTEES for what is delivered how often.")
            .at(cursor.here())
    })
}

/// Refuses the clauses of a query that would be passed over.
pub(super) fn clauses(query: &SqlQuery) -> Result<()> {
    match query.ast.visit(&mut Clauses { query }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Clauses<'a> {
    query: &'a SqlQuery,
}

type Found = ControlFlow<Box<SqlError>>;

impl Clauses<'_> {
    /// Refuses `what`, standing at `span`, if it is `there`.
    fn refuse(&self, there: bool, what: &str, hint: &str, span: Span) -> Found {
        if !there {
            return ControlFlow::Continue(());
        }
        let place = self
            .query
            .position(span)
            .unwrap_or_else(|| self.query.span.clone());
        ControlFlow::Break(Box::new(SqlError::not_built(what).hint(hint).at(place)))
    }
}

impl Visitor for Clauses<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        let at = query.body.span();
        let writes = matches!(
            *query.body,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        );
        self.refuse(writes, "a query that writes", ROWS, at)?;
        let locks = !query.locks.is_empty();
        self.refuse(
            locks,
            "FOR UPDATE",
            "Nothing is locked: a step is atomic.",
            at,
        )?;
        self.refuse(
            query.for_clause.is_some(),
            "FOR XML, JSON and BROWSE",
            LEAVE,
            at,
        )?;
        self.refuse(query.settings.is_some(), "SETTINGS", SETTINGS, at)?;
        self.refuse(
            query.format_clause.is_some(),
            "FORMAT",
            "Give format to the sink.",
            at,
        )?;
        self.refuse(query.fetch.is_some(), "FETCH", "Write LIMIT.", at)?;
        self.refuse(
            !query.pipe_operators.is_empty(),
            "the pipe operator |>",
            PIPES,
            at,
        )?;
        self.refuse(fills(query.order_by.as_ref()), "WITH FILL", LEAVE, at)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        let at = select.select_token.0.span;
        let into = "Write CREATE STREAM or CREATE VIEW name AS SELECT ....";
        self.refuse(select.into.is_some(), "SELECT ... INTO", into, at)?;
        let bare_from = select.flavor == SelectFlavor::FromFirstNoSelect;
        self.refuse(
            bare_from,
            "FROM without SELECT",
            "Write SELECT * FROM ....",
            at,
        )?;
        self.refuse(select.prewhere.is_some(), "PREWHERE", "Write WHERE.", at)?;
        self.refuse(!select.connect_by.is_empty(), "CONNECT BY", LEAVE, at)?;
        self.refuse(!select.distribute_by.is_empty(), "DISTRIBUTE BY", LEAVE, at)?;
        self.refuse(
            select.value_table_mode.is_some(),
            "SELECT AS STRUCT or VALUE",
            LEAVE,
            at,
        )?;
        self.refuse(
            select.exclude.is_some(),
            "EXCLUDE behind the list",
            EXCLUDE,
            at,
        )?;
        self.refuse(
            select.select_modifiers.is_some(),
            "a modifier of SELECT",
            LEAVE,
            at,
        )?;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) =
            &select.group_by;
        let rollup = "Write GROUP BY ROLLUP (...), CUBE (...) or GROUPING SETS (...).";
        self.refuse(
            !modifiers.is_empty(),
            "WITH ROLLUP, CUBE or TOTALS",
            rollup,
            at,
        )
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
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
                self.refuse(sample.is_some(), "TABLESAMPLE", sampled, at)?;
                self.refuse(version.is_some(), "a version of a table", LEAVE, at)?;
                self.refuse(*with_ordinality, "WITH ORDINALITY", LEAVE, at)?;
                self.refuse(!partitions.is_empty(), "PARTITION of a table", LEAVE, at)?;
                self.refuse(json_path.is_some(), "a path behind a table", LEAVE, at)?;
                let hints = !with_hints.is_empty() || !index_hints.is_empty();
                self.refuse(hints, "a hint of a table", LEAVE, at)?;
                let settings = args.as_ref().is_some_and(|args| args.settings.is_some());
                self.refuse(settings, "SETTINGS of a table", LEAVE, at)
            }
            TableFactor::Derived { sample, .. } => {
                self.refuse(sample.is_some(), "TABLESAMPLE", LEAVE, at)
            }
            TableFactor::Function {
                with_ordinality, ..
            } => self.refuse(*with_ordinality, "WITH ORDINALITY", LEAVE, at),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Value(value) => {
                let parameter = matches!(value.value, Value::Placeholder(_));
                self.refuse(
                    parameter,
                    "a parameter",
                    "Write the value itself.",
                    value.span,
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

const LEAVE: &str = "Leave it away.";
const EXCLUDE: &str = "Write SELECT * EXCLUDE (...).";
const PIPES: &str = "Write it as SELECT ... FROM ... WHERE ....";

impl Clauses<'_> {
    fn function(&self, function: &Function) -> Found {
        let at = function.name.span();
        let parameters = !matches!(function.parameters, FunctionArguments::None);
        self.refuse(
            parameters,
            "a second list of arguments",
            "Write one list.",
            at,
        )?;
        let query = matches!(function.args, FunctionArguments::Subquery(_));
        self.refuse(
            query,
            "a query for arguments",
            "Put it in parentheses of its own.",
            at,
        )
    }
}

fn fills(order_by: Option<&OrderBy>) -> bool {
    match order_by.map(|order_by| &order_by.kind) {
        Some(OrderByKind::Expressions(by)) => by.iter().any(|by| by.with_fill.is_some()),
        _ => false,
    }
}
