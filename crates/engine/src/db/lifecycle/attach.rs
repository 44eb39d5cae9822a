//! ATTACH SOURCE and DETACH SOURCE.

use std::sync::Arc;

use super::rebuild::rebuild;
use super::regulate::regulate;
use super::source_group::{fit, new_topic, query_text};
use crate::db::catalog::{QueryEntry, StreamDefinition};
use crate::db::engine::Engine;
use crate::db::outcome::Outcome;
use crate::error::{Error, Result};
use crate::sql::{Attach, Name, NamedMetadataColumns, SqlError, sqlstate};
use crate::stream_status::StreamStatus;
use crate::telemetry::LifecycleEvent;

pub(crate) fn attach(engine: &Engine, attach: &Attach) -> Result<Outcome> {
    let (source, stream) = {
        let catalog = engine.catalog();
        let (stream, query) = catalog.stream_named(&attach.stream)?;
        if !query.lifecycle.is_source_group() {
            return Err(not_a_source_group(&stream, query, &attach.stream).into());
        }
        let hint = "Streams are brought together with CREATE STREAM ... AS ... UNION ALL ....";
        (catalog.source_named(&attach.source, hint)?.0, stream)
    };
    let done = match attach.attach {
        true => attach_source(engine, &source, &stream),
        false => detach_source(engine, &source, &stream),
    };
    let has_changed = done.map_err(|error| match error {
        Error::Sql(error) => Error::Sql(error.at(attach.source.span.clone())),
        other => other,
    })?;
    if !has_changed {
        return Ok(Outcome::Unchanged { name: source });
    }
    let name = stream.clone();
    let status = engine.catalog().query(&name).map(|it| it.lifecycle.status);
    engine.event_log.publish(match attach.attach {
        true => LifecycleEvent::SourceAttached { source, stream },
        false => LifecycleEvent::SourceDetached { source, stream },
    });
    let status = status.unwrap_or(StreamStatus::Unknown);
    Ok(Outcome::Lifecycle { name, status })
}

/// Attaches a source to a source group; false if it is attached already.
pub(super) fn attach_source(engine: &Engine, source: &str, stream: &str) -> Result<bool> {
    {
        let mut catalog = engine.catalog();
        let home = catalog.source(source)?.topic.home;
        let relations = catalog.relations(&NamedMetadataColumns::default());
        let relation = relations.iter().find(|it| it.name == source);
        let Some((relation, query)) = relation.zip(catalog.query_mut(stream)) else {
            return Ok(false);
        };
        if query.inputs.iter().any(|input| input == source) {
            return Ok(false);
        }
        if query.lifecycle.has_no_columns() {
            let (schema, time) = (Arc::clone(&relation.schema), relation.event_time.clone());
            query.topic = new_topic(engine, stream, home, schema, time)?;
            query.lifecycle.definition = StreamDefinition::SourceGroup { has_columns: true };
        }
        fit(&query.topic.relation, relation)?;
        query.inputs.push(source.to_owned());
        set_text(query);
    }
    inputs_changed(engine, stream)?;
    Ok(true)
}

fn detach_source(engine: &Engine, source: &str, stream: &str) -> Result<bool> {
    {
        let mut catalog = engine.catalog();
        let Some(query) = catalog.query_mut(stream) else {
            return Ok(false);
        };
        let Some(at) = query.inputs.iter().position(|input| input == source) else {
            return Err(not_attached(source, stream, &query.inputs).into());
        };
        query.inputs.remove(at);
        set_text(query);
    }
    inputs_changed(engine, stream)?;
    Ok(true)
}

fn set_text(query: &mut QueryEntry) {
    query.text = query_text(&query.topic.relation.schema, &query.inputs);
    query.logical.clone_from(&query.text);
}

fn inputs_changed(engine: &Engine, stream: &str) -> Result<()> {
    let status = engine.catalog().query(stream).map(|it| it.lifecycle.status);
    if let Some(StreamStatus::Active | StreamStatus::Paused) = status {
        rebuild(engine, stream)?;
    }
    regulate(engine)
}

fn not_a_source_group(stream: &str, query: &QueryEntry, name: &Name) -> SqlError {
    let kind = query.kind;
    let message = format!("{kind} {stream:?} is a query: its sources are those of its FROM");
    SqlError::new(sqlstate::WRONG_KIND, message)
        .hint("Sources are attached to a stream that was created without AS.")
        .at(name.span.clone())
}

fn not_attached(source: &str, stream: &str, attached: &[String]) -> SqlError {
    let message = format!("source {source:?} is not attached to stream {stream:?}");
    let hint = match attached {
        [] => "No source is attached to it.".to_owned(),
        some => format!("Attached are: {}.", some.join(", ")),
    };
    SqlError::new(sqlstate::UNDEFINED_OBJECT, message).hint(hint)
}
