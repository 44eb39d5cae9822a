//! The help of a connector for a terminal, generated from its declaration.

use std::fmt::Write;

use crate::connector::Connector;
use crate::error_options;
use crate::formats::format;
use crate::options::{OptionSet, Row};
use crate::registry::{sink_sets, sorted_rows, source_sets};

/// The widest line of an option's text, characters.
const WIDTH: usize = 88;

/// All options of a connector: as a source, as a sink, and those of the formats it carries. `every_source`
/// are the options that the caller adds to each source.
pub fn connector(connector: &Connector, every_source: &[Row]) -> String {
    let mut text = format!("{}: {}\n", connector.name, connector.summary);
    if let Some(kind) = &connector.source {
        let carried = kind.formats.iter().filter_map(|name| format(name));
        let carried = carried.map(|it| (it.name, it.decoder_options));
        section(
            &mut text,
            "As a source",
            kind.formats,
            &source_sets(kind, None),
        );
        of_formats(&mut text, carried);
        text += "\nOptions that every source has:\n";
        every_source.iter().for_each(|row| option(&mut text, row));
    }
    if let Some(kind) = &connector.sink {
        let carried = kind.formats.iter().filter_map(|name| format(name));
        let carried = carried.map(|it| (it.name, it.encoder_options));
        section(&mut text, "As a sink", kind.formats, &sink_sets(kind, None));
        of_formats(&mut text, carried);
    }
    text += "\nFor when something fails, of every source and every sink:\n";
    error_options()
        .iter()
        .for_each(|row| option(&mut text, row));
    text
}

fn section(text: &mut String, title: &str, formats: &[&str], sets: &[OptionSet]) {
    *text += &format!("\n{title}");
    if !formats.is_empty() {
        *text += &format!(
            ", in the formats {} (the first unless said)",
            formats.join(", ")
        );
    }
    *text += ":\n";
    let rows = sorted_rows(sets);
    if rows.is_empty() {
        *text += "  it has no options\n";
    }
    rows.iter().for_each(|row| option(text, row));
}

fn of_formats<'a>(text: &mut String, formats: impl Iterator<Item = (&'a str, Option<OptionSet>)>) {
    for (name, options) in formats {
        let rows = options.map(|options| options.rows()).unwrap_or_default();
        if !rows.is_empty() {
            *text += &format!("\nWith format = '{name}':\n");
            rows.iter().for_each(|row| option(text, row));
        }
    }
}

fn option(text: &mut String, row: &Row) {
    let default = match (&row.default, row.required) {
        (_, true) => ", required".to_owned(),
        (Some(default), _) => format!(", default {default}"),
        (None, _) => String::new(),
    };
    // Writing into a String cannot fail.
    let _ = writeln!(text, "  {} ({}{default})", row.name, row.kind);
    let mut line = String::new();
    for word in row.doc.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() >= WIDTH {
            let _ = writeln!(text, "      {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    let _ = writeln!(text, "      {line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connectors;

    #[test]
    fn every_option_is_explained() {
        let connectors = Connectors::builtin();
        for name in connectors.names() {
            let found = connectors.get(name).unwrap();
            let text = connector(found, &[]);
            let sets = found.source.map(|kind| source_sets(&kind, None));
            let sets = sets
                .into_iter()
                .chain(found.sink.map(|kind| sink_sets(&kind, None)));
            for row in sets
                .flatten()
                .flat_map(|set| set.rows())
                .chain(error_options())
            {
                assert!(
                    text.contains(&format!("  {} ({}", row.name, row.kind)),
                    "{name}: {text}"
                );
            }
            assert!(text.lines().all(|line| line.len() < 120), "{text}");
        }
    }
}
