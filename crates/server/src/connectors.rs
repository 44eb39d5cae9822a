//! `headwater connectors`: what can be connected to, and how; made of what the connectors declare.

use std::fmt::Write;

use headwater::connect::{Connectors, Error, help};

use crate::failure::Failure;
use crate::show;

/// What `connectors` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The connector whose options are explained.
    name: Option<String>,
}

/// Prints the list, or one connector.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
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

fn unknown(error: &Error) -> Failure {
    match error.hint() {
        Some(hint) => Failure::input(format!("{error}; {hint}")),
        None => Failure::input(format!(
            "{error}; headwater connectors lists those there are"
        )),
    }
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
    text + "\nheadwater connectors NAME explains all options of one.\n"
}
