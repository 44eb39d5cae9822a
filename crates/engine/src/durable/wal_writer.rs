//! The journal of one source: a thread that writes what the worker took into the source's log.
//!
//! ```text
//!   worker ── Job ──► queue ── thread: encode, append ──► segment files ── fsync ──► durable
//!                                                                             │
//!                       pushes that wait, batches that the worker holds  ◄────┘
//! ```
//!
//! The worker never waits for the disk. If the journal cannot keep up or the disk is full or failing,
//! the journal is *full*: the worker then leaves the source's lanes alone until it is not, so the
//! source's own policy decides what happens, and nothing that was taken is lost. Here is what the worker
//! and whoever waits see of it; the thread is in `writer`.

mod writer;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use arrow::datatypes::SchemaRef;
use headwater_log::{LogReader, LogWriter, Needed, Position, Retention};
use headwater_ring::Bell;

use super::ack_tracker::Acks;
use super::record::{Codec, Taken};
use crate::ingest::EventTimeColumn;
use writer::Writer;

/// Bytes that may wait to be written before the source is left alone.
const QUEUE_BYTES: usize = 64 << 20;

/// What is needed before there are checkpoints.
const EVERYTHING: Needed = Needed {
    offset: 0,
    sequence: 0,
};

/// What the worker took in one step.
pub(crate) struct Job {
    pub taken: Taken,
    /// The number of the step, over all sources and runs of the engine.
    pub sequence: u64,
    pub arrival_us: i64,
    pub acks: Acks,
}

/// What a journal is told when it starts.
pub(crate) struct Settings {
    pub name: String,
    pub schema: SchemaRef,
    pub time: Option<EventTimeColumn>,
    /// Rung when something has become durable, or there is room again.
    pub bell: Arc<Bell>,
    /// Whether every record is synced at once.
    pub sync: bool,
    pub retention: Retention,
}

/// Opens the log, once more after an fsync of it has failed.
pub(crate) type Opening = Box<dyn Fn() -> Result<LogWriter, String> + Send>;

/// Writes the log of one source. Thread-safe.
pub(crate) struct WalWriter {
    shared: Arc<Shared>,
    /// Not in `shared`, which the log holds: that would keep both alive for ever.
    reader: Arc<Mutex<LogReader>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    name: String,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Bytes waiting, for the worker to look at without the lock.
    bytes: AtomicUsize,
    /// Set while the disk does not take records.
    failing: AtomicBool,
    /// The offset up to which rows are on disk; only grows.
    durable: AtomicU64,
    /// The step up to which records are on disk; only grows.
    durable_step: AtomicU64,
    /// Records that have been written; only grows.
    written: AtomicU64,
    /// What retention must keep.
    needed: Mutex<Kept>,
    bell: Arc<Bell>,
    /// Whether rows are held until they are durable, so that the worker must hear of that.
    sync: bool,
}

/// What the two checkpoints that are kept need of the log: a damaged one is made good by the one before
/// and the log behind that.
struct Kept {
    older: Needed,
    newest: Needed,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Job, usize)>,
    /// Who waits for rows up to an offset to be durable.
    acks: VecDeque<(u64, Acks)>,
    /// The step of the last record that was handed over.
    step: u64,
    /// Records that were handed over, also those without rows.
    handed: u64,
    sync_wanted: bool,
    /// More may go than before.
    retain_wanted: bool,
    time: Option<EventTimeColumn>,
    problem: Option<String>,
    /// An fsync has failed: the log takes nothing before it is opened again.
    broken: bool,
    closed: bool,
}

impl Queue {
    fn has_work(&self) -> bool {
        let asked = self.sync_wanted || self.retain_wanted;
        !self.jobs.is_empty() || asked || self.broken || self.closed
    }
}

impl WalWriter {
    /// Starts the thread that writes `log`, which `open` opens again when that is needed.
    pub fn start(log: LogWriter, open: Opening, settings: Settings) -> std::io::Result<Self> {
        let next = log.end().offset;
        let shared = Arc::new(Shared {
            name: settings.name.clone(),
            queue: Mutex::new(Queue {
                step: log.end().sequence,
                time: settings.time.clone(),
                ..Queue::default()
            }),
            changed: Condvar::new(),
            bytes: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            durable: AtomicU64::new(next),
            durable_step: AtomicU64::new(log.end().sequence),
            written: AtomicU64::new(0),
            needed: Mutex::new(Kept {
                older: EVERYTHING,
                newest: EVERYTHING,
            }),
            bell: Arc::clone(&settings.bell),
            sync: settings.sync,
        });
        shared.listen(&log);
        let reader = Arc::new(Mutex::new(log.reader()));
        let codec = Codec::new(&settings.schema).map_err(std::io::Error::other)?;
        let name = format!("log-{}", shared.name);
        let writer = Writer::new(&shared, log, &reader, open, codec, settings);
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || writer.run())?;
        Ok(Self {
            shared,
            reader,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands over what was taken. Never waits.
    pub fn append(&self, job: Job) {
        let bytes = job.taken.memory();
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut queue = self.shared.lock();
        queue.handed += 1;
        queue.step = job.sequence;
        queue.jobs.push_back((job, bytes));
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Whether the source is to be left alone: too much waits, or the disk takes nothing.
    pub fn is_full(&self) -> bool {
        // Relaxed: a step more or less does not matter.
        self.is_failing() || self.shared.bytes.load(Ordering::Relaxed) > QUEUE_BYTES
    }

    /// Whether the disk takes no records.
    pub fn is_failing(&self) -> bool {
        // Relaxed: a step more or less does not matter.
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Why the disk takes no records, if it does not.
    pub fn problem(&self) -> Option<String> {
        self.shared.lock().problem.clone()
    }

    /// The offset up to which rows are on disk. May grow at any time.
    pub fn durable(&self) -> u64 {
        // Acquire: pairs with the Release of `became_durable`.
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Waits until the records of all steps up to `step` are on disk, also those without rows. Blocks.
    ///
    /// # Errors
    /// What is wrong with the disk; the records are kept, and tried again.
    pub fn sync_to(&self, step: u64) -> Result<(), String> {
        let mut queue = self.shared.lock();
        queue.sync_wanted = true;
        // What was never handed over, because somebody removed the log, will not come.
        let step = step.min(queue.step);
        drop(queue);
        self.shared.changed.notify_all();
        self.wait_until(|| self.shared.durable_step.load(Ordering::Acquire) >= step)
    }

    fn wait_until(&self, done: impl Fn() -> bool) -> Result<(), String> {
        let mut queue = self.shared.lock();
        loop {
            if done() {
                return Ok(());
            }
            if let Some(problem) = &queue.problem {
                return Err(problem.clone());
            }
            if queue.closed {
                return Err("the log is closed".to_owned());
            }
            queue = self
                .shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all that was handed over can be read, on disk or not. Blocks.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn catch_up(&self) -> Result<(), String> {
        let handed = self.shared.lock().handed;
        self.wait_until(|| self.shared.written.load(Ordering::Acquire) >= handed)
    }

    /// Waits until all that was handed over is on disk. Blocks.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn sync_all(&self) -> Result<(), String> {
        let step = self.shared.lock().step;
        self.sync_to(step)
    }

    /// A checkpoint covers the rows before `offset` and the steps up to `sequence`: once another does,
    /// retention may remove them.
    pub fn covered(&self, offset: u64, sequence: u64) {
        let newest = Needed {
            offset,
            sequence: sequence + 1,
        };
        {
            let mut kept = self.shared.kept();
            kept.older = std::mem::replace(&mut kept.newest, newest);
        }
        self.shared.lock().retain_wanted = true;
        self.shared.changed.notify_all();
    }

    /// The source's event time has become known.
    pub fn set_time(&self, time: EventTimeColumn) {
        self.shared.lock().time = Some(time);
    }

    /// Reads what has been written.
    pub fn reader(&self) -> LogReader {
        self.reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes and syncs what waits, and ends the thread. Blocks. What the disk does not take now is
    /// given up: it is not acknowledged.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(source = self.shared.name, "the log's thread panicked");
        }
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears from now on what becomes durable of this log.
    fn listen(self: &Arc<Self>, log: &LogWriter) {
        let told = Arc::clone(self);
        log.durability().on_sync(move |synced| match synced {
            Ok(durable) => told.became_durable(durable),
            Err(error) => {
                told.lock().broken = true;
                told.failed(error.to_string());
            }
        });
    }

    fn failed(&self, problem: String) {
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

    /// These wait for the rows before `end`, which are written.
    fn wait_for(&self, end: u64, acks: Acks) {
        self.lock().acks.push_back((end, acks));
        // They may be durable already: then nobody else would tell.
        self.enter_due();
    }

    /// Tells those who waited for what is durable by now.
    fn enter_due(&self) {
        let mut queue = self.lock();
        let durable = self.durable.load(Ordering::Acquire);
        let mut due = Vec::new();
        while queue.acks.front().is_some_and(|(end, _)| *end <= durable) {
            due.extend(queue.acks.pop_front().map(|(_, acks)| acks));
        }
        drop(queue);
        due.into_iter().for_each(Acks::enter);
    }

    fn became_durable(&self, place: Position) {
        // Release: pairs with the Acquire of `durable` and `sync_to`.
        self.durable.fetch_max(place.offset, Ordering::AcqRel);
        self.durable_step
            .fetch_max(place.sequence, Ordering::AcqRel);
        self.enter_due();
        self.changed.notify_all();
        if self.sync {
            self.bell.ring();
        }
    }

    /// So many bytes no longer wait.
    fn wrote(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > QUEUE_BYTES && before - bytes <= QUEUE_BYTES {
            // The worker may wait for that.
            self.bell.ring();
        }
    }
}
