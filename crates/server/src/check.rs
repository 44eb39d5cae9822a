//! `headwater check`: whether a pipeline is right, without starting it.
//!
//! The statements are run in a database whose connectors never start; then every source and sink is
//! asked whether it can reach what it is to reach.

use crate::failure::Failure;
use crate::script::Script;
use crate::{File, trial};

/// What `check` is told.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: File,
}

/// Checks the file.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let script = Script::read(&arguments.file.path)?;
    let db = trial()?;
    let loaded = script.load(&db)?;
    for created in &loaded.created {
        println!("ok     {created}");
    }
    let mut unreachable = Vec::new();
    for (name, answer) in db.validate() {
        match answer {
            Ok(()) => println!("ok     {name}: what it connects to can be reached"),
            Err(error) => unreachable.push(format!("error: {name}: {error}")),
        }
    }
    match unreachable.is_empty() {
        true => Ok(()),
        false => Err(Failure::Input(unreachable.join("\n"))),
    }
}
