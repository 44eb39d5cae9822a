//! `headwater tap`: the raw bytes of a source, before they are decoded. A terminal gets them as text that
//! does not command it.
//!
//! Only the tapped source of the file is created and started. For a command the program creates a
//! `process` source that runs it once.

use std::io::{self, IsTerminal, Write};

use headwater::connect::shown::printable;
use headwater::sql::{CreateSource, Statement, parse_each};
use headwater::{ByteRead, ByteReader, Db};
use tokio::signal::unix::SignalKind;

use crate::error::CliError;
use crate::script::SqlScript;
use crate::signals::{Signals, on_thread, runtime};
use crate::{script, trial};

/// The name of a command's source.
const COMMAND: &str = "command";

#[derive(clap::Args)]
pub struct TapArguments {
    /// The file with the SQL of the source; - reads the standard input
    #[arg(value_name = "FILE.sql", required_unless_present = "command")]
    path: Option<std::path::PathBuf>,
    /// The source; may be omitted if the file has only one
    source: Option<String>,
    /// A command to run, with its arguments
    #[arg(last = true, conflicts_with = "path")]
    command: Vec<String>,
}

/// Prints bytes until the source ends or a signal stops the program.
pub fn run(arguments: &TapArguments) -> Result<(), CliError> {
    let script = match &arguments.path {
        Some(path) => SqlScript::read(path)?,
        None => command_source(&arguments.command)?,
    };
    let (name, text, offset) = statement(&script, arguments.source.as_deref())?;
    let db = trial()?;
    db.execute(text)
        .map_err(|error| script.failure(&script::in_script(&error, offset)))?;
    let reader = db.tap(&name).map_err(CliError::input)?;
    runtime()?.block_on(follow(db, reader))
}

/// The script that creates a command's source.
fn command_source(command: &[String]) -> Result<SqlScript, CliError> {
    let words = serde_json::to_string(command).map_err(CliError::input)?;
    let words = words.replace('\'', "''");
    let text = format!(
        "CREATE SOURCE {COMMAND} WITH (connector = 'process', command = '{words}', \
         mode = 'once', stream = 'both', format = 'text')"
    );
    let name = "<command>".to_owned();
    Ok(SqlScript { name, text })
}

/// The name, statement and position in the script of the source asked for, or of the only one.
fn statement<'a>(
    script: &'a SqlScript,
    asked: Option<&str>,
) -> Result<(String, &'a str, usize), CliError> {
    let mut sources: Vec<(CreateSource, std::ops::Range<usize>)> = Vec::new();
    for statement in parse_each(&script.text) {
        let statement = statement.map_err(|error| script.failure(&[error]))?;
        if let Statement::CreateSource(create) = statement.node {
            sources.push((create, statement.span));
        }
    }
    let names: Vec<&str> = sources
        .iter()
        .map(|(it, _)| it.name.value.as_str())
        .collect();
    let index = match asked {
        None if names.len() == 1 => Some(0),
        None => None,
        Some(asked) => names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(asked)),
    };
    let Some(index) = index else {
        let what = match asked {
            Some(asked) => format!("{} has no source {asked:?}", script.name),
            None => format!("name a source of {}", script.name),
        };
        let known = match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        return Err(CliError::input(format!("{what}; it has {known}")));
    };
    let (create, span) = &sources[index];
    Ok((
        create.name.value.clone(),
        &script.text[span.clone()],
        span.start,
    ))
}

async fn follow(db: Db, reader: ByteReader) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    db.start_connectors().map_err(CliError::runtime)?;
    let mut hung_up = false;
    let printed = tokio::select! {
        printed = on_thread(move || print(reader, &mut io::stdout())) => printed?,
        signal = signals.next() => {
            hung_up = signal == SignalKind::hangup().as_raw_value();
            Ok(())
        }
    };
    let closing = db.clone();
    tokio::select! {
        closed = on_thread(move || closing.close()) => closed?,
        _ = signals.next() => {}
    }
    if hung_up {
        return Err(CliError::HungUp);
    }
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CliError::runtime(format!("cannot write: {error}")));
        }
        _ => {}
    }
    script::check_failures(&db)
}

/// Copies the bytes of the source to `out` until it ends. Blocks.
fn print(mut reader: ByteReader, out: &mut impl Write) -> io::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer, None) {
            ByteRead::Bytes(count) => {
                match is_terminal {
                    true => write!(
                        out,
                        "{}",
                        printable(&String::from_utf8_lossy(&buffer[..count]))
                    )?,
                    false => out.write_all(&buffer[..count])?,
                }
                out.flush()?;
            }
            ByteRead::Overtaken { missed } => {
                tracing::warn!(bytes = missed, "the output is too slow: bytes were missed");
            }
            ByteRead::Empty => {}
            ByteRead::Closed => return Ok(()),
        }
    }
}
