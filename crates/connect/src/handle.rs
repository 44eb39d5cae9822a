//! The lifecycle around every source, written once so that no connector can get it wrong.
//!
//! A [`SourceHandle`] is the supervisor of one source, from its first start to its last stop. `start`
//! returns at once; a task then runs the source, retries with [`Backoff`] when a retry can help, gives up
//! when it fails too often, contains its panics, and ends within a deadline after `stop`. What the source
//! is doing is its [`Status`], which anyone may read or wait for.
//!
//! The engine decides what a source is connected to (the [`Lane`]), where cursors are kept, and which
//! sources should run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backoff::Attempts;
use crate::drive::drive;
use crate::formats::Decoder;
use crate::locked::locked;
use crate::status::StatusCell;
use crate::{
    Backoff, BadRows, Clock, Cursor, End, Error, Gap, Item, Lane, OutputParts, Result, Source,
    State, Status, SystemClock, Tap,
};

/// Makes a source and its decoder, each time it is started.
pub trait Blueprint: Send + Sync + 'static {
    /// A source that continues from `cursor`.
    fn source(&self, cursor: Option<Cursor>) -> Result<Box<dyn Source>>;
    /// A decoder for its frames; `None` if it emits rows.
    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>>;
    /// The columns of its rows, metadata columns included.
    fn schema(&self) -> SchemaRef;
    /// The largest frame accepted, in bytes.
    fn max_frame(&self) -> usize;
    /// What happens to undecodable frames.
    fn bad_rows(&self) -> BadRows {
        BadRows::Keep
    }
    /// When to retry after a failure: `given`, overridden by its own options.
    fn backoff(&self, given: Backoff) -> Backoff {
        given
    }
}

/// How a source is supervised.
#[derive(Clone)]
pub struct Care {
    /// When to retry after a failure.
    pub backoff: Backoff,
    /// The seed of the jitter.
    pub seed: u64,
    /// The time that a source has to end after `stop`; then it is dropped.
    pub stop_deadline: Duration,
    /// Supplies arrival times and the times in the status.
    pub clock: Arc<dyn Clock>,
    /// Is called with the raw bytes of every frame.
    pub tap: Option<Tap>,
}

impl Default for Care {
    /// [`Backoff::default`], 5 s to stop, the machine's clock, a random seed, no tap.
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            seed: rand::random(),
            stop_deadline: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
            tap: None,
        }
    }
}

/// One source and its lifecycle. Thread-safe; dropping it stops the source.
pub struct SourceHandle {
    blueprint: Mutex<Arc<dyn Blueprint>>,
    pub(crate) care: Care,
    status: StatusCell,
    task: Mutex<Option<Task>>,
}

struct Task {
    stop: CancellationToken,
    abort: AbortHandle,
}

impl SourceHandle {
    /// A source in the state `initial`, which continues from `cursor` when it is started.
    pub fn new(blueprint: Arc<dyn Blueprint>, cursor: Option<Cursor>, care: Care) -> Self {
        let status = StatusCell::new(care.clock.clone(), cursor);
        Self {
            blueprint: Mutex::new(blueprint),
            care,
            status,
            task: Mutex::new(None),
        }
    }

    /// Makes the next start continue from `cursor`. Does nothing while the source runs.
    pub fn resume_from(&self, cursor: Option<Cursor>) {
        self.status.resume_from(cursor);
    }

    /// Checks that the external system can be reached. Reads no data, starts nothing.
    pub async fn validate(&self) -> Result<()> {
        let source = self.blueprint().source(self.status.get().cursor)?;
        source.validate().await
    }

    /// The blueprint that the next start uses.
    pub fn blueprint(&self) -> Arc<dyn Blueprint> {
        Arc::clone(&locked(&self.blueprint))
    }

    /// Makes the next start use `blueprint`, which has the same columns, and the same cursor. A source that
    /// is running is not affected.
    pub fn remake(&self, blueprint: Arc<dyn Blueprint>) {
        *locked(&self.blueprint) = blueprint;
    }

    /// Starts the source and returns at once; must be called within a tokio runtime. The source runs, in
    /// the `tracing` span of the caller, until its input ends, it fails for good, `stop` is cancelled or
    /// [`stop`](Self::stop) is called; then the lane is dropped. A source that has ended may be started
    /// again, and continues from the last cursor that its lane has taken; earlier failures do not count.
    ///
    /// Fails if `stop` is cancelled already, if there is no lane, and if the source is running.
    pub fn start(&self, stop: &CancellationToken, lane: Option<Box<dyn Lane>>) -> Result<()> {
        if stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let lane = lane.ok_or(Error::NoOutput)?;
        let mut task = locked(&self.task);
        let state = self.status.get().state;
        if state.is_active() {
            return Err(Error::AlreadyRunning { state });
        }
        let stop = stop.child_token();
        let (blueprint, mut care) = (self.blueprint(), self.care.clone());
        care.backoff = blueprint.backoff(care.backoff);
        let run = SourceRun {
            blueprint,
            care,
            status: self.status.next_generation(),
            stop: stop.clone(),
            lane,
        };
        let abort = tokio::spawn(run.until_ended().in_current_span()).abort_handle();
        *task = Some(Task { stop, abort });
        Ok(())
    }

    /// Stops the source and waits until it has ended, at most as long as [`Care::stop_deadline`];
    /// then its task is dropped. Does nothing if the source is not running.
    pub async fn stop(&self) {
        self.end_as(State::Stopped).await;
    }

    /// Like [`stop`](Self::stop), but the state is then `paused`.
    pub async fn pause(&self) {
        self.end_as(State::Paused).await;
    }

    /// Forgets the cursor, so that the next start begins as the first did; a paused source is then stopped.
    /// Does nothing while the source is running.
    pub fn forget_cursor(&self) {
        let state = self.status.get().state;
        if state.is_active() {
            return;
        }
        let next = match state {
            State::Paused => State::Stopped,
            state => state,
        };
        let status = self.status.current();
        status.enter(next, |status| status.cursor = None);
    }

    /// The current status of the source.
    pub fn status(&self) -> Status {
        self.status.get()
    }

    /// A receiver of every change of the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.watch()
    }

    async fn end_as(&self, state: State) {
        let Some(abort) = self.cancel() else { return };
        let mut status = self.status.watch();
        let ended = status.wait_for(|status| !status.state.is_active());
        // The task keeps the deadline itself, unless the source blocks its thread.
        let patience = self.care.stop_deadline + Duration::from_millis(100);
        if tokio::time::timeout(patience, ended).await.is_err() {
            abort.abort();
            // The task may still run: the new generation ignores what it writes.
            let status = self.status.next_generation();
            status.enter(State::Stopped, |status| {
                status.reason = Some(dropped(self.care.stop_deadline).into());
            });
        }
        if state == State::Paused && self.status.get().state == State::Stopped {
            self.status.current().enter(State::Paused, |_| {});
        }
    }

    /// Cancels the task; `None` if none is running.
    fn cancel(&self) -> Option<AbortHandle> {
        let task = locked(&self.task);
        let task = task
            .as_ref()
            .filter(|_| self.status.get().state.is_active())?;
        task.stop.cancel();
        Some(task.abort.clone())
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn dropped(deadline: Duration) -> String {
    format!(
        "did not stop within {} s and was dropped",
        deadline.as_secs_f64()
    )
}

/// The state of a source's task.
struct SourceRun {
    blueprint: Arc<dyn Blueprint>,
    care: Care,
    status: StatusCell,
    stop: CancellationToken,
    lane: Box<dyn Lane>,
}

impl SourceRun {
    async fn until_ended(mut self) {
        let (stop, status) = (self.stop.clone(), self.status.clone());
        let deadline = self.care.stop_deadline;
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(deadline).await;
        };
        let ended = tokio::select! {
            biased;
            ended = self.attempts() => Some(ended),
            () = overdue => None,
        };
        // The lane is dropped before the status changes: a reader who sees that the source has ended finds
        // everything delivered.
        drop(self);
        match ended {
            Some(Ok(end)) => status.enter(State::Stopped, |status| status.end = Some(end)),
            Some(Err(closed @ Error::LaneClosed(_))) => status.fail(State::Stopped, closed),
            Some(Err(error)) => status.fail(State::Failed, error),
            None => status.enter(State::Stopped, |status| {
                status.reason = Some(dropped(deadline).into());
            }),
        }
    }

    /// Runs the source repeatedly until it ends, fails for good or is stopped.
    async fn attempts(&mut self) -> Result<End> {
        let mut attempts = Attempts::new(self.care.backoff.clone(), self.care.seed);
        loop {
            let started = Instant::now();
            let error = match self.attempt().await {
                Ok(end) => return Ok(end),
                Err(_) if self.stop.is_cancelled() => return Ok(End::Stopped),
                Err(error) => error,
            };
            let Some(wait) = attempts.next(started.elapsed(), error.retry()) else {
                return Err(self.given_up(error, &attempts));
            };
            tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "source failed, will be restarted");
            self.status.fail(State::BackingOff, error);
            tokio::select! {
                () = self.stop.cancelled() => return Ok(End::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
            self.status
                .enter(State::Starting, |status| status.restarts += 1);
        }
    }

    /// Makes the source again, from the last cursor delivered, and runs it once. A source without cursors
    /// that loses its connection leaves a gap.
    async fn attempt(&mut self) -> Result<End> {
        let mut source = self.blueprint.source(self.status.get().cursor)?;
        let parts = OutputParts {
            decoder: self.blueprint.decoder()?,
            schema: self.blueprint.schema(),
            max_frame: self.blueprint.max_frame(),
            bad_rows: self.blueprint.bad_rows(),
            tap: self.care.tap.clone(),
            clock: self.care.clock.clone(),
        };
        let (stop, lane) = (self.stop.clone(), self.lane.as_mut());
        let ended = drive(source.as_mut(), parts, lane, &self.status, stop).await;
        let was_running = matches!(self.status.get().state, State::Running | State::Degraded);
        match &ended {
            Err(Error::LaneClosed(_)) | Ok(_) => {}
            Err(_) if self.stop.is_cancelled() => {}
            Err(error) if was_running && !source.supports_incremental() => {
                let gap = Gap {
                    reason: error.to_string(),
                    from: None,
                    to: None,
                };
                self.lane.send(Item::Gap(gap)).await?;
                self.status.gap();
            }
            Err(_) => {}
        }
        ended
    }

    fn given_up(&self, error: Error, attempts: &Attempts) -> Error {
        match attempts.passed() {
            None => error,
            Some(limit) => Error::TooManyRestarts {
                failures: attempts.failures(),
                limit,
                last: Box::new(error),
            },
        }
    }
}

#[cfg(test)]
mod supervision;
#[cfg(test)]
mod tests;
