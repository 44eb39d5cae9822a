//! START, PAUSE, RESUME and STOP STREAM, START SINK, and the source groups with ATTACH and DETACH.
//!
//! ```text
//!   CREATE STREAM x [(columns)] [WITH (description = '...')]      no AS: a source group
//!   ATTACH SOURCE s TO STREAM x     DETACH SOURCE s FROM STREAM x
//!   START | PAUSE | RESUME | STOP STREAM x                        START SINK x
//! ```
//!
//! Whether the names exist and the change is allowed is checked when the statement is executed.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::columns::{columns, refuse_computed};
use super::error::{Result, SqlError};
use super::options::with_list;
use super::statement::{Attach, CreateSourceGroup, Name, Statement, StreamAction};
use super::token_cursor::TokenCursor;

/// `START STREAM x`, `PAUSE`, `RESUME` and `STOP`, and `START SINK x`; `None` if the statement is
/// another.
pub(super) fn action(cursor: &mut TokenCursor) -> Result<Option<Statement>> {
    const ACTIONS: &[(&str, StreamAction)] = &[
        ("START", StreamAction::Start),
        ("PAUSE", StreamAction::Pause),
        ("RESUME", StreamAction::Resume),
        ("STOP", StreamAction::Stop),
    ];
    let of = |word: &&(&str, StreamAction)| cursor.sees(&[word.0]);
    let Some(&(_, action)) = ACTIONS.iter().find(of) else {
        return Ok(None);
    };
    if cursor.sees(&["START", "TRANSACTION"]) {
        return Ok(None);
    }
    cursor.advance();
    if action == StreamAction::Start && cursor.sees(&["SINK"]) {
        cursor.advance();
        return Ok(Some(Statement::StartSink(cursor.name("a sink")?)));
    }
    cursor.expect("STREAM")?;
    let stream = cursor.name("a stream")?;
    Ok(Some(Statement::Lifecycle { action, stream }))
}

/// `ATTACH SOURCE s TO STREAM x` and `DETACH SOURCE s FROM STREAM x`; `None` if the statement is
/// another.
pub(super) fn attach(cursor: &mut TokenCursor) -> Result<Option<Statement>> {
    let attach = cursor.sees(&["ATTACH"]);
    if !attach && !cursor.sees(&["DETACH"]) {
        return Ok(None);
    }
    cursor.advance();
    cursor.expect("SOURCE")?;
    let source = cursor.name("a source")?;
    cursor.expect(if attach { "TO" } else { "FROM" })?;
    cursor.expect("STREAM")?;
    let stream = cursor.name("a stream")?;
    Ok(Some(Statement::Attach(Attach {
        source,
        stream,
        attach,
    })))
}

/// The rest of `CREATE STREAM x (columns) ...`.
pub(super) fn declared_set(
    cursor: &mut TokenCursor,
    if_not_exists: bool,
    name: Name,
) -> Result<Statement> {
    debug_assert_eq!(cursor.peek(), Some(&Token::LParen));
    let start = cursor.here().start;
    let mut behind = cursor.clone();
    behind.parenthesized()?;
    if behind.sees(&["AS"]) {
        let what = "a list of columns after the name of a stream with a query";
        return Err(SqlError::not_built(what)
            .hint("Name the columns in the query: SELECT x AS name.")
            .at(start..behind.last().end));
    }
    let (columns, watermark) = columns(cursor)?;
    refuse_computed(&columns, "a source group")?;
    let options = with_list(cursor)?;
    Ok(Statement::CreateSourceGroup(CreateSourceGroup {
        name,
        if_not_exists,
        columns,
        watermark,
        options,
    }))
}
