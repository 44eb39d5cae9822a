//! Rebuilds the dataflow of a stream, without its former state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::source_group;
use crate::clock::now_us;
use crate::dataflow::QueryFailure;
use crate::db::backfill::{BackfillInput, catch_up, inputs_from};
use crate::db::catalog::{Catalog, HeldInput, QueryEntry, StreamDefinition};
use crate::db::engine::{Engine, Persistence};
use crate::error::Result;
use crate::worker::{InputHold, NewQuery, QueryCommand};

/// Rebuilds the query of a stream, if it has inputs. A view that has failed begins where it once began; its
/// inputs stay held until `regulate` has fed what has come since.
pub(super) fn rebuild(engine: &Engine, name: &str) -> Result<()> {
    let mut catalog = engine.catalog();
    let Some(query) = catalog.query(name) else {
        return Ok(());
    };
    let (output, start) = (query.topic.id, query.lifecycle.start);
    let mut past = Vec::new();
    if query.topic.has_failed() {
        past = inputs_from(&catalog, &engine.persistence, &query.inputs, start)?;
        engine.workers.life(QueryCommand::Stop { output });
    }
    if let Some(query) = catalog.query_mut(name) {
        let lifecycle = &mut query.lifecycle;
        lifecycle.if_failed = held_if_failed(&engine.persistence, &query.inputs);
        if !past.is_empty() {
            lifecycle.held = past.iter().map(held_at).collect();
        }
    }
    let Some(query) = catalog.query(name) else {
        return Ok(());
    };
    let command = match new_query(&catalog, &engine.persistence, query, &past)? {
        Some(new) => QueryCommand::Begin {
            query: Box::new(new),
            held: holds(&catalog, &query.lifecycle.held),
        },
        None if query.lifecycle.has_no_columns() => return Ok(()),
        None => QueryCommand::Stop { output },
    };
    engine.workers.life(command);
    drop(catalog);
    if !past.is_empty() {
        // Only this knows from which event time on it begins.
        catch_up(&engine.workers, &engine.event_log, output, &past)?;
    }
    Ok(())
}

/// An input of a query that begins in the past, as it is held until it has been fed.
fn held_at(input: &BackfillInput) -> (String, HeldInput) {
    let held = HeldInput {
        place: Some(Arc::clone(&input.place)),
        ..HeldInput::new("had failed", now_us(), true)
    };
    (input.topic.relation.name.clone(), held)
}

/// A query without state, which first reads `past`.
fn new_query(
    catalog: &Catalog,
    persistence: &Persistence,
    query: &QueryEntry,
    past: &[BackfillInput],
) -> Result<Option<NewQuery>> {
    let plan = match &query.lifecycle.definition {
        StreamDefinition::Query(plan) => plan.clone(),
        StreamDefinition::SourceGroup { .. } => match source_group::plan(catalog, query)? {
            Some(plan) => plan,
            None => return Ok(None),
        },
    };
    let inputs = query.inputs.iter().map(|input| catalog.topic(input));
    Ok(Some(NewQuery {
        plan,
        inputs: inputs.collect::<Result<_>>()?,
        output: Arc::clone(&query.topic),
        late: query.late.clone(),
        dead_letters: query.dead_letters.clone(),
        failure: QueryFailure::default(),
        failed: None,
        state: persistence.saved_query(&query.topic.relation.name),
        held: past.iter().map(BackfillInput::hold).collect(),
        if_failed: holds(catalog, &query.lifecycle.if_failed),
    }))
}

/// The inputs of a query as they are held once it has failed.
pub(crate) fn held_if_failed(
    persistence: &Persistence,
    inputs: &[String],
) -> BTreeMap<String, HeldInput> {
    let held = inputs.iter().map(|input| {
        let has_log = persistence.wal_writer(input).is_some();
        let held = HeldInput::new("had failed", now_us(), has_log);
        (input.clone(), held)
    });
    held.collect()
}

/// Held inputs as the workers know them.
pub(crate) fn holds(catalog: &Catalog, held: &BTreeMap<String, HeldInput>) -> Vec<InputHold> {
    let hold = |(input, held): (&String, &HeldInput)| {
        Some(InputHold {
            input: catalog.topic(input).ok()?.id,
            missed: Arc::clone(&held.missed),
            place: held.place.clone(),
        })
    };
    held.iter().filter_map(hold).collect()
}
