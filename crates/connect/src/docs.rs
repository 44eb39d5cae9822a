//! The reference pages of connectors and formats, made of what they declare.
//!
//! `docs/connectors/NAME.md`, `docs/formats.md` and `docs/errors.md` are this text and nothing else; a test rewrites them
//! and fails once when they are stale. So a page cannot name an option that is not there, or another
//! default than the one that holds.

use arrow::datatypes::Field;

use crate::connector::{Connector, SinkKind, SourceKind};
use crate::formats::{FORMATS, Format, sql_name};
use crate::options::{OptionSet, Row};
use crate::registry::{sink_sets, source_sets};
use crate::{DeadLetter, ErrorOptions};

/// The first line of every page.
const MADE: &str = "<!-- Made of the options that the code declares: change them there. -->";

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
        "{MADE}\n\n{ERRORS}{}{LETTERS}{}",
        table(&rows(&[OptionSet::of::<ErrorOptions>()])),
        letters()
    )
}

/// The beginning of the page about errors.
const ERRORS: &str = "\
# When something fails

Every source and every sink takes these options beside its own, with the connector's name in front or
without: `websocket.error.strategy` is `error.strategy`.

| `error.strategy` | a row that is no row | a source that fails | a sink that cannot write |
|---|---|---|---|
| not given | is kept beside the stream | is started again | tries again without end |
| `'retry'` | is kept beside the stream | is started again as `error.retry.*` says, then fails | tries again as `error.retry.*` says, then fails and keeps the rows |
| `'dlq'` | goes to the stream `error.dlq.stream` | is started again | sends the rows to the stream `error.dlq.stream` |
| `'drop'` | is counted | is started again | counts the rows and goes on |
| `'fail'` | ends the source | ends the source | ends the sink and keeps the rows |

A failure that would be the same again, such as a value that the format cannot write, is not tried again.
What the `restart.*` options of a source say goes before `error.retry.*`. With `dlq` and `drop` the rows of a batch that can be written are written. A sink that drops rows gives
no guarantee, see `EXPLAIN GUARANTEES`.

A sink that reconnects by itself, as `websocket` does, cannot write once it has given up: when as many attempts have failed as
`reconnect.max.attempts` says, or, if that says nothing and there is an `error.strategy`, the first. Until then its rows wait.
What it holds and the server has not confirmed is dropped, sent or kept with the rest; then each batch, and each attempt that
`error.retry.*` grants, tries to connect once. While there is no connection the state in `system.sinks` is `backing_off` or
`degraded`, with the reason. A sink that cannot be opened cannot write, either.
";

/// What stands before the columns of dead letters.
const LETTERS: &str = "
## Dead letters

A stream of dead letters has these columns. `original_event` holds the bytes as they came from a source,
and a row on its way to a sink as a JSON object. The stream is made when it is first named, see
[SQL](sql.md#dead-letters). If it does not take a letter, a bad row of a source is kept beside the source
after all, and a row of a sink is written into the program's log, and counted.

| column | type |
|---|---|
";

fn letters() -> String {
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
    let rows = rows(&source_sets(kind, None));
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
    let rows = rows(&sink_sets(kind, None));
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
        let rows = rows(options.as_slice());
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

fn rows(sets: &[OptionSet]) -> Vec<Row> {
    let mut rows: Vec<Row> = sets.iter().flat_map(OptionSet::rows).collect();
    rows.sort_by(|a, b| {
        b.required
            .cmp(&a.required)
            .then_with(|| a.name.cmp(&b.name))
    });
    rows
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

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
