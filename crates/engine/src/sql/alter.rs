//! The statements that change what exists: ALTER SOURCE, ALTER STREAM and ALTER VIEW; and REPROCESS of the
//! undecodable rows of a source.
//!
//! ```text
//!   ALTER SOURCE | STREAM | VIEW s SET (option = value, ...)
//!   REPROCESS s__bad
//! ```
//!
//! Which options can be changed, and whether the source has undecodable rows, is checked when the
//! statement is executed. [`alter_text`] writes an ALTER statement again, so that a database can store
//! what was changed.

use super::error::{Result, SqlError};
use super::options::{entry, refuse_duplicates};
use super::statement::{AlterSource, AlterStream, Kind, OptionEntry, OptionValue, Statement};
use super::token_cursor::TokenCursor;

pub(super) fn alter(cursor: &mut TokenCursor) -> Result<Statement> {
    let start = cursor.here().start;
    cursor.expect("ALTER")?;
    let kinds = [Kind::Source, Kind::Stream, Kind::View].into_iter();
    let kind = kinds.map(|kind| (kind, kind.to_string().to_ascii_uppercase()));
    let found = kind.clone().find(|(_, word)| cursor.sees(&[word]));
    let Some((kind, word)) = found else {
        if cursor.at_end() {
            cursor.expect("SOURCE")?;
        }
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        return Err(SqlError::not_built(format!("ALTER {word}").trim_end())
            .hint("DROP it and create it again; ALTER SOURCE, ALTER STREAM and ALTER VIEW change options.")
            .at(start..cursor.here().end));
    };
    cursor.expect(&word)?;
    let name = cursor.name(&format!("a {kind}"))?;
    let options = changes(cursor, &word)?;
    Ok(match kind {
        Kind::Source => Statement::AlterSource(AlterSource {
            source: name,
            options,
        }),
        _ => Statement::AlterStream(AlterStream {
            kind,
            stream: name,
            options,
        }),
    })
}

/// Reads `SET (option = value, ...)`.
fn changes(cursor: &mut TokenCursor, kind: &str) -> Result<Vec<OptionEntry>> {
    if ["ADD", "DROP", "RENAME", "RESET"]
        .iter()
        .any(|it| cursor.sees(&[it]))
    {
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        let hint = format!(
            "ALTER {kind} s SET (option = value) changes options; for everything else DROP it and create it again."
        );
        return Err(SqlError::not_built(format!("ALTER {kind} ... {word}"))
            .hint(hint)
            .at(cursor.here()));
    }
    cursor.expect("SET")?;
    let position = cursor.here();
    let inner = cursor.parenthesized()?;
    if inner.at_end() {
        return Err(SqlError::syntax("there is no option to set")
            .hint(format!("ALTER {kind} s SET (option = value, ...)"))
            .at(position));
    }
    let mut parts = inner.comma_separated();
    let options = parts.iter_mut().map(entry).collect::<Result<Vec<_>>>()?;
    refuse_duplicates(&options)?;
    Ok(options)
}

pub(super) fn reprocess(cursor: &mut TokenCursor) -> Result<Statement> {
    cursor.expect("REPROCESS")?;
    Ok(Statement::Reprocess(
        cursor.name("the bad rows of a source")?,
    ))
}

/// The statement that sets these options of the source, stream or view `name`.
pub(crate) fn alter_text(kind: Kind, name: &str, options: &[OptionEntry]) -> String {
    let options = options.iter().map(|option| {
        let value = match &option.value {
            OptionValue::String(text) => literal(text),
            other => other.to_string(),
        };
        format!("{} = {value}", literal(&option.key))
    });
    let options = options.collect::<Vec<_>>().join(", ");
    let (kind, name) = (kind.to_string().to_ascii_uppercase(), quoted(name));
    format!("ALTER {kind} {name} SET ({options})")
}

/// A name in double quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in single quotes.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse;

    fn altered(text: &str) -> AlterSource {
        match parse(text).unwrap().remove(0).node {
            Statement::AlterSource(alter) => alter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "ALTER SOURCE \"a \"\"b\"\" 'c'\" SET (format = 'csv', \
            websocket.headers.X-Key = 'it''s -- \\ \"so\"', rows = -1.5e3, loop = TRUE)";
        let first = altered(text);
        assert_eq!(first.source.value, "a \"b\" 'c'");
        let second = altered(&alter_text(
            Kind::Source,
            &first.source.value,
            &first.options,
        ));
        assert_eq!(second.source.value, first.source.value);
        let pairs = |alter: &AlterSource| -> Vec<(String, OptionValue)> {
            let options = alter.options.iter();
            options
                .map(|it| (it.key.clone(), it.value.clone()))
                .collect()
        };
        assert_eq!(pairs(&second), pairs(&first));
    }

    #[test]
    fn errors_have_a_position() {
        let cases = [
            ("ALTER SINK s SET (a = 1)", "ALTER SINK is not supported"),
            ("ALTER", "expected SOURCE"),
            ("ALTER VIEW s SET ()", "there is no option to set"),
            (
                "ALTER STREAM s RENAME TO t",
                "ALTER STREAM ... RENAME is not",
            ),
            (
                "ALTER SOURCE s DROP COLUMN x",
                "ALTER SOURCE ... DROP is not supported",
            ),
            (
                "ALTER SOURCE s RESET (x)",
                "ALTER SOURCE ... RESET is not supported",
            ),
            ("ALTER SOURCE s SET ()", "there is no option to set"),
            ("ALTER SOURCE s SET (a = 1, a = 2)", "given twice"),
            ("ALTER SOURCE s SET (a)", "expected ="),
            ("ALTER SOURCE s SET (a = 1) x", "expected the end"),
            ("REPROCESS", "expected the name of the bad rows of a source"),
            ("REPROCESS STREAM s", "expected the end"),
        ];
        for (text, message) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert!(error.position.is_some(), "{text}");
        }
    }
}
