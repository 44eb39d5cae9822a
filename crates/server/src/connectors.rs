//! `headwater connectors`: the list of connectors, and the options of each, from their declarations.

use std::fmt::Write;

use headwater::connect::{Connectors, Error, help};

use crate::error::CliError;
use crate::show;

#[derive(clap::Args)]
pub struct ConnectorsArguments {
    /// The connector whose options are explained.
    name: Option<String>,
}

/// Prints the list, or the options of one connector.
pub fn run(arguments: &ConnectorsArguments) -> Result<(), CliError> {
    let connectors = Connectors::builtin();
    let text = match &arguments.name {
        None => list(&connectors),
        Some(name) => {
            let connector = connectors.get(name).map_err(|error| unknown(&error))?;
            help::connector(connector, &headwater::source_options())
        }
    };
    show::text(&text)
}

fn unknown(error: &Error) -> CliError {
    let hint = error.hint();
    let hint = hint.as_deref().unwrap_or("headwater connectors lists them");
    CliError::input(format!("{error}; {hint}"))
}

fn list(connectors: &Connectors) -> String {
    let mut text = String::new();
    for connector in connectors
        .names()
        .filter_map(|name| connectors.get(name).ok())
    {
        let roles = match (connector.source.is_some(), connector.sink.is_some()) {
            (true, true) => "source, sink",
            (true, false) => "source",
            (false, _) => "sink",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:12} {roles:14} {}",
            connector.name, connector.summary
        );
    }
    text + "\nheadwater connectors NAME explains the options of one.\n"
}
