//! `headwater salvage`: copies what is good in a damaged data folder into a new one.
//!
//! The damaged folder stays as it is. A line for each log says how many rows were copied and which are lost.

use std::path::PathBuf;

use headwater::folder::{Salvage, salvage};

use crate::error::{self, CliError};
use crate::show;

#[derive(clap::Args)]
pub struct SalvageArguments {
    /// The damaged data folder, of a pipeline that is not running
    #[arg(value_name = "DATA")]
    from: PathBuf,
    /// The folder to be made
    #[arg(long, value_name = "NEW")]
    to: PathBuf,
}

/// Copies, and tells what is lost.
pub fn run(arguments: &SalvageArguments) -> Result<(), CliError> {
    let done = salvage(&arguments.from, &arguments.to).map_err(CliError::runtime)?;
    report(&done)?;
    show::text(&format!(
        "ok     {}: `headwater verify` and `headwater run --data` take it\n",
        arguments.to.display()
    ))
}

fn report(done: &Salvage) -> Result<(), CliError> {
    match done.checkpoint {
        Some(checkpoint) => show::text(&format!("ok     checkpoint {checkpoint}\n"))?,
        None => error::print_error(
            "warning: no checkpoint is whole: what is defined is rebuilt from the rows that the logs still have",
        ),
    }
    for log in &done.logs {
        show::text(&format!("ok     log {}: {} rows\n", log.name, log.rows))?;
        if log.lost > 0 {
            error::print_error(&format!(
                "warning: log {}: {} rows are lost, and those behind them have lower offsets now",
                log.name, log.lost
            ));
        }
        for note in &log.notes {
            error::print_error(&format!("warning: log {}: {note}", log.name));
        }
    }
    for statement in &done.left_out {
        error::print_error(&format!(
            "warning: left out, since it would write every row again: {statement}"
        ));
    }
    Ok(())
}
