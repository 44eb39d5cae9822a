//! The write-ahead log writer of one source: a thread that writes what the worker took into the log.
//!
//! ```text
//!   worker ── Job ──► queue ── thread: encode, append ──► segment files ── fsync ──► durable
//!                                                                             │
//!                       pushes that wait, batches that the worker holds  ◄────┘
//! ```
//!
//! The worker never waits for the disk. If the thread cannot keep up, or the disk is full or failing,
//! the WAL writer is *full*: the worker stops reading the source's lanes until it is not, so the
//! source's own policy decides what happens, and nothing that was taken is lost. [`WalWriter`] is the
//! handle of the worker and of callers that wait; `thread` writes; `shared` is between them.

mod shared;
mod thread;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use headwater_log::{LogReader, LogWriter, Needed};

use super::checkpoint::LogEnd;
use super::wal_record::WalRecordCodec;
use crate::batch_bytes::QUEUE_BYTES;
use crate::event_time::EventTimeColumn;
use crate::locked::{locked, notified};
use shared::WalShared;
use thread::{ReopenLog, WalThread};

pub(crate) use shared::{Job, WalSettings};

/// Writes the log of one source. Thread-safe.
pub(crate) struct WalWriter {
    shared: Arc<WalShared>,
    /// Not in `shared`, which the log holds: neither would ever be dropped.
    reader: Arc<Mutex<LogReader>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WalWriter {
    /// Starts the thread that writes `log`. After a failed fsync it opens the log again with `reopen`.
    pub fn start(
        log: LogWriter,
        reopen: ReopenLog,
        settings: WalSettings,
    ) -> std::io::Result<Self> {
        let shared = WalShared::new(&log, &settings);
        let reader = Arc::new(Mutex::new(log.reader()));
        let codec = WalRecordCodec::new(&settings.schema).map_err(std::io::Error::other)?;
        let name = format!("log-{}", shared.name);
        let writer = WalThread::new(&shared, log, &reader, reopen, codec, settings);
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || writer.run())?;
        Ok(Self {
            shared,
            reader,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues what a step took. Never waits.
    pub fn append(&self, job: Job) {
        let bytes = job.taken.bytes();
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut queue = self.shared.lock();
        queue.handed += 1;
        queue.step = job.sequence;
        queue.jobs.push_back((job, bytes));
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Whether the worker must stop reading the source: the queue is full, or the disk is failing.
    pub fn is_full(&self) -> bool {
        // Relaxed: a step more or less does not matter.
        self.is_failing() || self.shared.bytes.load(Ordering::Relaxed) > QUEUE_BYTES
    }

    /// Whether the disk rejects records.
    pub fn is_failing(&self) -> bool {
        // Relaxed: a step more or less does not matter.
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Why the disk rejects records, if it does.
    pub fn problem(&self) -> Option<String> {
        self.shared.lock().problem.clone()
    }

    /// The offset up to which rows are on disk. May grow at any time.
    pub fn durable(&self) -> u64 {
        // Acquire: pairs with the Release of `became_durable`.
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The log, as far as it is on disk.
    pub fn end(&self) -> LogEnd {
        let begin = self.reader().begin();
        LogEnd::at(self.shared.id, begin, self.shared.durable_end())
    }

    /// Blocks until the records of all steps up to `step` are on disk, also those without rows.
    ///
    /// # Errors
    /// What is wrong with the disk. The records are kept, and the thread retries.
    pub fn sync_to(&self, step: u64) -> Result<(), String> {
        let mut queue = self.shared.lock();
        queue.sync_wanted = true;
        // A log that somebody removed will never reach the steps that were not handed over.
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
            queue = notified(&self.shared.changed, queue);
        }
    }

    /// Blocks until everything handed over can be read, on disk or not.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn catch_up(&self) -> Result<(), String> {
        let handed = self.shared.lock().handed;
        self.wait_until(|| self.shared.written.load(Ordering::Acquire) >= handed)
    }

    /// Blocks until everything handed over is on disk.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn sync_all(&self) -> Result<(), String> {
        let step = self.shared.lock().step;
        self.sync_to(step)
    }

    /// A checkpoint covers the rows before `offset` and the steps up to `sequence`: once the next one
    /// does too, retention may remove them.
    pub fn covered(&self, offset: u64, sequence: u64) {
        let newest = Needed {
            offset,
            sequence: sequence + 1,
        };
        {
            let mut needs = self.shared.needs();
            needs.older = std::mem::replace(&mut needs.newest, newest);
        }
        self.shared.lock().retain_wanted = true;
        self.shared.changed.notify_all();
    }

    /// Sets the event time of a source whose handle declared it.
    pub fn set_time(&self, time: EventTimeColumn) {
        self.shared.lock().time = Some(time);
    }

    /// When the last record was appended, in microseconds since 1970-01-01 UTC.
    pub fn last_append_us(&self) -> Option<i64> {
        let extents = self.reader().extents();
        extents.last().map(|extent| extent.appended_us)
    }

    pub fn reader(&self) -> LogReader {
        locked(&self.reader).clone()
    }

    /// Writes and syncs the queue, and ends the thread. Blocks. What the disk rejects now is lost: it
    /// was not acknowledged.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(source = self.shared.name, "the thread of the log panicked");
        }
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.close();
    }
}
