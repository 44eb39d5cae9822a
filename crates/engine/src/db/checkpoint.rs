//! Checkpoints: the state of all queries between two steps, on disk, so that a restart replays only the
//! records behind it.
//!
//! ```text
//!   all workers answer ─► logs synced that far ─► sinks synced that far ─► runs and manifest written
//! ```
//!
//! The statements of everything that exists are part of each checkpoint, and `execute` returns only when
//! one that has them is on disk. So what exists and its saved state always match.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::catalog::Catalog;
use super::engine::{DataFolder, Engine, IoRuntime};
use super::sink_task::{SinkStatus, SinkSynced};
use crate::dataflow::Run;
use crate::durable::{Checkpoint, WalWriter};
use crate::error::{Error, Result};
use crate::telemetry;
use crate::worker::WorkerCommand;

/// How long a checkpoint waits for a sink to make durable what it has written.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// Writes a checkpoint, and returns when it is on disk. Blocks; does nothing without a data folder.
pub(crate) fn checkpoint(engine: &Engine) -> Result<()> {
    let Some(folder) = engine.persistence.folder() else {
        return Ok(());
    };
    let _one_at_a_time = folder.one_checkpoint();
    if folder.folder.is_unloaded() {
        return keep_what_exists(engine, folder);
    }
    let _span = telemetry::checkpoint_span().entered();
    let mut state = collect(engine)?;
    state.dropped = folder.dropped();
    let covered = sync_logs(folder, &mut state)?;
    let sinks = ask_sinks(&engine.catalog(), &state);
    wait_for_sinks(&engine.io, sinks)?;
    let written = folder.folder.write(state)?;
    for (wal_writer, offset, sequence) in covered {
        wal_writer.covered(offset, sequence);
    }
    folder.remove_dropped();
    tracing::debug!(
        number = written.number,
        runs = written.runs,
        bytes = written.bytes,
        "checkpoint"
    );
    Ok(())
}

/// The checkpoint of a database that runs nothing: the last one without what was dropped.
fn keep_what_exists(engine: &Engine, folder: &DataFolder) -> Result<()> {
    let (definitions, names) = {
        let catalog = engine.catalog();
        let topics = catalog.topics().map(|topic| topic.relation.name.clone());
        let names = topics.chain(catalog.entries.keys().cloned()).collect();
        (catalog.definitions(), names)
    };
    folder.add_dropped(folder.folder.keep_only(definitions, &names)?);
    folder.remove_dropped();
    Ok(())
}

/// The state of all workers at one moment, and what exists at it.
fn collect(engine: &Engine) -> Result<Checkpoint<Run>> {
    let mut state = Checkpoint::default();
    let answers = {
        let catalog = engine.catalog();
        state.definitions = catalog.definitions();
        state.streams = catalog.lifecycle_state();
        // Under the catalog's lock, so that nothing is created in between.
        engine
            .workers
            .ask(|answer| WorkerCommand::Checkpoint { answer })
    };
    for part in answers.wait()? {
        state.add(part.map_err(|error| Error::Data(error.strip_backtrace()))?);
    }
    Ok(state)
}

/// Waits until the logs are on disk as far as `state` covers them, and notes how far they are; returns what is
/// covered.
fn sync_logs(
    folder: &DataFolder,
    state: &mut Checkpoint<Run>,
) -> Result<Vec<(Arc<WalWriter>, u64, u64)>> {
    let mut covered = Vec::new();
    for (name, source) in &mut state.sources {
        if let Some(wal_writer) = folder.wal_writer(name) {
            wal_writer.sync_to(source.sequence).map_err(Error::Data)?;
            source.log = Some(wal_writer.end());
            covered.push((wal_writer, source.offset, source.sequence));
        }
    }
    folder.check_open()?;
    Ok(covered)
}

/// A sink that has been asked to make durable what it has written.
struct SyncedSink {
    name: String,
    status: Arc<SinkStatus>,
    synced: SinkSynced,
}

/// Asks every sink with a receipt in `state` to make durable what that receipt covers.
fn ask_sinks(catalog: &Catalog, state: &Checkpoint<Run>) -> Vec<SyncedSink> {
    let receipts = state
        .sinks
        .iter()
        .filter(|(_, sink)| sink.receipt.is_some());
    let asked = receipts.filter_map(|(name, _)| {
        let status = Arc::clone(&catalog.sink(name)?.status);
        Some(SyncedSink {
            name: name.clone(),
            synced: status.sync(),
            status,
        })
    });
    asked.collect()
}

fn wait_for_sinks(io: &IoRuntime, asked: Vec<SyncedSink>) -> Result<()> {
    let synced = io.block_on(async move {
        let deadline = tokio::time::Instant::now() + SYNC_DEADLINE;
        for sink in asked {
            let why = match tokio::time::timeout_at(deadline, sink.synced).await {
                Ok(Ok(Ok(())) | Err(_)) => continue,
                Ok(Ok(Err(why))) => why,
                Err(_) => format!("no answer within {} s", SYNC_DEADLINE.as_secs()),
            };
            let name = sink.name;
            // A sink that has failed for good must not keep the others from being saved.
            if !sink.status.has_failed() {
                return Err(Error::Data(format!(
                    "what sink {name:?} has written is not on disk: {why}"
                )));
            }
            tracing::debug!(sink = name, why, "a sink that has failed cannot be synced");
        }
        Ok(())
    });
    synced.unwrap_or(Err(Error::Closed))
}

/// Starts the thread that writes checkpoints as long as the database is open.
pub(crate) fn start_thread(engine: &Arc<Engine>) -> Result<()> {
    let engine = Arc::downgrade(engine);
    let thread = std::thread::Builder::new().name("checkpoints".to_owned());
    let spawned = thread.spawn(move || checkpoint_when_due(&engine));
    let spawned = spawned.map_err(|error| Error::no_thread("checkpoints", &error));
    spawned.map(drop)
}

fn checkpoint_when_due(engine: &Weak<Engine>) {
    let (mut last, mut reported) = (None, None);
    loop {
        let folder = engine
            .upgrade()
            .and_then(|it| it.persistence.folder().cloned());
        if !folder.is_some_and(|folder| folder.wait_until_due()) {
            return;
        }
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let steps = engine.workers.steps();
        if last == Some(steps) {
            continue;
        }
        match checkpoint(&engine) {
            Ok(()) => (last, reported) = (Some(steps), None),
            Err(Error::Closed) => return,
            Err(error) => {
                let error = error.to_string();
                if reported.as_ref() != Some(&error) {
                    tracing::error!(error, "no checkpoint can be written; the last one counts");
                    reported = Some(error);
                }
            }
        }
    }
}
