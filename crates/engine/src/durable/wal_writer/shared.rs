//! What the worker, the waiting callers and the thread of a WAL writer share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use arrow::datatypes::SchemaRef;
use headwater_log::{LogWriter, Needed, Position, Retention};
use headwater_ring::Bell;

use crate::batch_bytes::QUEUE_BYTES;
use crate::durable::Id;
use crate::durable::ack_tracker::Acks;
use crate::durable::source_step::SourceStep;
use crate::event_time::EventTimeColumn;
use crate::locked::locked;

/// What is needed of the log before there are checkpoints.
const EVERYTHING: Needed = Needed {
    offset: 0,
    sequence: 0,
};

/// What the worker took in one step.
pub(crate) struct Job {
    pub taken: SourceStep,
    /// The number of the step, over all sources and starts of the engine.
    pub sequence: u64,
    pub arrival_us: i64,
    pub acks: Acks,
}

/// How the WAL writer of one source works.
pub(crate) struct WalSettings {
    pub name: String,
    pub schema: SchemaRef,
    pub time: Option<EventTimeColumn>,
    /// Rung when rows have become durable, or the queue has room again.
    pub bell: Arc<Bell>,
    /// Whether every record is synced at once, and rows are fed only when they are on disk.
    pub sync: bool,
    pub retention: Retention,
}

pub(super) struct WalShared {
    pub name: String,
    /// The id of the log.
    pub id: Id,
    queue: Mutex<WalQueue>,
    pub changed: Condvar,
    /// Bytes in the queue, so that the worker can read them without the lock.
    pub bytes: AtomicUsize,
    /// Whether the disk rejects records at the moment.
    pub failing: AtomicBool,
    /// The offset up to which rows are on disk; only grows.
    pub durable: AtomicU64,
    /// The step up to which records are on disk; only grows.
    pub durable_step: AtomicU64,
    /// The place up to which records are on disk; only grows.
    durable_end: Mutex<Position>,
    /// Records that have been written; only grows.
    pub written: AtomicU64,
    needs: Mutex<CheckpointNeeds>,
    pub bell: Arc<Bell>,
    /// Whether the worker holds rows until they are durable, and waits for the bell.
    sync: bool,
}

/// What the two kept checkpoints need of the log. Retention leaves both: if the newest is damaged,
/// recovery uses the one before and the log behind it.
pub(super) struct CheckpointNeeds {
    pub older: Needed,
    pub newest: Needed,
}

#[derive(Default)]
pub(super) struct WalQueue {
    /// Each with its size, bytes.
    pub jobs: VecDeque<(Job, usize)>,
    /// Acknowledgements, each due when rows up to an offset are durable.
    acks: VecDeque<(u64, Acks)>,
    /// The step of the last record that was handed over.
    pub step: u64,
    /// Records that were handed over, also those without rows.
    pub handed: u64,
    pub sync_wanted: bool,
    /// Whether checkpoints need less of the log than at the last run of retention.
    pub retain_wanted: bool,
    pub time: Option<EventTimeColumn>,
    pub problem: Option<String>,
    /// An fsync has failed: the log rejects records until it is opened again.
    pub broken: bool,
    pub closed: bool,
}

impl WalQueue {
    pub fn has_work(&self) -> bool {
        let asked = self.sync_wanted || self.retain_wanted;
        !self.jobs.is_empty() || asked || self.broken || self.closed
    }
}

impl WalShared {
    pub fn new(log: &LogWriter, settings: &WalSettings) -> Arc<Self> {
        let end = log.end();
        let shared = Arc::new(Self {
            name: settings.name.clone(),
            id: Id::of(log.id()),
            queue: Mutex::new(WalQueue {
                step: end.sequence,
                time: settings.time.clone(),
                ..WalQueue::default()
            }),
            changed: Condvar::new(),
            bytes: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            durable: AtomicU64::new(end.offset),
            durable_step: AtomicU64::new(end.sequence),
            durable_end: Mutex::new(end),
            written: AtomicU64::new(0),
            needs: Mutex::new(CheckpointNeeds {
                older: EVERYTHING,
                newest: EVERYTHING,
            }),
            bell: Arc::clone(&settings.bell),
            sync: settings.sync,
        });
        shared.listen(log);
        shared
    }

    pub fn lock(&self) -> MutexGuard<'_, WalQueue> {
        locked(&self.queue)
    }

    pub fn needs(&self) -> MutexGuard<'_, CheckpointNeeds> {
        locked(&self.needs)
    }

    /// Registers for the results of this log's fsyncs.
    pub fn listen(self: &Arc<Self>, log: &LogWriter) {
        let shared = Arc::clone(self);
        log.durability().on_sync(move |synced| match synced {
            Ok(durable) => shared.became_durable(durable),
            Err(error) => {
                shared.lock().broken = true;
                shared.failed(error.to_string());
            }
        });
    }

    pub fn failed(&self, problem: String) {
        self.failing.store(true, Ordering::Relaxed);
        let mut queue = self.lock();
        if queue.problem.as_ref() != Some(&problem) {
            let name = &self.name;
            tracing::error!(
                source = name,
                problem,
                "the log cannot be written; the source waits"
            );
            queue.problem = Some(problem);
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Acknowledges `acks` when the rows before `end`, which are written, are durable.
    pub fn acknowledge_at(&self, end: u64, acks: Acks) {
        self.lock().acks.push_back((end, acks));
        // The rows may be durable already: then no further fsync would acknowledge them.
        self.acknowledge_due();
    }

    fn acknowledge_due(&self) {
        let mut queue = self.lock();
        let durable = self.durable.load(Ordering::Acquire);
        let mut due = Vec::new();
        while queue.acks.front().is_some_and(|(end, _)| *end <= durable) {
            due.extend(queue.acks.pop_front().map(|(_, acks)| acks));
        }
        drop(queue);
        due.into_iter().for_each(Acks::acknowledge);
    }

    pub fn became_durable(&self, end: Position) {
        // Release: pairs with the Acquire of `durable` and `sync_to`.
        self.durable.fetch_max(end.offset, Ordering::AcqRel);
        {
            let mut known = locked(&self.durable_end);
            if known.bytes < end.bytes {
                *known = end;
            }
        }
        self.durable_step.fetch_max(end.sequence, Ordering::AcqRel);
        self.acknowledge_due();
        self.changed.notify_all();
        if self.sync {
            self.bell.ring();
        }
    }

    /// The place up to which records are on disk.
    pub fn durable_end(&self) -> Position {
        *locked(&self.durable_end)
    }

    /// `bytes` bytes of the queue have been written.
    pub fn wrote(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > QUEUE_BYTES && before - bytes <= QUEUE_BYTES {
            // The worker may wait for room.
            self.bell.ring();
        }
    }
}
