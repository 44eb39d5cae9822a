//! START of a stream that has failed and still has its state: it goes on before the step that failed.
//!
//! ```text
//!   failed: all inputs held ─► Resume ─► the log from the failed step on ─► live rows
//!                                        (without a log: missed rows are counted)
//! ```
//!
//! The streams that have failed because of it go on with it, before it gives them rows again.

use super::rebuild::{held_if_failed, holds};
use crate::dataflow::QueryFailure;
use crate::db::catalog::{Catalog, HeldInput};
use crate::db::engine::Engine;
use crate::error::{Error, Result};
use crate::topic::TopicFailure;
use crate::worker::QueryCommand;

/// Continues a failed stream and those that have failed with it. Their inputs that have a log stay held
/// until `regulate` has fed the log.
pub(super) fn resume(engine: &Engine, name: &str) -> Result<()> {
    {
        let mut catalog = engine.catalog();
        for name in failed_with(&catalog, name) {
            resume_one(engine, &mut catalog, &name);
        }
    }
    // Until then they are still marked as failed.
    engine.workers.step().map(drop)
}

/// An error if the stream has failed again.
pub(super) fn check_works(catalog: &Catalog, name: &str) -> Result<()> {
    match catalog.query(name).and_then(|query| query.topic.failure()) {
        Some(TopicFailure { reason, .. }) => Err(Error::QueryFailed { reason }),
        None => Ok(()),
    }
}

/// `name`, and the streams that have failed because it has, readers behind what they read.
fn failed_with(catalog: &Catalog, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        let has_inherited = |reader: &String| {
            let failure = catalog.query(reader).and_then(|it| it.topic.failure());
            failure.is_some_and(|failure| failure.is_inherited && failure.keeps_state)
        };
        let readers = catalog.readers(&name).into_iter().filter(has_inherited);
        let new: Vec<_> = readers.filter(|reader| !names.contains(reader)).collect();
        names.extend(new);
        next += 1;
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
