//! A new source: its topics, its log, its connector, and its entry in the catalog.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::SchemaRef;
use headwater_connect::{Blueprint, Care, SourceHandle, SourceSpec};

use super::declaration::{payload_of, schema_of};
use crate::db::catalog::{CatalogEntry, SourceConnector, SourceEntry, event_columns};
use crate::db::checkpoint::checkpoint;
use crate::db::engine::Engine;
use crate::db::options::IngestOptions;
use crate::durable::{SourceCheckpoint, SourceFeed, bad_schema};
use crate::error::{Error, Result};
use crate::event_time::EventTimeColumn;
use crate::source::SourceShared;
use crate::sql::plan::Relation;
use crate::sql::{CreateSource, Name, SqlError, sqlstate};
use crate::tap::SourceTap;
use crate::topic::Topic;
use crate::worker::{Handoff, NewSource, WorkerCommand};

/// Creates a source whose options have been checked.
pub(super) fn add_source(
    engine: &Engine,
    create: &CreateSource,
    options: &IngestOptions,
    spec: Option<SourceSpec>,
) -> Result<()> {
    let name = &create.name.value;
    let payload = match &spec {
        Some(spec) => spec.schema(),
        None if create.columns.is_empty() => return Err(no_columns(&create.name).into()),
        None => payload_of(&create.columns),
    };
    let declared = schema_of(&create.columns);
    let computed = engine
        .planner
        .computed_columns(&create.columns, &declared)?;
    let schema = match &computed {
        Some(_) => declared,
        None => Arc::clone(&payload),
    };
    let time = event_time_column(create, options, &schema)?;
    let relation = Relation {
        event_time: event_columns(time.as_ref()),
        ..Relation::new(name, schema)
    };
    let adopted = claim_log(engine, &create.name, &relation, options)?;
    let mut catalog = engine.catalog();
    let home = catalog.sources().count() % engine.workers.count;
    let topic = engine.restored_topic(home, relation, false)?;
    let bad = Relation::new(&format!("{name}__bad"), bad_schema());
    let bad = engine.restored_topic(home, bad, false)?;
    let bell = engine.workers.bell(home);
    let feed = engine
        .persistence
        .open_log(&topic, options, time.as_ref(), bell)?;
    // What it takes before the streams and sinks of the script exist, they would miss.
    let waits = engine.runs_script() && !engine.persistence.is_restoring();
    let entry = SourceEntry {
        shared: shared(engine, &topic, payload),
        topic,
        bad,
        config: options.config(),
        time,
        computed,
        wal: options.wal_mode,
        connector: spec.map(|spec| stopped_connector(spec, waits)),
    };
    if let Some(adopted) = adopted {
        go_on_from(engine, &entry, adopted);
    }
    let new = new_source(engine, &entry, options, feed);
    engine.workers.command(WorkerCommand::AddSource(new));
    catalog.insert(name, CatalogEntry::Source(entry));
    Ok(())
}

/// The source as its home worker gets it.
fn new_source(
    engine: &Engine,
    entry: &SourceEntry,
    options: &IngestOptions,
    feed: SourceFeed,
) -> NewSource {
    NewSource {
        topic: Arc::clone(&entry.topic),
        bad: Arc::clone(&entry.bad),
        shared: Arc::clone(&entry.shared),
        computed: entry.computed.clone(),
        time: entry.time.clone(),
        idle_timeout: options.idle_timeout.0,
        idle_advance: options.goes_by_clock(entry.connector.is_some()),
        replays: engine.persistence.is_restoring(),
        feed: Handoff::new(feed),
    }
}

/// Goes on behind the last record of a log that the source took over.
fn go_on_from(engine: &Engine, source: &SourceEntry, adopted: SourceCheckpoint) {
    let next = WorkerCommand::SkipTo(adopted.sequence + 1);
    engine.workers.command(next);
    if let Some(connector) = &source.connector {
        connector.handle.resume_from(adopted.cursor);
    }
}

/// Makes room for the log of a new source, or takes over the one that is there if the options say so.
fn claim_log(
    engine: &Engine,
    name: &Name,
    relation: &Relation,
    options: &IngestOptions,
) -> Result<Option<SourceCheckpoint>> {
    let folder = engine.persistence.folder();
    if folder.is_some_and(|folder| folder.dropped().contains_key(&relation.name)) {
        // The log of a source of this name, dropped just now, goes once no checkpoint names it.
        checkpoint(engine)?;
    }
    let claimed = engine.persistence.claim_log(relation, options);
    claimed.map_err(|why| {
        let hint = match options.adopts_log() {
            true => "Leave log = 'adopt' out to begin with an empty log.",
            false => {
                "Take the log over with WITH (log = 'adopt'), or move it out of the data folder."
            }
        };
        let message = format!("source {:?} cannot have its log: {why}", relation.name);
        let error = SqlError::new(sqlstate::NOT_IN_STATE, message).hint(hint);
        error.at(name.span.clone()).into()
    })
}

/// What the producers of a source share with the engine.
fn shared(engine: &Engine, topic: &Topic, payload: SchemaRef) -> Arc<SourceShared> {
    let (workers, source) = (Arc::clone(&engine.workers), topic.id);
    let close = Box::new(move || workers.command(WorkerCommand::CloseSource { source }));
    let name = topic.relation.name.clone();
    let event_log = Arc::clone(&engine.event_log);
    Arc::new(SourceShared::new(name, payload, close, event_log))
}

/// The column of the event time, if the statement has a watermark.
fn event_time_column(
    create: &CreateSource,
    options: &IngestOptions,
    schema: &SchemaRef,
) -> Result<Option<EventTimeColumn>> {
    let Some(watermark) = &create.watermark else {
        return Ok(None);
    };
    options.check_watermark(watermark)?;
    let index_of = |name: &str| schema.index_of(name).map_err(Error::config);
    let field = match watermark.field.split_first() {
        Some((column, fields)) => Some((index_of(column)?, fields.to_vec())),
        None => None,
    };
    Ok(Some(EventTimeColumn {
        column: index_of(&watermark.column.value)?,
        field,
        delay: watermark.delay,
    }))
}

fn stopped_connector(spec: SourceSpec, waits: bool) -> SourceConnector {
    let blueprint = Arc::new(spec.clone());
    let tap = SourceTap::new(spec.format());
    let care = Care {
        tap: Some(tap.tap()),
        ..Care::default()
    };
    SourceConnector {
        handle: Arc::new(SourceHandle::new(blueprint, None, care)),
        spec,
        tap,
        dropped_before: 0,
        restart: Arc::default(),
        followed: AtomicBool::new(false),
        waits: AtomicBool::new(waits),
    }
}

fn no_columns(name: &Name) -> SqlError {
    SqlError::syntax(format!("source {:?} has no columns", name.value))
        .hint("List its columns, or name a connector that knows them.")
        .at(name.span.clone())
}
