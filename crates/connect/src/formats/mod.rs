//! Formats: how the bytes of a frame become columns, and how rows become bytes again.
//!
//! A format is one module with a `pub const FORMAT` and a line in [`FORMATS`]: its name, its options,
//! and what makes a decoder or an encoder for given columns. Connectors name the formats they can
//! carry; the registry puts the two together. A decoder sees many frames at once, and each of them
//! becomes rows or a bad frame.
//!
//! The modules not named for a format are what formats share: columns being filled, numbers and times
//! in text, and why a value cannot be decoded.

mod column;
mod column_names;
mod csv;
mod data_type;
mod fault;
mod json;
mod number;
mod text;
mod time;

use std::str::Utf8Error;

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::{Checked, OptionSet};
use crate::{Bad, Result};

pub use self::csv::RecordEnd;
pub(crate) use self::csv::has_header;
pub(crate) use self::data_type::sql_name;
#[cfg(feature = "websocket")]
pub(crate) use self::json::json_field;

/// Every format there is.
pub const FORMATS: &[Format] = &[
    json::FORMAT,
    json::NDJSON,
    text::FORMAT,
    text::BYTES,
    csv::FORMAT,
];

/// The formats that can be written into a file or a pipe, a line a row; the default first.
pub const LINES: &[&str] = &["json", "ndjson", "csv", "text"];

/// Makes a decoder for columns; fails if it cannot fill one of them.
pub type MakeDecoder = fn(SchemaRef, &Checked) -> Result<Box<dyn Decoder>>;

/// Makes an encoder for columns; fails if it cannot write one of them.
pub type MakeEncoder = fn(SchemaRef, &Checked) -> Result<Box<dyn Encoder>>;

/// A format: its name, its options, and what it reads and writes.
#[derive(Clone, Copy)]
pub struct Format {
    /// Its name in `format = '...'`.
    pub name: &'static str,
    /// What it is, in one line without a full stop.
    pub summary: &'static str,
    /// Options of its decoder.
    pub decoder_options: Option<OptionSet>,
    /// Options of its encoder.
    pub encoder_options: Option<OptionSet>,
    /// The columns of a source that was declared without any; `None` if they must be declared.
    pub columns: Option<fn() -> SchemaRef>,
    /// Makes what reads it; `None` if it is only written.
    pub decoder: Option<MakeDecoder>,
    /// Makes what writes it; `None` if it is only read.
    pub encoder: Option<MakeEncoder>,
}

/// The format of this name, in any case.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS
        .iter()
        .find(|format| format.name.eq_ignore_ascii_case(name))
}

/// Frames gathered for one decode: their bytes back to back, and where each ends.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// The bytes of all frames, without anything between them.
    pub bytes: Vec<u8>,
    /// The end of each frame in `bytes`; frame `i` starts where frame `i - 1` ends.
    pub ends: Vec<usize>,
}

impl Frames {
    /// Adds a frame behind the others.
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

    /// Appends every frame to `out`, each with a line end behind it.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes.len() + self.len());
        for frame in self.iter() {
            out.extend_from_slice(frame);
            out.push(b'\n');
        }
    }

    /// Forgets the frames, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Rows, and the frames that could not become rows.
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
    /// What a person should know about the frames decoded since the last call, besides their rows.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// Finds the ends of frames in lines, if a frame may have line ends in it.
    fn record_end(&self) -> Option<RecordEnd> {
        None
    }
}

/// Turns rows into the bytes of messages: one frame a row.
pub trait Encoder: Send + Sync {
    /// Appends one frame for each row to `out`.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> Result<()>;

    /// The frames will follow others that were written before: what belongs at the beginning only, such
    /// as a header, is not written again.
    fn resume(&mut self) {}
}

/// What a number in a TIMESTAMP column counts, since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EpochUnit {
    S,
    #[default]
    Ms,
    Us,
    Ns,
}

impl EpochUnit {
    fn unit(self) -> TimeUnit {
        match self {
            Self::S => TimeUnit::Second,
            Self::Ms => TimeUnit::Millisecond,
            Self::Us => TimeUnit::Microsecond,
            Self::Ns => TimeUnit::Nanosecond,
        }
    }
}

fn bad(frame: &[u8], reason: String) -> Bad {
    Bad {
        bytes: frame.to_vec(),
        reason,
    }
}

fn not_utf8(error: Utf8Error) -> String {
    format!("not UTF-8 at byte {}", error.valid_up_to())
}

/// What a run of frames was decoded to. If Arrow refuses the batch as a whole, for more than 2 GiB in
/// one column, every frame is bad.
fn decoded(
    rows: Result<RecordBatch, ArrowError>,
    bad_frames: Vec<Bad>,
    frames: &Frames,
    schema: &SchemaRef,
) -> Decoded {
    let error = match rows {
        Ok(rows) => {
            let bad = bad_frames;
            return Decoded { rows, bad };
        }
        Err(error) => error,
    };
    let reason = format!("the batch of this frame could not be decoded: {error}");
    Decoded {
        rows: RecordBatch::new_empty(schema.clone()),
        bad: frames
            .iter()
            .map(|frame| bad(frame, reason.clone()))
            .collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::options::{Given, check};

    /// A decoder with options such as `{"header": true}`.
    pub(crate) fn decoder(
        name: &str,
        schema: SchemaRef,
        options: &serde_json::Value,
    ) -> Result<Box<dyn Decoder>> {
        let format = format(name).unwrap();
        (format.decoder.unwrap())(schema, &checked(format.decoder_options, options)?)
    }

    /// An encoder with options such as `{"header": true}`.
    pub(crate) fn encoder(
        name: &str,
        schema: &SchemaRef,
        options: &serde_json::Value,
    ) -> Result<Box<dyn Encoder>> {
        let format = format(name).unwrap();
        (format.encoder.unwrap())(schema.clone(), &checked(format.encoder_options, options)?)
    }

    fn checked(set: Option<OptionSet>, options: &serde_json::Value) -> Result<Checked> {
        let given = options
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| match value {
                serde_json::Value::Bool(truth) => Given::new(key, *truth),
                value => Given::new(key, value.as_str().unwrap()),
            });
        let checked = check("", set.as_slice(), &given.collect::<Vec<_>>());
        checked.map_err(|problems| crate::Error::Options(crate::options::joined(&problems)))
    }

    pub(crate) fn text_schema(name: &str) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]))
    }

    pub(crate) fn frames(texts: &[impl AsRef<[u8]>]) -> Frames {
        let mut frames = Frames::default();
        texts.iter().for_each(|text| frames.push(text.as_ref()));
        frames
    }

    pub(crate) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        let field =
            |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
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
        assert_eq!(Frames::default().longest(), 0);
        assert_eq!(frames(&["", "abc", "de"]).longest(), 3);
    }
}
