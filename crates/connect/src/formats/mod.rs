//! Formats: how the bytes of a frame become columns, and how rows become bytes again.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Bad;

/// Frames gathered for one decode: their bytes back to back, and where each ends.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// The bytes of all frames, without anything between them.
    pub bytes: Vec<u8>,
    /// The end of each frame in `bytes`; frame `i` starts where frame `i - 1` ends.
    pub ends: Vec<usize>,
}

impl Frames {
    /// Adds one frame.
    pub fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push(self.bytes.len());
    }

    /// The number of frames.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The frames in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
    }

    /// Forgets the frames, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Rows and whatever could not become one.
#[derive(Debug)]
pub struct Decoded {
    /// In the schema of the decoder.
    pub rows: RecordBatch,
    /// In the order of the frames.
    pub bad: Vec<Bad>,
}

/// Turns frames into columns. Bad frames never spoil good ones.
pub trait Decoder: Send {
    /// The columns it makes.
    fn schema(&self) -> &SchemaRef;
    /// Decodes all frames; every frame ends up in `rows` or in `bad`.
    fn decode(&mut self, frames: &Frames) -> Decoded;
}

/// Turns rows into the bytes of messages: one frame a row.
pub trait Encoder: Send {
    /// Appends one frame for each row to `out`.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> crate::Result<()>;
}
