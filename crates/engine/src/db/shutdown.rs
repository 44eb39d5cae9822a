//! Settling, draining and closing: what has arrived is processed before anything ends.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::checkpoint::checkpoint;
use super::connectors::{STOP_DEADLINE, stop_sinks, stop_sources};
use super::engine::{Engine, Persistence, Workers};
use crate::error::{Error, Result};
use crate::worker::{LaneBacklog, WorkerCommand};

/// Time for the last writes of sinks, even if stopping the sources has used up the deadline.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// How long the end waits for a sink or subscriber that takes no rows.
const STALLED: Duration = Duration::from_secs(2);

/// How long closing waits for sinks before the last checkpoint.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(2);

/// Time between two checks whether the sinks have written what they have.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until all rows that have arrived are processed.
pub(crate) fn settle(workers: &Workers, persistence: &Persistence) -> Result<()> {
    while !settle_once(workers, persistence)? {}
    Ok(())
}

/// Does a step; returns whether all rows that have arrived are processed.
fn settle_once(workers: &Workers, persistence: &Persistence) -> Result<bool> {
    match (workers.step()?, persistence.log_problem()) {
        (LaneBacklog::Nothing, _) => Ok(true),
        (LaneBacklog::Stuck, Some(problem)) => Err(Error::Data(problem)),
        (LaneBacklog::Stuck | LaneBacklog::Rows, _) => Ok(false),
    }
}

/// Stops the sources and processes what has arrived.
pub(crate) fn drain(engine: &Engine) -> Result<()> {
    engine.workers.check_open()?;
    stop_sources(engine);
    settle_while_moving(engine)?;
    wait_for_dead_letters(engine);
    settle_while_moving(engine)
}

/// Like [`settle`], but waits no longer than [`STALLED`] for rows that a full queue holds back.
fn settle_while_moving(engine: &Engine) -> Result<()> {
    let mut moved = (rows_moved(engine), Instant::now());
    while !settle_once(&engine.workers, &engine.persistence)? {
        let rows = rows_moved(engine);
        if rows != moved.0 {
            moved = (rows, Instant::now());
        } else if moved.1.elapsed() > STALLED {
            tracing::warn!("rows wait for a sink or a subscriber that takes none");
            return Ok(());
        }
    }
    Ok(())
}

/// A number that grows while rows reach queries or sinks.
fn rows_moved(engine: &Engine) -> u64 {
    let catalog = engine.catalog();
    let sinks = catalog.sinks();
    let written = sinks.map(|(_, sink)| sink.status.rows.load(Ordering::Relaxed));
    written
        .chain(catalog.topics().map(|topic| topic.rows()))
        .sum()
}

/// Lets the sinks that may still have dead letters write what they have, while there is a stream to take
/// them. Blocks, at most [`STOP_DEADLINE`].
fn wait_for_dead_letters(engine: &Engine) {
    let sinks: Vec<_> = {
        let catalog = engine.catalog();
        let sinks = catalog.sinks().map(|(_, sink)| sink);
        let senders =
            sinks.filter(|it| it.task.is_some() && it.spec.errors().dlq_stream().is_some());
        senders.map(|sink| Arc::clone(&sink.status)).collect()
    };
    let deadline = Instant::now() + STOP_DEADLINE;
    while !sinks.is_empty() && Instant::now() < deadline {
        match engine.workers.step() {
            Ok(LaneBacklog::Rows) => continue,
            Ok(_) if sinks.iter().any(|sink| sink.is_behind()) => {}
            Ok(_) | Err(_) => return,
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Ends the engine: processes what has arrived, saves it, ends threads, sinks and subscriptions. Blocks;
/// does nothing the second time.
pub(crate) fn close(engine: &Engine) {
    let _one_at_a_time = engine.one_statement();
    if engine.workers.check_open().is_err() {
        return;
    }
    let began = Instant::now();
    stop_sources(engine);
    wait_for_dead_letters(engine);
    engine.workers.command(WorkerCommand::Seal);
    if let Err(error) = settle(&engine.workers, &engine.persistence) {
        tracing::error!(%error, "closed before all rows were taken");
    }
    close_data_folder(engine);
    engine.workers.end();
    stop_sinks(
        engine,
        (began + STOP_DEADLINE).max(Instant::now() + LAST_WRITES),
    );
    engine.io.shut_down();
    engine.event_log.close();
}

/// Writes the last checkpoint and all logs. After a start that failed the checkpoint before it still
/// counts, so none is written.
fn close_data_folder(engine: &Engine) {
    let Some(folder) = engine.persistence.folder() else {
        return;
    };
    folder.end_timer();
    if folder.has_caught_up() {
        wait_for_delivery(engine);
        if let Err(error) = checkpoint(engine) {
            tracing::error!(%error, "no last checkpoint could be written; the one before it counts");
        }
    }
    folder.close();
}

/// Gives the sinks time to write what they have, so that they need not write it again after a restart.
fn wait_for_delivery(engine: &Engine) {
    let deadline = Instant::now() + DELIVERY_DEADLINE;
    let is_delivered = || engine.catalog().topics().all(|topic| topic.is_delivered());
    while !is_delivered() && Instant::now() < deadline {
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Closes the engine when dropped. Threads of the engine hold the inner `Arc`, which does not.
pub(crate) struct EngineOwner(pub Arc<Engine>);

impl Deref for EngineOwner {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for EngineOwner {
    fn drop(&mut self) {
        close(&self.0);
    }
}

impl std::fmt::Debug for EngineOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("workers", &self.0.workers.count)
            .finish_non_exhaustive()
    }
}
