//! The data folder of a database: its logs, what the newest checkpoint held, when the next one is due.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use headwater_log::Disk;

use crate::dataflow::Run;
use crate::durable::{AckTracker, Checkpoint, Folder, Id, OpenedFolder, WalWriter};
use crate::error::{Error, Result};
use crate::locked::locked;

/// Time between two checkpoints where no source asks for less.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct DataFolder {
    pub folder: Folder,
    /// What the newest checkpoint held and nothing has taken yet. Empty once the database is open.
    restored: Mutex<Checkpoint<Run>>,
    /// Whether the statements of the checkpoint are being executed again.
    restoring: AtomicBool,
    wal_writers: Mutex<BTreeMap<String, Arc<WalWriter>>>,
    /// `wal_writers` has been emptied: a source that is not in it may have a log all the same.
    closed: AtomicBool,
    /// Notified at the end, after which nothing becomes durable.
    ack_trackers: Mutex<Vec<Weak<AckTracker>>>,
    /// The logs of dropped sources, removed once no checkpoint names them.
    dropped: Mutex<BTreeMap<String, Id>>,
    /// Why newer checkpoints than the one restored do not count.
    pub passed_over: Vec<String>,
    checkpointing: Mutex<()>,
    /// Whether recovery has replayed the logs.
    pub caught_up: tokio::sync::watch::Sender<bool>,
    timer: CheckpointTimer,
}

struct CheckpointTimer {
    state: Mutex<TimerState>,
    changed: Condvar,
}

struct TimerState {
    every: Duration,
    ended: bool,
}

impl DataFolder {
    pub fn open(disk: Arc<dyn Disk>, path: &Path, segment_bytes: u64) -> Result<Self> {
        Folder::open(disk, path, segment_bytes).map(Self::new)
    }

    /// Opens a folder without the state of its checkpoint and without its logs.
    pub fn open_stopped(disk: Arc<dyn Disk>, path: &Path, segment_bytes: u64) -> Result<Self> {
        Folder::open_unloaded(disk, path, segment_bytes).map(Self::new)
    }

    fn new(opened: OpenedFolder) -> Self {
        let OpenedFolder {
            folder,
            state,
            passed_over,
        } = opened;
        let timer = TimerState {
            every: CHECKPOINT_INTERVAL,
            ended: false,
        };
        Self {
            folder,
            dropped: Mutex::new(state.dropped.clone()),
            passed_over,
            restored: Mutex::new(state),
            restoring: AtomicBool::new(false),
            wal_writers: Mutex::default(),
            closed: AtomicBool::new(false),
            ack_trackers: Mutex::default(),
            checkpointing: Mutex::new(()),
            caught_up: tokio::sync::watch::Sender::new(false),
            timer: CheckpointTimer {
                state: Mutex::new(timer),
                changed: Condvar::new(),
            },
        }
    }

    /// Takes something out of what the checkpoint held.
    pub fn restore<T>(&self, take: impl FnOnce(&mut Checkpoint<Run>) -> T) -> T {
        take(&mut locked(&self.restored))
    }

    pub fn is_restoring(&self) -> bool {
        self.restoring.load(Ordering::Acquire)
    }

    pub fn set_restoring(&self, restoring: bool) {
        self.restoring.store(restoring, Ordering::Release);
    }

    pub fn has_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    pub fn add_wal_writer(&self, name: &str, wal_writer: &Arc<WalWriter>) {
        locked(&self.wal_writers).insert(name.to_owned(), Arc::clone(wal_writer));
    }

    /// The log of a source, if it has one.
    pub fn wal_writer(&self, name: &str) -> Option<Arc<WalWriter>> {
        locked(&self.wal_writers).get(name).cloned()
    }

    pub fn wal_writers(&self) -> Vec<Arc<WalWriter>> {
        locked(&self.wal_writers).values().cloned().collect()
    }

    /// Closes the log of a dropped source; it is removed once no checkpoint names it.
    pub fn drop_log(&self, name: &str) {
        let wal_writer = locked(&self.wal_writers).remove(name);
        if let Some(wal_writer) = wal_writer {
            wal_writer.close();
            locked(&self.dropped).insert(name.to_owned(), wal_writer.end().id);
        }
    }

    /// These are logs of dropped sources, too.
    pub fn add_dropped(&self, logs: BTreeMap<String, Id>) {
        locked(&self.dropped).extend(logs);
    }

    /// The logs of dropped sources that may still be there.
    pub fn dropped(&self) -> BTreeMap<String, Id> {
        locked(&self.dropped).clone()
    }

    /// Removes the logs of dropped sources; what cannot be removed now is removed later.
    pub fn remove_dropped(&self) {
        let mut dropped = locked(&self.dropped);
        dropped.retain(|name, id| {
            let removed = self.folder.remove_log(name, *id);
            if let Err(error) = &removed {
                tracing::warn!(source = name, %error, "the log of a dropped source cannot be removed yet");
            }
            removed.is_err()
        });
    }

    pub fn add_ack_tracker(&self, ack_tracker: &Arc<AckTracker>) {
        let mut ack_trackers = locked(&self.ack_trackers);
        ack_trackers.retain(|ack_tracker| ack_tracker.strong_count() > 0);
        ack_trackers.push(Arc::downgrade(ack_tracker));
    }

    /// To be asked after a look-up of logs: a log that is missing may be closed.
    ///
    /// # Errors
    /// If the logs have been closed.
    pub fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Writes and syncs the logs, ends all waiting for them, and lets another process open the folder.
    /// Blocks.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Taken out, so that their files are closed.
        let wal_writers = std::mem::take(&mut *locked(&self.wal_writers));
        wal_writers.values().for_each(|it| it.close());
        let ack_trackers = std::mem::take(&mut *locked(&self.ack_trackers));
        let ack_trackers = ack_trackers.iter().filter_map(Weak::upgrade);
        ack_trackers.for_each(|ack_tracker| ack_tracker.close());
        self.folder.release();
    }

    /// Keeps other checkpoints waiting until the guard is dropped. Blocks.
    pub fn one_checkpoint(&self) -> MutexGuard<'_, ()> {
        locked(&self.checkpointing)
    }

    /// Makes checkpoints at least this frequent.
    pub fn checkpoint_every(&self, every: Duration) {
        let mut state = locked(&self.timer.state);
        state.every = state.every.min(every);
        self.timer.changed.notify_all();
    }

    pub fn end_timer(&self) {
        locked(&self.timer.state).ended = true;
        self.timer.changed.notify_all();
    }

    /// Waits until a checkpoint is due; false at the end.
    pub fn wait_until_due(&self) -> bool {
        let mut state = locked(&self.timer.state);
        let began = Instant::now();
        loop {
            let left = state.every.saturating_sub(began.elapsed());
            if state.ended || left.is_zero() {
                return !state.ended;
            }
            let woken = self.timer.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
