//! The writing end of a source: frames are gathered, decoded a batch at a time, and handed on.
//!
//! A source calls [`Output`] from its `run`. Frames are gathered until there are 8,192 of them or 1 MiB,
//! or until `run` itself waits for the external system. So a busy source makes large batches and a quiet
//! one adds no delay, and there is no timer.
//!
//! Backpressure: at most one batch is being handed to the engine, one waits, one is gathered. A call
//! that would exceed that waits. Everything keeps the order in which the source emitted it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio_util::sync::CancellationToken;

use crate::formats::{Decoder, Frames};
use crate::gather::Gather;
#[cfg(any(feature = "file", feature = "process"))]
use crate::lines::Framing;
use crate::locked::locked;
use crate::options::ByteSize;
use crate::overlong::overlong;
use crate::status::StatusCell;
use crate::{Bad, BadRows, Clock, Cursor, Error, Gap, Item, Lifecycle, Result};

/// Is called with the raw bytes of every frame before it is decoded. Must be quick.
pub type Tap = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// The greatest `max_frame`: whoever keeps frames has room for rows of at least twice this size.
pub const MAX_FRAME: ByteSize = ByteSize::mib(256);

/// The largest number of queued items after the source was stopped.
const QUEUED_AFTER_STOP_MAX: usize = 16;

/// The parts of an [`Output`].
pub struct OutputParts {
    /// Decodes frames; `None` for a source that emits rows.
    pub decoder: Option<Box<dyn Decoder>>,
    /// The columns of the source.
    pub schema: SchemaRef,
    /// The largest frame taken, in bytes.
    pub max_frame: usize,
    /// What happens to undecodable frames.
    pub bad_rows: BadRows,
    /// Is called with the raw bytes of every frame.
    pub tap: Option<Tap>,
    /// Supplies the arrival times of rows.
    pub clock: Arc<dyn Clock>,
}

/// The writing end that a running source holds.
///
/// Every method waits when the engine does not keep up; that is the backpressure. The wait comes
/// *before* anything is taken: a call that is dropped while it waits has taken nothing. A source that
/// waits for several events at once calls [`ready`](Self::ready) in its `select!` and emits after it.
pub struct Output {
    gather: Arc<Mutex<Gather>>,
    status: StatusCell,
    stop: CancellationToken,
    max_frame: usize,
    tap: Option<Tap>,
}

impl Output {
    pub(crate) fn new(parts: OutputParts, status: StatusCell, stop: CancellationToken) -> Self {
        let gather = Gather::new(parts.decoder, parts.schema, parts.bad_rows, parts.clock);
        Self {
            gather: Arc::new(Mutex::new(gather)),
            status,
            stop,
            max_frame: parts.max_frame,
            tap: parts.tap,
        }
    }

    pub(crate) fn gather(&self) -> Arc<Mutex<Gather>> {
        self.gather.clone()
    }

    /// The largest frame taken, in bytes. A source need not hold more of a frame than one byte over
    /// this, and reports the rest with [`bad`](Self::bad).
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// How bytes are cut into frames at line ends.
    #[cfg(any(feature = "file", feature = "process"))]
    pub(crate) fn framing(&self) -> Framing {
        Framing {
            max: self.max_frame,
            record_end: locked(&self.gather).record_end(),
        }
    }

    /// Waits until the next call will not wait. Dropping this future loses nothing.
    pub async fn ready(&mut self) -> Result<()> {
        if locked(&self.gather).is_full() {
            self.make_room().await
        } else {
            Ok(())
        }
    }

    /// Emits one message of the external system. A frame above `max_frame` becomes a bad row.
    pub async fn frame(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.max_frame && locked(&self.gather).has_decoder() {
            self.tap(bytes);
            return self
                .take_bad(overlong(bytes, bytes.len(), self.max_frame))
                .await;
        }
        while !self.take(bytes)? {
            self.make_room().await?;
        }
        Ok(())
    }

    /// Emits many messages at once, for a source that splits a large buffer. Leaves `frames` empty, with
    /// its memory.
    pub async fn frames(&mut self, frames: &mut Frames) -> Result<()> {
        if frames.longest() > self.max_frame {
            for frame in frames.iter() {
                self.frame(frame).await?;
            }
            frames.clear();
            return Ok(());
        }
        self.ready().await?;
        if let Some(tap) = &self.tap {
            frames.iter().for_each(|frame| tap(frame));
        }
        let mut gather = locked(&self.gather);
        if !gather.has_decoder() {
            return Err(Error::NoDecoder);
        }
        gather.frames(frames);
        Ok(())
    }

    /// Emits a frame that the source knows to be undecodable, with as much of it as is at hand. Bytes beyond
    /// [`MAX_FRAME`] are cut off.
    pub async fn bad(&mut self, mut bad: Bad) -> Result<()> {
        self.ready().await?;
        bad.bytes.truncate(MAX_FRAME.as_usize());
        self.tap(&bad.bytes);
        self.take_bad(bad).await
    }

    /// Emits rows that need no decoding, in the source's schema.
    pub async fn rows(&mut self, batch: RecordBatch) -> Result<()> {
        self.make_room().await?;
        locked(&self.gather).rows(batch)
    }

    /// Emits a cursor that covers everything emitted so far. If nothing was awaited since the rows were
    /// emitted, the cursor is saved in one record with them. Never waits.
    pub async fn cursor(&mut self, cursor: Cursor) -> Result<()> {
        locked(&self.gather).cursor(cursor);
        Ok(())
    }

    /// Reports that rows may have been missed here.
    pub async fn gap(&mut self, gap: Gap) -> Result<()> {
        self.item(Item::Gap(gap)).await
    }

    /// Reports an event other than rows. `Connected` makes the source's state running, `Disconnected`
    /// backing off.
    pub async fn lifecycle(&mut self, event: Lifecycle) -> Result<()> {
        self.status.lifecycle(&event);
        self.item(Item::Lifecycle(event)).await
    }

    /// Sets where the following frames and rows come from: a path, URL or topic. Never waits.
    pub async fn origin(&mut self, origin: Option<Arc<str>>) -> Result<()> {
        locked(&self.gather).origin(origin);
        Ok(())
    }

    /// Reports that the source works only in part, and why; `None` when it works again. Shown as the state
    /// `degraded`. Never waits.
    pub fn degraded(&mut self, reason: Option<String>) {
        self.status.degraded(reason);
    }

    /// Reports how many bytes of the external system were not read yet; `None` if that is not known. Shown
    /// in the status. Never waits.
    pub fn lag_bytes(&mut self, lag: Option<u64>) {
        self.status.lag_bytes(lag);
    }

    /// Gathers a frame; `false` if there is no room for it.
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut gather = locked(&self.gather);
        if gather.is_full() {
            return Ok(false);
        }
        if !gather.has_decoder() {
            return Err(Error::NoDecoder);
        }
        self.tap(bytes);
        gather.frame(bytes);
        Ok(true)
    }

    async fn take_bad(&mut self, bad: Bad) -> Result<()> {
        if !locked(&self.gather).has_room_for_bad() {
            self.make_room().await?;
        }
        locked(&self.gather).bad(bad);
        Ok(())
    }

    async fn item(&mut self, item: Item) -> Result<()> {
        self.make_room().await?;
        locked(&self.gather).item(item);
        Ok(())
    }

    /// Waits until the queue is empty, then seals what is gathered if it is full. After `stop` it no longer
    /// waits, but the queue is bounded.
    async fn make_room(&mut self) -> Result<()> {
        let gather = &self.gather;
        tokio::select! {
            biased;
            room = poll_fn(|cx| locked(gather).poll_room(cx)) => room?,
            () = self.stop.cancelled() => {
                if locked(&self.gather).queued() > QUEUED_AFTER_STOP_MAX {
                    return Err(Error::Stopped);
                }
            }
        }
        let mut gather = locked(&self.gather);
        if gather.is_full() {
            gather.seal();
        }
        Ok(())
    }

    fn tap(&self, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            tap(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
