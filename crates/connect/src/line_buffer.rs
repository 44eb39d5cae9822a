//! Rows of a sink as lines of text, until they are written.

use arrow::array::RecordBatch;

use crate::Result;
use crate::formats::{Encoder, Frames};

/// Buffered bytes at which a sink writes before it takes more.
pub(crate) const WRITE_AT: usize = 64 << 10;

/// Encoded rows that are not written yet.
pub(crate) struct LineBuffer {
    encoder: Box<dyn Encoder>,
    /// The frames of the batch being encoded; kept for their memory.
    frames: Frames,
    bytes: Vec<u8>,
    rows: u64,
}

impl LineBuffer {
    pub(crate) fn new(encoder: Box<dyn Encoder>) -> Self {
        Self {
            encoder,
            frames: Frames::default(),
            bytes: Vec::new(),
            rows: 0,
        }
    }

    /// Makes the encoder continue after rows of an earlier run, so that it writes no header.
    #[cfg(feature = "file")]
    pub(crate) fn resume(&mut self) {
        self.encoder.resume();
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= WRITE_AT
    }

    /// Adds all rows of a batch, or none and fails.
    pub(crate) fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.frames.clear();
        self.encoder.encode(rows, &mut self.frames)?;
        self.frames.write_lines(&mut self.bytes);
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of rows in the buffer.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
    }
}
