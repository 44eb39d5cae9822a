//! CREATE STREAM and CREATE VIEW with a query, and the stream behind a sink.

use std::sync::Arc;

use super::declaration::is_taken;
use super::query_options::{QueryOptions, dead_letter_topic};
use crate::clock::now_us;
use crate::dataflow::{OnError, QueryFailure};
use crate::db::backfill::{BackfillInput, catch_up, inputs_from, release};
use crate::db::catalog::{CatalogEntry, QueryEntry, Start, StreamLifecycle};
use crate::db::engine::Engine;
use crate::db::lifecycle::{held_if_failed, holds};
use crate::db::outcome::Outcome;
use crate::db::query::plan;
use crate::error::Result;
use crate::sql::plan::{Planned, Relation};
use crate::sql::{CreateQuery, Emit, Kind, SqlError};
use crate::subscription::SubscriberQueue;
use crate::topic::{Begin, Topic, TopicId};
use crate::worker::{NewQuery, QueryCommand, WorkerCommand};

pub(crate) fn create_query(engine: &Engine, create: CreateQuery) -> Result<Outcome> {
    let (kind, name, query) = (create.kind, create.name.value.clone(), create.query);
    let default = match kind {
        Kind::View => Start::Retained,
        _ => Start::Now,
    };
    let options = QueryOptions::of(default, &create.options)?;
    if create.emit == Some(Emit::OnUpdate) {
        let error = SqlError::not_built("EMIT ON UPDATE")
            .hint("Leave it out: a window gives its result when it closes.");
        return Err(error.at(query.span).into());
    }
    if is_taken(&engine.catalog(), &create.name, create.if_not_exists)? {
        return Ok(Outcome::Unchanged { name });
    }
    let text = query.text.clone();
    let planned = plan(engine, query)?;
    let inputs = &planned.inputs;
    let backfill = inputs_from(
        &engine.catalog(),
        &engine.persistence,
        inputs,
        options.start,
    )?;
    let new = NewStream {
        kind,
        name: &name,
        text,
        planned,
        on_error: options.on_error,
        // What a stream has emitted must not come again.
        restart: match kind {
            Kind::View => options.start,
            _ => Start::Now,
        },
    };
    let output = install(engine, new, None, &backfill)?;
    if !backfill.is_empty() {
        if catch_up(&engine.workers, &engine.event_log, output, &backfill)? {
            release(&engine.workers, output);
        }
        engine.workers.finish_turns()?;
    }
    Ok(Outcome::created(kind, name))
}

/// A stream or view that has been planned.
pub(super) struct NewStream<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// Its query as SQL, for people.
    pub text: String,
    pub planned: Planned,
    pub on_error: OnError,
    /// Where it begins again if it has failed and lost its state.
    pub restart: Start,
}

/// Starts a query. `first` subscribes before it has any result; it does not hear the inputs of `backfill`
/// until it is released.
pub(super) fn install(
    engine: &Engine,
    new: NewStream<'_>,
    first: Option<Arc<SubscriberQueue>>,
    backfill: &[BackfillInput],
) -> Result<TopicId> {
    let mut catalog = engine.catalog();
    let inputs = new.planned.inputs.iter().map(|input| catalog.topic(input));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let home = inputs.first().map_or(0, |it| it.home);
    let (output, late) = new_topics(engine, &new, home)?;
    let dead_letters = match new.on_error {
        OnError::DeadLetter => Some(dead_letter_topic(engine, new.name, home)?),
        OnError::Fail => None,
    };
    let (id, planned) = (output.id, new.planned);
    let state = engine.persistence.saved_query(new.name);
    if let Some(queue) = first {
        let from = match state {
            Some(_) => Begin::Next,
            None => Begin::Kept,
        };
        engine.workers.add_queue(&output, queue, from);
    }
    output.report_failures_to(&engine.event_log);
    let mut lifecycle = StreamLifecycle::active(planned.plan.clone(), now_us());
    lifecycle.start = new.restart;
    lifecycle.if_failed = held_if_failed(&engine.persistence, &planned.inputs);
    let query = NewQuery {
        plan: planned.plan,
        inputs,
        output: Arc::clone(&output),
        late: late.clone(),
        dead_letters: dead_letters.clone(),
        failure: QueryFailure::default(),
        failed: output.failure(),
        state,
        held: backfill.iter().map(BackfillInput::hold).collect(),
        if_failed: holds(&catalog, &lifecycle.if_failed),
    };
    engine
        .workers
        .command(match engine.persistence.is_stopped() {
            true => reserved(&output),
            false => WorkerCommand::AddQuery(query),
        });
    let entry = QueryEntry {
        kind: new.kind,
        topic: output,
        late,
        dead_letters,
        inputs: planned.inputs,
        text: new.text,
        logical: planned.logical,
        lifecycle,
    };
    catalog.insert(new.name, CatalogEntry::Query(entry));
    Ok(id)
}

/// The place of a query that does not run.
fn reserved(output: &Arc<Topic>) -> WorkerCommand {
    let output = Arc::clone(output);
    WorkerCommand::Query(QueryCommand::Reserve { output })
}

/// The topic of the results and those of late rows, as the checkpoint held them.
fn new_topics(
    engine: &Engine,
    new: &NewStream<'_>,
    home: usize,
) -> Result<(Arc<Topic>, Vec<Arc<Topic>>)> {
    let plan = &new.planned.plan;
    let relation = Relation {
        event_time: new.planned.event_time.clone(),
        changes: plan.changes,
        key: new.planned.key.clone(),
        in_order: new.planned.in_order,
        ..Relation::new(new.name, Arc::clone(&plan.schema))
    };
    // A changing result is kept, so that a later subscriber begins with its present rows.
    let output = engine.restored_topic(home, relation, new.kind == Kind::View || plan.changes)?;
    let late = plan.late.iter().enumerate().map(|(number, schema)| {
        let relation = Relation {
            in_order: false,
            ..Relation::new(&late_name(new.name, number), Arc::clone(schema))
        };
        engine.restored_topic(home, relation, false)
    });
    Ok((output, late.collect::<Result<_>>()?))
}

fn late_name(query: &str, number: usize) -> String {
    match number {
        0 => format!("{query}__late"),
        more => format!("{query}__late_{}", more + 1),
    }
}
