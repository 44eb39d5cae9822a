//! Recovery: a database as it was, out of its data folder.
//!
//! ```text
//!   checkpoint ─► its statements, each restoring its saved state ─► records behind it ─► connectors
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use headwater_connect::Cursor;

use super::catalog::Catalog;
use super::connectors::{start_connectors, start_sinks};
use super::engine::{DataFolder, Engine};
use super::lifecycle;
use super::statements::execute_again;
use crate::batch_bytes::QUEUE_BYTES;
use crate::clock::now_us;
use crate::durable::{Checkpoint, Definition, SourceCheckpoint, WalMerge};
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::topic::TopicId;
use crate::worker::WorkerCommand;

/// Steps that are fed before recovery waits for the workers to have done them, or their bytes.
const STEPS_AT_ONCE: u64 = 16;

/// How far the sources had been fed at the checkpoint, by name.
type SourcesFed = BTreeMap<String, SourceCheckpoint>;

/// Executes the statements of the checkpoint, feeds the records behind it, and starts connectors. Blocks.
pub(crate) fn recover(engine: &Engine, folder: &DataFolder) -> Result<()> {
    let starts_connectors = engine.starts_connectors();
    let (definitions, streams, fed, sequence) = folder.restore(|state| {
        let streams = std::mem::take(&mut state.streams);
        (
            state.definitions.clone(),
            streams,
            state.sources.clone(),
            state.sequence,
        )
    });
    folder.set_restoring(true);
    for definition in &definitions {
        // A source group may have the columns of its first source, which those that read it need.
        lifecycle::reattach(engine, &streams)?;
        define_again(engine, definition)?;
    }
    report_what_does_not_fit(&engine.catalog(), folder, &engine.event_log);
    if folder.folder.is_unloaded() {
        lifecycle::note_status(&mut engine.catalog(), &streams);
        folder.set_restoring(false);
        return Ok(());
    }
    lifecycle::restore(engine, &streams)?;
    folder.set_restoring(false);
    if starts_connectors {
        start_sinks(engine, &mut engine.catalog())?;
    }
    let last = replay_logs(engine, folder, &fed, sequence)?;
    engine.workers.command(WorkerCommand::EndReplay(last + 1));
    engine.workers.finish_turns()?;
    for source in engine.catalog().sources() {
        // The bad rows from before the restart count, too.
        let bad = source.bad.rows();
        source.shared.bad.store(bad, Ordering::Relaxed);
    }
    folder.caught_up.send_replace(true);
    folder.restore(|state| *state = Checkpoint::default());
    // Streams whose backfill the end interrupted continue it.
    lifecycle::regulate(engine)?;
    if starts_connectors && !definitions.is_empty() {
        start_connectors(engine)?;
    }
    Ok(())
}

fn define_again(engine: &Engine, definition: &Definition) -> Result<()> {
    let name = &definition.name;
    let run = |text: &str, done: &str| {
        execute_again(engine, text).map_err(|error| {
            let reason = match error {
                Error::Data(reason) => reason,
                other => other.to_string(),
            };
            Error::Data(format!("{name:?} cannot be {done} again: {reason}"))
        })
    };
    run(&definition.text, "created")?;
    if let Some(time) = &definition.event_time {
        engine.set_event_time(name, time)?;
    }
    run(&definition.altered, "altered")
}

/// Reports logs that belong to no source, and checkpoints that could not be read.
fn report_what_does_not_fit(catalog: &Catalog, folder: &DataFolder, event_log: &EventLog) {
    let dropped = folder.dropped();
    let sources = catalog.sources().map(|source| source.shared.name());
    let sources = sources.chain(dropped.keys().map(String::as_str));
    for (log, what) in folder.folder.strange_logs(sources) {
        let log = log.display().to_string();
        let problem = format!(
            "no source of this data folder has this log ({what}): take it over with CREATE SOURCE .. \
             WITH (log = 'adopt'), or move it away"
        );
        tracing::warn!(folder = log, problem);
        event_log.error("log", &log, &problem);
    }
    for problem in &folder.passed_over {
        let problem = format!("{problem}; the checkpoint before it was used");
        event_log.error("checkpoint", "checkpoints", &problem);
    }
}

/// Feeds the records behind the checkpoint to the queries; each source resumes where its log ends.
/// Returns the number of the last step.
fn replay_logs(
    engine: &Engine,
    folder: &DataFolder,
    fed: &SourcesFed,
    sequence: u64,
) -> Result<u64> {
    let mut replay = records_behind(&engine.catalog(), folder, fed)?;
    let (mut last, mut steps, mut bytes) = (sequence, 0_u64, 0);
    let mut cursors = BTreeMap::new();
    while let Some(step) = replay.next_step()? {
        last = last.max(step.iter().map(|part| part.sequence).max().unwrap_or(0));
        for part in &step {
            if let Some(cursor) = &part.taken.cursor {
                cursors.insert(part.source, cursor.clone());
            }
        }
        bytes += step.iter().map(|part| part.taken.bytes()).sum::<usize>();
        engine.workers.command(WorkerCommand::Replay(step));
        steps += 1;
        if steps.is_multiple_of(STEPS_AT_ONCE) || bytes > QUEUE_BYTES {
            engine.workers.finish_turns()?;
            bytes = 0;
        }
    }
    engine.workers.finish_turns()?;
    resume_connectors(engine, fed, cursors);
    if steps > 0 {
        tracing::info!(steps, "replayed from the logs");
    }
    Ok(last)
}

/// The records of all logs that the checkpoint does not cover.
fn records_behind(catalog: &Catalog, folder: &DataFolder, fed: &SourcesFed) -> Result<WalMerge> {
    let mut replay = WalMerge::default();
    for source in catalog.sources() {
        let name = source.shared.name();
        let Some(wal_writer) = folder.wal_writer(name) else {
            continue;
        };
        let after = fed.get(name).map_or(0, |it| it.sequence);
        let (topic, schema) = (source.topic.id, &source.topic.relation.schema);
        if let Some(rows) = replay.add(topic, schema, &wal_writer, after)? {
            return Err(Error::Data(format!(
                "the log of {name:?} has lost {rows} rows that no checkpoint covers"
            )));
        }
    }
    Ok(replay)
}

/// Each connector resumes from its last cursor; one that cannot go back has a gap.
fn resume_connectors(engine: &Engine, fed: &SourcesFed, mut cursors: BTreeMap<TopicId, Cursor>) {
    for source in engine.catalog().sources() {
        let Some(connector) = &source.connector else {
            continue;
        };
        let saved = fed.get(source.shared.name());
        let saved = saved.and_then(|it| it.cursor.clone());
        let cursor = cursors.remove(&source.topic.id).or(saved);
        connector.handle.resume_from(cursor);
        if source.topic.rows() > 0 && !connector.goes_back() {
            engine.workers.command(WorkerCommand::NoteDowntime {
                source: source.topic.id,
                now_us: now_us(),
            });
        }
    }
}
