//! The thread of a WAL writer: it writes the queue into the log, and retries until the disk accepts it.
//!
//! A record is lz4 compressed where that pays ([`AdaptiveCompression`]). After a failed fsync it is
//! unknown what is on disk: then the thread opens the log again, which rewrites what may be missing.
//! What a full disk rejects waits, and retention makes room if it can. However the thread ends, all
//! callers that wait for it wake up.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use headwater_log::{Append, LogReader, LogWriter};

use super::shared::{Job, WalSettings, WalShared};
use crate::clock::now_us;
use crate::durable::adaptive_compression::AdaptiveCompression;
use crate::durable::source_step::SourceStep;
use crate::durable::wal_record::{WalRecordCodec, compress};
use crate::event_time::{EventTimeColumn, span_us};
use crate::locked::{locked, notified};

/// Delay after a failure before the thread tries the disk again.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Opens the log again after an fsync of it has failed.
pub(super) type ReopenLog = Box<dyn Fn() -> Result<LogWriter, String> + Send>;

pub(super) struct WalThread {
    guard: WalThreadGuard,
    shared: Arc<WalShared>,
    log: LogWriter,
    reader: Arc<Mutex<LogReader>>,
    reopen: ReopenLog,
    codec: WalRecordCodec,
    compression: AdaptiveCompression,
    settings: WalSettings,
}

impl WalThread {
    /// Writes `log`. Puts a new reader into `reader` after a `reopen`.
    pub fn new(
        shared: &Arc<WalShared>,
        log: LogWriter,
        reader: &Arc<Mutex<LogReader>>,
        reopen: ReopenLog,
        codec: WalRecordCodec,
        settings: WalSettings,
    ) -> Self {
        Self {
            guard: WalThreadGuard(Arc::clone(shared)),
            shared: Arc::clone(shared),
            log,
            reader: Arc::clone(reader),
            reopen,
            codec,
            compression: AdaptiveCompression::default(),
            settings,
        }
    }

    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let began = Instant::now();
            let mut queue = shared.lock();
            while !queue.has_work() {
                queue = notified(&shared.changed, queue);
            }
            let (closing, broken) = (queue.closed, queue.broken);
            let jobs = std::mem::take(&mut queue.jobs);
            let time = queue.time.clone();
            let sync = std::mem::take(&mut queue.sync_wanted) || self.settings.sync || closing;
            queue.retain_wanted = false;
            drop(queue);
            let idle = began.elapsed();
            if broken {
                self.reopen_until_it_works();
            }
            let awaited = self.write_all(jobs, time.as_ref(), idle);
            if sync || awaited {
                self.log.durability().request();
            }
            self.retain();
            if closing && shared.lock().jobs.is_empty() {
                break;
            }
        }
        if let Err(error) = self.log.close() {
            tracing::error!(source = shared.name, %error, "the log could not be synced");
        }
        drop(self.guard);
    }

    /// Writes the jobs; returns whether a push waits for one of them.
    fn write_all(
        &mut self,
        jobs: VecDeque<(Job, usize)>,
        time: Option<&EventTimeColumn>,
        mut idle: Duration,
    ) -> bool {
        let mut awaited = false;
        let mut jobs = jobs.into_iter();
        while let Some((mut job, bytes)) = jobs.next() {
            let acks = std::mem::take(&mut job.acks);
            if !acks.is_empty() {
                awaited = true;
                idle = Duration::ZERO;
            }
            // Only the first record can use the idle time.
            let Some(end) = self.write(&job, time, std::mem::take(&mut idle)) else {
                self.report_lost(&job, jobs.map(|(job, _)| job));
                break;
            };
            self.shared.written.fetch_add(1, Ordering::Release);
            self.shared.wrote(bytes);
            if !acks.is_empty() {
                self.shared.acknowledge_at(end, acks);
            }
        }
        // Callers of `catch_up` may wait for these records.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
        awaited
    }

    /// The database closes and the disk rejects records: logs what is lost.
    fn report_lost(&self, first: &Job, others: impl Iterator<Item = Job>) {
        let others = others.map(|job| job.taken.row_count());
        let rows = first.taken.row_count() + others.sum::<usize>();
        tracing::error!(
            source = self.shared.name,
            rows,
            "closed before these rows could be written"
        );
    }

    /// Appends one record, and retries until the disk accepts it; `None` if the database closes first.
    fn write(&mut self, job: &Job, time: Option<&EventTimeColumn>, idle: Duration) -> Option<u64> {
        loop {
            let error = match self.try_write(job, time, idle) {
                Ok(end) => {
                    self.recovered();
                    return Some(end);
                }
                Err(error) => error,
            };
            self.shared.failed(error.to_string());
            if error.is_broken() && self.reopen_until_it_works() {
                continue;
            }
            // On a full disk, retention may make room.
            self.retain();
            if self.closes_within_delay() {
                return None;
            }
        }
    }

    /// Waits for [`RETRY_DELAY`]; returns whether the database closes.
    fn closes_within_delay(&self) -> bool {
        let queue = self.shared.lock();
        let (queue, _) = self
            .shared
            .changed
            .wait_timeout_while(queue, RETRY_DELAY, |queue| !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.closed
    }

    /// Opens the log again after a failed fsync, which makes its rows durable; false if the database
    /// closes before that succeeds.
    fn reopen_until_it_works(&mut self) -> bool {
        loop {
            match self.try_reopen() {
                Ok(()) => {
                    self.recovered();
                    return true;
                }
                Err(problem) => self.shared.failed(problem),
            }
            if self.closes_within_delay() {
                return false;
            }
        }
    }

    fn try_reopen(&mut self) -> Result<(), String> {
        let log = (self.reopen)()?;
        let (was, is) = (self.log.end(), log.end());
        if (is.offset, is.sequence) < (was.offset, was.sequence) {
            // The system dropped rows that the fsync did not write, and the queries have seen them.
            let (had, has) = (was.offset, is.offset);
            return Err(format!(
                "after a failed fsync the log ends at row {has} rather than {had}; open the database again"
            ));
        }
        self.shared.listen(&log);
        *locked(&self.reader) = log.reader();
        self.log = log;
        self.shared.lock().broken = false;
        self.shared.became_durable(is);
        Ok(())
    }

    fn try_write(
        &mut self,
        job: &Job,
        time: Option<&EventTimeColumn>,
        idle: Duration,
    ) -> Result<u64, AppendError> {
        let parts = self.encode(&job.taken, idle)?;
        let payload: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
        let append = Append {
            rows: job.taken.row_count() as u32,
            times: time.and_then(|time| span_us(&job.taken.rows, time.column)),
            sequence: job.sequence,
            appended_us: job.arrival_us,
            payload: &payload,
        };
        let began = Instant::now();
        let end = self.log.append(&append)?.offset;
        let bytes = payload.iter().map(|part| part.len()).sum();
        self.compression.wrote(bytes, began.elapsed());
        Ok(end)
    }

    /// The bytes of a record, compressed if that pays.
    fn encode(&mut self, taken: &SourceStep, idle: Duration) -> Result<Vec<Buffer>, ArrowError> {
        let parts = self.codec.encode(taken)?;
        let bytes = parts.iter().map(Buffer::len).sum();
        if !self.compression.pays(bytes, idle) {
            return Ok(parts);
        }
        let began = Instant::now();
        let compressed = compress(&parts);
        let to = compressed.iter().map(Buffer::len).sum();
        self.compression.compressed(bytes, to, began.elapsed());
        Ok(compressed)
    }

    fn recovered(&self) {
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(source = self.shared.name, "the log can be written again");
            self.shared.lock().problem = None;
            self.shared.bell.ring();
        }
    }

    fn retain(&mut self) {
        let needed = self.shared.needs().older;
        match self.log.retain(now_us(), &self.settings.retention, needed) {
            Ok(removed) => {
                for segment in removed {
                    tracing::info!(
                        source = self.shared.name,
                        ?segment,
                        "retention removed a segment"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(source = self.shared.name, %error, "retention could not remove a segment");
            }
        }
    }
}

/// Wakes all callers when the thread ends, also by a panic.
struct WalThreadGuard(Arc<WalShared>);

impl Drop for WalThreadGuard {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        let lost: usize = queue
            .jobs
            .iter()
            .map(|(job, _)| job.taken.row_count())
            .sum();
        if lost > 0 {
            let name = &self.0.name;
            tracing::error!(
                source = name,
                rows = lost,
                "rows were not written to the log"
            );
        }
        queue.closed = true;
        drop(queue);
        self.0.failing.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

#[derive(Debug, thiserror::Error)]
enum AppendError {
    #[error(transparent)]
    Encode(#[from] ArrowError),
    #[error(transparent)]
    Log(#[from] headwater_log::Error),
}

impl AppendError {
    /// Whether the log must be opened again.
    fn is_broken(&self) -> bool {
        matches!(self, Self::Log(headwater_log::Error::SyncFailed { .. }))
    }
}
