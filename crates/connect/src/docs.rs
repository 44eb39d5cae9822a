//! The reference pages of connectors and formats, generated from what they declare.
//!
//! `docs/connectors/NAME.md`, `docs/formats.md` and `docs/errors.md` are this text and nothing else; a test
//! rewrites them and fails once when they are stale. So a page cannot name an option that does not exist, or
//! a default that does not hold.

use arrow::datatypes::Field;

use crate::connector::{Connector, SinkKind, SourceKind};
use crate::formats::{FORMATS, Format, sql_name};
use crate::options::{OptionSet, Row};
use crate::registry::{sink_sets, sorted_rows, source_sets};
use crate::{DeadLetter, ErrorOptions};

/// The first line of every page.
const MADE: &str = "<!-- Generated from the options that the code declares: change them there. -->";

/// The page of one connector, in Markdown.
pub fn connector(connector: &Connector) -> String {
    let mut page = format!(
        "{MADE}\n\n# {}\n\n{}.\n",
        connector.name,
        sentence(connector.summary)
    );
    if let Some(kind) = &connector.source {
        page += &source(connector.name, kind);
    }
    if let Some(kind) = &connector.sink {
        page += &sink(connector.name, kind);
    }
    page + "\nWhat happens when something fails: [errors](../errors.md).\n"
}

/// The page of the options about errors, in Markdown.
pub fn errors() -> String {
    format!(
        "{MADE}\n\n{ERRORS}{}{DEAD_LETTERS}{}",
        table(&sorted_rows(&[OptionSet::of::<ErrorOptions>()])),
        dead_letter_columns()
    )
}

/// The beginning of the page about errors.
const ERRORS: &str = "\
# When something fails

Every source and every sink has these options in addition to its own, with or without the connector's name
in front: `websocket.error.strategy` is `error.strategy`.

| `error.strategy` | a row that cannot be decoded | a source that fails | a sink that cannot write |
|---|---|---|---|
| not given | is kept beside the stream | is restarted | retries without limit |
| `'retry'` | is kept beside the stream | is restarted as `error.retry.*` says, then fails | retries as `error.retry.*` says, then fails and keeps the rows |
| `'dlq'` | goes to the stream `error.dlq.stream` | is restarted | sends the rows to the stream `error.dlq.stream` |
| `'drop'` | is counted | is restarted | counts the rows and continues |
| `'fail'` | ends the source | ends the source | ends the sink and keeps the rows |

A failure that would repeat itself, such as a value that the format cannot write, is not retried. The `restart.*`
options of a source take precedence over `error.retry.*`. With `dlq` and `drop` the rows of a batch that can be written
are written. A sink that drops rows gives no guarantee, see `EXPLAIN GUARANTEES`.

A sink that reconnects by itself, as `websocket` does, cannot write once it has given up: after `reconnect.max.attempts`
failed attempts, or, without that option and with an `error.strategy`, after the first. Until then its rows wait. Then
the rows that the server has not confirmed are dropped, sent or kept with the rest, and each batch, and each retry that
`error.retry.*` allows, tries to connect once. While there is no connection the state in `system.sinks` is `backing_off`
or `degraded`, with the reason. A sink that cannot be opened cannot write, either.
";

/// The text before the columns of dead letters.
const DEAD_LETTERS: &str = "
## Dead letters

A dead-letter stream has these columns. `original_event` holds the bytes as they came from a source,
and a row on its way to a sink as a JSON object. The stream is created when it is first named, see
[SQL](sql.md#dead-letters). If it does not accept a dead letter, a bad row of a source is kept beside the
source after all, and a row of a sink is written into the program's log, and counted.

The rows of a stream whose expressions fail have these columns, too, with `on_error = 'dead_letter'`: see
[SQL](sql.md#rows-that-fail). Their `error_type` is a SQLSTATE, such as 22012 for a division by zero.

| column | type |
|---|---|
";

fn dead_letter_columns() -> String {
    let schema = DeadLetter::schema();
    let line = |field: &std::sync::Arc<Field>| {
        let kind = sql_name(field.data_type());
        format!("| `{}` | {kind} NOT NULL |\n", field.name())
    };
    schema.fields().iter().map(line).collect()
}

/// The page of all formats, in Markdown.
pub fn formats() -> String {
    let sections = FORMATS.iter().map(format_section);
    format!("{MADE}\n\n# Formats\n{}", sections.collect::<String>())
}

fn source(name: &str, kind: &SourceKind) -> String {
    let rows = sorted_rows(&source_sets(kind, None));
    let example = example(&rows);
    let mut section = format!(
        "\n## As a source\n\n```sql\nCREATE SOURCE my_source (...)\nWITH (connector = '{name}'{example});\n```\n"
    );
    if kind.formats.is_empty() {
        section += "\nIt makes rows by itself: there is no `format`.\n";
    } else {
        section += &carried(kind.formats);
        section += &format!(
            " A message above {} is a bad row unless `max_frame` says otherwise.\n",
            kind.max_frame
        );
    }
    section + &table(&rows)
}

fn sink(name: &str, kind: &SinkKind) -> String {
    let rows = sorted_rows(&sink_sets(kind, None));
    let example = example(&rows);
    let mut section = format!(
        "\n## As a sink\n\n```sql\nCREATE SINK my_sink FROM my_stream\nWITH (connector = '{name}'{example});\n```\n"
    );
    if !kind.formats.is_empty() {
        section += &carried(kind.formats);
        section.push('\n');
    }
    section + &table(&rows)
}

fn format_section(format: &Format) -> String {
    let mut section = format!("\n## {}\n\n{}.\n", format.name, sentence(format.summary));
    let mut part = |what: &str, options: Option<OptionSet>| {
        let rows = sorted_rows(options.as_slice());
        if !rows.is_empty() {
            section += &format!("\n{what}:\n{}", table(&rows));
        }
    };
    part("Read by a source", format.decoder_options);
    part("Written by a sink", format.encoder_options);
    if format.decoder.is_none() {
        section += "\nIt is only written.\n";
    }
    if format.encoder.is_none() {
        section += "\nIt is only read.\n";
    }
    section
}

fn carried(formats: &[&str]) -> String {
    let names = formats
        .iter()
        .map(|name| format!("[`{name}`](../formats.md#{name})"));
    let names = names.collect::<Vec<_>>().join(", ");
    format!("\nFormats: {names}; the first unless `format` says otherwise.")
}

/// The required options, for the statement that shows how to write one.
fn example(rows: &[Row]) -> String {
    let required = rows.iter().filter(|row| row.required);
    let option = |row: &Row| match row.name.contains('.') {
        true => format!(", \"{}\" = '...'", row.name),
        false => format!(", {} = '...'", row.name),
    };
    required.map(option).collect()
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "\nIt has no options.\n".to_owned();
    }
    let line = |row: &Row| {
        let default = match (&row.default, row.required) {
            (_, true) => "required".to_owned(),
            (Some(default), _) => format!("`{}`", cell(default)),
            (None, _) => String::new(),
        };
        format!(
            "| `{}` | {} | {default} | {} |\n",
            row.name,
            cell(&row.kind),
            cell(&row.doc)
        )
    };
    let lines: String = rows.iter().map(line).collect();
    format!("\n| option | takes | default | what it is |\n|---|---|---|---|\n{lines}")
}

/// Text that does not end its table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The text with a capital first letter.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
