//! ALTER STREAM and ALTER VIEW: what happens to rows whose expressions fail, from now on.
//!
//! The change is kept as one ALTER statement beside the CREATE that it changes, and a restart executes it
//! after that. A query that has failed is not started by it.

use super::create_sink::is_sink_query;
use super::query_options::{ON_ERROR, dead_letter_name, dead_letter_topic, on_error};
use crate::dataflow::OnError;
use crate::db::catalog::{Catalog, not_a};
use crate::db::engine::Engine;
use crate::db::options::refuse_allowed_lateness;
use crate::db::outcome::Outcome;
use crate::error::Result;
use crate::sql::{AlterStream, Kind, Name, OptionEntry, SqlError, alter_text, sqlstate};
use crate::worker::QueryCommand;

pub(crate) fn alter_stream(engine: &Engine, alter: &AlterStream) -> Result<Outcome> {
    let name = altered_stream(&engine.catalog(), alter)?;
    refuse_allowed_lateness(&alter.options)?;
    alter.options.iter().try_for_each(refuse_fixed)?;
    // Spelt in two ways it may be there twice, and the last one counts.
    for option in &alter.options {
        match on_error(option)? {
            OnError::DeadLetter => begin_dead_letters(engine, &name)?,
            OnError::Fail => end_dead_letters(engine, &name, &alter.stream)?,
        }
    }
    let last = alter.options.last().into_iter().cloned();
    let text = alter_text(alter.kind, &name, &last.collect::<Vec<_>>());
    engine.catalog().define_altered(&name, text);
    Ok(Outcome::Altered {
        kind: alter.kind,
        name,
    })
}

/// The declared name of a stream or view whose options can be changed.
fn altered_stream(catalog: &Catalog, alter: &AlterStream) -> Result<String, SqlError> {
    let given = &alter.stream;
    let (name, query) = catalog.stream_named(given)?;
    if query.kind != alter.kind {
        let hint = format!("Write ALTER {}.", query.kind.to_string().to_uppercase());
        return Err(not_a(given, &name, query.kind, alter.kind).hint(hint));
    }
    let refused = |message: String, hint: &str| {
        let error = SqlError::new(sqlstate::WRONG_KIND, message).hint(hint);
        Err(error.at(given.span.clone()))
    };
    if query.lifecycle.is_source_group() {
        let message = format!("{name:?} is a source group, and computes nothing that could fail");
        return refused(message, "ATTACH and DETACH change it.");
    }
    if is_sink_query(catalog, &name) {
        let message = format!("{name:?} is the query of a sink");
        return refused(
            message,
            "CREATE STREAM with the query, and the sink FROM that stream.",
        );
    }
    Ok(name)
}

fn begin_dead_letters(engine: &Engine, name: &str) -> Result<()> {
    let mut catalog = engine.catalog();
    let Some(query) = catalog.query(name).filter(|it| it.dead_letters.is_none()) else {
        return Ok(());
    };
    let (output, home) = (query.topic.id, query.topic.home);
    let topic = Some(dead_letter_topic(engine, name, home)?);
    if let Some(query) = catalog.query_mut(name) {
        query.dead_letters.clone_from(&topic);
    }
    let command = QueryCommand::SetDeadLetters { output, topic };
    engine.workers.life(command);
    Ok(())
}

fn end_dead_letters(engine: &Engine, name: &str, given: &Name) -> Result<()> {
    let mut catalog = engine.catalog();
    let topic = dead_letter_name(name);
    let readers = catalog.readers_of_topic(&topic);
    let Some(query) = catalog
        .query_mut(name)
        .filter(|it| it.dead_letters.is_some())
    else {
        return Ok(());
    };
    if !readers.is_empty() {
        let message = format!("{topic:?} is read by {}", readers.join(", "));
        let error = SqlError::new(sqlstate::DEPENDENT_OBJECTS, message).hint("DROP them first.");
        return Err(error.at(given.span.clone()).into());
    }
    query.dead_letters = None;
    let output = query.topic.id;
    let command = QueryCommand::SetDeadLetters {
        output,
        topic: None,
    };
    engine.workers.life(command);
    Ok(())
}

fn refuse_fixed(option: &OptionEntry) -> Result<(), SqlError> {
    if option.key.eq_ignore_ascii_case(ON_ERROR) {
        return Ok(());
    }
    let what = format!(
        "changing the option {:?} of a {} or {}",
        option.key,
        Kind::Stream,
        Kind::View
    );
    Err(SqlError::not_built(what)
        .hint("DROP it and create it again; on_error can be changed.")
        .at(option.key_span.start..option.value_span.end))
}
