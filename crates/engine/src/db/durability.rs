//! Opening a data folder, and checkpoints while the database runs.
//!
//! ```text
//!   open:  checkpoint ─► statements again, each continuing what it knew ─► records behind it ─► go on
//!   run:   every checkpoint_interval: all workers tell what they know between two steps ─► disk
//! ```
//!
//! What was created is part of each checkpoint, and `execute` returns only when one that has it is on
//! disk. So what exists and what is known of it always fit together.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use headwater_connect::Gap;
use headwater_log::Disk;

use super::catalog::Entry;
use super::streams::lives;
use super::{Builder, Db, Inner};
use crate::dataflow::Run;
use crate::durable::{
    AckTracker, Checkpoint, Definition, Folder, SourceCheckpoint, WalMerge, WalWriter, Written,
};
use crate::error::{Error, Result};
use crate::event_time::WatermarkConfig;
use crate::telemetry;
use crate::topic::Topic;
use crate::worker::WorkerCommand;

/// How often state is saved where no source says so.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// How long a checkpoint waits for a sink to make durable what it has written.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// Steps that are fed again before the replay waits for the workers to have done them.
const REPLAYED_AT_ONCE: usize = 16;

/// What a database with a data folder has beside the others.
pub(super) struct Durability {
    pub folder: Folder,
    /// What the newest checkpoint held and nothing has taken yet. Empty once the database is open.
    restored: Mutex<Restored>,
    wal_writers: Mutex<BTreeMap<String, Arc<WalWriter>>>,
    /// The journals have been taken out: who finds none here knows nothing of what is on disk.
    closed: AtomicBool,
    /// Told at the end that nothing will become durable any more.
    ack_trackers: Mutex<Vec<std::sync::Weak<AckTracker>>>,
    /// Sources that have gone, whose logs go once no checkpoint names them.
    dropped: Mutex<Vec<String>>,
    /// One checkpoint at a time.
    checkpointing: Mutex<()>,
    /// Whether the logs have been fed again.
    pub caught_up: tokio::sync::watch::Sender<bool>,
    pacer: Pacer,
}

/// What statements that run again at the start continue from.
#[derive(Default)]
struct Restored {
    state: Checkpoint<Run>,
    /// Whether statements are being run again.
    running: bool,
}

/// Tells the checkpoint thread when.
struct Pacer {
    state: Mutex<Pace>,
    changed: Condvar,
}

struct Pace {
    every: Duration,
    ended: bool,
}

impl Durability {
    fn open(disk: Arc<dyn Disk>, path: &Path, segment_bytes: u64) -> Result<Self> {
        let (folder, state) = Folder::open(disk, path, segment_bytes)?;
        Ok(Self {
            folder,
            restored: Mutex::new(Restored {
                state: state.unwrap_or_default(),
                running: false,
            }),
            wal_writers: Mutex::default(),
            closed: AtomicBool::new(false),
            ack_trackers: Mutex::default(),
            dropped: Mutex::default(),
            checkpointing: Mutex::new(()),
            caught_up: tokio::sync::watch::Sender::new(false),
            pacer: Pacer {
                state: Mutex::new(Pace {
                    every: CHECKPOINT_INTERVAL,
                    ended: false,
                }),
                changed: Condvar::new(),
            },
        })
    }

    /// Takes what is known of something that is made again.
    pub fn restore<T>(&self, take: impl FnOnce(&mut Checkpoint<Run>) -> T) -> T {
        take(&mut lock(&self.restored).state)
    }

    /// Whether statements are being run again at the start.
    pub fn is_restoring(&self) -> bool {
        lock(&self.restored).running
    }

    /// Whether everything is there again that was there before.
    pub fn has_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// A source has a log.
    pub fn add_wal_writer(&self, name: &str, wal_writer: &Arc<WalWriter>) {
        lock(&self.wal_writers).insert(name.to_owned(), Arc::clone(wal_writer));
    }

    /// The log of a source, if it has one.
    pub fn wal_writer(&self, name: &str) -> Option<Arc<WalWriter>> {
        lock(&self.wal_writers).get(name).cloned()
    }

    /// All logs.
    pub fn all_wal_writers(&self) -> Vec<Arc<WalWriter>> {
        lock(&self.wal_writers).values().cloned().collect()
    }

    /// The log of this source goes once no checkpoint names it.
    pub fn drop_later(&self, name: &str) {
        lock(&self.dropped).push(name.to_owned());
    }

    /// A source has gone.
    pub fn remove_wal_writer(&self, name: &str) -> Option<Arc<WalWriter>> {
        lock(&self.wal_writers).remove(name)
    }

    /// Removes the logs of sources that have gone; what cannot be removed now is removed later.
    fn remove_dropped(&self) {
        let mut dropped = lock(&self.dropped);
        dropped.retain(|name| {
            if self.wal_writer(name).is_some() {
                return false;
            }
            let removed = self.folder.remove_log(name);
            if let Err(error) = &removed {
                tracing::warn!(source = name, %error, "the log of a dropped source stays");
            }
            removed.is_err()
        });
    }

    /// State is to be saved this often, if it is not saved more often already.
    pub fn checkpoint_every(&self, every: Duration) {
        let mut pace = lock(&self.pacer.state);
        pace.every = pace.every.min(every);
        self.pacer.changed.notify_all();
    }

    /// Ends the checkpoint thread.
    pub fn end(&self) {
        lock(&self.pacer.state).ended = true;
        self.pacer.changed.notify_all();
    }

    /// A handle waits for the disk.
    pub fn add_ack_tracker(&self, ack_tracker: &Arc<AckTracker>) {
        let mut ack_trackers = lock(&self.ack_trackers);
        ack_trackers.retain(|ack_tracker| ack_tracker.strong_count() > 0);
        ack_trackers.push(Arc::downgrade(ack_tracker));
    }

    /// An error once the journals have been taken out. Asked after they were looked up.
    pub fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Writes and syncs what the journals hold, and ends all waiting for them. Blocks.
    pub fn close_wal_writers(&self) {
        // Taken out, so that their files are closed.
        self.closed.store(true, Ordering::Release);
        let wal_writers = std::mem::take(&mut *lock(&self.wal_writers));
        wal_writers
            .values()
            .for_each(|wal_writer| wal_writer.close());
        let ack_trackers = std::mem::take(&mut *lock(&self.ack_trackers));
        ack_trackers
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|ack_tracker| ack_tracker.close());
    }
}

impl Pacer {
    /// Waits until a checkpoint is due; false at the end.
    fn wait(&self) -> bool {
        let mut pace = lock(&self.state);
        let began = std::time::Instant::now();
        loop {
            let left = pace.every.saturating_sub(began.elapsed());
            if pace.ended || left.is_zero() {
                return !pace.ended;
            }
            pace = self
                .changed
                .wait_timeout(pace, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Builder {
    /// Opens the database that keeps its data in `folder`, which is made if need be. What was created
    /// there is there again, and goes on where it was: also after a crash. Blocks until it has caught
    /// up with the log.
    ///
    /// # Errors
    /// As [`in_memory`](Self::in_memory); if another process has the folder open, it cannot be read or
    /// written, or what was created there cannot be made again (a connector is missing, say).
    pub fn open(self, folder: impl AsRef<Path>) -> Result<Db> {
        let disk = Arc::new(headwater_log::RealDisk);
        self.open_on(disk, folder.as_ref())
    }

    /// As [`open`](Self::open), on a disk of your own: for tests with one that lies.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    pub fn open_on(self, disk: Arc<dyn Disk>, folder: &Path) -> Result<Db> {
        let start_connectors = self.start_connectors;
        let durability = Durability::open(disk, folder, self.segment_bytes)?;
        let db = Db::start(self, Some(durability))?;
        db.inner.recover(start_connectors)?;
        let weak = Arc::downgrade(&db.inner);
        let thread = std::thread::Builder::new().name("checkpoints".to_owned());
        let spawned = thread.spawn(move || checkpoint_now_and_then(&weak));
        spawned.map_err(|error| Error::Start(error.to_string()))?;
        Ok(db)
    }
}

/// Saves state when it is due, as long as the database is there.
fn checkpoint_now_and_then(inner: &Weak<Inner>) {
    let (mut last, mut told) = (None, None);
    loop {
        let Some(durability) = inner.upgrade().and_then(|it| it.durability.clone()) else {
            return;
        };
        if !durability.pacer.wait() {
            return;
        }
        let Some(inner) = inner.upgrade() else { return };
        let steps = inner.sequencer.steps();
        if last == Some(steps) {
            continue;
        }
        match inner.checkpoint() {
            Ok(_) => (last, told) = (Some(steps), None),
            Err(Error::Closed) => return,
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::error!(error, "no checkpoint can be written; the last one counts");
                    told = Some(error);
                }
            }
        }
    }
}

impl Inner {
    /// Saves everything that is known, and returns when it is on disk; `None` without a data folder.
    pub(super) fn checkpoint(&self) -> Result<Option<Written>> {
        let Some(durability) = self.durability.clone() else {
            return Ok(None);
        };
        let _one_at_a_time = lock(&durability.checkpointing);
        let _span = telemetry::checkpoint_span().entered();
        let state = self.collect()?;
        let covered = sync_logs_of(&durability, &state)?;
        self.sync_sinks(&state)?;
        let written = durability.folder.write(state)?;
        for (wal_writer, offset, sequence) in covered {
            wal_writer.covered(offset, sequence);
        }
        durability.remove_dropped();
        tracing::debug!(
            number = written.number,
            runs = written.runs,
            bytes = written.bytes,
            "checkpoint"
        );
        Ok(Some(written))
    }

    /// Makes what sinks have written as durable as the receipts in `state` say. Blocks.
    fn sync_sinks(&self, state: &Checkpoint<Run>) -> Result<()> {
        let asked: Vec<_> = {
            let catalog = self.catalog();
            let receipts = state
                .sinks
                .iter()
                .filter(|(_, sink)| sink.receipt.is_some());
            let sinks = receipts.filter_map(|(name, _)| match catalog.entries.get(name) {
                Some(Entry::Sink(sink)) => {
                    Some((name.clone(), Arc::clone(&sink.status), sink.status.sync()))
                }
                _ => None,
            });
            sinks.collect()
        };
        let synced = self.block_on(async move {
            let deadline = tokio::time::Instant::now() + SYNC_DEADLINE;
            for (name, status, synced) in asked {
                let why = match tokio::time::timeout_at(deadline, synced).await {
                    Ok(Ok(Ok(()))) | Ok(Err(_)) => continue,
                    Ok(Ok(Err(why))) => why,
                    Err(_) => format!("no answer within {} s", SYNC_DEADLINE.as_secs()),
                };
                // One that has failed for good must not keep all others from being saved.
                if status.get().name != "failed" {
                    let what = format!("what sink {name:?} has written is not on disk: {why}");
                    return Err(Error::Data(what));
                }
                tracing::debug!(sink = name, why, "a sink that has failed cannot be synced");
            }
            Ok(())
        });
        synced.unwrap_or(Err(Error::Closed))
    }

    /// What all workers know at one moment, and what exists at it.
    fn collect(&self) -> Result<Checkpoint<Run>> {
        let (answer, answers) = sync_channel(self.workers);
        let mut state = Checkpoint::default();
        {
            let catalog = self.catalog();
            // Under the catalog's lock, so that nothing is created in between.
            self.sequencer.command(WorkerCommand::Checkpoint { answer });
            state.definitions = catalog.definitions();
            state.streams = lives(&catalog);
        }
        for _ in 0..self.workers {
            let part = answers.recv().map_err(|_| Error::Closed)?;
            state.add(part.map_err(|error| Error::Data(error.strip_backtrace()))?);
        }
        Ok(state)
    }

    /// Runs again what was created, feeds again what the logs hold behind the checkpoint, and goes on.
    fn recover(&self, start_connectors: bool) -> Result<()> {
        let Some(durability) = self.durability.clone() else {
            return Ok(());
        };
        let definitions = durability.restore(|state| state.definitions.clone());
        let streams = durability.restore(|state| std::mem::take(&mut state.streams));
        let sequence = durability.restore(|state| state.sequence);
        lock(&durability.restored).running = true;
        let mut fed = BTreeMap::new();
        durability.restore(|state| fed.clone_from(&state.sources));
        for definition in &definitions {
            // A set of sources may have its columns from the first; then they are needed from here on.
            self.attach_again(&streams)?;
            self.create_again(definition)?;
        }
        self.tell_strange_logs(&durability);
        self.restore_lifecycle(&streams)?;
        lock(&durability.restored).running = false;
        if start_connectors {
            self.start_sinks(&mut self.catalog())?;
        }
        let last = self.replay(&durability, &fed, sequence)?;
        self.sequencer.command(WorkerCommand::SetSequence(last + 1));
        self.count_bad_again()?;
        durability.caught_up.send_replace(true);
        durability.restore(|state| *state = Checkpoint::default());
        // Streams that were catching up go on with that.
        self.regulate()?;
        if start_connectors && !definitions.is_empty() {
            self.start_connectors()?;
        }
        Ok(())
    }

    /// The bad rows of before count, too.
    fn count_bad_again(&self) -> Result<()> {
        self.look()?;
        for source in self.catalog().sources() {
            source
                .shared
                .bad
                .store(source.bad.rows(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// A crash between DROP SOURCE and the end of its log leaves that behind.
    fn tell_strange_logs(&self, durability: &Durability) {
        let catalog = self.catalog();
        let sources = catalog.sources().map(|source| source.shared.name());
        for folder in durability.folder.strange_logs(sources) {
            let folder = folder.display().to_string();
            let problem = "it is the log of no source: remove it if nobody misses one";
            tracing::warn!(folder, problem);
            self.event_log.error("log", &folder, problem);
        }
    }

    fn create_again(&self, definition: &Definition) -> Result<()> {
        let made = self.execute_again(&definition.text);
        made.map_err(|error| {
            let name = &definition.name;
            Error::Data(format!("{name:?} cannot be made again: {error}"))
        })?;
        if let Some(time) = &definition.event_time {
            self.bring_event_time(&definition.name, time)?;
        }
        self.alter_again(definition)
    }

    /// Takes the event time that a handle brings, for a source that has none from CREATE SOURCE.
    pub(super) fn bring_event_time(&self, name: &str, time: &WatermarkConfig) -> Result<()> {
        let mut catalog = self.catalog();
        let source = catalog.source_mut(name)?;
        let command = source.set_event_time(time)?;
        if let Some(durability) = &self.durability
            && let (Some(wal_writer), Some(time)) = (durability.wal_writer(name), &source.time)
        {
            wal_writer.set_time(time.clone());
        }
        self.sequencer.command(command);
        catalog.define_event_time(name, time);
        Ok(())
    }

    /// Feeds the records behind the checkpoint to the queries, and each source goes on from where its
    /// log ends. The number of the last step.
    fn replay(
        &self,
        durability: &Durability,
        fed: &BTreeMap<String, SourceCheckpoint>,
        sequence: u64,
    ) -> Result<u64> {
        let topics: Vec<Arc<Topic>> = {
            let catalog = self.catalog();
            catalog
                .sources()
                .map(|source| Arc::clone(&source.topic))
                .collect()
        };
        let (mut replay, mut last) = (WalMerge::default(), sequence);
        for topic in &topics {
            let name = &topic.relation.name;
            if let Some(wal_writer) = durability.wal_writer(name) {
                let at = fed.get(name).cloned().unwrap_or_default();
                if let Some(rows) =
                    replay.add(topic.id, &topic.relation.schema, &wal_writer, at.sequence)?
                {
                    let what = format!(
                        "the log of {name:?} has lost {rows} rows that no checkpoint covers"
                    );
                    return Err(Error::Data(what));
                }
            }
        }
        let (mut steps, mut cursors) = (0, BTreeMap::new());
        while let Some(step) = replay.next_step()? {
            last = last.max(step.iter().map(|part| part.sequence).max().unwrap_or(0));
            for part in &step {
                if let Some(cursor) = &part.taken.cursor {
                    cursors.insert(part.source, cursor.clone());
                }
            }
            self.sequencer.command(WorkerCommand::Replay(step));
            steps += 1;
            if steps % REPLAYED_AT_ONCE == 0 {
                self.look()?;
            }
        }
        self.look()?;
        for source in self.catalog().sources() {
            let state = fed.get(source.shared.name());
            let has_run = source.topic.rows() > 0;
            let known = state.and_then(|it| it.cursor.clone());
            let cursor = cursors.remove(&source.topic.id).or(known);
            if let Some(connector) = &source.connector {
                connector.handle.resume_from(cursor);
                if has_run && !connector.goes_back() {
                    source.shared.note_gap(Gap {
                        reason: "the database was not open".to_owned(),
                        from: None,
                        to: None,
                    });
                }
            }
        }
        if steps > 0 {
            tracing::info!(steps, "fed again from the log");
        }
        Ok(last)
    }
}

/// Waits until the logs are on disk as far as the state goes; how far that is.
fn sync_logs_of(
    durability: &Durability,
    state: &Checkpoint<Run>,
) -> Result<Vec<(Arc<WalWriter>, u64, u64)>> {
    let mut covered = Vec::new();
    for (name, source) in &state.sources {
        if let Some(wal_writer) = durability.wal_writer(name) {
            wal_writer.sync_to(source.sequence).map_err(Error::Data)?;
            covered.push((wal_writer, source.offset, source.sequence));
        }
    }
    durability.check_open()?;
    Ok(covered)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
