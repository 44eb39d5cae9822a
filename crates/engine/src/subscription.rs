//! Results on their way out: a bounded queue for each subscriber.
//!
//! A subscriber that does not keep up never slows the engine: when its queue is full its policy
//! ([`WhenFull`]) says what goes, and it is told at that place how many rows it missed. A lossless
//! subscriber and a sink are different: their queue closes a [`Gate`] instead, which keeps the
//! sources before it from being read until there is room.

mod queue;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Error;
use crate::record::Record;

pub(crate) use queue::{Delivered, Delivery, Gate, Queue};

/// Rows a queue holds before its policy acts.
pub(crate) const QUEUE_ROWS: usize = 1 << 20;

/// What a subscriber gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Rows, in the order in which the stream produced them.
    Rows(RecordBatch),
    /// The subscriber was too slow: this many rows were dropped here.
    Missed {
        /// How many.
        rows: u64,
    },
    /// The stream itself did not get rows here, for instance because it was paused.
    Gap {
        /// How many rows of its inputs.
        rows: u64,
        /// What happened.
        reason: String,
    },
}

/// What happens when a subscriber does not keep up and its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest rows go, and the subscriber is told how many.
    #[default]
    DropOldest,
    /// New rows go until there is room, and the subscriber is told how many.
    DropNewest,
    /// Nothing goes: the sources before it are not read until there is room.
    Wait,
    /// The subscription ends, after the rows that are in the queue, with [`Error::TooSlow`].
    Disconnect,
}

/// How much waits for a subscriber, and what happens to the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Rows that wait at most; one batch is taken in any case. Default: 1 Mi.
    pub rows: usize,
    /// What happens when as many wait. Default: the oldest go.
    pub when_full: WhenFull,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            rows: QUEUE_ROWS,
            when_full: WhenFull::default(),
        }
    }
}

/// The results of a stream, view or source, from now on.
///
/// Iterate to block for the next event, poll it as a [`Stream`](futures_util::Stream), or ask with
/// [`try_next`](Self::try_next). It ends when the stream is dropped or the database closes.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    schema: SchemaRef,
}

impl Subscription {
    pub(crate) fn new(queue: Arc<Queue>, schema: SchemaRef) -> Self {
        Self { queue, schema }
    }

    /// The sink that reads it has failed. Its rows stay, as many as the queue holds, for
    /// [`Queue::take_up`] and for checkpoints; later ones are lost and counted. Sources go on.
    pub(crate) fn strand(&self) {
        self.queue.strand();
    }

    /// The columns of the rows; a changing stream has the column `_diff` at the end.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next event if there is one now. Does not block; while nothing has come since the last
    /// call it is one atomic load.
    ///
    /// # Errors
    /// When the query failed.
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        self.queue.try_next()
    }

    /// The next event; blocks until there is one, at most `timeout`. `None` at the end, or when the
    /// time is over.
    ///
    /// # Errors
    /// When the query failed.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.queue.wait(Instant::now().checked_add(timeout))
    }

    /// Whether nothing will come any more.
    pub fn is_ended(&self) -> bool {
        self.queue.is_ended()
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.queue.wait(None).transpose()
    }
}

impl futures_util::Stream for Subscription {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_next(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.leave();
    }
}

/// A [`Subscription`] whose rows are structs.
#[derive(Debug)]
pub struct TypedSubscription<T> {
    events: Subscription,
    rows: std::vec::IntoIter<T>,
}

impl<T: Record> TypedSubscription<T> {
    pub(crate) fn new(events: Subscription) -> Self {
        Self {
            events,
            rows: Vec::new().into_iter(),
        }
    }

    fn unpack(&mut self, event: Result<Event, Error>) -> Option<Result<T, Error>> {
        match event {
            Ok(Event::Rows(batch)) => match T::from_columns(&batch) {
                Ok(rows) => {
                    self.rows = rows.into_iter();
                    None
                }
                Err(error) => Some(Err(error.into())),
            },
            Ok(Event::Missed { rows }) => Some(Err(Error::Missed { rows })),
            Ok(Event::Gap { rows, reason }) => Some(Err(Error::Gap { rows, reason })),
            Err(error) => Some(Err(error)),
        }
    }

    /// The next row if there is one now. Does not block.
    ///
    /// # Errors
    /// [`Error::Missed`] when this subscriber was too slow and [`Error::Gap`] when the stream missed
    /// rows (later rows follow), [`Error::TooSlow`], and when the query failed.
    pub fn try_next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            let Some(event) = self.events.try_next()? else {
                return Ok(None);
            };
            if let Some(row) = self.unpack(Ok(event)) {
                return row.map(Some);
            }
        }
    }
}

impl<T: Record> Iterator for TypedSubscription<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            let event = self.events.next()?;
            if let Some(row) = self.unpack(event) {
                return Some(row);
            }
        }
    }
}

impl<T: Record + Unpin> futures_util::Stream for TypedSubscription<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Poll::Ready(Some(Ok(row)));
            }
            match Pin::new(&mut self.events).poll_next(context) {
                Poll::Ready(Some(event)) => {
                    if let Some(row) = self.unpack(event) {
                        return Poll::Ready(Some(row));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
