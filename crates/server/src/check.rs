//! `headwater check`: whether a pipeline is right, without starting it.
//!
//! The statements are run in a database whose connectors never start; then every source and sink is
//! asked whether it can reach what it is to reach. With `--require` whatever stands at the end of a
//! chain (a sink, or what nothing reads) must keep that promise, as it would with a data folder.

use std::collections::BTreeSet;

use headwater::connect::Guarantee;
use headwater::{Db, Guarantees};

use crate::failure::Failure;
use crate::script::Script;
use crate::{File, show, trial};

/// What `check` is told.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: File,
    /// Fail unless rows arrive as promised after a crash: at-least-once or exactly-once
    #[arg(long, value_name = "GUARANTEE", value_parser = guarantee)]
    require: Option<Guarantee>,
}

fn guarantee(text: &str) -> Result<Guarantee, String> {
    let known = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];
    let found = known.into_iter().find(|it| it.name() == text);
    found.ok_or_else(|| "it is at-least-once or exactly-once".to_owned())
}

/// Checks the file.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let script = Script::read(&arguments.file.path)?;
    let db = trial()?;
    let loaded = script.load(&db)?;
    for created in &loaded.created {
        show::text(&format!("ok     {created}\n"))?;
    }
    let mut wrong = Vec::new();
    for (name, answer) in db.validate() {
        match answer {
            Ok(()) => show::text(&format!(
                "ok     {name}: what it connects to can be reached\n"
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
        false => Err(Failure::Input(wrong.join("\n"))),
    }
}

/// The guarantees of what is no link on the way to anything else.
fn ends(db: &Db, names: &[String]) -> Result<Vec<Guarantees>, Failure> {
    let found = names.iter().map(|name| db.guarantees(name));
    let found = found.collect::<Result<Vec<_>, _>>();
    let mut found = found.map_err(Failure::runtime)?;
    let between = found.iter().flat_map(|it| {
        let links = it.links.iter().map(|link| &link.name);
        links.filter(|name| **name != it.name).cloned()
    });
    let between: BTreeSet<String> = between.collect();
    found.retain(|it| !between.contains(&it.name));
    Ok(found)
}

/// What is wrong, if less is kept than is required.
fn broken(found: &Guarantees, required: Guarantee) -> Option<String> {
    let weakest = found.weakest().filter(|it| it.guarantee < required)?;
    let (name, kind) = (&found.name, weakest.kind);
    Some(format!(
        "error: {name} is {}, not {required}; its weakest link is {kind} {}: {}",
        weakest.guarantee, weakest.name, weakest.why
    ))
}
