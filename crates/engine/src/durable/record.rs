//! What one step took from one source, as bytes of the log: the engine's payload of a record.
//!
//! ```text
//!   flags u8 | watermark i64 | cursor length u32 | rows length u64 | cursor | rows | [mended] | [origins] | bad rows
//!   mended:    count u32 | count times: step u64, number u32
//!   origins:   count u32 | count times: batches u32, arrival i64, length u32, the origin's bytes
//! ```
//!
//! Rows and bad rows are Arrow IPC messages without the schema, which is the source's and does not
//! change while its log is there. The buffers of a batch are handed on as they are, never copied. A
//! record is compressed as a whole (lz4) if that is asked for; then the rest follows the flags as one
//! block with its length in front. All numbers are little endian.
//!
//! An origin is that of as many batches, in their order; the length 2^32 - 1 stands for none. Without this part the
//! rows arrived when the record was made. The cursor stands in the record of the rows that it covers, so whoever has one has the other.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use headwater_connect::Cursor;

use crate::dataflow::{Offsets, Provenance, StreamElement, Watermark};
use crate::ingest::bad_schema;

const COMPRESSED: u8 = 1;
const HAS_WATERMARK: u8 = 2;
const IDLE: u8 = 4;
const HAS_CURSOR: u8 = 8;
const HAS_MENDED: u8 = 16;
const HAS_ORIGINS: u8 = 32;

/// No step takes more batches: each has a row.
const BATCHES_MAX: usize = 1 << 20;

/// Bytes of the fields of fixed length behind the flags.
const FIXED: usize = 8 + 4 + 8;

/// What a step took from a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Taken {
    /// Rows in the source's columns.
    pub rows: Vec<RecordBatch>,
    /// Where each of these batches is from; of none if nothing is known but the step. See
    /// [`locate`](Self::locate).
    pub from: Vec<Provenance>,
    /// Rows of `<source>__bad`.
    pub bad: Option<RecordBatch>,
    /// The watermark behind the rows, if it moved.
    pub watermark: Option<Watermark>,
    /// The source's place in the outside system behind the rows.
    pub cursor: Option<Cursor>,
    /// The bad rows of records before this one that `rows` were made of again.
    pub mended: Vec<BadPlace>,
}

/// Which bad row it is: the step that took it, and its number among the bad rows of that record.
pub(crate) type BadPlace = (u64, u32);

impl Taken {
    /// The number of rows, without the bad ones.
    pub fn row_count(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum()
    }

    /// Says which rows of the source these are: the first is at `offset`. What is not known to have arrived
    /// at another time arrived at `arrival_us`.
    pub fn locate(&mut self, mut offset: u64, arrival_us: i64) {
        let step = Provenance {
            offsets: Offsets::From(0),
            arrival_us,
            origin: None,
        };
        self.from.resize(self.rows.len(), step);
        for (rows, from) in self.rows.iter().zip(&mut self.from) {
            from.offsets = Offsets::From(offset);
            offset += rows.num_rows() as u64;
        }
    }

    /// The rows, each batch behind where it is from, then the watermark: as queries hear them.
    pub fn into_chunks(self) -> impl Iterator<Item = StreamElement> {
        let rows = self.rows.into_iter().map(StreamElement::Rows);
        let rows = self.from.into_iter().map(StreamElement::From).zip(rows);
        let watermark = self.watermark.map(StreamElement::Watermark);
        rows.flat_map(|(from, rows)| [from, rows]).chain(watermark)
    }

    /// Bytes that it holds in memory, about.
    pub fn memory(&self) -> usize {
        let batches = self.rows.iter().chain(&self.bad);
        let columns = batches.flat_map(RecordBatch::columns);
        // Of a slice only the slice counts: the rest is not its own.
        let bytes = columns.map(|column| {
            let data = column.to_data();
            let slice = data.get_slice_memory_size();
            slice.unwrap_or_else(|_| column.get_array_memory_size())
        });
        bytes.sum::<usize>() + 256
    }

    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.bad.is_none()
            && self.watermark.is_none()
            && self.cursor.is_none()
    }
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the record ends at byte {at} of {need}")]
    Short { at: usize, need: usize },
    #[error("its cursor is not JSON: {0}")]
    Cursor(#[from] serde_json::Error),
    #[error("its rows are not those of the source: {0}")]
    Rows(#[from] ArrowError),
    #[error("it tells where more than {max} batches are from")]
    Batches { max: usize },
    #[error("it cannot be decompressed: {0}")]
    Compression(#[from] lz4_flex::block::DecompressError),
}

/// Sequencer records of one source into bytes and back.
pub(crate) struct Codec {
    rows: Messages,
    bad: Messages,
}

impl Codec {
    /// For a source with these columns.
    pub fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self {
            rows: Messages::new(schema)?,
            bad: Messages::new(&bad_schema())?,
        })
    }

    /// The bytes of a record, in parts that follow each other.
    pub fn encode(&mut self, taken: &Taken) -> Result<Vec<Buffer>, ArrowError> {
        let cursor = taken.cursor.as_ref().map(|cursor| cursor.0.to_string());
        let cursor = cursor.unwrap_or_default();
        let rows = self.rows.encode(&taken.rows)?;
        let rows_len: usize = rows.iter().map(Buffer::len).sum();
        let watermark = taken.watermark.unwrap_or(Watermark::START);

        let mut flags = 0;
        flags |= flag(HAS_WATERMARK, taken.watermark.is_some());
        flags |= flag(IDLE, watermark.idle);
        flags |= flag(HAS_CURSOR, taken.cursor.is_some());
        flags |= flag(HAS_MENDED, !taken.mended.is_empty());
        flags |= flag(HAS_ORIGINS, !taken.from.is_empty());
        let mut head = Vec::with_capacity(1 + FIXED + cursor.len());
        head.push(flags);
        head.extend_from_slice(&watermark.at_us.to_le_bytes());
        head.extend_from_slice(&(cursor.len() as u32).to_le_bytes());
        head.extend_from_slice(&(rows_len as u64).to_le_bytes());
        head.extend_from_slice(cursor.as_bytes());

        let mut parts = vec![Buffer::from_vec(head)];
        parts.extend(rows);
        if !taken.mended.is_empty() {
            parts.push(Buffer::from_vec(places(&taken.mended)));
        }
        if !taken.from.is_empty() {
            parts.push(Buffer::from_vec(origins(&taken.from)));
        }
        parts.extend(self.bad.encode(taken.bad.as_slice())?);
        Ok(parts)
    }

    /// The record that `bytes` are.
    pub fn decode(&self, bytes: Vec<u8>) -> Result<Taken, RecordError> {
        let mut bytes = Buffer::from_vec(bytes);
        let mut flags = *part(&bytes, 0, 1)?.first().unwrap_or(&0);
        if flags & COMPRESSED != 0 {
            bytes = Buffer::from_vec(lz4_flex::block::decompress_size_prepended(&bytes[1..])?);
            flags = *part(&bytes, 0, 1)?.first().unwrap_or(&0);
        }
        let at_us = i64::from_le_bytes(array(&bytes, 1)?);
        let cursor_len = u32::from_le_bytes(array(&bytes, 9)?) as usize;
        let rows_len = usize::try_from(u64::from_le_bytes(array(&bytes, 13)?));
        let rows_len = rows_len.unwrap_or(usize::MAX);
        let cursor_at = 1 + FIXED;
        let cursor = part(&bytes, cursor_at, cursor_len)?;
        let cursor = match flags & HAS_CURSOR {
            0 => None,
            _ => Some(Cursor(serde_json::from_slice(&cursor)?)),
        };
        let rows_at = cursor_at + cursor_len;
        let rows = part(&bytes, rows_at, rows_len)?;
        let mended_at = rows_at + rows_len;
        let (mended, origins_at) = match flags & HAS_MENDED {
            0 => (Vec::new(), mended_at),
            _ => read_places(&bytes, mended_at)?,
        };
        let (from, bad_at) = match flags & HAS_ORIGINS {
            0 => (Vec::new(), origins_at),
            _ => read_origins(&bytes, origins_at)?,
        };
        let bad = bytes.slice(bad_at);
        let watermark = Watermark {
            at_us,
            idle: flags & IDLE != 0,
        };
        Ok(Taken {
            rows: self.rows.decode(rows)?,
            from,
            bad: self.bad.decode(bad)?.pop(),
            watermark: (flags & HAS_WATERMARK != 0).then_some(watermark),
            cursor,
            mended,
        })
    }
}

/// Bytes of one [`BadPlace`].
const PLACE: usize = 8 + 4;

fn places(mended: &[BadPlace]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + mended.len() * PLACE);
    bytes.extend_from_slice(&(mended.len() as u32).to_le_bytes());
    for (step, number) in mended {
        bytes.extend_from_slice(&step.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// The places that begin at byte `at`, and where they end.
fn read_places(bytes: &Buffer, at: usize) -> Result<(Vec<BadPlace>, usize), RecordError> {
    let count = u32::from_le_bytes(array(bytes, at)?) as usize;
    let first = at + 4;
    part(bytes, first, count.saturating_mul(PLACE))?;
    let place = |number: usize| -> Result<BadPlace, RecordError> {
        let at = first + number * PLACE;
        let step = u64::from_le_bytes(array(bytes, at)?);
        Ok((step, u32::from_le_bytes(array(bytes, at + 8)?)))
    };
    let places = (0..count).map(place).collect::<Result<_, _>>()?;
    Ok((places, first + count * PLACE))
}

/// The length of an origin that is not known.
const UNKNOWN: u32 = u32::MAX;

/// Neighbours that are from one place at one time stand there once.
fn origins(from: &[Provenance]) -> Vec<u8> {
    let same = |a: &Provenance, b: &Provenance| {
        a.arrival_us == b.arrival_us && a.origin.as_deref() == b.origin.as_deref()
    };
    let runs: Vec<&[Provenance]> = from.chunk_by(same).collect();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(runs.len() as u32).to_le_bytes());
    for run in runs {
        let origin = run[0].origin.as_deref();
        bytes.extend_from_slice(&(run.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&run[0].arrival_us.to_le_bytes());
        let len = origin.map_or(UNKNOWN, |origin| origin.len() as u32);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(origin.unwrap_or_default().as_bytes());
    }
    bytes
}

/// The origins that begin at byte `at`, and where they end.
fn read_origins(bytes: &Buffer, at: usize) -> Result<(Vec<Provenance>, usize), RecordError> {
    let count = u32::from_le_bytes(array(bytes, at)?);
    let (mut from, mut at) = (Vec::new(), at + 4);
    for _ in 0..count {
        let batches = u32::from_le_bytes(array(bytes, at)?) as usize;
        let arrival_us = i64::from_le_bytes(array(bytes, at + 4)?);
        let len = u32::from_le_bytes(array(bytes, at + 12)?);
        at += 16;
        let origin = match len {
            UNKNOWN => None,
            len => {
                let origin = part(bytes, at, len as usize)?;
                at += len as usize;
                Some(String::from_utf8_lossy(&origin).into())
            }
        };
        if from.len().saturating_add(batches) > BATCHES_MAX {
            return Err(RecordError::Batches { max: BATCHES_MAX });
        }
        let of_all = Provenance {
            offsets: Offsets::From(0),
            arrival_us,
            origin,
        };
        from.resize(from.len() + batches, of_all);
    }
    Ok((from, at))
}

fn flag(flag: u8, set: bool) -> u8 {
    if set { flag } else { 0 }
}

/// The same record as one compressed block.
pub(super) fn pressed(parts: &[Buffer]) -> Vec<Buffer> {
    let bytes = parts.iter().map(Buffer::len).sum();
    let mut whole = Vec::with_capacity(bytes);
    for part in parts {
        whole.extend_from_slice(part);
    }
    let head = 1 + size_of::<u32>();
    let mut out = vec![0; head + lz4_flex::block::get_maximum_output_size(bytes)];
    out[0] = COMPRESSED;
    out[1..head].copy_from_slice(&(bytes as u32).to_le_bytes());
    match lz4_flex::block::compress_into(&whole, &mut out[head..]) {
        Ok(pressed) => {
            out.truncate(head + pressed);
            vec![Buffer::from_vec(out)]
        }
        // Never, since the room is the greatest that it takes; then it stays as it is.
        Err(_) => parts.to_vec(),
    }
}

fn part(bytes: &Buffer, at: usize, len: usize) -> Result<Buffer, RecordError> {
    let need = at.saturating_add(len);
    match need <= bytes.len() {
        true => Ok(bytes.slice_with_length(at, len)),
        false => Err(RecordError::Short {
            at: bytes.len(),
            need,
        }),
    }
}

fn array<const N: usize>(bytes: &Buffer, at: usize) -> Result<[u8; N], RecordError> {
    let mut array = [0; N];
    array.copy_from_slice(&part(bytes, at, N)?);
    Ok(array)
}

/// Batches of one schema as IPC messages, the schema's own message left out.
struct Messages {
    encoder: StreamEncoder,
    /// What a decoder has to be given first.
    schema: Buffer,
}

impl Messages {
    fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let mut encoder = StreamEncoder::try_new(schema)?;
        // The first batch brings the schema's message; later ones do not.
        let first = encoder.encode(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
        let first: Vec<u8> = first
            .iter()
            .flat_map(|part| part.as_slice())
            .copied()
            .collect();
        Ok(Self {
            schema: Buffer::from_vec(first),
            encoder,
        })
    }

    fn encode(&mut self, batches: &[RecordBatch]) -> Result<Vec<Buffer>, ArrowError> {
        let mut parts = Vec::new();
        for batch in batches {
            parts.extend(self.encoder.encode(batch)?);
        }
        Ok(parts)
    }

    fn decode(&self, mut bytes: Buffer) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut batches = Vec::new();
        if bytes.is_empty() {
            return Ok(batches);
        }
        let mut decoder = StreamDecoder::new();
        let mut schema = self.schema.clone();
        // The empty batch that came with the schema.
        decoder.decode(&mut schema)?;
        while !bytes.is_empty() {
            batches.extend(decoder.decode(&mut bytes)?);
        }
        decoder.finish()?;
        Ok(batches)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use headwater_connect::Bad;

    use super::*;
    use crate::ingest::bad_rows;

    fn schema() -> SchemaRef {
        let n = Field::new("n", DataType::Int64, false);
        let s = Field::new("s", DataType::Utf8, true);
        Arc::new(Schema::new(vec![n, s]))
    }

    fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
        let s = rows
            .clone()
            .map(|n| (n % 3 > 0).then(|| format!("row {n}")));
        let s: StringArray = s.collect();
        let n = Int64Array::from_iter_values(rows);
        RecordBatch::try_new(schema(), vec![Arc::new(n), Arc::new(s)]).unwrap()
    }

    fn from(origin: Option<&str>, arrival_us: i64) -> Provenance {
        Provenance {
            offsets: Offsets::From(0),
            arrival_us,
            origin: origin.map(Into::into),
        }
    }

    fn taken() -> Taken {
        let bad = Bad {
            bytes: b"{".to_vec(),
            reason: "no".into(),
        };
        Taken {
            rows: vec![
                batch(0..1_000),
                batch(5..5),
                batch(1_000..1_007).slice(2, 3),
            ],
            from: vec![from(Some("/a"), 1), from(Some("/a"), 1), from(None, -9)],
            bad: Some(bad_rows(&[bad], 7)),
            watermark: Some(Watermark {
                at_us: -5,
                idle: true,
            }),
            cursor: Some(Cursor(serde_json::json!({"at": 1_007}))),
            mended: vec![(7, 0), (7, 3), (u64::MAX, u32::MAX)],
        }
    }

    fn bytes(parts: &[Buffer]) -> Vec<u8> {
        parts
            .iter()
            .flat_map(|part| part.as_slice())
            .copied()
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut codec = Codec::new(&schema()).unwrap();
        let cursor_only = Taken {
            cursor: Some(Cursor(serde_json::Value::Null)),
            ..Taken::default()
        };
        for taken in [taken(), Taken::default(), cursor_only] {
            for compress in [false, true] {
                let mut parts = codec.encode(&taken).unwrap();
                if compress {
                    parts = pressed(&parts);
                }
                assert_eq!(codec.decode(bytes(&parts)).unwrap(), taken);
            }
        }
    }

    #[test]
    fn batches_know_their_places() {
        let mut taken = taken();
        taken.from.clear();
        taken.locate(7, 3);
        let offsets: Vec<_> = taken.from.iter().map(|it| it.offsets.clone()).collect();
        assert_eq!(offsets, [7, 1_007, 1_007].map(Offsets::From));
        assert!(taken.from.iter().all(|it| it.arrival_us == 3));
        let chunks: Vec<_> = taken.into_chunks().collect();
        assert!(matches!(
            &chunks[..],
            [
                StreamElement::From(_),
                StreamElement::Rows(_),
                ..,
                StreamElement::From(_),
                StreamElement::Rows(_),
                StreamElement::Watermark(_)
            ]
        ));
    }

    #[test]
    fn a_record_that_was_cut_is_an_error() {
        let mut codec = Codec::new(&schema()).unwrap();
        let whole = bytes(&codec.encode(&taken()).unwrap());
        for length in 0..whole.len() {
            // Cut between two batches, a record is a smaller one; the checksum below guards that.
            let _ = codec.decode(whole[..length].to_vec());
        }
        assert!(codec.decode(whole[..30].to_vec()).is_err());
    }
}
