//! What a source has emitted and the engine has not yet taken.
//!
//! ```text
//!   Output::frame --> frames --seal (decode)--> queue --take--> in flight --> Lane
//!   Output::rows, gap, lifecycle -------------> queue
//! ```
//!
//! One `Gather` is shared by the [`Output`](crate::Output) that the source writes to and the driver
//! that empties it. Both run in one task, so its mutex is never contended. Sealing decodes the
//! gathered frames into one delivery, or two when frames follow the last cursor: a cursor covers
//! exactly the delivery that carries it and all before, never a row more and never one less.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

#[cfg(any(feature = "file", feature = "process"))]
use crate::formats::RecordEnd;
use crate::formats::{Decoded, Decoder, Frames};
use crate::{
    Bad, BadRows, Clock, Cursor, Delivery, Error, Item, Lifecycle, Result, metadata_columns,
};

/// The largest number of frames decoded at once.
pub(crate) const FRAMES_MAX: usize = 8_192;
/// Bytes of gathered frames at which they are decoded.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// Warnings that are remembered so as not to come again: with more, those before are forgotten.
const WARNED_MAX: usize = 1_024;

pub(crate) struct Gather {
    decoder: Option<Box<dyn Decoder>>,
    /// The columns of what is handed on.
    columns: SchemaRef,
    /// The columns that the source or the decoder fills: `columns` without the metadata columns.
    schema: SchemaRef,
    bad_rows: BadRows,
    clock: Arc<dyn Clock>,
    origin: Option<Arc<str>>,
    /// Bad rows that came before everything in `frames`.
    bad: Vec<Bad>,
    /// Bytes of frames in `bad`.
    bad_bytes: usize,
    frames: Frames,
    /// The latest cursor, and how many of `frames` it covers: in `0 ..= frames.len()`.
    cursor: Option<(Cursor, usize)>,
    /// When the first of `bad` and `frames` came.
    arrival_us: i64,
    queue: VecDeque<Item>,
    /// The warnings that were queued.
    warned: BTreeSet<String>,
    /// Whether the source has returned: nothing more is added.
    ended: bool,
    /// What ends the attempt: a decoder that panicked, or a bad row that `bad_rows` does not allow.
    failure: Option<Error>,
    /// Whether a bad row has ended the attempt: nothing more is handed on.
    spoilt: bool,
    /// The source, waiting for room.
    waiting: Option<Waker>,
}

impl Gather {
    pub(crate) fn new(
        decoder: Option<Box<dyn Decoder>>,
        columns: SchemaRef,
        bad_rows: BadRows,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let schema = metadata_columns::without(&columns);
        Self {
            decoder,
            columns,
            schema,
            bad_rows,
            clock,
            origin: None,
            bad: Vec::new(),
            bad_bytes: 0,
            frames: Frames::default(),
            cursor: None,
            arrival_us: 0,
            queue: VecDeque::new(),
            warned: BTreeSet::new(),
            ended: false,
            failure: None,
            spoilt: false,
            waiting: None,
        }
    }

    // What the source does.

    pub(crate) fn has_decoder(&self) -> bool {
        self.decoder.is_some()
    }

    #[cfg(any(feature = "file", feature = "process"))]
    pub(crate) fn record_end(&self) -> Option<RecordEnd> {
        self.decoder.as_ref()?.record_end()
    }

    /// Whether what is gathered should be sealed before more comes.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() + self.bad.len() >= FRAMES_MAX
            || self.frames.bytes.len() + self.bad_bytes >= BYTES_MAX
    }

    /// Whether a bad row can be taken now. Behind frames it begins a delivery of its own, and each of those
    /// waits for the one before.
    pub(crate) fn has_room_for_bad(&self) -> bool {
        let seals = !self.frames.is_empty() || self.cursor.is_some();
        !self.is_full() && (!seals || self.queue.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn bad_bytes(&self) -> usize {
        self.bad_bytes
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Ready when the queue is empty, or with the failure that ends this attempt.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if self.queue.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn frame(&mut self, frame: &[u8]) {
        self.note_arrival();
        self.frames.push(frame);
    }

    /// Takes all frames out of `from`, without a copy when nothing is gathered.
    pub(crate) fn frames(&mut self, from: &mut Frames) {
        self.note_arrival();
        if self.frames.is_empty() {
            std::mem::swap(&mut self.frames, from);
        } else {
            self.frames.append(from);
        }
        from.clear();
    }

    pub(crate) fn bad(&mut self, bad: Bad) {
        if !self.frames.is_empty() || self.cursor.is_some() {
            self.seal();
        }
        self.note_arrival();
        self.bad_bytes += bad.bytes.len();
        self.bad.push(bad);
    }

    pub(crate) fn rows(&mut self, rows: RecordBatch) -> Result<()> {
        let rows = self.fit(rows)?;
        self.seal();
        if self.spoilt {
            return Ok(());
        }
        let arrival_us = self.clock.now_us();
        let delivery = self.delivery(rows, Vec::new(), None, arrival_us);
        self.queue.push_back(Item::Rows(delivery));
        Ok(())
    }

    pub(crate) fn cursor(&mut self, cursor: Cursor) {
        let gathered = !self.frames.is_empty() || !self.bad.is_empty() || self.cursor.is_some();
        match self.queue.back_mut() {
            Some(Item::Rows(last)) if !gathered && !self.spoilt => last.cursor = Some(cursor),
            _ => {
                self.note_arrival();
                self.cursor = Some((cursor, self.frames.len()));
            }
        }
    }

    /// Queues something other than rows, behind what was emitted before it.
    pub(crate) fn item(&mut self, item: Item) {
        self.seal();
        self.queue.push_back(item);
    }

    pub(crate) fn origin(&mut self, origin: Option<Arc<str>>) {
        if self.origin != origin {
            self.seal();
            self.origin = origin;
        }
    }

    // What the driver does.

    /// Seals what is left after the source has returned.
    pub(crate) fn end(&mut self) {
        self.seal();
        self.ended = true;
    }

    /// The next item; `Ready(None)` after the last one. Called when the previous item was sent, and when
    /// the source waits: if the queue is empty, what is gathered is sealed.
    pub(crate) fn poll_take(&mut self) -> Poll<Option<Item>> {
        if self.queue.is_empty() {
            self.seal();
        }
        let Some(item) = self.queue.pop_front() else {
            return if self.ended {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        if self.queue.is_empty()
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
        Poll::Ready(Some(item))
    }

    /// What ends the attempt, if something went wrong while frames were decoded.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    // Sealing.

    /// Moves everything gathered into the queue.
    pub(crate) fn seal(&mut self) {
        let (cursor, tail) = match self.cursor.take() {
            Some((cursor, covered)) => (Some(cursor), self.frames.split_off(covered)),
            None => (None, Frames::default()),
        };
        self.seal_run(cursor);
        if !tail.is_empty() {
            self.frames = tail;
            self.seal_run(None);
        }
    }

    fn seal_run(&mut self, cursor: Option<Cursor>) {
        if self.spoilt {
            self.frames.clear();
            self.bad.clear();
            self.bad_bytes = 0;
        }
        if self.spoilt || self.frames.is_empty() && self.bad.is_empty() && cursor.is_none() {
            return;
        }
        let mut bad = std::mem::take(&mut self.bad);
        self.bad_bytes = 0;
        let decoded = self.decode();
        self.warn();
        bad.extend(decoded.bad);
        self.frames.clear();
        let bad = match self.bad_rows.judge(bad) {
            Ok(bad) => bad,
            Err(failure) => return self.spoil(failure),
        };
        let delivery = self.delivery(decoded.rows, bad, cursor, self.arrival_us);
        self.queue.push_back(Item::Rows(delivery));
    }

    /// Queues the warnings of the decoder, each once for an origin.
    fn warn(&mut self) {
        let warnings = self.decoder.as_mut().map(|decoder| decoder.warnings());
        for warning in warnings.unwrap_or_default() {
            let what = match &self.origin {
                Some(origin) => format!("{origin}: {warning}"),
                None => warning,
            };
            if self.warned.len() == WARNED_MAX {
                self.warned.clear();
            }
            if self.warned.insert(what.clone()) {
                let warned = Lifecycle::Warned { what };
                self.queue.push_back(Item::Lifecycle(warned));
            }
        }
    }

    /// Ends the attempt. A cursor behind the bad row must not be handed on, nor any row that would
    /// then come twice; what waits in the queue came before it.
    fn spoil(&mut self, failure: Error) {
        self.failure = Some(failure);
        self.spoilt = true;
    }

    /// Decodes `frames`. If the decoder panics every frame is bad and the attempt ends: the decoder, whose
    /// state may be half written, is not used again.
    fn decode(&mut self) -> Decoded {
        let nothing = || Decoded {
            rows: RecordBatch::new_empty(self.schema.clone()),
            bad: Vec::new(),
        };
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.frames.is_empty()) else {
            return nothing();
        };
        let frames = &self.frames;
        match catch_unwind(AssertUnwindSafe(|| decoder.decode(frames))) {
            Ok(decoded) => decoded,
            Err(panic) => {
                let failure = Error::Panicked {
                    what: "decoder",
                    message: panic_message(&*panic),
                };
                let bad = |frame: &[u8]| Bad {
                    bytes: frame.to_vec(),
                    reason: failure.to_string(),
                };
                let decoded = Decoded {
                    bad: frames.iter().map(bad).collect(),
                    ..nothing()
                };
                self.failure = Some(failure);
                decoded
            }
        }
    }

    fn delivery(
        &mut self,
        rows: RecordBatch,
        bad: Vec<Bad>,
        cursor: Option<Cursor>,
        arrival_us: i64,
    ) -> Delivery {
        Delivery {
            rows: self.with_metadata(rows, arrival_us),
            bad,
            cursor,
            origin: self.origin.clone(),
            arrival_us,
        }
    }

    /// The rows with their metadata columns. A time that the column cannot hold ends the attempt.
    fn with_metadata(&mut self, rows: RecordBatch, arrival_us: i64) -> RecordBatch {
        if Arc::ptr_eq(&self.columns, &self.schema) {
            return rows;
        }
        let origin = self.origin.as_deref();
        metadata_columns::add(&rows, &self.columns, arrival_us, origin).unwrap_or_else(|_| {
            self.failure = Some(Error::ColumnsDiffer {
                found: describe(rows.schema_ref()),
                declared: describe(&self.columns),
            });
            RecordBatch::new_empty(self.columns.clone())
        })
    }

    /// Notes the time if this is the first thing gathered.
    fn note_arrival(&mut self) {
        if self.frames.is_empty() && self.bad.is_empty() && self.cursor.is_none() {
            self.arrival_us = self.clock.now_us();
        }
    }

    /// The rows under the declared schema; refused when names or types differ.
    fn fit(&self, rows: RecordBatch) -> Result<RecordBatch> {
        if Arc::ptr_eq(&rows.schema(), &self.schema) {
            return Ok(rows);
        }
        let differ = |found: &SchemaRef| Error::ColumnsDiffer {
            found: describe(found),
            declared: describe(&self.schema),
        };
        let found = rows.schema();
        let same = found.fields().len() == self.schema.fields().len()
            && found
                .fields()
                .iter()
                .zip(self.schema.fields())
                .all(|(have, want)| {
                    have.name() == want.name() && have.data_type() == want.data_type()
                });
        if !same {
            return Err(differ(&found));
        }
        RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())
            .map_err(|_| differ(&found))
    }
}

/// The columns as text: `name type, name type NOT NULL`.
fn describe(schema: &SchemaRef) -> String {
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let not_null = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{} {}{not_null}", field.name(), field.data_type())
    };
    schema
        .fields()
        .iter()
        .map(column)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
