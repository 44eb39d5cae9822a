//! Rebuilds the dataflow of a stream, without its former state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::source_group;
use crate::dataflow::QueryFailure;
use crate::db::catalog::{Catalog, HeldInput, QueryEntry, StreamDefinition};
use crate::db::engine::{Engine, Persistence};
use crate::error::Result;
use crate::worker::{InputHold, NewQuery, QueryCommand};

/// Rebuilds the query of a stream, if it has inputs.
pub(super) fn rebuild(engine: &Engine, name: &str) -> Result<()> {
    let catalog = engine.catalog();
    let Some(query) = catalog.query(name) else {
        return Ok(());
    };
    let output = query.topic.id;
    if query.topic.has_failed() {
        engine.workers.life(QueryCommand::Stop { output });
    }
    let command = match new_query(&catalog, &engine.persistence, query)? {
        Some(new) => QueryCommand::Begin {
            query: new,
            held: holds(&catalog, &query.lifecycle.held),
        },
        None if query.lifecycle.has_no_columns() => return Ok(()),
        None => QueryCommand::Stop { output },
    };
    engine.workers.life(command);
    Ok(())
}

fn new_query(
    catalog: &Catalog,
    persistence: &Persistence,
    query: &QueryEntry,
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
        failure: QueryFailure::default(),
        state: persistence.saved_query(&query.topic.relation.name),
        held: Vec::new(),
    }))
}

/// Held inputs as the workers know them.
pub(super) fn holds(catalog: &Catalog, held: &BTreeMap<String, HeldInput>) -> Vec<InputHold> {
    let hold = |(input, held): (&String, &HeldInput)| {
        Some(InputHold {
            input: catalog.topic(input).ok()?.id,
            missed: Arc::clone(&held.missed),
            place: held.place.clone(),
        })
    };
    held.iter().filter_map(hold).collect()
}
