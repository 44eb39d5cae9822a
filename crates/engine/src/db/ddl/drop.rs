//! DROP: ends an entry, and before it what reads it.

use tokio::task::JoinHandle;

use super::create_sink::sink_query_name;
use crate::db::catalog::{Catalog, CatalogEntry, not_a};
use crate::db::connectors::STOP_DEADLINE;
use crate::db::engine::{Engine, IoRuntime};
use crate::db::outcome::Outcome;
use crate::error::Result;
use crate::sql::{Drop, Kind, SqlError, sqlstate};
use crate::worker::WorkerCommand;

pub(crate) fn drop_entry(engine: &Engine, drop: &Drop) -> Result<Outcome> {
    let mut catalog = engine.catalog();
    let name = match catalog.named(&drop.name) {
        Ok((name, entry)) if entry.kind() == drop.kind => name.to_owned(),
        Ok((name, entry)) => {
            let found = entry.kind();
            let hint = format!("Write DROP {}.", found.to_string().to_uppercase());
            return Err(not_a(&drop.name, name, found, drop.kind).hint(hint).into());
        }
        Err(_) if drop.if_exists => {
            let name = drop.name.value.clone();
            return Ok(Outcome::Unchanged { name });
        }
        Err(undefined) => return Err(undefined.into()),
    };
    let names = to_drop(&catalog, &name, drop)?;
    let entries: Vec<_> = names
        .iter()
        .filter_map(|name| catalog.remove(name))
        .collect();
    let closing = entries.into_iter().filter_map(|it| end_entry(engine, it));
    let closing: Vec<_> = closing.collect();
    std::mem::drop(catalog);
    wait_until_closed(&engine.io, closing);
    Ok(Outcome::Dropped { names })
}

/// `name` and all that reads it, readers first; an error if there are readers and no CASCADE.
fn to_drop(catalog: &Catalog, name: &str, drop: &Drop) -> Result<Vec<String>, SqlError> {
    let mut names = Vec::new();
    collect_readers(catalog, name, &mut names);
    // The query of a sink goes with it.
    let query = sink_query_name(name);
    let has_query = drop.kind == Kind::Sink && catalog.entries.contains_key(&query);
    if has_query {
        collect_readers(catalog, &query, &mut names);
    }
    let readers = names[1..].iter().filter(|reader| **reader != query);
    let readers: Vec<&str> = readers.map(String::as_str).collect();
    if !readers.is_empty() && !drop.cascade {
        let how = match catalog.senders(name).is_empty() {
            true => "read",
            false => "needed",
        };
        let message = format!("{name:?} is {how} by {}", readers.join(", "));
        let error = SqlError::new(sqlstate::DEPENDENT_OBJECTS, message)
            .hint("DROP them first, or use CASCADE.");
        return Err(error.at(drop.name.span.clone()));
    }
    if has_query {
        // The sink reads its query, so it is the first to go.
        names.swap(0, 1);
    }
    names.reverse();
    Ok(names)
}

/// `name`, then all that reads it, directly or not.
fn collect_readers(catalog: &Catalog, name: &str, into: &mut Vec<String>) {
    if into.iter().any(|known| known == name) {
        return;
    }
    into.push(name.to_owned());
    // What sends its dead letters there goes before those that read both.
    let senders = catalog.senders(name).into_iter();
    for reader in senders.chain(catalog.readers(name)) {
        collect_readers(catalog, &reader, into);
    }
}

/// Ends an entry; returns the task of a sink, which closes it.
fn end_entry(engine: &Engine, entry: CatalogEntry) -> Option<JoinHandle<()>> {
    let remove = |topic| engine.workers.command(WorkerCommand::Remove { topic });
    match entry {
        CatalogEntry::Source(source) => {
            remove(source.topic.id);
            engine.event_log.forget_gaps(source.shared.name());
            if let Some(folder) = engine.persistence.folder() {
                folder.drop_log(source.shared.name());
            }
            if let Some(connector) = source.connector {
                engine
                    .io
                    .spawn(async move { connector.handle.stop().await });
            }
            None
        }
        CatalogEntry::Query(query) => {
            remove(query.topic.id);
            None
        }
        CatalogEntry::Sink(sink) => {
            sink.stop.cancel();
            if let Some(queue) = sink.status.queue() {
                queue.abandon();
            }
            sink.task
        }
    }
}

/// Waits until sinks have closed the files they wrote to, so that the next sink may have them. Blocks,
/// at most [`STOP_DEADLINE`].
fn wait_until_closed(io: &IoRuntime, closing: Vec<JoinHandle<()>>) {
    if closing.is_empty() {
        return;
    }
    io.block_on(async move {
        let closed = futures_util::future::join_all(closing);
        if tokio::time::timeout(STOP_DEADLINE, closed).await.is_err() {
            tracing::warn!("a sink that was dropped has not closed yet");
        }
    });
}
