//! `REPLAY SOURCE s [FROM 'time'] [TO 'time'] [SPEED n] INTO STREAM x`: the past of a source through a
//! query once more.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::error::Result;
use super::statement::{Instant, Replay, Statement};

/// The statement; `None` if it is another.
pub(super) fn replay(cursor: &mut Cursor) -> Result<Option<Statement>> {
    if !cursor.eat(&["REPLAY"]) {
        return Ok(None);
    }
    cursor.expect("SOURCE")?;
    let source = cursor.name("a source")?;
    let from = match cursor.eat(&["FROM"]) {
        true => Some(instant(cursor)?),
        false => None,
    };
    let to = match cursor.eat(&["TO"]) {
        true => Some(instant(cursor)?),
        false => None,
    };
    let speed = match cursor.eat(&["SPEED"]) {
        true => Some(factor(cursor)?),
        false => None,
    };
    cursor.expect("INTO")?;
    cursor.expect("STREAM")?;
    let stream = cursor.name("a stream")?;
    Ok(Some(Statement::Replay(Replay {
        source,
        from,
        to,
        speed,
        stream,
    })))
}

/// A time in quotes, with or without TIMESTAMP before it.
fn instant(cursor: &mut Cursor) -> Result<Instant> {
    cursor.eat(&["TIMESTAMP"]);
    let Some(Token::SingleQuotedString(text)) = cursor.peek() else {
        return Err(cursor.unexpected("a time such as '2026-01-31 12:00:00'", &[]));
    };
    let text = text.clone();
    cursor.advance();
    Ok(Instant {
        text,
        span: cursor.last(),
    })
}

fn factor(cursor: &mut Cursor) -> Result<f64> {
    let expected = "how many times faster than it happened: a number above 0";
    let Some(Token::Number(digits, _)) = cursor.peek() else {
        return Err(cursor.unexpected(expected, &[]));
    };
    let factor: f64 = digits.parse().unwrap_or(0.0);
    if !(factor > 0.0 && factor.is_finite()) {
        return Err(cursor.unexpected(expected, &[]));
    }
    cursor.advance();
    Ok(factor)
}
