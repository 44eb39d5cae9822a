//! Streams declared with `@source` or `@sink`, read as CREATE SOURCE and CREATE SINK.
//!
//! ```text
//!   @source(type='websocket', websocket.url='...', @map(type='json')) CREATE STREAM t (...)
//!     = CREATE SOURCE t (...) WITH (connector='websocket', websocket.url='...', format='json')
//!   @sink(type='websocket', ...) CREATE STREAM out (...)
//!     = a sink with declared columns, fed by INSERT INTO out SELECT ...
//! ```
//!
//! `type` becomes `connector`, the `type` of `@map` becomes `format`, another key of `@map` gets
//! the prefix `format.`; every other key is kept. Other annotations are refused by name.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::columns::{columns, refuse_computed};
use super::error::{Result, SqlError};
use super::options::{entry, refuse_duplicates, with_list};
use super::statement::{CreateSink, CreateSource, OptionEntry, SinkInput, Statement};
use super::suggest::did_you_mean;
use super::token_cursor::TokenCursor;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Annotation {
    Source,
    Sink,
}

/// Reads `@source(...)` or `@sink(...)` and the `CREATE STREAM` after it.
pub(super) fn annotated(cursor: &mut TokenCursor) -> Result<Statement> {
    let (annotation, mut options) = annotation(cursor)?;
    if cursor.peek_word().is_some_and(|word| word.starts_with('@')) {
        return Err(SqlError::not_built("more than one annotation of a stream")
            .hint("Write CREATE SOURCE, and CREATE SINK ... FROM it for each sink.")
            .at(cursor.here()));
    }
    cursor.expect("CREATE")?;
    cursor.expect("STREAM")?;
    let (if_not_exists, name) = cursor.new_name("a stream")?;
    if cursor.sees(&["AS"]) {
        return Err(
            SqlError::not_built("an annotation of a stream with a query")
                .hint(format!(
                    "Write CREATE STREAM {name} AS ..., then CREATE SINK ... FROM {name}."
                ))
                .at(cursor.here()),
        );
    }
    let start = cursor.here();
    let (columns, watermark) = columns(cursor)?;
    options.extend(with_list(cursor)?);
    refuse_duplicates(&options)?;
    if annotation == Annotation::Source {
        let source = CreateSource {
            name,
            if_not_exists,
            columns,
            watermark,
            options,
        };
        return Ok(Statement::CreateSource(source));
    }
    if watermark.is_some() {
        return Err(SqlError::syntax("a sink has no watermark").at(start));
    }
    refuse_computed(&columns, "a sink")?;
    let input = SinkInput::Declared(columns);
    Ok(Statement::CreateSink(CreateSink {
        name,
        if_not_exists,
        input,
        options,
    }))
}

fn annotation(cursor: &mut TokenCursor) -> Result<(Annotation, Vec<OptionEntry>)> {
    let start = cursor.here();
    let word = cursor.peek_word().unwrap_or_default().to_ascii_lowercase();
    let annotation = match word.as_str() {
        "@source" => Annotation::Source,
        "@sink" => Annotation::Sink,
        _ => return Err(unknown(&word, &["@source", "@sink"], cursor)),
    };
    cursor.advance();
    let mut entries = Vec::new();
    for mut part in cursor.parenthesized()?.comma_separated() {
        if part.peek_word().is_some_and(|word| word.starts_with('@')) {
            entries.extend(map(&mut part)?);
            continue;
        }
        let mut entry = entry(&mut part)?;
        if entry.key.eq_ignore_ascii_case("type") {
            entry.key = "connector".into();
        }
        entries.push(entry);
    }
    if !entries.iter().any(|entry| entry.key == "connector") {
        return Err(SqlError::syntax(format!("annotation {word} has no type"))
            .hint(format!(
                "Name the connector: {word}(type='websocket', ...)."
            ))
            .at(start));
    }
    Ok((annotation, entries))
}

fn map(part: &mut TokenCursor) -> Result<Vec<OptionEntry>> {
    let word = part.peek_word().unwrap_or_default().to_ascii_lowercase();
    if word != "@map" {
        return Err(unknown(&word, &["@map"], part));
    }
    part.advance();
    let mut entries = Vec::new();
    for mut inner in part.parenthesized()?.comma_separated() {
        if inner.peek() == Some(&Token::AtSign)
            || inner.peek_word().is_some_and(|word| word.starts_with('@'))
        {
            return Err(SqlError::not_built("an annotation within @map").at(inner.here()));
        }
        let mut entry = entry(&mut inner)?;
        entry.key = match entry.key.as_str() {
            key if key.eq_ignore_ascii_case("type") => "format".into(),
            key => format!("format.{key}"),
        };
        entries.push(entry);
    }
    part.expect_end()?;
    Ok(entries)
}

fn unknown(word: &str, known: &[&str], cursor: &TokenCursor) -> SqlError {
    let hint =
        did_you_mean(word, known).unwrap_or_else(|| format!("Known here: {}.", known.join(", ")));
    SqlError::not_built(format_args!("annotation {word}"))
        .hint(hint)
        .at(cursor.here())
}
