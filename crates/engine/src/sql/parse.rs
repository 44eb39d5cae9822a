//! Reads statements from tokens: one function for each statement.
//!
//! [`parse_each`] returns the error of every wrong statement of a script, [`parse`] stops at the
//! first. Nothing is looked up and nothing is executed.

use super::alter;
use super::annotated;
use super::columns::columns;
use super::error::{Result, SqlError};
use super::lifecycle;
use super::options::with_list;
use super::output_names;
use super::refuse;
use super::replay_source::replay_source;
use super::script;
use super::stack::deep;
use super::statement::{
    CreateQuery, CreateSink, CreateSource, CreateSourceGroup, Drop, Emit, Explain, ExplainTarget,
    Kind, Shown, SinkInput, Spanned, SqlQuery, Statement,
};
use super::token_cursor::{TokenCursor, list, unquoted};

use datafusion::sql::sqlparser::ast::SetExpr;
use datafusion::sql::sqlparser::tokenizer::Token;

/// Reads a script: statements separated by semicolons, with comments anywhere.
///
/// # Errors
///
/// The error of the first statement that is wrong.
pub fn parse(script: &str) -> Result<Vec<Spanned<Statement>>> {
    parse_each(script).into_iter().collect()
}

/// Reads a script and returns each statement or its error.
///
/// Text that has no tokens (a string without its closing quote) gives one error alone.
pub fn parse_each(script: &str) -> Vec<Result<Spanned<Statement>>> {
    deep(|| read(script))
}

fn read(script: &str) -> Vec<Result<Spanned<Statement>>> {
    let lexemes = match script::lex(script) {
        Ok(lexemes) => lexemes,
        Err(error) => return vec![Err(error)],
    };
    script::statements(&lexemes)
        .map(|tokens| {
            script::measure(tokens)?;
            let mut cursor = TokenCursor::new(script, tokens);
            let span = cursor.rest();
            let node = statement(&mut cursor)?;
            cursor.expect_end()?;
            Ok(Spanned { node, span })
        })
        .collect()
}

/// The words that a statement can begin with.
const STATEMENTS: &[&str] = &[
    "CREATE",
    "SELECT",
    "WITH",
    "VALUES",
    "INSERT",
    "SUBSCRIBE",
    "SHOW",
    "DESCRIBE",
    "DESC",
    "EXPLAIN",
    "DROP",
    "START",
    "PAUSE",
    "RESUME",
    "STOP",
    "ATTACH",
    "DETACH",
    "REPLAY",
    "ALTER",
    "REPROCESS",
];
const QUERIES: &[&str] = &["SELECT", "WITH", "VALUES", "FROM"];
const KINDS: &[&str] = &["SOURCE", "STREAM", "VIEW", "SINK", "MATERIALIZED"];

fn statement(cursor: &mut TokenCursor) -> Result<Statement> {
    if cursor.peek_word().is_some_and(|word| word.starts_with('@')) {
        return annotated::annotated(cursor);
    }
    if starts_query(cursor) {
        return Ok(Statement::Query(query_alone(cursor, "a query")?));
    }
    if let Some(statement) = lifecycle::action(cursor)? {
        return Ok(statement);
    }
    if let Some(statement) = lifecycle::attach(cursor)? {
        return Ok(statement);
    }
    if let Some(statement) = replay_source(cursor)? {
        return Ok(statement);
    }
    match cursor.peek_word().map(str::to_ascii_uppercase).as_deref() {
        Some("CREATE") => create(cursor),
        Some("INSERT") => insert(cursor),
        Some("SUBSCRIBE") => subscribe(cursor),
        Some("SHOW") => show(cursor),
        Some("DESCRIBE" | "DESC") => describe(cursor),
        Some("EXPLAIN") => explain(cursor),
        Some("DROP") => drop_(cursor),
        Some("ALTER") => alter::alter(cursor),
        Some("REPROCESS") => alter::reprocess(cursor),
        _ => match refuse::statement(cursor) {
            Some(error) => Err(error),
            None => Err(cursor.unexpected("a statement", STATEMENTS)),
        },
    }
}

fn starts_query(cursor: &TokenCursor) -> bool {
    cursor.peek() == Some(&Token::LParen) || QUERIES.iter().any(|word| cursor.sees(&[word]))
}

fn create(cursor: &mut TokenCursor) -> Result<Statement> {
    let start = cursor.here().start;
    cursor.expect("CREATE")?;
    if cursor.eat(&["OR", "REPLACE"]) {
        return Err(SqlError::not_built("CREATE OR REPLACE")
            .hint("DROP it first; or write IF NOT EXISTS to keep what is there.")
            .at(start..cursor.last().end));
    }
    if let Some(error) = refuse::object("CREATE", cursor, start) {
        return Err(error);
    }
    match kind(cursor)? {
        Kind::Source => create_source(cursor),
        Kind::Stream => create_stream(cursor),
        Kind::View => create_view(cursor),
        Kind::Sink => create_sink(cursor),
    }
}

fn kind(cursor: &mut TokenCursor) -> Result<Kind> {
    Ok(match cursor.expect_one_of(KINDS)? {
        0 => Kind::Source,
        1 => Kind::Stream,
        2 => Kind::View,
        3 => Kind::Sink,
        _ => {
            cursor.expect("VIEW")?;
            Kind::View
        }
    })
}

fn create_source(cursor: &mut TokenCursor) -> Result<Statement> {
    let (if_not_exists, name) = cursor.new_name("a source")?;
    let (columns, watermark) = match cursor.peek() {
        Some(Token::LParen) => columns(cursor)?,
        _ => (Vec::new(), None),
    };
    if columns.is_empty() && !cursor.at_end() && !cursor.sees(&["WITH"]) {
        return Err(cursor.unexpected("the columns or WITH", &["WITH"]));
    }
    let options = with_list(cursor)?;
    Ok(Statement::CreateSource(CreateSource {
        name,
        if_not_exists,
        columns,
        watermark,
        options,
    }))
}

fn create_stream(cursor: &mut TokenCursor) -> Result<Statement> {
    let (if_not_exists, name) = cursor.new_name("a stream")?;
    if cursor.peek() == Some(&Token::LParen) {
        return lifecycle::declared_set(cursor, if_not_exists, name);
    }
    let options = with_list(cursor)?;
    if cursor.at_end() {
        return Ok(Statement::CreateSourceGroup(CreateSourceGroup {
            name,
            if_not_exists,
            columns: Vec::new(),
            watermark: None,
            options,
        }));
    }
    cursor.expect("AS")?;
    let emit = cut_emit(cursor)?.map(|(emit, _)| emit);
    let query = query(cursor)?;
    Ok(Statement::CreateQuery(CreateQuery {
        kind: Kind::Stream,
        name,
        if_not_exists,
        options,
        query,
        emit,
    }))
}

fn create_view(cursor: &mut TokenCursor) -> Result<Statement> {
    let (if_not_exists, name) = cursor.new_name("a view")?;
    if cursor.peek() == Some(&Token::LParen) {
        return Err(
            SqlError::not_built("a list of columns after the name of a view")
                .hint("Name the columns in the query: SELECT x AS name.")
                .at(cursor.here()),
        );
    }
    let options = with_list(cursor)?;
    cursor.expect("AS")?;
    let query = query_alone(cursor, "a view")?;
    Ok(Statement::CreateQuery(CreateQuery {
        kind: Kind::View,
        name,
        if_not_exists,
        options,
        query,
        emit: None,
    }))
}

fn create_sink(cursor: &mut TokenCursor) -> Result<Statement> {
    let (if_not_exists, name) = cursor.new_name("a sink")?;
    if cursor.sees(&["AS"]) {
        return Err(cursor.unexpected("FROM", &[]).hint(format!(
            "Write CREATE SINK {name} FROM (SELECT ...) WITH (...)."
        )));
    }
    cursor.expect("FROM")?;
    let input = if cursor.peek() == Some(&Token::LParen) {
        let mut inner = cursor.parenthesized()?;
        SinkInput::Query(query_alone(&mut inner, "the query of a sink")?)
    } else if starts_query(cursor) {
        return Err(cursor
            .unexpected("the name of a stream", &[])
            .hint("Put the query of a sink in parentheses: FROM (SELECT ...)."));
    } else {
        SinkInput::Named(cursor.dotted_name("a stream, view or source")?)
    };
    if !cursor.at_end() && !cursor.sees(&["WITH"]) {
        return Err(cursor.unexpected("WITH", &["WITH"]));
    }
    let options = with_list(cursor)?;
    Ok(Statement::CreateSink(CreateSink {
        name,
        if_not_exists,
        input,
        options,
    }))
}

fn insert(cursor: &mut TokenCursor) -> Result<Statement> {
    cursor.expect("INSERT")?;
    cursor.expect("INTO")?;
    let target = cursor.dotted_name("a sink")?;
    let mut columns = Vec::new();
    if cursor.peek() == Some(&Token::LParen) && !is_query_in_parentheses(cursor) {
        for mut part in cursor.parenthesized()?.comma_separated() {
            columns.push(part.name("a column")?);
            part.expect_end()?;
        }
    }
    let start = cursor.here();
    if !starts_query(cursor) {
        return Err(cursor.unexpected("a query", &["SELECT", "WITH"]));
    }
    let query = query_alone(cursor, "INSERT INTO")?;
    if matches!(*query.ast.body, SetExpr::Values(_)) {
        return Err(SqlError::not_built("INSERT INTO ... VALUES")
            .hint("INSERT INTO connects a query to a sink: INSERT INTO name SELECT ....")
            .at(start));
    }
    Ok(Statement::InsertInto {
        target,
        columns,
        query,
    })
}

fn is_query_in_parentheses(cursor: &TokenCursor) -> bool {
    let mut n = 0;
    while cursor.peek_nth(n) == Some(&Token::LParen) {
        n += 1;
    }
    let word = cursor.peek_nth(n).and_then(unquoted).unwrap_or_default();
    QUERIES.iter().any(|query| query.eq_ignore_ascii_case(word))
}

/// The query that takes up the rest.
fn query(cursor: &mut TokenCursor) -> Result<SqlQuery> {
    if !starts_query(cursor) {
        return Err(cursor.unexpected("a query", QUERIES));
    }
    let mut query = cursor.query()?;
    refuse::clauses(&query)?;
    output_names::keep_casts_apart(&mut query);
    Ok(query)
}

/// The query that takes up the rest, where EMIT is not allowed.
fn query_alone(cursor: &mut TokenCursor, of_what: &str) -> Result<SqlQuery> {
    if let Some((_, clause)) = cut_emit(cursor)? {
        return Err(SqlError::syntax(format!("{of_what} has no EMIT clause"))
            .hint("EMIT belongs to CREATE STREAM: a view is current after each step, and a query ends.")
            .at(clause));
    }
    query(cursor)
}

/// Removes an `EMIT` clause from the end: `sqlparser` would take its first word for an alias.
fn cut_emit(cursor: &mut TokenCursor) -> Result<Option<(Emit, std::ops::Range<usize>)>> {
    /// `EMIT ON WINDOW CLOSE`, and one word too many.
    const WORDS_MAX: usize = 5;
    for count in (2..=WORDS_MAX.min(cursor.remaining())).rev() {
        let mut tail = cursor.clone().split_tail(count);
        let clause = tail.rest();
        let all_words = (0..count).all(|n| tail.peek_nth(n).and_then(unquoted).is_some());
        if !all_words || !tail.eat(&["EMIT"]) {
            continue;
        }
        if tail.sees(&["CHANGES"]) || tail.sees(&["FINAL"]) || tail.sees(&["AFTER"]) {
            return Err(tail.unexpected("ON", &[]).hint(WITHOUT_EMIT));
        }
        if !tail.eat(&["ON"]) {
            continue;
        }
        let emit = if tail.eat(&["UPDATE"]) {
            Emit::OnUpdate
        } else if tail.eat(&["WINDOW"]) {
            tail.expect("CLOSE")?;
            Emit::OnWindowClose
        } else {
            return Err(tail.unexpected("UPDATE or WINDOW CLOSE", &["UPDATE", "WINDOW"]));
        };
        tail.expect_end()?;
        cursor.split_tail(count);
        return Ok(Some((emit, clause)));
    }
    Ok(None)
}

const WITHOUT_EMIT: &str = "Leave EMIT out: a stream gives each change as rows come, and each result of a window when \
     that closes.";

fn subscribe(cursor: &mut TokenCursor) -> Result<Statement> {
    cursor.expect("SUBSCRIBE")?;
    cursor.expect("TO")?;
    Ok(Statement::Subscribe(
        cursor.dotted_name("a stream, view or source")?,
    ))
}

fn show(cursor: &mut TokenCursor) -> Result<Statement> {
    const WORDS: &[&str] = &["SOURCES", "STREAMS", "VIEWS", "SINKS", "CONNECTORS"];
    cursor.expect("SHOW")?;
    if cursor.sees(&["TABLES"]) {
        return Err(cursor
            .unexpected(&list(WORDS), &[])
            .hint("Tables are SOURCES, STREAMS and VIEWS here."));
    }
    let shown = [
        Shown::Sources,
        Shown::Streams,
        Shown::Views,
        Shown::Sinks,
        Shown::Connectors,
    ];
    Ok(Statement::Show(shown[cursor.expect_one_of(WORDS)?]))
}

fn describe(cursor: &mut TokenCursor) -> Result<Statement> {
    cursor.advance();
    Ok(Statement::Describe(
        cursor.dotted_name("a source, stream, view or sink")?,
    ))
}

fn explain(cursor: &mut TokenCursor) -> Result<Statement> {
    cursor.expect("EXPLAIN")?;
    // A stream can be called guarantees: then nothing follows.
    let guarantees = cursor.sees(&["GUARANTEES"]) && cursor.remaining() > 1;
    if guarantees {
        cursor.advance();
    }
    if let Some(error) = refuse::explain_option(cursor) {
        return Err(error);
    }
    let target = explain_target(cursor)?;
    Ok(Statement::Explain(Explain { guarantees, target }))
}

fn explain_target(cursor: &mut TokenCursor) -> Result<ExplainTarget> {
    if starts_query(cursor) {
        return Ok(ExplainTarget::Query(query_alone(cursor, "EXPLAIN")?));
    }
    let creates = cursor.sees(&["CREATE"])
        || cursor.sees(&["INSERT"])
        || cursor.peek_word().is_some_and(|word| word.starts_with('@'));
    if creates {
        return Ok(ExplainTarget::Statement(Box::new(statement(cursor)?)));
    }
    if cursor.remaining() > 1 && STATEMENTS.iter().any(|word| cursor.sees(&[word])) {
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        return Err(SqlError::not_built(format_args!("EXPLAIN {word}"))
            .hint("Queries, CREATE statements and the names of what exists can be explained.")
            .at(cursor.here()));
    }
    Ok(ExplainTarget::Name(
        cursor.dotted_name("a source, stream, view or sink")?,
    ))
}

fn drop_(cursor: &mut TokenCursor) -> Result<Statement> {
    let start = cursor.here().start;
    cursor.expect("DROP")?;
    if let Some(error) = refuse::object("DROP", cursor, start) {
        return Err(error);
    }
    let kind = kind(cursor)?;
    let if_exists = cursor.eat(&["IF", "EXISTS"]);
    let name = cursor.name(&format!("a {kind}"))?;
    if cursor.peek() == Some(&Token::Comma) {
        return Err(SqlError::not_built("DROP of several names at once")
            .hint("Write one DROP for each.")
            .at(cursor.here()));
    }
    let cascade = cursor.eat(&["CASCADE"]);
    if !cascade && !cursor.eat(&["RESTRICT"]) && !cursor.at_end() {
        return Err(cursor.unexpected("CASCADE or the end of the statement", &["CASCADE"]));
    }
    Ok(Statement::Drop(Drop {
        kind,
        name,
        if_exists,
        cascade,
    }))
}
