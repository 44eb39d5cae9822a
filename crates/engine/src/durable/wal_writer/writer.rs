//! The thread of a journal: it writes what waits into the log, again and again until the disk takes it.
//!
//! A record is lz4 compressed where that pays ([`AdaptiveCompression`]), and written as it is elsewhere. After a failed
//! fsync nobody can tell what is on disk: then the log is opened again, which writes once more what it
//! cannot be sure of. What a full disk does not take waits, and retention makes room if it can. When the
//! thread ends, in whatever way, nobody waits for it any more.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use headwater_log::{Append, LogReader, LogWriter};

use super::{Job, Opening, Settings, Shared};
use crate::durable::adaptive_compression::AdaptiveCompression;
use crate::durable::now_us;
use crate::durable::record::{Codec, Taken, pressed};
use crate::ingest::{EventTimeColumn, span_us};

/// How long after a failure the disk is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What the thread holds.
pub(super) struct Writer {
    ending: Ending,
    shared: Arc<Shared>,
    log: LogWriter,
    reader: Arc<Mutex<LogReader>>,
    open: Opening,
    codec: Codec,
    press: AdaptiveCompression,
    settings: Settings,
}

impl Writer {
    /// Writes `log`, and puts a new reader into `reader` when it had to `open` it again.
    pub fn new(
        shared: &Arc<Shared>,
        log: LogWriter,
        reader: &Arc<Mutex<LogReader>>,
        open: Opening,
        codec: Codec,
        settings: Settings,
    ) -> Self {
        Self {
            ending: Ending(Arc::clone(shared)),
            shared: Arc::clone(shared),
            log,
            reader: Arc::clone(reader),
            open,
            codec,
            press: AdaptiveCompression::default(),
            settings,
        }
    }

    /// Until the journal is closed.
    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let began = Instant::now();
            let mut queue = shared.lock();
            while !queue.has_work() {
                queue = shared
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let (closing, broken) = (queue.closed, queue.broken);
            let jobs = std::mem::take(&mut queue.jobs);
            let time = queue.time.clone();
            let sync = std::mem::take(&mut queue.sync_wanted) || self.settings.sync || closing;
            queue.retain_wanted = false;
            drop(queue);
            let rested = began.elapsed();
            if broken {
                self.mend();
            }
            let taken = self.write_all(jobs, time.as_ref(), rested);
            self.sync(sync || taken == Waiting::Yes);
            self.retain();
            if closing && shared.lock().jobs.is_empty() {
                break;
            }
        }
        if let Err(error) = self.log.close() {
            tracing::error!(source = shared.name, %error, "the log could not be synced");
        }
        drop(self.ending);
    }

    /// Writes the jobs; whether somebody waits for one of them.
    fn write_all(
        &mut self,
        jobs: VecDeque<(Job, usize)>,
        time: Option<&EventTimeColumn>,
        rested: Duration,
    ) -> Waiting {
        let mut waiting = Waiting::No;
        // The time to rest is gone with the first.
        let mut rested = rested;
        let mut jobs = jobs.into_iter();
        while let Some((mut job, bytes)) = jobs.next() {
            let acks = std::mem::take(&mut job.acks);
            if !acks.is_empty() {
                waiting = Waiting::Yes;
                rested = Duration::ZERO;
            }
            let Some(end) = self.write(&job, time, std::mem::take(&mut rested)) else {
                self.give_up(&job, jobs.map(|(job, _)| job));
                break;
            };
            self.shared.written.fetch_add(1, Ordering::Release);
            self.shared.wrote(bytes);
            if !acks.is_empty() {
                self.shared.wait_for(end, acks);
            }
        }
        // There may be rows to be read.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
        waiting
    }

    /// The database closes and the disk takes nothing: says what is lost by that.
    fn give_up(&self, first: &Job, others: impl Iterator<Item = Job>) {
        let others = others.map(|job| job.taken.row_count());
        let rows = first.taken.row_count() + others.sum::<usize>();
        tracing::error!(
            source = self.shared.name,
            rows,
            "closed before the disk took these rows"
        );
    }

    /// Appends one record, again and again until the disk takes it; `None` if the database closes
    /// before it does.
    fn write(
        &mut self,
        job: &Job,
        time: Option<&EventTimeColumn>,
        rested: Duration,
    ) -> Option<u64> {
        loop {
            let error = match self.try_write(job, time, rested) {
                Ok(end) => {
                    self.recovered();
                    return Some(end);
                }
                Err(error) => error,
            };
            self.shared.failed(error.to_string());
            if error.is_broken() && self.mend() {
                continue;
            }
            // On a full disk, what may go makes room.
            self.retain();
            if self.rest() {
                return None;
            }
        }
    }

    /// Waits a little before the disk is tried again; whether the database closes.
    fn rest(&self) -> bool {
        let queue = self.shared.lock();
        let (queue, _) = self
            .shared
            .changed
            .wait_timeout_while(queue, RETRY, |queue| !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.closed
    }

    /// Opens the log again after a failed fsync, which makes durable what it holds; false if the
    /// database closes before that succeeds.
    fn mend(&mut self) -> bool {
        loop {
            match self.reopen() {
                Ok(()) => {
                    self.recovered();
                    return true;
                }
                Err(problem) => self.shared.failed(problem),
            }
            if self.rest() {
                return false;
            }
        }
    }

    fn reopen(&mut self) -> Result<(), String> {
        let log = (self.open)()?;
        let (was, is) = (self.log.end(), log.end());
        if (is.offset, is.sequence) < (was.offset, was.sequence) {
            // The system had dropped what the fsync did not write, and the queries have seen it.
            let (had, has) = (was.offset, is.offset);
            return Err(format!(
                "after a failed fsync the log ends at row {has} rather than {had}; open the database again"
            ));
        }
        self.shared.listen(&log);
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = log.reader();
        self.log = log;
        self.shared.lock().broken = false;
        self.shared.became_durable(is);
        Ok(())
    }

    fn try_write(
        &mut self,
        job: &Job,
        time: Option<&EventTimeColumn>,
        rested: Duration,
    ) -> Result<u64, Refused> {
        let parts = self.parts(&job.taken, rested)?;
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
        self.press.wrote(bytes, began.elapsed());
        Ok(end)
    }

    /// The bytes of a record, compressed if that pays.
    fn parts(&mut self, taken: &Taken, rested: Duration) -> Result<Vec<Buffer>, ArrowError> {
        let parts = self.codec.encode(taken)?;
        let bytes = parts.iter().map(Buffer::len).sum();
        if !self.press.pays(bytes, rested) {
            return Ok(parts);
        }
        let began = Instant::now();
        let pressed = pressed(&parts);
        let left = pressed.iter().map(Buffer::len).sum();
        self.press.pressed(bytes, left, began.elapsed());
        Ok(pressed)
    }

    fn recovered(&self) {
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(source = self.shared.name, "the log is written again");
            self.shared.lock().problem = None;
            self.shared.bell.ring();
        }
    }

    fn sync(&mut self, wanted: bool) {
        if wanted {
            self.log.durability().request();
        }
    }

    fn retain(&mut self) {
        let needed = self.shared.kept().older;
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

/// When the thread ends, in whatever way, nobody waits for it any more.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        let lost: usize = queue
            .jobs
            .iter()
            .map(|(job, _)| job.taken.row_count())
            .sum();
        if lost > 0 {
            let name = &self.0.name;
            tracing::error!(source = name, rows = lost, "rows did not come into the log");
        }
        queue.closed = true;
        drop(queue);
        self.0.failing.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Encode(#[from] ArrowError),
    #[error(transparent)]
    Log(#[from] headwater_log::Error),
}

impl Refused {
    /// Whether the log must be opened again.
    fn is_broken(&self) -> bool {
        matches!(self, Self::Log(headwater_log::Error::SyncFailed { .. }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Yes,
    No,
}
