//! Connectors at work: starts, stops and validates sources and sinks.

mod reading;
mod sinks;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use super::catalog::CatalogEntry;
use super::checkpoint::checkpoint;
use super::engine::Engine;
use crate::error::Result;

pub(crate) use reading::{begin_reading, end_waiting, still_read, wait_for_end};
pub(crate) use sinks::{open_sink_queue, restart_sink, start_sinks, stop_sinks, subscribe_sink};
pub(crate) use sources::stop_sources;

/// How long the engine waits for connectors to stop, or for sinks to open.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Starts every connector that should run and does not: sinks first, so that they miss nothing. Returns
/// the names of the sources. Blocks.
pub(crate) fn start_connectors(engine: &Engine) -> Result<Vec<String>> {
    engine.set_starts_connectors();
    start_sinks(engine, &mut engine.catalog())?;
    sinks::wait_until_open(engine);
    // Every sink now has the position from which it can take back what it writes.
    checkpoint(engine)?;
    let catalog = engine.catalog();
    let wanted = catalog
        .sources()
        .filter(|it| catalog.is_wanted(it.shared.name()) && !reading::waits(it));
    let started = wanted.filter(|source| sources::start_source(engine, &catalog, source));
    Ok(started.map(|it| it.shared.name().to_owned()).collect())
}

/// Asks each connector whether it can reach its external system. Blocks.
pub(crate) fn validate(engine: &Engine) -> Vec<(String, Result<(), headwater_connect::Error>)> {
    let mut sources = Vec::new();
    let mut sinks = Vec::new();
    for (name, entry) in &engine.catalog().entries {
        match entry {
            CatalogEntry::Source(source) => {
                let connector = source.connector.as_ref();
                sources.extend(connector.map(|it| (name.clone(), Arc::clone(&it.handle))));
            }
            CatalogEntry::Sink(sink) => sinks.push((name.clone(), sink.spec.clone())),
            CatalogEntry::Query(_) => {}
        }
    }
    let answers = engine.io.block_on(async move {
        let mut answers = Vec::new();
        for (name, handle) in sources {
            answers.push((name, handle.validate().await));
        }
        for (name, spec) in sinks {
            let answer = match spec.sink() {
                Ok(sink) => sink.validate().await,
                Err(error) => Err(error),
            };
            answers.push((name, answer));
        }
        answers
    });
    answers.unwrap_or_default()
}
