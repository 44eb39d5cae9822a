//! Where a source puts what it read: frames are gathered, decoded a batch at a time, and handed on.

use arrow::array::RecordBatch;

use crate::{Cursor, Gap, Lifecycle, Result};

/// The writing end that a running source holds.
///
/// Every method waits when the lane is full; that is the backpressure. Frames gathered so far are
/// decoded and sent when there are enough of them, and as soon as the source itself has to wait.
pub struct Output {}

impl Output {
    /// One message from outside, before decoding.
    pub async fn frame(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Rows that need no decoding, in the source's schema.
    pub async fn rows(&mut self, _batch: RecordBatch) -> Result<()> {
        Ok(())
    }

    /// Everything emitted so far is covered by this cursor.
    pub async fn cursor(&mut self, _cursor: Cursor) -> Result<()> {
        Ok(())
    }

    /// Rows may have been missed here.
    pub async fn gap(&mut self, _gap: Gap) -> Result<()> {
        Ok(())
    }

    /// Tells what happened besides rows.
    pub async fn lifecycle(&mut self, _event: Lifecycle) -> Result<()> {
        Ok(())
    }
}
