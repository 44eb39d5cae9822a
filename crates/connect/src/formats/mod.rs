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

    /// The length of the longest frame in bytes, 0 if there is none.
    pub fn longest(&self) -> usize {
        let mut start = 0;
        let length = |&end: &usize| end - std::mem::replace(&mut start, end);
        self.ends.iter().map(length).max().unwrap_or(0)
    }

    /// Moves all frames of `other` behind those here.
    pub fn append(&mut self, other: &mut Frames) {
        let offset = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.ends
            .extend(other.ends.drain(..).map(|end| end + offset));
    }

    /// Keeps the first `at` frames (all, if there are fewer) and returns the others.
    pub fn split_off(&mut self, at: usize) -> Frames {
        if at >= self.len() {
            return Frames::default();
        }
        let offset = if at == 0 { 0 } else { self.ends[at - 1] };
        let mut ends = self.ends.split_off(at);
        ends.iter_mut().for_each(|end| *end -= offset);
        let bytes = self.bytes.split_off(offset);
        Frames { bytes, ends }
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    pub(crate) fn text_schema(name: &str) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]))
    }

    fn frames(list: &[&str]) -> Frames {
        let mut frames = Frames::default();
        list.iter().for_each(|frame| frames.push(frame.as_bytes()));
        frames
    }

    fn texts(frames: &Frames) -> Vec<&str> {
        frames
            .iter()
            .map(|frame| std::str::from_utf8(frame).unwrap())
            .collect()
    }

    #[test]
    fn frames_are_cut_and_joined() {
        for at in 0..5 {
            let mut head = frames(&["one", "", "three"]);
            let mut tail = head.split_off(at);
            assert_eq!(head.len(), at.min(3));
            head.append(&mut tail);
            assert_eq!(texts(&head), ["one", "", "three"]);
            assert!(tail.is_empty() && tail.bytes.is_empty());
        }
    }

    #[test]
    fn the_longest_frame() {
        assert_eq!(frames(&[]).longest(), 0);
        assert_eq!(frames(&["", "abc", "de"]).longest(), 3);
    }
}
