//! One thread that makes many logs durable.
//!
//! A writer rings the `SyncBell` when its log is due and goes on; the thread wakes, syncs each log that is due, and
//! sleeps until the next is. While it syncs, appends gather, and the next sync serves them all: that is the group
//! commit, and it needs no timer of its own.
//!
//! A log is due when a sync was requested (`LogDurability::request`), when its mode is `Sync` and something is written,
//! when `bytes` are not durable, or when `every` has passed since the syncer first saw something not durable. The
//! caller passes the time to `Syncer::turn`, so a test needs neither the thread nor a clock: `Syncer::by_hand`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::format::Position;
use crate::segment::locked;
use crate::shared_log::SharedLog;
use crate::writer::{LogWriter, SyncMode};

/// Wakes the thread of the syncer. A ring before the wait is not lost.
#[derive(Default)]
pub(crate) struct SyncBell {
    rung: AtomicBool,
    stopped: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl SyncBell {
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            drop(locked(&self.sleep));
            self.wake.notify_one();
        }
    }

    /// Sleeps until it is rung, or for `at_most` (`None`: no limit).
    fn wait(&self, at_most: Option<Duration>) {
        let guard = locked(&self.sleep);
        let quiet = |_: &mut ()| !self.rung.swap(false, Ordering::AcqRel);
        match at_most {
            Some(most) => drop(self.wake.wait_timeout_while(guard, most, quiet)),
            None => drop(self.wake.wait_while(guard, quiet)),
        }
    }
}

/// Makes logs durable in the background. One serves a whole database; dropping it syncs all logs once more and ends
/// the thread.
pub struct Syncer {
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Work {
    bell: Arc<SyncBell>,
    logs: Mutex<Vec<Served>>,
}

#[derive(Clone)]
struct Served {
    shared: Weak<SharedLog>,
    /// When the syncer first saw something in it that is not durable.
    since: Option<Duration>,
}

impl Syncer {
    /// Starts the syncer's thread, `headwater-sync`.
    pub fn start() -> std::io::Result<Syncer> {
        let mut syncer = Syncer::by_hand();
        let work = syncer.work.clone();
        let run = move || {
            let start = Instant::now();
            while !work.bell.stopped.load(Ordering::Acquire) {
                let next = work.turn(start.elapsed());
                work.bell
                    .wait(next.map(|next| next.saturating_sub(start.elapsed())));
            }
            work.finish();
        };
        syncer.thread = Some(
            Builder::new()
                .name("headwater-sync".to_owned())
                .spawn(run)?,
        );
        Ok(syncer)
    }

    /// A syncer without a thread, for a caller of [`Syncer::turn`].
    pub fn by_hand() -> Syncer {
        Syncer {
            work: Arc::default(),
            thread: None,
        }
    }

    /// Syncs this log whenever it is due, until the log is dropped. A log has one syncer; a second is ignored.
    pub fn serve(&self, log: &LogWriter) {
        if log.shared.bell.set(self.work.bell.clone()).is_ok() {
            let served = Served {
                shared: Arc::downgrade(&log.shared),
                since: None,
            };
            locked(&self.work.logs).push(served);
            self.work.bell.ring();
        }
    }

    /// Syncs each log that is due at `now` (time since any fixed moment); returns when the next will be due, if one
    /// will. A failed sync fails the appends to its log and wakes its waiters with the error; other logs go on.
    pub fn turn(&self, now: Duration) -> Option<Duration> {
        self.work.turn(now)
    }
}

impl Work {
    fn turn(&self, now: Duration) -> Option<Duration> {
        let mut served = std::mem::take(&mut *locked(&self.logs));
        served.retain(|log| log.shared.strong_count() > 0);
        let next = served.iter_mut().filter_map(|log| log.turn(now)).min();
        locked(&self.logs).extend(served);
        next
    }

    fn finish(&self) {
        for log in locked(&self.logs)
            .iter()
            .filter_map(|log| log.shared.upgrade())
        {
            report(&log, log.sync());
        }
    }
}

impl Served {
    /// Syncs the log if it is due; returns when it will be due.
    fn turn(&mut self, now: Duration) -> Option<Duration> {
        let shared = self.shared.upgrade()?;
        let waiting = |shared: &SharedLog| shared.written().bytes - shared.durable().bytes;
        let asked = shared.asked.swap(false, Ordering::AcqRel);
        let bytes = waiting(&shared);
        if bytes == 0 || shared.check().is_err() {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let (every, most) = match shared.config.mode {
            SyncMode::Sync => (Duration::ZERO, 0),
            SyncMode::Async { every, bytes } => (every, bytes),
        };
        if !asked && bytes < most && now < since + every {
            return Some(since + every);
        }
        report(&shared, shared.sync());
        let left = waiting(&shared) > 0 && shared.check().is_ok();
        self.since = left.then_some(now);
        self.since.map(|since| since + every)
    }
}

fn report(shared: &SharedLog, synced: Result<Position>) {
    if let Err(error) = synced {
        tracing::error!(folder = %shared.dir.display(), %error, "cannot sync a log");
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.work.bell.stopped.store(true, Ordering::Release);
        self.work.bell.ring();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic in a waker.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncer")
            .field("logs", &locked(&self.work.logs).len())
            .finish()
    }
}

/// Shows how far a log is durable, requests syncs and waits for them. Clones are handles to the same log; thread-safe.
#[derive(Clone)]
pub struct LogDurability {
    shared: Arc<SharedLog>,
}

impl LogDurability {
    pub(crate) fn new(shared: Arc<SharedLog>) -> Self {
        LogDurability { shared }
    }

    /// The place up to which everything is durable. It only grows, so it may be greater by now.
    pub fn durable(&self) -> Position {
        self.shared.durable()
    }

    /// The end of the last whole record.
    pub fn written(&self) -> Position {
        self.shared.written()
    }

    /// Number of fsyncs since the log was opened.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs()
    }

    /// [`crate::Error::SyncFailed`] if an fsync has failed.
    pub fn check(&self) -> Result<()> {
        self.shared.check()
    }

    /// Requests a sync from the syncer; does not wait for it.
    pub fn request(&self) {
        self.shared.asked.store(true, Ordering::Release);
        if let Some(bell) = self.shared.bell.get() {
            bell.ring();
        }
    }

    /// Blocks until all before `place` is durable, or an fsync has failed. Requests no sync itself: without a syncer it
    /// blocks for ever.
    pub fn wait(&self, place: Position) -> Result<()> {
        self.shared.wait(place)
    }

    /// Makes durable, on this thread, all that is written by now. Blocks for an fsync.
    pub fn sync(&self) -> Result<Position> {
        self.shared.sync()
    }

    /// Calls `wake` after each fsync, on the thread that did it, with the end of what is durable or the error that
    /// ended the log. `wake` should only wake a thread, and hold no handle of this log, which would keep the log open.
    pub fn on_sync(&self, wake: impl Fn(Result<Position>) + Send + Sync + 'static) {
        self.shared.wake_with(Arc::new(wake));
    }
}

impl std::fmt::Debug for LogDurability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDurability")
            .field("durable", &self.durable())
            .finish()
    }
}
