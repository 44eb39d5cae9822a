//! `headwater`: runs pipelines that are written in one SQL file.
//!
//! ```text
//!   run FILE.sql       check FILE.sql     sql [FILE]
//!   tap FILE.sql [S]   tap -- COMMAND     connectors [NAME]
//!   replay FILE.sql SOURCE STREAM
//! ```
//!
//! One file a command. What they share: [`script`] reads a file and puts its statements into a
//! database, [`draw`] draws errors under the SQL, [`lines`] and [`screen`] show rows to a pipe and to
//! a terminal, [`signals`] hears Ctrl-C. All real work is the library's.
//!
//! The exit code is 0 when all went well, 1 when what the user gave is wrong, 2 when the command line
//! is, 3 when something failed while it ran.

mod check;
mod connectors;
mod draw;
mod failure;
mod lines;
mod log;
mod panel;
mod replay;
mod run;
mod screen;
mod script;
mod shell;
mod show;
mod signals;
mod tap;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;
use headwater::Db;

/// Connects to what produces data, runs streaming SQL over it and shows or sends the results.
#[derive(Parser)]
#[command(name = "headwater", version, about, max_term_width = 100)]
struct Arguments {
    /// What is logged on the standard error output: error, warn, info, debug, trace, or a filter such
    /// as headwater=debug. Else RUST_LOG decides, else it is warn.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = log::filter)]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline until its sources end or it is told to stop.
    ///
    /// Shows what the file subscribes to, else its last stream or view: a table that updates in place
    /// on a terminal, a JSON object a row in a pipe. Ctrl-C stops the sources, processes what has
    /// arrived and ends; a second one ends at once.
    Run(run::Arguments),
    /// Check a pipeline: the SQL, every option, and whether what is outside can be reached.
    ///
    /// Starts nothing and reads no data.
    Check(check::Arguments),
    /// Run statements one by one: a shell, or what comes through a pipe.
    Sql(shell::Arguments),
    /// Follow the raw bytes of a source, or capture those of a command.
    Tap(tap::Arguments),
    /// Run the past of a source through the query of a stream once more, and print what it gives.
    ///
    /// Reads the data of a pipeline that is not running, and leaves it as it is.
    Replay(replay::Arguments),
    /// List the connectors, or explain all options of one.
    Connectors(connectors::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::start(arguments.log.as_deref());
    let done = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Sql(arguments) => shell::run(arguments),
        Command::Tap(arguments) => tap::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Connectors(arguments) => connectors::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// How a file of SQL is named on the command line.
#[derive(clap::Args)]
struct File {
    /// The file with the SQL; - reads it from the standard input.
    #[arg(value_name = "FILE.sql")]
    path: PathBuf,
}

/// How a database is opened.
#[derive(clap::Args)]
struct Database {
    /// Threads that compute, from 1 to 64 [default: the cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: Option<u8>,
    /// The folder that keeps what must survive: logs and checkpoints
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Keep everything in memory: nothing survives the end of the program
    #[arg(long, conflicts_with = "data")]
    in_memory: bool,
}

impl Database {
    /// The folder that was given, else `folder`; none if all is kept in memory.
    fn folder(&self, folder: Option<PathBuf>) -> Option<PathBuf> {
        self.data.clone().or(folder).filter(|_| !self.in_memory)
    }

    /// Opens the folder that was given, else `folder`; in memory if there is neither. With
    /// `start_connectors` what was created there starts at once.
    fn open(&self, folder: Option<PathBuf>, start_connectors: bool) -> Result<Db, Failure> {
        let mut builder = Db::builder().start_connectors(start_connectors);
        if let Some(workers) = self.workers {
            builder = builder.workers(workers.into());
        }
        match self.folder(folder) {
            Some(folder) => builder.open(folder).map_err(Failure::runtime),
            None => builder.in_memory().map_err(Failure::runtime),
        }
    }
}

/// A database for trying statements: one with a data folder would take them too, nothing is written,
/// and connectors wait for the word.
fn trial() -> Result<Db, Failure> {
    let builder = Db::builder().workers(1).start_connectors(false).trial();
    builder.in_memory().map_err(Failure::runtime)
}
