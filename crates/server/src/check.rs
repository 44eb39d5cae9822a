//! `headwater check`: finds the errors of a pipeline without starting it.
//!
//! It runs the statements in a database whose connectors never start, then lets every source and sink
//! check that it can reach its external system. With `--require` the end of each chain (a sink, or a
//! stream that nothing reads) must give that guarantee, as it would with a data folder.

use std::collections::BTreeSet;

use headwater::connect::Guarantee;
use headwater::{Db, Guarantees};

use crate::error::CliError;
use crate::script::SqlScript;
use crate::{SqlFile, show, trial};

#[derive(clap::Args)]
pub struct CheckArguments {
    #[command(flatten)]
    file: SqlFile,
    /// Fail unless every row arrives at-least-once or exactly-once, also after a crash
    #[arg(long, value_name = "GUARANTEE", value_parser = guarantee)]
    require: Option<Guarantee>,
}

fn guarantee(text: &str) -> Result<Guarantee, String> {
    let known = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];
    let found = known.into_iter().find(|it| it.name() == text);
    found.ok_or_else(|| "must be at-least-once or exactly-once".to_owned())
}

/// Prints a line for everything that is right, and fails with all that is wrong.
pub fn run(arguments: &CheckArguments) -> Result<(), CliError> {
    let script = SqlScript::read(&arguments.file.path)?;
    let db = trial()?;
    let loaded = script.load(&db)?;
    for created in &loaded.created {
        show::text(&format!("ok     {created}\n"))?;
    }
    let mut wrong = Vec::new();
    for (name, reached) in db.validate() {
        match reached {
            Ok(()) => show::text(&format!(
                "ok     {name}: its external system can be reached\n"
            ))?,
            Err(error) => wrong.push(format!("error: {name}: {error}")),
        }
    }
    if let Some(required) = arguments.require {
        for found in ends(&db, &loaded.names)? {
            match broken(&found, required) {
                None => show::text(&format!("ok     {}: {}\n", found.name, found.overall()))?,
                Some(why) => wrong.push(why),
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(CliError::Input(wrong.join("\n"))),
    }
}

/// The guarantees at the ends of all chains: of each object that no other one reads.
fn ends(db: &Db, names: &[String]) -> Result<Vec<Guarantees>, CliError> {
    let found = names.iter().map(|name| db.guarantees(name));
    let found = found.collect::<Result<Vec<_>, _>>();
    let mut found = found.map_err(CliError::runtime)?;
    let between = found.iter().flat_map(|it| {
        let links = it.links.iter().map(|link| &link.name);
        links.filter(|name| **name != it.name).cloned()
    });
    let between: BTreeSet<String> = between.collect();
    found.retain(|it| !between.contains(&it.name));
    Ok(found)
}

/// The error for a guarantee weaker than required.
fn broken(found: &Guarantees, required: Guarantee) -> Option<String> {
    let weakest = found.weakest().filter(|it| it.guarantee < required)?;
    let (name, kind) = (&found.name, weakest.kind);
    Some(format!(
        "error: {name} is {}, not {required}; its weakest link is {kind} {}: {}",
        weakest.guarantee, weakest.name, weakest.why
    ))
}
