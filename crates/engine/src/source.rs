//! [`Source`]: the handle through which a program pushes rows.
//!
//! ```text
//!   push(T) -> lane of this handle -> worker: rows become columns, a batch at a time
//! ```
//!
//! A push writes the value itself into the handle's own lane: no lock, no allocation, no
//! conversion. Cloning a handle adds a lane, so producers never wait for each other; there is no
//! channel type to choose. Event time and watermarks are the worker's work.

mod lane_bytes;
mod shared;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
pub use headwater_ring::{Backpressure, WaitStrategy};
use headwater_ring::{Producer, PushError};

use crate::batch_bytes::{ROW_BYTES_MAX, batch_bytes, too_large_rows};
use crate::canonical::canonical_batch;
use crate::durable::AckTracker;
use crate::event_time::WatermarkConfig;
use crate::record::{Mismatch, Record, matches};

pub(crate) use lane_bytes::LanesBytes;
use lane_bytes::PushedBytes;
pub(crate) use shared::SourceShared;

/// How a handle pushes.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Rows that a lane holds, a power of two. Default: 65,536. Texts and bytes of rows also count: at 64 MiB
    /// of them a lane is full, unless its policy is to drop the oldest.
    pub buffer_size: usize,
    /// What `push` does when the lane is full. Default: [`Backpressure::Block`].
    pub backpressure: Backpressure,
    /// How a push waits for space. Default: `SpinYield(100)`.
    pub wait_strategy: WaitStrategy,
    /// The longest time between two checkpoints; `None` for the option of CREATE SOURCE. The least of all
    /// sources and handles counts. A database in memory ignores it.
    pub checkpoint_interval: Option<Duration>,
    /// When a pushed row is durable; `None` for the option of CREATE SOURCE. Needs a source with a log.
    pub wal_mode: Option<WalMode>,
    /// The event time of a source whose CREATE SOURCE has no WATERMARK.
    pub watermark: Option<WatermarkConfig>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            buffer_size: 65_536,
            backpressure: Backpressure::Block,
            wait_strategy: WaitStrategy::SpinYield(100),
            checkpoint_interval: None,
            wal_mode: None,
            watermark: None,
        }
    }
}

/// When a pushed row is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalMode {
    /// Soon after the push returns.
    Async,
    /// Before the push returns.
    Sync,
}

pub(crate) enum Message<T> {
    Record(T),
    Arrow(Box<RecordBatch>),
    Watermark(i64),
}

/// Why a push failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source was closed.
    #[error("the source is closed")]
    Closed,
    /// The source was closed before the pushed rows were on disk: they may be there or not.
    #[error("the source was closed before the rows were on disk")]
    NotDurable,
    /// The row is larger than a record of the log takes. Nothing was pushed, and the handle goes on.
    #[error("a row of {bytes} bytes was pushed, the largest taken has {limit}")]
    TooLarge {
        /// The size of the row, bytes.
        bytes: usize,
        /// The size of the largest row, bytes.
        limit: usize,
    },
    /// The lane is full, and the source's backpressure is `reject`.
    #[error("the source's buffer is full")]
    Full,
    /// The batch has other columns than the source.
    #[error("{mismatch}")]
    SchemaMismatch {
        /// The columns of the source.
        expected: SchemaRef,
        /// The columns of the batch.
        got: SchemaRef,
        /// The first difference between the two.
        mismatch: Mismatch,
    },
}

/// Why [`Source::try_push`] did not accept a row, which is in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryPushError<T> {
    /// The lane is full; a later push may succeed.
    Full(T),
    /// The row is larger than a record of the log takes.
    TooLarge(T),
    /// The source was closed.
    Closed(T),
}

/// A handle for pushing rows of type `T`.
///
/// `Send` but not `Sync`: each thread has its own. Cloning costs the other handles nothing.
pub struct Source<T> {
    lane: Producer<Message<T>>,
    /// What the rows in the lane hold.
    bytes: PushedBytes,
    shared: Arc<SourceShared>,
    /// The greatest watermark that any handle has declared.
    watermark: Arc<AtomicI64>,
    /// Of a handle whose pushes wait until their rows are on disk.
    durable: Option<DurablePushes>,
}

/// What a handle counts to wait for its own rows.
struct DurablePushes {
    ack_tracker: Arc<AckTracker>,
    /// Values that this handle has put into its lane.
    pushed: Cell<u64>,
}

impl<T: Record> Source<T> {
    pub(crate) fn new(
        lane: Producer<Message<T>>,
        bytes: &Arc<LanesBytes>,
        shared: Arc<SourceShared>,
        ack_tracker: Option<Arc<AckTracker>>,
    ) -> Self {
        shared.producer_added();
        let watermark = shared.declared_watermark();
        Self {
            bytes: PushedBytes::new(bytes, lane.lane().get()),
            lane,
            shared,
            watermark,
            durable: ack_tracker.map(DurablePushes::new),
        }
    }

    /// Pushes one row. When the lane is full: waits, drops the oldest unread row, or fails, as the
    /// source's backpressure says. With [`WalMode::Sync`] returns when the row is on disk. Allocates
    /// nothing.
    ///
    /// # Errors
    /// [`SourceError::Closed`]; [`SourceError::Full`] with `Reject`; [`SourceError::NotDurable`];
    /// [`SourceError::TooLarge`] of a row above 512 MiB.
    #[inline]
    pub fn push(&self, record: T) -> Result<(), SourceError> {
        self.put_record(record)?;
        self.wait_durable()
    }

    #[inline]
    fn put_record(&self, record: T) -> Result<(), SourceError> {
        let bytes = record.heap_bytes();
        match bytes > ROW_BYTES_MAX {
            true => Err(too_large(bytes)),
            false => self.put(Message::Record(record), bytes),
        }
    }

    /// `bytes` is what the message holds beside its slot; nothing, for most types of rows.
    #[inline]
    fn put(&self, message: Message<T>, bytes: usize) -> Result<(), SourceError> {
        let is_full = bytes > 0 && self.bytes.is_full();
        if is_full && !self.bytes.make_room(|| self.lane.is_closed()) {
            return Err(SourceError::Full);
        }
        self.lane.push(message).map_err(refused)?;
        self.count_pushed(bytes);
        Ok(())
    }

    #[inline]
    fn count_pushed(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.count(bytes);
        }
        if let Some(durable) = &self.durable {
            durable.pushed.set(durable.pushed.get() + 1);
        }
    }

    /// With [`WalMode::Sync`], waits until everything that this handle has pushed is on disk.
    #[inline]
    fn wait_durable(&self) -> Result<(), SourceError> {
        let Some(durable) = &self.durable else {
            return Ok(());
        };
        match durable
            .ack_tracker
            .wait(self.lane.lane().get(), durable.pushed.get())
        {
            true => Ok(()),
            false => Err(SourceError::NotDurable),
        }
    }

    /// Pushes one row if there is space now, whatever the backpressure. Never waits, also not for the
    /// disk; a later [`push`](Self::push) of the same handle waits for this row too.
    ///
    /// # Errors
    /// The row, if there is no space, the source is closed or the row is too large.
    #[inline]
    pub fn try_push(&self, record: T) -> Result<(), TryPushError<T>> {
        let bytes = record.heap_bytes();
        if bytes > ROW_BYTES_MAX {
            return Err(TryPushError::TooLarge(record));
        }
        if bytes > 0 && self.bytes.is_full() {
            return Err(TryPushError::Full(record));
        }
        self.lane
            .try_push(Message::Record(record))
            .map(|()| self.count_pushed(bytes))
            .map_err(|error| match error {
                PushError::Full(Message::Record(record)) => TryPushError::Full(record),
                PushError::Closed(Message::Record(record)) => TryPushError::Closed(record),
                PushError::Full(_) | PushError::Closed(_) => {
                    unreachable!("the message that comes back is the record that was pushed")
                }
            })
    }

    /// Pushes clones of all rows, in order. Not atomic: after an error the rows before it are pushed.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_batch(&self, records: &[T]) -> Result<(), SourceError>
    where
        T: Clone,
    {
        for record in records {
            self.put_record(record.clone())?;
        }
        self.wait_durable()
    }

    /// Pushes a batch without copying it, but for float columns with -0.0 or NaN.
    ///
    /// # Errors
    /// [`SourceError::SchemaMismatch`] if it has other columns; else as [`push`](Self::push).
    pub fn push_arrow(&self, batch: RecordBatch) -> Result<(), SourceError> {
        if let Err(mismatch) = matches(self.schema(), batch.schema_ref()) {
            return Err(SourceError::SchemaMismatch {
                expected: Arc::clone(self.schema()),
                got: batch.schema(),
                mismatch,
            });
        }
        if let Some((_, bytes)) = too_large_rows(&batch).first() {
            return Err(too_large(*bytes));
        }
        let batch = canonical_batch(batch);
        let bytes = batch_bytes(&batch);
        self.put(Message::Arrow(Box::new(batch)), bytes)?;
        self.wait_durable()
    }

    /// Declares that no further row of this source, through any handle, has an event time before
    /// `timestamp` (microseconds since 1970-01-01 UTC). Lower values than before are ignored. Waits for
    /// space like [`push`](Self::push) with `Block`.
    pub fn watermark(&self, timestamp: i64) {
        if self.watermark.fetch_max(timestamp, Ordering::AcqRel) >= timestamp {
            return;
        }
        let mut message = Message::Watermark(timestamp);
        // A watermark must not push out a row, so it waits whatever the backpressure.
        while let Err(PushError::Full(back)) = self.lane.try_push(message) {
            message = back;
            std::thread::yield_now();
        }
        self.count_pushed(0);
    }

    /// Whether a push would find space now. Stays true until this handle pushes.
    #[inline]
    pub fn has_capacity(&self) -> bool {
        self.lane.has_capacity() && !self.bytes.is_full()
    }

    /// The greatest watermark that any handle has declared, in microseconds; `i64::MIN` before the first.
    #[inline]
    pub fn current_watermark(&self) -> i64 {
        self.watermark.load(Ordering::Acquire)
    }

    /// The name of the source, as CREATE SOURCE spells it.
    #[inline]
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The columns of the source, without metadata columns.
    #[inline]
    pub fn schema(&self) -> &SchemaRef {
        self.shared.schema()
    }

    /// The number of handles; other threads may change it at any time.
    #[inline]
    pub fn producer_count(&self) -> usize {
        self.shared.producers()
    }

    /// Whether the source has several handles, so several producers.
    #[inline]
    pub fn is_mpsc(&self) -> bool {
        self.producer_count() > 1
    }

    /// Rows of this handle's lane that were dropped by `DropOldest`.
    pub fn dropped(&self) -> u64 {
        self.lane.dropped()
    }

    /// Closes the source for all handles: later pushes fail. The engine processes the rows already
    /// pushed, and then all windows close, since the input has ended.
    pub fn close(&self) {
        self.lane.close();
        self.shared.close();
    }
}

/// The record type of an [`ArrowSource`], which only carries batches: no value of it can exist.
pub(crate) enum NoRecord {}

impl Record for NoRecord {
    fn schema() -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn to_record_batch(&self) -> RecordBatch {
        match *self {}
    }
}

/// A handle for pushing Arrow batches, for programs that learn the columns only when they run.
///
/// `Send` but not `Sync`: each thread has its own. Cloning costs the other handles nothing.
#[derive(Debug, Clone)]
pub struct ArrowSource(Source<NoRecord>);

impl ArrowSource {
    pub(crate) fn new(source: Source<NoRecord>) -> Self {
        Self(source)
    }

    /// As [`Source::push_arrow`].
    ///
    /// # Errors
    /// As [`Source::push_arrow`].
    pub fn push_arrow(&self, batch: RecordBatch) -> Result<(), SourceError> {
        self.0.push_arrow(batch)
    }

    /// Declares a watermark, as [`Source::watermark`] does.
    pub fn watermark(&self, timestamp: i64) {
        self.0.watermark(timestamp);
    }

    /// The greatest declared watermark, as [`Source::current_watermark`].
    pub fn current_watermark(&self) -> i64 {
        self.0.current_watermark()
    }

    /// As [`Source::has_capacity`]; a batch of any length takes one slot of the lane.
    pub fn has_capacity(&self) -> bool {
        self.0.has_capacity()
    }

    /// The name of the source, as CREATE SOURCE spells it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The columns of the source, without metadata columns.
    pub fn schema(&self) -> &SchemaRef {
        self.0.schema()
    }

    /// Closes the source for all handles, as [`Source::close`] does.
    pub fn close(&self) {
        self.0.close();
    }
}

fn too_large(bytes: usize) -> SourceError {
    let limit = ROW_BYTES_MAX;
    SourceError::TooLarge { bytes, limit }
}

fn refused<T>(error: PushError<T>) -> SourceError {
    match error {
        PushError::Closed(_) => SourceError::Closed,
        PushError::Full(_) => SourceError::Full,
    }
}

/// Each clone gets its own lane.
impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        self.shared.producer_added();
        let lane = self.lane.clone();
        Self {
            bytes: PushedBytes::new(self.bytes.channel(), lane.lane().get()),
            lane,
            shared: Arc::clone(&self.shared),
            watermark: Arc::clone(&self.watermark),
            durable: self
                .durable
                .as_ref()
                .map(|it| DurablePushes::new(Arc::clone(&it.ack_tracker))),
        }
    }
}

impl DurablePushes {
    fn new(ack_tracker: Arc<AckTracker>) -> Self {
        Self {
            ack_tracker,
            pushed: Cell::new(0),
        }
    }
}

impl<T> Drop for Source<T> {
    fn drop(&mut self) {
        self.shared.producer_removed();
    }
}

impl<T> std::fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.shared.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
