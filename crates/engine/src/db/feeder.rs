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
//! cannot write at all gives up the whole batch at once. When the sink fails its rows stay in the
//! queue, which a new feeder takes up when the sink is started again.

mod progress;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures_util::StreamExt;
use headwater_connect::{
    Attempts, Backoff, Clock, DeadLetter, DeadLetters, Error, ErrorOptions, ErrorStrategy, Receipt,
    Sink, originals,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use progress::SinkStatus;

use crate::subscription::{Delivery, Event, Subscription};

/// How often a dead letter is offered to its stream before it goes to the log.
const LETTER_ATTEMPTS: u32 = 3;
/// The wait between two such offers.
const LETTER_WAIT: Duration = Duration::from_secs(1);

/// What a feeder is made of.
pub(super) struct FeederParts {
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
pub(super) struct Feeder {
    parts: FeederParts,
    /// The rows handed over of each batch that is written and not delivered, oldest first.
    held: VecDeque<u64>,
    /// The sum of `held`.
    held_rows: u64,
    /// Flushes that failed one after the other.
    flushes: Attempts,
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

impl Feeder {
    pub fn new(parts: FeederParts) -> Self {
        let flushes = Attempts::new(patience(&parts.errors), parts.seed);
        Self {
            parts,
            held: VecDeque::new(),
            held_rows: 0,
            flushes,
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
        let stop = self.parts.stop.clone();
        let fed = tokio::select! {
            fed = self.feed(sink.as_mut()) => fed,
            () = stop.cancelled() => Ok(()),
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
                let handed = self.write(sink, &batch).await?;
                self.held.push_back(handed);
                self.held_rows += handed;
                self.settle(sink);
            }
        }
        Ok(())
    }

    async fn open(&mut self, sink: &mut dyn Sink) -> Result<(), Ended> {
        let mut attempts = self.series(self.parts.errors.restarts(Backoff::default()));
        while let Err(error) = sink.open(self.parts.receipt.clone()).await {
            let Some(wait) = attempts.next(Duration::ZERO, error.retry()) else {
                return Err(self.failed(&error));
            };
            self.parts.status.set("backing_off", Some(told(&error)));
            tokio::time::sleep(wait).await;
        }
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
                    let again = self.flush(sink).await?;
                    let parts = &mut self.parts;
                    tokio::select! {
                        event = StreamExt::next(&mut parts.rows) => event.transpose(),
                        () = parts.status.asked() => continue,
                        () = after(again) => continue,
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

    /// Flushes the sink; after a failure, how long to wait before the next flush.
    async fn flush(&mut self, sink: &mut dyn Sink) -> Result<Option<Duration>, Ended> {
        let Err(error) = sink.flush().await else {
            self.settle(sink);
            if self.flushes.failures() > 0 {
                self.flushes = self.series(patience(&self.parts.errors));
                self.parts.status.recover("degraded");
            }
            return Ok(None);
        };
        let wait = self.flushes.next(Duration::ZERO, error.retry());
        if wait.is_none() {
            return Err(self.failed(&error));
        }
        self.parts.status.set("degraded", Some(told(&error)));
        Ok(wait)
    }

    /// Writes a batch, or those of its rows that can be written; the number of rows handed over.
    async fn write(&mut self, sink: &mut dyn Sink, batch: &RecordBatch) -> Result<u64, Ended> {
        let mut parts = vec![batch.clone()];
        let (mut handed, mut given_up, mut letters) = (0, None, Vec::new());
        while let Some(part) = parts.pop() {
            let rows = part.num_rows();
            match self.try_write(sink, &part).await {
                Ok(()) => handed += rows as u64,
                Err(failure) if self.tells_rows_apart(&failure) && rows > 1 => {
                    parts.push(part.slice(rows / 2, rows - rows / 2));
                    parts.push(part.slice(0, rows / 2));
                }
                Err(failure) => {
                    letters.extend(self.give_up(&part, &failure)?);
                    given_up = Some(told(&failure.error));
                }
            }
        }
        if !letters.is_empty() {
            self.bury(&letters).await;
        }
        match given_up {
            Some(reason) => self.parts.status.set("degraded", Some(reason)),
            None => self.parts.status.recover("degraded"),
        }
        self.parts.status.rows.fetch_add(handed, Ordering::Relaxed);
        Ok(handed)
    }

    /// Whether a batch is worth being halved: only some of its rows are at fault, and the others may
    /// go on without them.
    fn tells_rows_apart(&self, failure: &GivenUp) -> bool {
        use ErrorStrategy::{Dlq, Drop};
        failure.error.is_of_rows() && matches!(self.parts.errors.strategy(), Some(Drop | Dlq))
    }

    /// Writes rows, again and again until they are written or given up.
    async fn try_write(&mut self, sink: &mut dyn Sink, rows: &RecordBatch) -> Result<(), GivenUp> {
        let mut attempts: Option<Attempts> = None;
        loop {
            let began = Instant::now();
            let Err(error) = sink.write(rows).await else {
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

    /// Sends dead letters to their stream; what it does not take goes to the log, and is counted.
    async fn bury(&self, letters: &[DeadLetter]) {
        let mut refusal = "there is no stream of dead letters".to_owned();
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
        let unsent = sink.unsent();
        let mut items = 0;
        while let Some(&rows) = self.held.front()
            && self.held_rows - rows >= unsent
        {
            self.held.pop_front();
            self.held_rows -= rows;
            items += 1;
        }
        let status = &self.parts.status;
        status.overflowed.store(sink.dropped(), Ordering::Relaxed);
        status.deliver(sink.receipt(), items);
    }

    /// The sink has closed: everything it took is outside, and durable.
    fn all_is_outside(&mut self) {
        let status = &self.parts.status;
        let receipt = status.delivered().receipt;
        status.deliver(receipt.clone(), self.held.len() as u64);
        status.synced(receipt);
        self.held.clear();
        self.held_rows = 0;
    }

    /// Syncs the sink if somebody waits for it.
    async fn sync(&self, sink: &mut dyn Sink) {
        if let Some((waiting, receipt)) = self.parts.status.take_waiting() {
            let synced = sink.sync().await.map_err(|error| told(&error));
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

/// When a flush is tried again. What is to be flushed is in the sink's hands, where it can neither be
/// dropped nor sent elsewhere.
fn patience(errors: &ErrorOptions) -> Backoff {
    match errors.strategy() {
        Some(ErrorStrategy::Retry | ErrorStrategy::Fail) => errors.retries(),
        None | Some(ErrorStrategy::Drop | ErrorStrategy::Dlq) => ErrorOptions::default().retries(),
    }
}

/// What went wrong, and what to do where we know.
fn told(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// Never, if there is nothing to wait for.
async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
