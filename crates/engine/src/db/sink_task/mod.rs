//! The task that feeds a sink: it takes rows from a subscription and retries until they are written.
//!
//! ```text
//!   queue --take--> write --ok--> unsettled --settle--> delivered (receipt, items)
//!                    |  ^           rows that the sink still holds itself
//!            failed  v  | retried as error.retry.* says
//!                 given up --> counted | dead letters | the sink fails
//! ```
//!
//! The sink's [`ErrorOptions`] decide when rows are given up, and what happens to them. A batch that
//! cannot be encoded is halved until only the rows at fault are left, if the strategy lets the others
//! pass; a sink that cannot write at all gives up the whole batch at once, and before it the rows that
//! the sink still holds itself, which is why the task keeps those ([`UnsettledRows`]). A sink that cannot
//! be opened cannot write: if its rows are dropped or become dead letters, each batch is an attempt to
//! open it. When the sink fails its rows stay in the queue, which a new task takes over when the sink is
//! started again.

mod sink_status;
mod unsettled_rows;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures_util::StreamExt;
use headwater_connect::{
    Attempts, Backoff, Clock, DeadLetter, DeadLetters, Error, ErrorOptions, ErrorStrategy, Receipt,
    Sink, originals,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use sink_status::{SinkStatus, SinkSynced};
use unsettled_rows::UnsettledRows;

use crate::subscription::{DeliveryTracker, Event, Subscription};

/// Attempts to send a dead letter to its stream before it is only logged.
const DEAD_LETTER_ATTEMPTS: u32 = 3;
/// The wait between two such attempts.
const DEAD_LETTER_WAIT: Duration = Duration::from_secs(1);

pub(in crate::db) struct SinkTaskParts {
    pub rows: Subscription,
    /// Ends the task at once.
    pub stop: CancellationToken,
    /// Where the task reports how it is doing.
    pub status: Arc<SinkStatus>,
    /// Seeds the jitter of waits.
    pub seed: u64,
    /// Decides about rows that cannot be written.
    pub errors: ErrorOptions,
    /// The position of the sink before a restart; the first rows of the subscription follow it.
    pub receipt: Option<Receipt>,
    /// The stream whose rows these are, for dead letters.
    pub stream: String,
    /// Takes dead letters; without it they are only logged.
    pub dead_letters: Option<Arc<dyn DeadLetters>>,
    /// The time at which a row was given up.
    pub clock: Arc<dyn Clock>,
}

/// Moves rows from a subscription into a sink, and retries when the sink fails.
pub(in crate::db) struct SinkTask {
    parts: SinkTaskParts,
    unsettled: UnsettledRows,
    is_open: bool,
    /// The number of series of attempts, each of which has its own jitter.
    series: u64,
}

/// The sink has stopped or failed; the status says which.
struct SinkEnded;

/// Why rows are not retried.
struct GivenUp {
    error: Error,
    attempts: u32,
}

impl SinkTask {
    pub fn new(parts: SinkTaskParts) -> Self {
        Self {
            parts,
            unsettled: UnsettledRows::default(),
            is_open: false,
            series: 0,
        }
    }

    pub fn fail(&self, reason: String) {
        self.parts.rows.strand();
        self.parts.status.end(&reason);
        self.parts.status.set("failed", Some(reason));
    }

    /// Writes rows until there are no more, the sink fails for good, or it is stopped.
    pub async fn run(mut self, mut sink: Box<dyn Sink>) {
        let (stop, status) = (self.parts.stop.clone(), Arc::clone(&self.parts.status));
        let outage = sink.outage();
        let fed = tokio::select! {
            fed = self.feed(sink.as_mut()) => fed,
            () = stop.cancelled() => Ok(()),
            never = follow_outage(outage, &status) => match never {},
        };
        let closed = sink.close().await;
        if closed.is_ok() {
            self.settle_all();
        }
        match (fed, closed) {
            (Err(SinkEnded), _) => {}
            (Ok(()), Ok(())) => {
                self.parts.status.end("the sink has stopped");
                self.parts.status.set("stopped", None);
            }
            (Ok(()), Err(error)) => self.fail(error.to_string()),
        }
    }

    async fn feed(&mut self, sink: &mut dyn Sink) -> Result<(), SinkEnded> {
        self.open(sink).await?;
        while let Some(event) = self.next(sink).await? {
            if let Event::Rows(batch) = event {
                self.write(sink, &batch).await?;
                self.settle(sink);
            }
        }
        Ok(())
    }

    async fn open(&mut self, sink: &mut dyn Sink) -> Result<(), SinkEnded> {
        let mut attempts = self.series(self.parts.errors.restarts(Backoff::default()));
        while let Err(error) = sink.open(self.parts.receipt.clone()).await {
            if self.skips_rows() && !matches!(error, Error::BadReceipt { .. }) {
                self.parts.status.set_opened();
                self.parts.status.set("degraded", Some(with_hint(&error)));
                return Ok(());
            }
            let Some(wait) = attempts.next(Duration::ZERO, error.retry()) else {
                return Err(self.failed(&error));
            };
            self.parts
                .status
                .set("backing_off", Some(with_hint(&error)));
            tokio::time::sleep(wait).await;
        }
        self.is_open = true;
        self.settle(sink);
        self.parts.status.set_opened();
        self.parts.status.set("running", None);
        Ok(())
    }

    /// The next event; flushes the sink before it waits, and syncs it on request.
    async fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Event>, SinkEnded> {
        loop {
            self.sync(sink).await;
            let event = match self.parts.rows.try_next() {
                Ok(None) => {
                    self.flush(sink).await?;
                    let parts = &mut self.parts;
                    tokio::select! {
                        event = StreamExt::next(&mut parts.rows) => event.transpose(),
                        () = parts.status.sync_requested() => continue,
                        () = sink.progress() => {
                            self.settle(sink);
                            continue;
                        }
                    }
                }
                event => event,
            };
            return event.map_err(|error| {
                self.fail(error.to_string());
                SinkEnded
            });
        }
    }

    /// Flushes the sink, and retries until it is done or the rows that the sink holds are given up.
    async fn flush(&mut self, sink: &mut dyn Sink) -> Result<(), SinkEnded> {
        if !self.is_open {
            return Ok(());
        }
        let mut series: Option<(Attempts, Attempts)> = None;
        while let Err(error) = sink.flush().await {
            let (attempts, patience) = series.get_or_insert_with(|| {
                let retries = self.parts.errors.retries();
                (self.series(retries), self.series(patience()))
            });
            let mut wait = attempts.next(Duration::ZERO, error.retry());
            if wait.is_none() && self.skips_rows() {
                let attempts = attempts.failures();
                let reason = with_hint(&error);
                let failure = GivenUp { error, attempts };
                if self.give_up_unsettled(sink, &failure).await? {
                    self.settle(sink);
                    self.parts.status.set("degraded", Some(reason));
                    return Ok(());
                }
                wait = patience.next(Duration::ZERO, failure.error.retry());
                self.wait_to_flush(sink, &failure.error, wait).await?;
            } else {
                self.wait_to_flush(sink, &error, wait).await?;
            }
        }
        self.settle(sink);
        if series.is_some() {
            self.parts.status.recover("degraded");
        }
        Ok(())
    }

    /// Writes a batch, or those of its rows that can be written.
    async fn write(&mut self, sink: &mut dyn Sink, batch: &RecordBatch) -> Result<(), SinkEnded> {
        self.unsettled.begin();
        let mut parts = vec![batch.clone()];
        let (mut given_up, mut letters) = (None, Vec::new());
        while let Some(part) = parts.pop() {
            let rows = part.num_rows();
            match self.try_write(sink, &part).await {
                Ok(()) => self.unsettled.add(part),
                Err(failure) if self.tells_rows_apart(&failure) && rows > 1 => {
                    parts.push(part.slice(rows / 2, rows - rows / 2));
                    parts.push(part.slice(0, rows / 2));
                }
                Err(failure) => {
                    if self.skips_rows() && !failure.error.is_of_rows() {
                        // Earlier rows come first. If the sink keeps them, it may still deliver them.
                        self.give_up_unsettled(sink, &failure).await?;
                    }
                    letters.extend(self.give_up(&part, &failure)?);
                    given_up = Some(with_hint(&failure.error));
                }
            }
        }
        if !letters.is_empty() {
            self.send_dead_letters(&letters).await;
        }
        self.unsettled.finish();
        match given_up {
            Some(reason) => self.parts.status.set("degraded", Some(reason)),
            None => self.parts.status.recover("degraded"),
        }
        Ok(())
    }

    /// Whether to halve a batch: some of its rows are at fault, and the others may pass without them.
    fn tells_rows_apart(&self, failure: &GivenUp) -> bool {
        failure.error.is_of_rows() && self.skips_rows()
    }

    /// Whether the sink continues without the rows that it cannot write.
    fn skips_rows(&self) -> bool {
        use ErrorStrategy::{Dlq, Drop};
        matches!(self.parts.errors.strategy(), Some(Drop | Dlq))
    }

    /// Writes rows, and retries until they are written or given up.
    async fn try_write(&mut self, sink: &mut dyn Sink, rows: &RecordBatch) -> Result<(), GivenUp> {
        let mut attempts: Option<Attempts> = None;
        loop {
            let began = Instant::now();
            let Err(error) = self.write_once(sink, rows).await else {
                if attempts.is_some() {
                    self.parts.status.recover("backing_off");
                }
                return Ok(());
            };
            let attempts = attempts.get_or_insert_with(|| self.series(self.parts.errors.retries()));
            let Some(wait) = attempts.next(began.elapsed(), error.retry()) else {
                let attempts = attempts.failures();
                self.parts.status.recover("backing_off");
                return Err(GivenUp { error, attempts });
            };
            self.parts
                .status
                .set("backing_off", Some(with_hint(&error)));
            self.rest(sink, wait).await;
        }
    }

    /// Writes rows once; opens the sink first if it is not open.
    async fn write_once(
        &mut self,
        sink: &mut dyn Sink,
        rows: &RecordBatch,
    ) -> headwater_connect::Result<()> {
        if !self.is_open {
            sink.open(self.parts.receipt.clone()).await?;
            self.is_open = true;
        }
        sink.write(rows).await
    }

    /// Waits before the next flush; without a wait the sink fails.
    async fn wait_to_flush(
        &mut self,
        sink: &mut dyn Sink,
        error: &Error,
        wait: Option<Duration>,
    ) -> Result<(), SinkEnded> {
        let wait = wait.ok_or_else(|| self.failed(error))?;
        self.parts.status.set("degraded", Some(with_hint(error)));
        self.rest(sink, wait).await;
        Ok(())
    }

    /// Waits, and syncs the sink meanwhile on request.
    async fn rest(&mut self, sink: &mut dyn Sink, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            self.sync(sink).await;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.parts.status.sync_requested() => {}
            }
        }
    }

    /// Applies the strategy to rows; returns the dead letters to be sent.
    fn give_up(
        &mut self,
        rows: &RecordBatch,
        failure: &GivenUp,
    ) -> Result<Vec<DeadLetter>, SinkEnded> {
        match self.parts.errors.strategy() {
            Some(ErrorStrategy::Drop) => {
                let reason = failure.error.to_string();
                self.parts
                    .status
                    .dropped
                    .add(&reason, rows.num_rows() as u64);
                Ok(Vec::new())
            }
            Some(ErrorStrategy::Dlq) => Ok(self.dead_letters(rows, failure)),
            None | Some(ErrorStrategy::Retry | ErrorStrategy::Fail) => {
                Err(self.failed(&failure.error))
            }
        }
    }

    /// Applies the strategy to the rows that the sink still holds; false if the sink keeps them.
    async fn give_up_unsettled(
        &mut self,
        sink: &mut dyn Sink,
        failure: &GivenUp,
    ) -> Result<bool, SinkEnded> {
        let Some(places) = sink.take_back() else {
            return Ok(false);
        };
        let mut letters = Vec::new();
        for rows in self.unsettled.take(&places) {
            letters.extend(self.give_up(&rows, failure)?);
        }
        if !letters.is_empty() {
            self.send_dead_letters(&letters).await;
        }
        Ok(true)
    }

    /// Sends dead letters to their stream; logs and counts those that it does not take.
    async fn send_dead_letters(&self, letters: &[DeadLetter]) {
        let mut refusal = "there is no dead-letter stream".to_owned();
        if let Some(stream) = &self.parts.dead_letters {
            for attempt in 1..=DEAD_LETTER_ATTEMPTS {
                match stream.take(letters).await {
                    Ok(()) => {
                        let sent = &self.parts.status.dead_letters;
                        sent.fetch_add(letters.len() as u64, Ordering::Relaxed);
                        return;
                    }
                    Err(reason) => refusal = reason,
                }
                if attempt < DEAD_LETTER_ATTEMPTS {
                    tokio::time::sleep(DEAD_LETTER_WAIT).await;
                }
            }
        }
        for letter in letters {
            let row = String::from_utf8_lossy(&letter.original_event);
            let (stream, error) = (&letter.stream_name, &letter.error_message);
            tracing::error!(stream, error, refusal, %row, "a dead letter was not delivered");
        }
        let reason = format!("dead letters were not delivered: {refusal}");
        let rows = letters.len() as u64;
        self.parts.status.dropped.add(&reason, rows);
    }

    fn dead_letters(&self, rows: &RecordBatch, failure: &GivenUp) -> Vec<DeadLetter> {
        let timestamp_us = self.parts.clock.now_us();
        let letter = |original_event| DeadLetter {
            original_event,
            error_message: failure.error.to_string(),
            error_type: failure.error.name().to_owned(),
            timestamp_us,
            attempt_count: failure.attempts,
            stream_name: self.parts.stream.clone(),
        };
        originals(rows).into_iter().map(letter).collect()
    }

    /// Reports the rows that the sink no longer holds itself, and its position.
    fn settle(&mut self, sink: &dyn Sink) {
        let (rows, items) = self.unsettled.settle(sink.unsent());
        let status = &self.parts.status;
        status.rows.fetch_add(rows, Ordering::Relaxed);
        status.overflowed.store(sink.dropped(), Ordering::Relaxed);
        let receipt = if self.is_open {
            sink.receipt()
        } else {
            self.parts.receipt.clone()
        };
        status.deliver(receipt, items);
    }

    /// The sink has closed: all rows that it took are in the external system, and durable.
    fn settle_all(&mut self) {
        let status = &self.parts.status;
        let receipt = status.delivered().receipt;
        let (rows, items) = self.unsettled.settle(0);
        status.rows.fetch_add(rows, Ordering::Relaxed);
        status.deliver(receipt.clone(), items);
        status.synced(receipt);
    }

    /// Syncs the sink if that is requested.
    async fn sync(&self, sink: &mut dyn Sink) {
        if let Some((requests, receipt)) = self.parts.status.take_sync_requests() {
            let synced = match self.is_open {
                true => sink.sync().await.map_err(|error| with_hint(&error)),
                false => Ok(()),
            };
            if synced.is_ok() {
                self.parts.status.synced(receipt);
            }
            requests.answer(&synced);
        }
    }

    fn series(&mut self, policy: Backoff) -> Attempts {
        self.series += 1;
        Attempts::new(policy, self.parts.seed.wrapping_add(self.series))
    }

    fn failed(&self, error: &Error) -> SinkEnded {
        self.fail(with_hint(error));
        SinkEnded
    }
}

/// The retries of a flush when the sink keeps the rows that it holds, so that they can be neither dropped
/// nor made dead letters.
fn patience() -> Backoff {
    ErrorOptions::default().retries()
}

/// Reports whether the sink can reach the external system, for as long as it is polled.
async fn follow_outage(
    outage: Option<watch::Receiver<Option<String>>>,
    status: &SinkStatus,
) -> Infallible {
    if let Some(mut outage) = outage {
        loop {
            let why = outage.borrow_and_update().clone();
            status.set_outage(why);
            if outage.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

/// The error with its hint, if it has one.
fn with_hint(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
