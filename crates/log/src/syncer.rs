//! One thread that makes many logs durable.
//!
//! A writer rings the `Bell` when there is something to do and goes on; the thread wakes, syncs each log that is due,
//! and sleeps until the next is. While it syncs, appends gather, and the next sync serves them all: that is the group
//! commit, and it needs no timer of its own.
//!
//! A log is due when somebody asked (`Durability::request`), when its mode is `Sync` and something is written, when
//! `bytes` are not durable, or when `every` has passed since the syncing side first saw it so. Time is handed to
//! `Syncer::turn`, so a test needs neither the thread nor a clock: `Syncer::by_hand`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::durable::Shared;
use crate::error::Result;
use crate::format::Position;
use crate::log::{Log, Mode};
use crate::segment::locked;

/// Wakes the syncing thread.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    stopped: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            drop(locked(&self.sleep));
            self.wake.notify_one();
        }
    }

    /// Sleeps until it is rung or the time is over.
    fn wait(&self, at_most: Option<Duration>) {
        let mut guard = locked(&self.sleep);
        let start = Instant::now();
        while !self.rung.swap(false, Ordering::AcqRel) {
            guard = match at_most.map(|most| most.saturating_sub(start.elapsed())) {
                Some(Duration::ZERO) => return,
                Some(left) => {
                    self.wake
                        .wait_timeout(guard, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .wake
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Makes logs durable in the background. One serves a whole database; dropping it syncs what is left and ends the
/// thread.
pub struct Syncer {
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Work {
    bell: Arc<Bell>,
    logs: Mutex<Vec<Served>>,
}

#[derive(Clone)]
struct Served {
    shared: Weak<Shared>,
    asked: Arc<AtomicBool>,
    /// When the syncing side first saw something in it that is not durable.
    since: Option<Duration>,
}

impl Syncer {
    /// Starts the thread.
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

    /// One without a thread, driven by [`Syncer::turn`].
    pub fn by_hand() -> Syncer {
        Syncer {
            work: Arc::default(),
            thread: None,
        }
    }

    /// Serves this log from now on, until it is dropped. A log is served by one syncer; a second is ignored.
    pub fn serve(&self, log: &Log) {
        if log.shared.bell.set(self.work.bell.clone()).is_ok() {
            let asked = log.shared.asked.clone();
            let served = Served {
                shared: Arc::downgrade(&log.shared),
                asked,
                since: None,
            };
            locked(&self.work.logs).push(served);
            self.work.bell.ring();
        }
    }

    /// Syncs each log that is due `now` (since any fixed moment); when the next will be, if one waits. A log whose sync
    /// fails tells so to its writer and to those who wait; the others go on.
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
    /// Syncs if it is due; when it will be due.
    fn turn(&mut self, now: Duration) -> Option<Duration> {
        let shared = self.shared.upgrade()?;
        let waiting = |shared: &Shared| shared.written().bytes - shared.durable().bytes;
        let asked = self.asked.swap(false, Ordering::AcqRel);
        let bytes = waiting(&shared);
        if bytes == 0 || shared.check().is_err() {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let (every, most) = match shared.config.mode {
            Mode::Sync => (Duration::ZERO, 0),
            Mode::Async { every, bytes } => (every, bytes),
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

fn report(shared: &Shared, synced: Result<Position>) {
    if let Err(error) = synced {
        tracing::error!(folder = %shared.dir.display(), %error, "a log could not be made durable");
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.work.bell.stopped.store(true, Ordering::Release);
        self.work.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic in a waker has been reported by the panic hook.
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

/// What is durable in a log, and how to make it more. Clones are the same thing; any thread may use it.
#[derive(Clone)]
pub struct Durability {
    shared: Arc<Shared>,
}

impl Durability {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Durability { shared }
    }

    /// The place up to which everything is durable; it may be further by now, never less.
    pub fn durable(&self) -> Position {
        self.shared.durable()
    }

    /// Where the last whole record ends.
    pub fn written(&self) -> Position {
        self.shared.written()
    }

    /// How many fsyncs were done since the log was opened.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs()
    }

    /// [`crate::Error::SyncFailed`] if an fsync has failed.
    pub fn check(&self) -> Result<()> {
        self.shared.check()
    }

    /// Asks the syncer for a sync now; does not wait.
    pub fn request(&self) {
        self.shared.asked.store(true, Ordering::Release);
        if let Some(bell) = self.shared.bell.get() {
            bell.ring();
        }
    }

    /// Blocks until all before `place` is durable, or an fsync has failed. Asks for no sync by itself, and waits for
    /// ever if nobody syncs.
    pub fn wait(&self, place: Position) -> Result<()> {
        self.shared.wait(place)
    }

    /// Makes durable, on this thread, what is written by now. Blocks for an fsync.
    pub fn sync(&self) -> Result<Position> {
        self.shared.sync()
    }

    /// Calls `wake` after each fsync with what is durable now, or why nothing more will be, on the thread that did it.
    /// It should only wake somebody, and hold no handle of this log: the log lives as long as one does.
    pub fn on_sync(&self, wake: impl Fn(Result<Position>) + Send + Sync + 'static) {
        self.shared.wake_with(Arc::new(wake));
    }
}

impl std::fmt::Debug for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durability")
            .field("durable", &self.durable())
            .finish()
    }
}
