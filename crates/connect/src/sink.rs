//! What a sink is: somewhere results go.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use crate::Result;

/// Writes result rows to an outside system.
///
/// One task drives a sink: `open`, then `write` and `flush` any number of times, then `close`.
/// A failed `write` may be called again with the same batch; what was written of it before the
/// failure may then arrive twice, never not at all.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Checks that the outside system can be reached with these options. Writes nothing.
    async fn validate(&self) -> Result<()>;

    /// Connects or opens; called once before the first `write`.
    async fn open(&mut self) -> Result<()>;

    /// Writes the rows. Returns when they are handed to the outside system or safely queued.
    async fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Called when no further batch is waiting: pushes out whatever is buffered.
    async fn flush(&mut self) -> Result<()>;

    /// Flushes and closes. Called once; the sink is dropped after it.
    async fn close(&mut self) -> Result<()>;
}
