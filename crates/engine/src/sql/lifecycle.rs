//! The statements about the life of a stream: START, PAUSE, RESUME and STOP, and which sources feed it.
//!
//! ```text
//!   CREATE STREAM x [(columns)] [WITH (description = '...')]      no AS: a named set of sources
//!   ATTACH SOURCE s TO STREAM x     DETACH SOURCE s FROM STREAM x
//!   START | PAUSE | RESUME | STOP STREAM x
//! ```
//!
//! Whether the names exist and the stream may do this now is for those who run them.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::columns::columns;
use super::cursor::Cursor;
use super::error::Result;
use super::options::with_list;
use super::statement::{Attach, CreateSet, Name, Statement, StreamAction};

/// `START STREAM x` and its like; `None` if the statement is another.
pub(super) fn action(cursor: &mut Cursor) -> Result<Option<Statement>> {
    const ACTIONS: &[(&str, StreamAction)] = &[
        ("START", StreamAction::Start),
        ("PAUSE", StreamAction::Pause),
        ("RESUME", StreamAction::Resume),
        ("STOP", StreamAction::Stop),
    ];
    let of = |word: &&(&str, StreamAction)| cursor.sees(&[word.0, "STREAM"]);
    let Some((word, action)) = ACTIONS.iter().find(of) else {
        return Ok(None);
    };
    cursor.eat(&[word, "STREAM"]);
    let stream = cursor.name("a stream")?;
    let action = *action;
    Ok(Some(Statement::Lifecycle { action, stream }))
}

/// `ATTACH SOURCE s TO STREAM x` and `DETACH SOURCE s FROM STREAM x`; `None` if the statement is
/// another.
pub(super) fn attach(cursor: &mut Cursor) -> Result<Option<Statement>> {
    let attach = cursor.sees(&["ATTACH", "SOURCE"]);
    if !attach && !cursor.sees(&["DETACH", "SOURCE"]) {
        return Ok(None);
    }
    cursor.advance();
    cursor.advance();
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
    cursor: &mut Cursor,
    if_not_exists: bool,
    name: Name,
) -> Result<Statement> {
    debug_assert_eq!(cursor.peek(), Some(&Token::LParen));
    let (columns, watermark) = columns(cursor)?;
    let options = with_list(cursor)?;
    if cursor.sees(&["AS"]) {
        return Err(cursor
            .unexpected("the end of the statement", &[])
            .hint("Leave out the columns: a query names its own, SELECT x AS name."));
    }
    Ok(Statement::CreateSet(CreateSet {
        name,
        if_not_exists,
        columns,
        watermark,
        options,
    }))
}
