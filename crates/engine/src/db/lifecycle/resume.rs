//! START of a stream that has failed and still has its state: it goes on before the step that failed.
//!
//! ```text
//!   failed: all inputs held ─► Resume ─► the log from the failed step on ─► live rows
//!                                        (without a log: missed rows are counted)
//! ```
//!
//! The streams that have failed because of it go on with it, before it gives them rows again.

use super::rebuild::{held_if_failed, holds};
use crate::dataflow::{QueryFailure, sqlstate_of_reason};
use crate::db::catalog::{Catalog, HeldInput, QueryEntry};
use crate::db::engine::Engine;
use crate::error::{Error, Result};
use crate::sql::{Name, SqlError, sqlstate};
use crate::topic::TopicFailure;
use crate::worker::QueryCommand;

/// Continues failed streams, each behind what it reads. Their inputs that have a log stay held until
/// `regulate` has fed the log.
pub(super) fn resume(engine: &Engine, names: &[String]) -> Result<()> {
    {
        let mut catalog = engine.catalog();
        for name in names {
            resume_one(engine, &mut catalog, name);
        }
    }
    // Until then they are still marked as failed.
    engine.workers.step().map(drop)
}

/// An error if the stream has failed again.
pub(super) fn check_works(catalog: &Catalog, name: &str) -> Result<()> {
    match catalog.query(name).and_then(|query| query.topic.failure()) {
        Some(TopicFailure { reason, .. }) => Err(failed_again(name, reason)),
        None => Ok(()),
    }
}

/// The failure with the SQLSTATE of the row at which the query has failed.
fn failed_again(name: &str, reason: String) -> Error {
    match sqlstate_of_reason(&reason).and_then(|(text, code)| Some((text, sqlstate::of_row(code)?))) {
        Some((text, code)) => SqlError::new(code, format!("{name:?} has failed again: {text}"))
            .hint("ALTER STREAM or VIEW .. SET (on_error = 'dead_letter') lets it go on without such rows.")
            .into(),
        None => Error::QueryFailed { reason },
    }
}

/// An error if a stream that this one reads has failed: without its rows it would fail at once.
pub(super) fn check_inputs_work(catalog: &Catalog, name: &Name) -> Result<()> {
    let (declared, query) = catalog.stream_named(name)?;
    let Some(failed) = failed_inputs(catalog, query).next() else {
        return Ok(());
    };
    let message =
        format!("stream {declared:?} cannot be started: {failed:?}, which it reads, has failed");
    let hint = format!("START STREAM {failed} first: what has failed with it goes on with it.");
    let error = SqlError::new(sqlstate::NOT_IN_STATE, message).hint(hint);
    Err(error.at(name.span.clone()).into())
}

/// The streams that a query reads and that have failed.
fn failed_inputs<'a>(
    catalog: &'a Catalog,
    query: &'a QueryEntry,
) -> impl Iterator<Item = String> + 'a {
    let publishers = query.inputs.iter().filter_map(|it| catalog.publisher(it));
    publishers.filter(|name| catalog.query(name).is_some_and(|it| it.topic.has_failed()))
}

/// `name`, and the streams that have failed because it has and read nothing else that has failed, readers
/// behind what they read.
pub(super) fn failed_with(catalog: &Catalog, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    // What a stream reads is older than the stream.
    let ordered = catalog.order.iter();
    for (reader, query) in ordered.filter_map(|it| Some((it, catalog.query(it)?))) {
        let failure = query.topic.failure();
        let waits = failure.is_some_and(|failure| failure.is_inherited && failure.keeps_state);
        let mut failed = failed_inputs(catalog, query).peekable();
        if waits && failed.peek().is_some() && failed.all(|input| names.contains(&input)) {
            names.push(reader.clone());
        }
    }
    names
}

fn resume_one(engine: &Engine, catalog: &mut Catalog, name: &str) {
    let Some(query) = catalog.query_mut(name) else {
        return;
    };
    let since_us = query.topic.failure().map_or(0, |failure| failure.at_us);
    let lifecycle = &mut query.lifecycle;
    let fresh = held_if_failed(&engine.persistence, &query.inputs);
    for (input, held) in std::mem::replace(&mut lifecycle.if_failed, fresh) {
        let held = HeldInput { since_us, ..held };
        // An input that was held before the failure stays where it was.
        lifecycle.held.entry(input).or_insert(held);
    }
    let Some(query) = catalog.query(name) else {
        return;
    };
    let (lifecycle, output) = (&query.lifecycle, query.topic.id);
    let mut logged = lifecycle.held.clone();
    logged.retain(|_, held| held.place.is_some());
    let reason = lifecycle.held.values().next().map(|held| held.reason(name));
    engine.workers.life(QueryCommand::Resume {
        output,
        failure: QueryFailure::default(),
        if_failed: holds(catalog, &lifecycle.if_failed),
    });
    engine.workers.life(QueryCommand::Hold {
        output,
        inputs: holds(catalog, &logged),
        reason: reason.unwrap_or_default().into(),
    });
}
