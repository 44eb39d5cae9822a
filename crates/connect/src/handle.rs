//! The lifecycle around every source, written once so that no connector can get it wrong.
//!
//! A [`SourceHandle`] owns a source from its first start to its last stop. `start` returns at once; a
//! task then runs the source, tries again with backoff when it fails in a way that trying again can
//! help against, gives it up when that is too often ([`Backoff`]), contains its panics, and ends within a deadline when told to stop. What the source
//! is doing is its [`Status`], which anyone may read or wait for.
//!
//! It leaves to the engine what a source is connected to (the [`Lane`]), where cursors are kept, and
//! which sources should run.

use std::sync::{Arc, Mutex, PoisonError};
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
use crate::status::StatusCell;
use crate::{
    Backoff, BadRows, Clock, Cursor, End, Error, Gap, Item, Lane, OutputParts, Result, Source,
    State, Status, SystemClock, Tap,
};

/// Makes a source and its decoder, as often as it is started.
pub trait Blueprint: Send + Sync + 'static {
    /// A source that continues from `cursor`.
    fn source(&self, cursor: Option<Cursor>) -> Result<Box<dyn Source>>;
    /// Makes rows of its frames; `None` if it emits rows.
    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>>;
    /// Its columns.
    fn schema(&self) -> SchemaRef;
    /// The largest frame taken, in bytes.
    fn max_frame(&self) -> usize;
    /// What becomes of frames that are no rows.
    fn bad_rows(&self) -> BadRows {
        BadRows::Keep
    }
    /// When to try again after a failure: `given`, but for what its own options say.
    fn backoff(&self, given: Backoff) -> Backoff {
        given
    }
}

/// How a source is looked after.
#[derive(Clone)]
pub struct Care {
    /// When to try again after a failure.
    pub backoff: Backoff,
    /// Decides the jitter.
    pub seed: u64,
    /// A source that has not ended this long after it was told to is dropped.
    pub stop_deadline: Duration,
    /// Tells arrival times and the times in the status.
    pub clock: Arc<dyn Clock>,
    /// Sees the raw bytes of every frame.
    pub tap: Option<Tap>,
}

impl Default for Care {
    /// [`Backoff::default`], 5 s to stop, the machine's clock, a random seed.
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

/// The task of a started source.
struct Task {
    stop: CancellationToken,
    abort: AbortHandle,
}

impl SourceHandle {
    /// A source in the state initial, which will continue from `cursor`.
    pub fn new(blueprint: Arc<dyn Blueprint>, cursor: Option<Cursor>, care: Care) -> Self {
        let status = StatusCell::new(care.clock.clone(), cursor);
        Self {
            blueprint: Mutex::new(blueprint),
            care,
            status,
            task: Mutex::new(None),
        }
    }

    /// The next start continues from `cursor`. Of no effect while the source runs.
    pub fn resume_from(&self, cursor: Option<Cursor>) {
        self.status.resume_from(cursor);
    }

    /// Checks that the outside system can be reached. Reads no data, starts nothing.
    pub async fn validate(&self) -> Result<()> {
        let source = self.blueprint().source(self.status.get().cursor)?;
        source.validate().await
    }

    /// What the source is made of.
    pub fn blueprint(&self) -> Arc<dyn Blueprint> {
        let blueprint = self.blueprint.lock();
        Arc::clone(&blueprint.unwrap_or_else(PoisonError::into_inner))
    }

    /// The next start makes the source of `blueprint`, which has the same columns, and continues from
    /// the same cursor. A source that is running goes on as it was.
    pub fn remake(&self, blueprint: Arc<dyn Blueprint>) {
        let mut current = self
            .blueprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = blueprint;
    }

    /// Starts the source and returns at once; must be called within a tokio runtime. The source runs,
    /// in the `tracing` span of the caller, until its input ends, it fails for good, `stop` is cancelled or [`stop`](Self::stop) is called;
    /// then the lane is dropped. A source that has ended may be started again, and continues from the
    /// last cursor that its lane has taken; failures of the starts before do not count.
    ///
    /// Fails if `stop` is cancelled already, if there is no lane, and if the source is running.
    pub fn start(&self, stop: &CancellationToken, lane: Option<Box<dyn Lane>>) -> Result<()> {
        if stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let lane = lane.ok_or(Error::NoOutput)?;
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.status.get().state;
        if state.is_active() {
            return Err(Error::AlreadyRunning { state });
        }
        let stop = stop.child_token();
        let (blueprint, mut care) = (self.blueprint(), self.care.clone());
        care.backoff = blueprint.backoff(care.backoff);
        let run = Run {
            blueprint,
            care,
            status: self.status.next_start(),
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

    /// Like [`stop`](Self::stop), but the source is to be started again: its state is paused.
    pub async fn pause(&self) {
        self.end_as(State::Paused).await;
    }

    /// Forgets where the source was, so that its next start begins as its first did; what was paused is
    /// stopped. Does nothing while it is running.
    pub fn forget_cursor(&self) {
        let state = self.status.get().state;
        if state.is_active() {
            return;
        }
        let next = if state == State::Paused {
            State::Stopped
        } else {
            state
        };
        self.status
            .latest()
            .enter(next, |status| status.cursor = None);
    }

    /// How the source is doing.
    pub fn status(&self) -> Status {
        self.status.get()
    }

    /// Tells of every change of the status.
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
            // Whatever still runs of the task has no say any more.
            let status = self.status.next_start();
            status.enter(State::Stopped, |status| {
                status.reason = Some(dropped(self.care.stop_deadline).into());
            });
        }
        if state == State::Paused && self.status.get().state == State::Stopped {
            self.status.latest().enter(State::Paused, |_| {});
        }
    }

    /// Tells the task to stop; `None` if there is none at work.
    fn cancel(&self) -> Option<AbortHandle> {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
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

/// What the task of a source holds.
struct Run {
    blueprint: Arc<dyn Blueprint>,
    care: Care,
    status: StatusCell,
    stop: CancellationToken,
    lane: Box<dyn Lane>,
}

impl Run {
    async fn until_ended(mut self) {
        let (stop, status, deadline) = (
            self.stop.clone(),
            self.status.clone(),
            self.care.stop_deadline,
        );
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(deadline).await;
        };
        let ended = tokio::select! {
            biased;
            ended = self.attempts() => Some(ended),
            () = overdue => None,
        };
        // The lane goes before the status tells that the source has ended: who sees the status finds
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

    /// Runs the source again and again until it ends, fails for good or is told to stop.
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
            tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "source failed, will be tried again");
            self.status.fail(State::BackingOff, error);
            tokio::select! {
                () = self.stop.cancelled() => return Ok(End::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
            self.status
                .enter(State::Starting, |status| status.restarts += 1);
        }
    }

    /// Makes the source anew, from the last cursor delivered, and runs it once. One that loses its
    /// connection and cannot go back leaves a gap.
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
