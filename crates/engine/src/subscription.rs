//! Results on their way out: a bounded queue for each subscriber.
//!
//! A subscriber that does not keep up never slows the engine: when its queue is full, its policy
//! ([`WhenFull`]) drops rows, and at that point the subscriber gets the number of rows that it missed. A
//! lossless subscriber and a sink are different: their queue closes a [`Gate`] instead, and workers stop
//! reading the sources before it until there is room.

mod gate;
mod queue;
mod queue_size;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use crate::error::Error;
use crate::record::Record;

pub(crate) use gate::Gate;
pub(crate) use queue::{Delivered, DeliveryTracker, SubscriberQueue};
pub use queue::{Event, WhenFull};
pub(crate) use queue_size::QueueSize;

/// What the queue of a subscriber that may miss rows holds before its policy acts.
pub(crate) const QUEUE_LIMIT: QueueSize = QueueSize {
    rows: 1 << 20,
    bytes: 256 << 20,
};

/// The capacity of a subscriber's queue, and its policy when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Capacity, rows; an empty queue accepts a batch of any size. Default: 1,048,576.
    pub rows: usize,
    /// Capacity, bytes: the queue is full when either is reached. Default: 256 MiB.
    pub bytes: usize,
    /// The policy of a full queue. Default: [`WhenFull::DropOldest`].
    pub when_full: WhenFull,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            rows: QUEUE_LIMIT.rows,
            bytes: QUEUE_LIMIT.bytes,
            when_full: WhenFull::default(),
        }
    }
}

impl QueueConfig {
    pub(crate) fn limit(&self) -> QueueSize {
        let (rows, bytes) = (self.rows, self.bytes);
        QueueSize { rows, bytes }
    }
}

/// The results of a stream, view or source, from now on.
///
/// Iterate to block for the next event, poll it as a [`Stream`](futures_util::Stream), or ask with
/// [`try_next`](Self::try_next). It ends when the stream is dropped or the database closes.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<SubscriberQueue>,
    schema: SchemaRef,
}

impl Subscription {
    pub(crate) fn new(queue: Arc<SubscriberQueue>, schema: SchemaRef) -> Self {
        Self { queue, schema }
    }

    /// Continues with the queue of a failed sink: see [`SubscriberQueue::rewind`].
    pub(crate) fn take_up(queue: Arc<SubscriberQueue>, schema: SchemaRef) -> Self {
        queue.rewind();
        Self::new(queue, schema)
    }

    /// The sink that reads it has failed. Its rows stay, as many as the queue holds, for
    /// [`take_up`](Self::take_up) and for checkpoints; later ones are lost and counted. Sources go on.
    pub(crate) fn strand(&self) {
        self.queue.strand();
    }

    /// The columns of the rows; a changing stream has the column `_diff` at the end.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next event if there is one now. Does not block; costs one atomic load while nothing has come
    /// since the last call.
    ///
    /// # Errors
    /// If the query has failed.
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        self.queue.try_next()
    }

    /// The next event; blocks until there is one, at most `timeout`. `None` at the end, or after the
    /// timeout.
    ///
    /// # Errors
    /// If the query has failed.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.queue.wait(Instant::now().checked_add(timeout))
    }

    /// Whether the last event has been read and no more will come.
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
    /// [`Error::Missed`] if this subscriber was too slow and [`Error::Gap`] if the stream missed rows
    /// (later rows follow), [`Error::TooSlow`], and [`Error::QueryFailed`].
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
