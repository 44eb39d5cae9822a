//! The task that feeds a sink: rows from a subscription, again and again until they are written.
//!
//! ```text
//!   queue --take--> write --ok--> held --settle--> delivered (receipt, items)
//!                    |  ^           what the sink still holds itself
//!            failed  v  | tried again as error.retry.* says
//!                 given up --> counted | dead letters | the sink fails
//! ```
//!
//! What is given up, and what then, is the sink's [`ErrorOptions`]. A batch that cannot be encoded is
//! halved until the rows at fault stand alone, if the strategy lets the others go on; a sink that
//! cannot write at all gives up the whole batch at once, and before it what the sink still holds
//! itself, which is why the feeder keeps those rows (`held`). A sink that cannot be opened cannot
//! write: if its rows go elsewhere, each batch is an attempt to open it. When the sink fails its rows
//! stay in the queue, which a new feeder takes up when the sink is started again.

mod held;
mod progress;

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

use held::Held;
pub(crate) use progress::SinkStatus;

use crate::subscription::{DeliveryTracker, Event, Subscription};

/// How often a dead letter is offered to its stream before it goes to the log.
const LETTER_ATTEMPTS: u32 = 3;
/// The wait between two such offers.
const LETTER_WAIT: Duration = Duration::from_secs(1);

/// What a feeder is made of.
pub(super) struct SinkTaskParts {
    /// What is to be written.
    pub rows: Subscription,
    /// Ends the feeder at once.
    pub stop: CancellationToken,
    /// Where the feeder tells how it is doing.
    pub status: Arc<SinkStatus>,
    /// Decides the jitter of waits.
    pub seed: u64,
    /// What happens to rows that cannot be written.
    pub errors: ErrorOptions,
    /// Where the sink was before a restart; the first rows of the subscription follow it.
    pub receipt: Option<Receipt>,
    /// The stream whose rows these are, for dead letters.
    pub stream: String,
    /// Takes dead letters; without it they go to the log.
    pub letters: Option<Arc<dyn DeadLetters>>,
    /// Tells when a row was given up.
    pub clock: Arc<dyn Clock>,
}

/// Moves rows from a subscription into a sink, trying again when the sink fails.
pub(super) struct SinkTask {
    parts: SinkTaskParts,
    /// What was handed over of each batch that is written and not delivered.
    held: Held,
    /// Whether the sink is open.
    is_open: bool,
    /// Gives every series of attempts a jitter of its own.
    series: u64,
}

/// The sink is told to stop or cannot go on; the status says which.
struct Ended;

/// Rows that are not tried again.
struct GivenUp {
    error: Error,
    attempts: u32,
}

impl SinkTask {
    pub fn new(parts: SinkTaskParts) -> Self {
        Self {
            parts,
            held: Held::default(),
            is_open: false,
            series: 0,
        }
    }

    /// The sink cannot go on, and why.
    pub fn fail(&self, reason: String) {
        self.parts.rows.strand();
        self.parts.status.end(&reason);
        self.parts.status.set("failed", Some(reason));
    }

    /// Writes rows until there are no more, the sink fails for good, or it is told to stop.
    pub async fn run(mut self, mut sink: Box<dyn Sink>) {
        let (stop, status) = (self.parts.stop.clone(), Arc::clone(&self.parts.status));
        let outage = sink.outage();
        let fed = tokio::select! {
            fed = self.feed(sink.as_mut()) => fed,
            () = stop.cancelled() => Ok(()),
            never = follow(outage, &status) => match never {},
        };
        let closed = sink.close().await;
        if closed.is_ok() {
            self.all_is_outside();
        }
        match (fed, closed) {
            (Err(Ended), _) => {}
            (Ok(()), Ok(())) => {
                self.parts.status.end("the sink has stopped");
                self.parts.status.set("stopped", None);
            }
            (Ok(()), Err(error)) => self.fail(error.to_string()),
        }
    }

    async fn feed(&mut self, sink: &mut dyn Sink) -> Result<(), Ended> {
        self.open(sink).await?;
        while let Some(event) = self.next(sink).await? {
            if let Event::Rows(batch) = event {
                self.write(sink, &batch).await?;
                self.settle(sink);
            }
        }
        Ok(())
    }

    async fn open(&mut self, sink: &mut dyn Sink) -> Result<(), Ended> {
        let mut attempts = self.series(self.parts.errors.restarts(Backoff::default()));
        while let Err(error) = sink.open(self.parts.receipt.clone()).await {
            if self.leaves_out() && !matches!(error, Error::BadReceipt { .. }) {
                self.parts.status.opened();
                self.parts.status.set("degraded", Some(told(&error)));
                return Ok(());
            }
            let Some(wait) = attempts.next(Duration::ZERO, error.retry()) else {
                return Err(self.failed(&error));
            };
            self.parts.status.set("backing_off", Some(told(&error)));
            tokio::time::sleep(wait).await;
        }
        self.is_open = true;
        self.settle(sink);
        self.parts.status.opened();
        self.parts.status.set("running", None);
        Ok(())
    }

    /// The next event; flushes the sink before it waits, and syncs it when asked.
    async fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Event>, Ended> {
        loop {
            self.sync(sink).await;
            let event = match self.parts.rows.try_next() {
                Ok(None) => {
                    self.flush(sink).await?;
                    let parts = &mut self.parts;
                    tokio::select! {
                        event = StreamExt::next(&mut parts.rows) => event.transpose(),
                        () = parts.status.asked() => continue,
                    }
                }
                event => event,
            };
            return event.map_err(|error| {
                self.fail(error.to_string());
                Ended
            });
        }
    }

    /// Flushes the sink, again and again until it is done or what the sink holds is given up.
    async fn flush(&mut self, sink: &mut dyn Sink) -> Result<(), Ended> {
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
            if wait.is_none() && self.leaves_out() {
                let attempts = attempts.failures();
                let reason = told(&error);
                let failure = GivenUp { error, attempts };
                if self.give_up_held(sink, &failure).await? {
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
    async fn write(&mut self, sink: &mut dyn Sink, batch: &RecordBatch) -> Result<(), Ended> {
        self.held.begin();
        let mut parts = vec![batch.clone()];
        let (mut given_up, mut letters) = (None, Vec::new());
        while let Some(part) = parts.pop() {
            let rows = part.num_rows();
            match self.try_write(sink, &part).await {
                Ok(()) => self.held.add(part),
                Err(failure) if self.tells_rows_apart(&failure) && rows > 1 => {
                    parts.push(part.slice(rows / 2, rows - rows / 2));
                    parts.push(part.slice(0, rows / 2));
                }
                Err(failure) => {
                    if self.leaves_out() && !failure.error.is_of_rows() {
                        // What was written before comes first. If the sink keeps it, it may yet
                        // deliver it.
                        self.give_up_held(sink, &failure).await?;
                    }
                    letters.extend(self.give_up(&part, &failure)?);
                    given_up = Some(told(&failure.error));
                }
            }
        }
        if !letters.is_empty() {
            self.bury(&letters).await;
        }
        self.held.finish();
        match given_up {
            Some(reason) => self.parts.status.set("degraded", Some(reason)),
            None => self.parts.status.recover("degraded"),
        }
        Ok(())
    }

    /// Whether a batch is worth being halved: only some of its rows are at fault, and the others may
    /// go on without them.
    fn tells_rows_apart(&self, failure: &GivenUp) -> bool {
        failure.error.is_of_rows() && self.leaves_out()
    }

    /// Whether the sink goes on without the rows that it cannot write.
    fn leaves_out(&self) -> bool {
        use ErrorStrategy::{Dlq, Drop};
        matches!(self.parts.errors.strategy(), Some(Drop | Dlq))
    }

    /// Writes rows, again and again until they are written or given up.
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
            self.parts.status.set("backing_off", Some(told(&error)));
            self.rest(sink, wait).await;
        }
    }

    /// Writes rows; opens the sink before, if it could not be opened so far.
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

    /// Waits before the next flush, if there is to be one.
    async fn wait_to_flush(
        &mut self,
        sink: &mut dyn Sink,
        error: &Error,
        wait: Option<Duration>,
    ) -> Result<(), Ended> {
        let wait = wait.ok_or_else(|| self.failed(error))?;
        self.parts.status.set("degraded", Some(told(error)));
        self.rest(sink, wait).await;
        Ok(())
    }

    /// Waits, and syncs the sink meanwhile when asked.
    async fn rest(&mut self, sink: &mut dyn Sink, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            self.sync(sink).await;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.parts.status.asked() => {}
            }
        }
    }

    /// Does with rows what the strategy says; gives the dead letters to be sent.
    fn give_up(&mut self, rows: &RecordBatch, failure: &GivenUp) -> Result<Vec<DeadLetter>, Ended> {
        match self.parts.errors.strategy() {
            Some(ErrorStrategy::Drop) => {
                let reason = failure.error.to_string();
                self.parts
                    .status
                    .dropped
                    .add(&reason, rows.num_rows() as u64);
                Ok(Vec::new())
            }
            Some(ErrorStrategy::Dlq) => Ok(self.letters(rows, failure)),
            None | Some(ErrorStrategy::Retry | ErrorStrategy::Fail) => {
                Err(self.failed(&failure.error))
            }
        }
    }

    /// Does with the rows that the sink still holds what the strategy says; false if it keeps them.
    async fn give_up_held(
        &mut self,
        sink: &mut dyn Sink,
        failure: &GivenUp,
    ) -> Result<bool, Ended> {
        let Some(places) = sink.take_back() else {
            return Ok(false);
        };
        let mut letters = Vec::new();
        for rows in self.held.take(&places) {
            letters.extend(self.give_up(&rows, failure)?);
        }
        if !letters.is_empty() {
            self.bury(&letters).await;
        }
        Ok(true)
    }

    /// Sends dead letters to their stream; what it does not take goes to the log, and is counted.
    async fn bury(&self, letters: &[DeadLetter]) {
        let mut refusal = "there is no dead-letter stream".to_owned();
        if let Some(stream) = &self.parts.letters {
            for attempt in 1..=LETTER_ATTEMPTS {
                match stream.take(letters).await {
                    Ok(()) => {
                        let sent = &self.parts.status.dead_letters;
                        sent.fetch_add(letters.len() as u64, Ordering::Relaxed);
                        return;
                    }
                    Err(reason) => refusal = reason,
                }
                if attempt < LETTER_ATTEMPTS {
                    tokio::time::sleep(LETTER_WAIT).await;
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

    fn letters(&self, rows: &RecordBatch, failure: &GivenUp) -> Vec<DeadLetter> {
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

    /// Notes what the sink no longer holds itself, and where it is.
    fn settle(&mut self, sink: &dyn Sink) {
        let (rows, items) = self.held.settle(sink.unsent());
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

    /// The sink has closed: everything it took is outside, and durable.
    fn all_is_outside(&mut self) {
        let status = &self.parts.status;
        let receipt = status.delivered().receipt;
        let (rows, items) = self.held.settle(0);
        status.rows.fetch_add(rows, Ordering::Relaxed);
        status.deliver(receipt.clone(), items);
        status.synced(receipt);
    }

    /// Syncs the sink if somebody waits for it.
    async fn sync(&self, sink: &mut dyn Sink) {
        if let Some((waiting, receipt)) = self.parts.status.take_waiting() {
            let synced = match self.is_open {
                true => sink.sync().await.map_err(|error| told(&error)),
                false => Ok(()),
            };
            if synced.is_ok() {
                self.parts.status.synced(receipt);
            }
            waiting.answer(&synced);
        }
    }

    fn series(&mut self, policy: Backoff) -> Attempts {
        self.series += 1;
        Attempts::new(policy, self.parts.seed.wrapping_add(self.series))
    }

    fn failed(&self, error: &Error) -> Ended {
        self.fail(told(error));
        Ended
    }
}

/// When a flush is tried again of a sink that keeps what it holds, so that it can neither be dropped nor
/// sent elsewhere.
fn patience() -> Backoff {
    ErrorOptions::default().retries()
}

/// Tells whether the sink can reach the outside, for as long as it is polled.
async fn follow(
    outage: Option<watch::Receiver<Option<String>>>,
    status: &SinkStatus,
) -> Infallible {
    if let Some(mut outage) = outage {
        loop {
            let why = outage.borrow_and_update().clone();
            status.cannot_reach(why);
            if outage.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

/// What went wrong, and what to do where we know.
fn told(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
