//! The task that feeds a sink: rows from a subscription, again and again until they are written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures_util::StreamExt;
use headwater_connect::{Attempts, Backoff, Error, Sink};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::subscription::{Event, Subscription};

/// How a sink is doing.
#[derive(Default)]
pub(crate) struct SinkStatus {
    pub rows: AtomicU64,
    pub state: Mutex<SinkState>,
    /// Where its errors are kept, and under which name.
    journal: OnceLock<(Arc<Journal>, String)>,
}

/// The state of a sink, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct SinkState {
    pub name: &'static str,
    pub reason: Option<String>,
}

impl SinkStatus {
    /// The errors of the sink of this name are kept in `journal`.
    pub(super) fn tell_errors_to(&self, journal: &Arc<Journal>, name: &str) {
        // Only the first that is said counts, and nobody says another.
        let _ = self.journal.set((Arc::clone(journal), name.to_owned()));
    }

    pub(super) fn set(&self, name: &'static str, reason: Option<String>) {
        if let Some(reason) = &reason {
            tracing::warn!(state = name, reason, "sink");
            if let Some((journal, name)) = self.journal.get() {
                journal.error("sink", name, reason);
            }
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = SinkState { name, reason };
    }

    /// Running again, if `state` was what it was.
    fn recover(&self, state: &str) {
        if self.get().name == state {
            self.set("running", None);
        }
    }

    pub fn get(&self) -> SinkState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Moves rows from a subscription into a sink, trying again when the sink fails.
pub(super) struct Feeder {
    rows: Subscription,
    stop: CancellationToken,
    status: Arc<SinkStatus>,
    attempts: Attempts,
}

/// The sink is told to stop or cannot go on; the status says which.
struct Ended;

impl Feeder {
    pub fn new(
        rows: Subscription,
        stop: CancellationToken,
        status: Arc<SinkStatus>,
        seed: u64,
    ) -> Self {
        Self {
            rows,
            stop,
            status,
            attempts: Attempts::new(Backoff::default(), seed),
        }
    }

    /// The sink cannot go on, and why.
    pub fn fail(&self, reason: String) {
        self.status.set("failed", Some(reason));
    }

    /// Writes rows until there are no more, the sink fails for good, or it is told to stop.
    pub async fn run(mut self, mut sink: Box<dyn Sink>) {
        let stop = self.stop.clone();
        let fed = tokio::select! {
            fed = self.feed(sink.as_mut()) => fed,
            () = stop.cancelled() => Ok(()),
        };
        let closed = sink.close().await;
        match (fed, closed) {
            (Err(Ended), _) => {}
            (Ok(()), Ok(())) => self.status.set("stopped", None),
            (Ok(()), Err(error)) => self.fail(error.to_string()),
        }
    }

    async fn feed(&mut self, sink: &mut dyn Sink) -> Result<(), Ended> {
        while let Err(error) = sink.open().await {
            self.retry(&error, Duration::ZERO).await?;
        }
        self.status.set("running", None);
        while let Some(event) = self.next(sink).await? {
            if let Event::Rows(batch) = event {
                self.write(sink, &batch).await?;
            }
        }
        Ok(())
    }

    /// The next event; flushes the sink before it waits.
    async fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Event>, Ended> {
        let event = match self.rows.try_next() {
            Ok(Some(event)) => Some(Ok(event)),
            Ok(None) => {
                match sink.flush().await {
                    Ok(()) => self.status.recover("degraded"),
                    Err(error) => self.status.set("degraded", Some(error.to_string())),
                }
                StreamExt::next(&mut self.rows).await
            }
            Err(error) => Some(Err(error)),
        };
        event.transpose().map_err(|error| {
            self.fail(error.to_string());
            Ended
        })
    }

    async fn write(&mut self, sink: &mut dyn Sink, batch: &RecordBatch) -> Result<(), Ended> {
        loop {
            let began = Instant::now();
            match sink.write(batch).await {
                Ok(()) => break,
                Err(error) => self.retry(&error, began.elapsed()).await?,
            }
        }
        self.status
            .rows
            .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Waits before another attempt, if there is to be one.
    async fn retry(&mut self, error: &Error, ran_for: Duration) -> Result<(), Ended> {
        let Some(delay) = self.attempts.next(ran_for, error.retry()) else {
            self.fail(error.to_string());
            return Err(Ended);
        };
        self.status.set("backing_off", Some(error.to_string()));
        tokio::time::sleep(delay).await;
        self.status.set("running", None);
        Ok(())
    }
}
