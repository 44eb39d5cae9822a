//! `headwater`: runs a pipeline that is written in one SQL file.
//!
//! ```text
//!   run FILE.sql       check FILE.sql     sql [FILE]
//!   tap FILE.sql [S]   tap -- COMMAND     connectors [NAME]
//!   replay FILE.sql SOURCE STREAM      verify DATA    salvage DATA --to NEW
//! ```
//!
//! Each command has its own file. They share [`script`], which runs the statements of a file in a
//! database; [`draw`], which draws errors under the SQL; [`lines`] and [`screen`], which show rows in a
//! pipe and on a terminal; and [`signals`], which catches Ctrl-C. The library does all other work.
//!
//! Exit codes: 0 success, 1 the input is wrong, 2 the command line is wrong, 3 something failed at run
//! time, 129 the terminal hung up.

mod check;
mod connectors;
mod draw;
mod error;
mod lines;
mod log;
mod panel;
mod replay;
mod run;
mod salvage;
mod screen;
mod script;
mod shell;
mod show;
mod signals;
mod tap;
mod terminal;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::CliError;
use headwater::{Builder, Db};

/// Reads data from sources, runs streaming SQL over it, and shows the results or sends them to sinks.
#[derive(Parser)]
#[command(name = "headwater", version)]
struct CommandLine {
    /// What to log: error, warn, info, debug, trace, or a filter such as headwater=debug
    /// [default: RUST_LOG, else warn]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = log::filter)]
    log: Option<String>,
    #[command(subcommand)]
    command: HeadwaterCommand,
}

#[derive(Subcommand)]
enum HeadwaterCommand {
    /// Run a pipeline until all its sources have ended or it is stopped.
    ///
    /// Shows the streams and views of the file's SUBSCRIBE statements, else its last stream or view: on
    /// a terminal as a table that updates in place, in a pipe as one JSON object a row. Ctrl-C stops
    /// the sources, processes the rows that have arrived and ends; a second Ctrl-C ends at once.
    Run(run::RunArguments),
    /// Check a pipeline: the SQL, every option, and whether each external system can be reached.
    ///
    /// Starts nothing and reads no data.
    Check(check::CheckArguments),
    /// Run statements one by one, typed at a prompt or read from a pipe.
    Sql(shell::SqlArguments),
    /// Print the raw bytes of a source or of a command.
    Tap(tap::TapArguments),
    /// Run the logged rows of a source through the query of a stream again, and print the results.
    ///
    /// Reads the data folder of a pipeline that is not running, and changes nothing in it.
    Replay(replay::ReplayArguments),
    /// Read everything in a data folder, and say what each damaged thing would cost.
    ///
    /// Changes nothing. Exit code 3 if something is damaged.
    Verify(verify::VerifyArguments),
    /// Copy what is good in a damaged data folder into a new one.
    ///
    /// Tells which rows are lost. The damaged folder stays as it is.
    Salvage(salvage::SalvageArguments),
    /// List the connectors, or explain the options of one.
    Connectors(connectors::ConnectorsArguments),
}

fn main() -> ExitCode {
    let arguments = CommandLine::parse();
    error::catch_panics();
    log::start(arguments.log.as_deref());
    let done = prepare(&arguments.command).and_then(|()| match &arguments.command {
        HeadwaterCommand::Run(arguments) => run::run(arguments),
        HeadwaterCommand::Check(arguments) => check::run(arguments),
        HeadwaterCommand::Sql(arguments) => shell::run(arguments),
        HeadwaterCommand::Tap(arguments) => tap::run(arguments),
        HeadwaterCommand::Replay(arguments) => replay::run(arguments),
        HeadwaterCommand::Verify(arguments) => verify::run(arguments),
        HeadwaterCommand::Salvage(arguments) => salvage::run(arguments),
        HeadwaterCommand::Connectors(arguments) => connectors::run(arguments),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What comes before everything that opens files or starts threads.
fn prepare(command: &HeadwaterCommand) -> Result<(), CliError> {
    if matches!(command, HeadwaterCommand::Connectors(_)) {
        return Ok(());
    }
    let resources = Db::builder().check_resources();
    resources.map_err(CliError::runtime)?;
    signals::outlive_long_files()
}

#[derive(clap::Args)]
struct SqlFile {
    /// The file with the SQL; - reads the standard input
    #[arg(value_name = "FILE.sql")]
    path: PathBuf,
}

#[derive(clap::Args)]
struct DatabaseArguments {
    /// Number of worker threads, 1 to 64 [default: number of cores, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: Option<u8>,
    /// Folder for write-ahead logs and checkpoints [default: run: headwater-data beside the file; sql: none]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Keep everything in memory; nothing survives the end of the program
    #[arg(long, conflicts_with = "data")]
    in_memory: bool,
}

impl DatabaseArguments {
    /// The folder of `--data`, else `folder`; none with `--in-memory`.
    fn folder(&self, folder: Option<PathBuf>) -> Option<PathBuf> {
        self.data.clone().or(folder).filter(|_| !self.in_memory)
    }

    /// Opens the folder of `--data`, else `folder`, else a database in memory. With `start_connectors`
    /// the sources and sinks that exist in the folder start at once.
    fn open(&self, folder: Option<PathBuf>, start_connectors: bool) -> Result<Db, CliError> {
        let builder = Db::builder().start_connectors(start_connectors);
        self.open_with(builder, folder)
    }

    /// As [`open`](Self::open), with these settings.
    fn open_with(&self, mut builder: Builder, folder: Option<PathBuf>) -> Result<Db, CliError> {
        if let Some(workers) = self.workers {
            builder = builder.workers(workers.into());
        }
        match self.folder(folder) {
            Some(folder) => builder.open(folder).map_err(CliError::runtime),
            None => builder.in_memory().map_err(CliError::runtime),
        }
    }
}

/// A database for trying statements: it accepts the same as one with a data folder, writes nothing, and
/// does not start connectors.
fn trial() -> Result<Db, CliError> {
    let builder = Db::builder().workers(1).start_connectors(false).trial();
    builder.in_memory().map_err(CliError::runtime)
}
