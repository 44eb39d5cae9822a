//! `headwater tap`: the raw bytes of a source, as they come from outside.
//!
//! Of the file only the source that is tapped is created and started. A command is a source too: its
//! output is captured in a ring that keeps the last bytes, from which `--tail` prints.

use std::io::{self, Write};

use headwater::sql::{CreateSource, Statement, parse_each};
use headwater::{ByteRead, ByteReader, Db};

use crate::draw::draw_for_stderr;
use crate::failure::Failure;
use crate::script::Script;
use crate::signals::{Signals, runtime};
use crate::{script, trial};

/// What the source of a command is called.
const COMMAND: &str = "command";

/// What `tap` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file with the SQL of the source; - reads it from the standard input.
    #[arg(value_name = "FILE.sql", required_unless_present = "command")]
    path: Option<std::path::PathBuf>,
    /// The source; not needed if the file has only one.
    source: Option<String>,
    /// A command whose output is captured, with its arguments.
    #[arg(last = true, conflicts_with = "path")]
    command: Vec<String>,
}

/// Prints bytes until the source ends or the program is told to.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let script = match &arguments.path {
        Some(path) => Script::read(path)?,
        None => command_source(&arguments.command)?,
    };
    let (name, text, offset) = statement(&script, arguments.source.as_deref())?;
    let db = trial()?;
    db.execute(text).map_err(|error| {
        let errors = script::moved(&error, offset);
        Failure::Input(draw_for_stderr(&script.name, &script.text, &errors))
    })?;
    let reader = db.tap(&name).map_err(Failure::input)?;
    runtime()?.block_on(follow(db, reader))
}

/// The statement that creates a command's source.
fn command_source(command: &[String]) -> Result<Script, Failure> {
    let words = serde_json::to_string(command).map_err(Failure::input)?;
    let words = words.replace('\'', "''");
    let text = format!(
        "CREATE SOURCE {COMMAND} WITH (connector = 'process', command = '{words}', \
         mode = 'once', stream = 'both', format = 'text')"
    );
    let name = "<command>".to_owned();
    Ok(Script { name, text })
}

/// The source asked for, or the only one: its name, its statement, and where that begins.
fn statement<'a>(
    script: &'a Script,
    asked: Option<&str>,
) -> Result<(String, &'a str, usize), Failure> {
    let mut sources: Vec<(CreateSource, std::ops::Range<usize>)> = Vec::new();
    for statement in parse_each(&script.text) {
        let statement = statement.map_err(|error| {
            Failure::Input(draw_for_stderr(&script.name, &script.text, &[error]))
        })?;
        if let Statement::CreateSource(create) = statement.node {
            sources.push((create, statement.span));
        }
    }
    let names: Vec<&str> = sources
        .iter()
        .map(|(it, _)| it.name.value.as_str())
        .collect();
    let place = match asked {
        None if names.len() == 1 => Some(0),
        None => None,
        Some(asked) => names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(asked)),
    };
    let Some(place) = place else {
        let what = match asked {
            Some(asked) => format!("{} has no source {asked:?}", script.name),
            None => format!("say which source of {}", script.name),
        };
        return Err(Failure::input(format!(
            "{what}; there are: {}",
            names.join(", ")
        )));
    };
    let (create, span) = &sources[place];
    Ok((
        create.name.value.clone(),
        &script.text[span.clone()],
        span.start,
    ))
}

async fn follow(db: Db, reader: ByteReader) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    db.start_connectors().map_err(Failure::runtime)?;
    let print = tokio::task::spawn_blocking(move || print(reader, &mut io::stdout()));
    let printed = tokio::select! {
        printed = print => printed.map_err(Failure::runtime)?,
        () = signals.next() => Ok(()),
    };
    let closing = db.clone();
    let close = tokio::task::spawn_blocking(move || closing.close());
    tokio::select! {
        closed = close => closed.map_err(Failure::runtime)?,
        () = signals.next() => {}
    }
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::runtime(format!("cannot write: {error}")));
        }
        _ => {}
    }
    script::tell_failures(&db)
}

/// Copies what is read to `out` until the source ends. Blocks.
fn print(mut reader: ByteReader, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer, None) {
            ByteRead::Bytes(count) => {
                out.write_all(&buffer[..count])?;
                out.flush()?;
            }
            ByteRead::Overtaken { missed } => {
                tracing::warn!(bytes = missed, "bytes were missed: the reader is too slow");
            }
            ByteRead::Empty => {}
            ByteRead::Closed => return Ok(()),
        }
    }
}
