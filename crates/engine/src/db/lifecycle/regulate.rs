//! Which sources run, and which inputs are held, because of the status of the streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rebuild::holds;
use crate::clock::now_us;
use crate::db::backfill::{BackfillInput, catch_up};
use crate::db::catalog::{Catalog, HeldInput, QueryEntry};
use crate::db::engine::{Engine, Persistence};
use crate::error::Result;
use crate::topic::TopicId;
use crate::worker::QueryCommand;

/// An input that is not held any more.
struct Released {
    stream: String,
    input: String,
    held: HeldInput,
}

/// Pauses connectors, holds inputs and releases inputs as the status of the streams requires. Blocks
/// until the connectors are paused.
pub(crate) fn regulate(engine: &Engine) -> Result<()> {
    if engine.persistence.is_stopped() {
        return Ok(());
    }
    let has_paused = pause_unwanted(engine);
    if has_paused || holds_would_change(&engine.catalog()) {
        engine.workers.settle_briefly()?;
    }
    let behind = inputs_behind(&engine.catalog(), &engine.persistence);
    for (output, inputs) in behind {
        catch_up(&engine.workers, &engine.event_log, output, &inputs)?;
    }
    let released = hold(engine);
    if released.is_empty() {
        return Ok(());
    }
    // The counters are final once the workers have done the commands.
    engine.workers.step()?;
    for it in released {
        let rows = it.held.missed.load(Ordering::Relaxed);
        if rows > 0 {
            let reason = format!("{}: {rows} rows", it.held.reason(&it.stream));
            let since_us = it.held.since_us;
            engine
                .event_log
                .gap_between(&it.input, reason, since_us, now_us());
        }
    }
    Ok(())
}

/// Pauses the connectors of sources that no active stream needs; returns whether there were any. Blocks.
pub(super) fn pause_unwanted(engine: &Engine) -> bool {
    let mut handles = Vec::new();
    {
        let catalog = engine.catalog();
        for source in catalog.sources() {
            if let Some(connector) = &source.connector
                && connector.handle.status().state.is_active()
                && !catalog.is_wanted(source.shared.name())
            {
                connector.restart.store(true, Ordering::Release);
                handles.push(Arc::clone(&connector.handle));
            }
        }
    }
    let any = !handles.is_empty();
    if any {
        engine.io.block_on(async move {
            let pauses = handles.iter().map(|handle| handle.pause());
            futures_util::future::join_all(pauses).await;
        });
    }
    any
}

fn holds_would_change(catalog: &Catalog) -> bool {
    let mut queries = catalog.queries();
    queries.any(|(_, query)| holds_change(catalog, query))
}

/// Whether other inputs must be held than are. Of a query that has failed all stay held.
fn holds_change(catalog: &Catalog, query: &QueryEntry) -> bool {
    !query.topic.has_failed() && !query.lifecycle.holds(&catalog.inputs_to_hold(query))
}

/// The held inputs with a log that are about to be released, by the output of their query.
fn inputs_behind(
    catalog: &Catalog,
    persistence: &Persistence,
) -> Vec<(TopicId, Vec<BackfillInput>)> {
    let mut behind = Vec::new();
    let queries = catalog.queries().map(|(_, query)| query);
    for query in queries.filter(|query| holds_change(catalog, query)) {
        let wanted = catalog.inputs_to_hold(query);
        let released = query.lifecycle.held.iter().filter_map(|(input, held)| {
            let input = (!wanted.contains(input)).then_some(input)?;
            Some(BackfillInput {
                topic: catalog.topic(input).ok()?,
                wal_writer: persistence.wal_writer(input)?,
                place: Arc::clone(held.place.as_ref()?),
                clip: None,
            })
        });
        let inputs: Vec<_> = released.collect();
        if !inputs.is_empty() {
            behind.push((query.topic.id, inputs));
        }
    }
    behind
}

/// Holds the inputs of paused streams that others keep running, and releases the others.
fn hold(engine: &Engine) -> Vec<Released> {
    let mut catalog = engine.catalog();
    let names: Vec<String> = catalog.queries().map(|(name, _)| name.clone()).collect();
    let mut released = Vec::new();
    for name in names {
        let Some(query) = catalog.query(&name) else {
            continue;
        };
        if !holds_change(&catalog, query) {
            continue;
        }
        let wanted = catalog.inputs_to_hold(query);
        let (mut now, mut before) = (BTreeMap::new(), query.lifecycle.held.clone());
        for input in wanted {
            let held = before.remove(&input);
            let has_log = engine.persistence.wal_writer(&input).is_some();
            let held = held.unwrap_or_else(|| HeldInput::new("was paused", now_us(), has_log));
            now.insert(input, held);
        }
        engine.workers.life(QueryCommand::Hold {
            output: query.topic.id,
            inputs: holds(&catalog, &now),
            reason: reason(&name, &before).into(),
        });
        released.extend(before.into_iter().map(|(input, held)| Released {
            stream: name.clone(),
            input,
            held,
        }));
        if let Some(query) = catalog.query_mut(&name) {
            query.lifecycle.held = now;
        }
    }
    released
}

/// Why a stream has missed rows of inputs that are released together.
fn reason(stream: &str, released: &BTreeMap<String, HeldInput>) -> String {
    let first = released.values().next();
    first.map_or_else(String::new, |held| held.reason(stream))
}
