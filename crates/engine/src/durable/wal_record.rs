//! One record of a source's write-ahead log as bytes: a [`SourceStep`] encoded and decoded.
//!
//! ```text
//!   flags u8 | watermark i64 | cursor length u32 | rows length u64 | cursor | rows | [reprocessed] | [origins] | bad rows
//!   reprocessed: count u32 | count times: step u64, number u32
//!   origins:     count u32 | count times: batches u32, arrival i64, length u32, the origin's bytes
//! ```
//!
//! Rows and bad rows are Arrow IPC messages without the schema, which is the source's and does not
//! change while its log exists. The encoder hands the buffers of a batch on and never copies them. A
//! compressed record is the flags, then the rest as one lz4 block with its length in front. All
//! numbers are little endian.
//!
//! An entry of the origins covers that many batches, in their order; the length 2^32 - 1 means no origin.
//! Without the origins, all rows arrived when the record was made. The cursor is in the record of the
//! rows that it covers, so a reader that has one has the other.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use headwater_connect::Cursor;

use super::source_step::{BadRowPosition, SourceStep, bad_schema};
use crate::canonical::canonical_batch;
use crate::dataflow::{Provenance, Watermark};

const COMPRESSED: u8 = 1;
const HAS_WATERMARK: u8 = 2;
const IDLE: u8 = 4;
const HAS_CURSOR: u8 = 8;
const HAS_REPROCESSED: u8 = 16;
const HAS_ORIGINS: u8 = 32;

/// Batches of a record, at most. A step takes far fewer.
const BATCHES_MAX: usize = 1 << 20;

/// Bytes of the fields of fixed length behind the flags.
const FIXED: usize = 8 + 4 + 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WalRecordError {
    #[error("the record ends at byte {at} of {need}")]
    Short { at: usize, need: usize },
    #[error("its cursor is not JSON: {0}")]
    Cursor(#[from] serde_json::Error),
    #[error("its rows are not those of the source: {0}")]
    Rows(#[from] ArrowError),
    #[error("its origins cover more than {max} batches")]
    Batches { max: usize },
    #[error("it cannot be decompressed: {0}")]
    Compression(#[from] lz4_flex::block::DecompressError),
}

/// Encodes and decodes the records of one source.
pub(crate) struct WalRecordCodec {
    rows: IpcMessages,
    bad: IpcMessages,
}

impl WalRecordCodec {
    pub fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self {
            rows: IpcMessages::new(schema)?,
            bad: IpcMessages::new(&bad_schema())?,
        })
    }

    /// The bytes of a record, in parts that follow each other. The buffers are shared, not copied.
    pub fn encode(&mut self, step: &SourceStep) -> Result<Vec<Buffer>, ArrowError> {
        let cursor = step.cursor.as_ref().map(|cursor| cursor.0.to_string());
        let cursor = cursor.unwrap_or_default();
        let rows = self.rows.encode(&step.rows)?;
        let rows_len: usize = rows.iter().map(Buffer::len).sum();
        let watermark = step.watermark.unwrap_or(Watermark::START);

        let mut flags = 0;
        flags |= HAS_WATERMARK * u8::from(step.watermark.is_some());
        flags |= IDLE * u8::from(watermark.idle);
        flags |= HAS_CURSOR * u8::from(step.cursor.is_some());
        flags |= HAS_REPROCESSED * u8::from(!step.reprocessed.is_empty());
        flags |= HAS_ORIGINS * u8::from(!step.from.is_empty());
        let mut head = Vec::with_capacity(1 + FIXED + cursor.len());
        head.push(flags);
        head.extend_from_slice(&watermark.at_us.to_le_bytes());
        head.extend_from_slice(&(cursor.len() as u32).to_le_bytes());
        head.extend_from_slice(&(rows_len as u64).to_le_bytes());
        head.extend_from_slice(cursor.as_bytes());

        let mut parts = vec![Buffer::from_vec(head)];
        parts.extend(rows);
        if !step.reprocessed.is_empty() {
            parts.push(Buffer::from_vec(encode_positions(&step.reprocessed)));
        }
        if !step.from.is_empty() {
            parts.push(Buffer::from_vec(encode_origins(&step.from)));
        }
        parts.extend(self.bad.encode(step.bad.as_slice())?);
        Ok(parts)
    }

    /// Reads the bytes of one record, compressed or not.
    pub fn decode(&self, bytes: Vec<u8>) -> Result<SourceStep, WalRecordError> {
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
        let reprocessed_at = rows_at + rows_len;
        let (reprocessed, origins_at) = match flags & HAS_REPROCESSED {
            0 => (Vec::new(), reprocessed_at),
            _ => decode_positions(&bytes, reprocessed_at)?,
        };
        let (from, bad_at) = match flags & HAS_ORIGINS {
            0 => (Vec::new(), origins_at),
            _ => decode_origins(&bytes, origins_at)?,
        };
        let bad = bytes.slice(bad_at);
        let watermark = Watermark {
            at_us,
            idle: flags & IDLE != 0,
        };
        Ok(SourceStep {
            // A log of an older version may have floats that are not canonical.
            rows: self
                .rows
                .decode(rows)?
                .into_iter()
                .map(canonical_batch)
                .collect(),
            from,
            bad: self.bad.decode(bad)?.pop(),
            watermark: (flags & HAS_WATERMARK != 0).then_some(watermark),
            cursor,
            reprocessed,
        })
    }
}

/// Length of one [`BadRowPosition`], bytes.
const POSITION: usize = 8 + 4;

fn encode_positions(positions: &[BadRowPosition]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + positions.len() * POSITION);
    bytes.extend_from_slice(&(positions.len() as u32).to_le_bytes());
    for (step, number) in positions {
        bytes.extend_from_slice(&step.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Decodes the positions that begin at byte `at`; also gives the byte behind them.
fn decode_positions(
    bytes: &Buffer,
    at: usize,
) -> Result<(Vec<BadRowPosition>, usize), WalRecordError> {
    let count = u32::from_le_bytes(array(bytes, at)?) as usize;
    let first = at + 4;
    part(bytes, first, count.saturating_mul(POSITION))?;
    let position = |number: usize| -> Result<BadRowPosition, WalRecordError> {
        let at = first + number * POSITION;
        let step = u64::from_le_bytes(array(bytes, at)?);
        Ok((step, u32::from_le_bytes(array(bytes, at + 8)?)))
    };
    let positions = (0..count).map(position).collect::<Result<_, _>>()?;
    Ok((positions, first + count * POSITION))
}

/// The length that stands for no origin.
const UNKNOWN: u32 = u32::MAX;

/// Neighbours of the same origin and arrival time share one entry.
fn encode_origins(from: &[Provenance]) -> Vec<u8> {
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

/// Decodes the origins that begin at byte `at`; also gives the byte behind them.
fn decode_origins(bytes: &Buffer, at: usize) -> Result<(Vec<Provenance>, usize), WalRecordError> {
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
            return Err(WalRecordError::Batches { max: BATCHES_MAX });
        }
        let shared = Provenance::arrived(arrival_us, origin);
        from.resize(from.len() + batches, shared);
    }
    Ok((from, at))
}

/// The same record as one lz4 block.
pub(super) fn compress(parts: &[Buffer]) -> Vec<Buffer> {
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
        Ok(compressed) => {
            out.truncate(head + compressed);
            vec![Buffer::from_vec(out)]
        }
        // Cannot happen: the output has room for the worst case. Then the record stays uncompressed.
        Err(_) => parts.to_vec(),
    }
}

fn part(bytes: &Buffer, at: usize, len: usize) -> Result<Buffer, WalRecordError> {
    let need = at.saturating_add(len);
    match need <= bytes.len() {
        true => Ok(bytes.slice_with_length(at, len)),
        false => Err(WalRecordError::Short {
            at: bytes.len(),
            need,
        }),
    }
}

fn array<const N: usize>(bytes: &Buffer, at: usize) -> Result<[u8; N], WalRecordError> {
    let mut array = [0; N];
    array.copy_from_slice(&part(bytes, at, N)?);
    Ok(array)
}

/// Batches of one schema as IPC messages, the schema's own message left out.
struct IpcMessages {
    encoder: StreamEncoder,
    /// What a decoder reads first: the schema and an empty batch.
    schema: Buffer,
}

impl IpcMessages {
    fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let mut encoder = StreamEncoder::try_new(schema)?;
        // The encoder writes the schema once, in front of the first batch.
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
        // Returns the empty batch behind the schema.
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
    use crate::dataflow::{Offsets, StreamElement};
    use crate::durable::source_step::bad_rows;

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
        Provenance::arrived(arrival_us, origin.map(Into::into))
    }

    fn source_step() -> SourceStep {
        let bad = Bad {
            bytes: b"{".to_vec(),
            reason: "no".into(),
        };
        SourceStep {
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
            reprocessed: vec![(7, 0), (7, 3), (u64::MAX, u32::MAX)],
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
        let mut codec = WalRecordCodec::new(&schema()).unwrap();
        let cursor_only = SourceStep {
            cursor: Some(Cursor(serde_json::Value::Null)),
            ..SourceStep::default()
        };
        for step in [source_step(), SourceStep::default(), cursor_only] {
            for compressed in [false, true] {
                let mut parts = codec.encode(&step).unwrap();
                if compressed {
                    parts = compress(&parts);
                }
                assert_eq!(codec.decode(bytes(&parts)).unwrap(), step);
            }
        }
    }

    #[test]
    fn batches_know_their_offsets() {
        let mut step = source_step();
        step.from.clear();
        step.locate(7, 3);
        let offsets: Vec<_> = step.from.iter().map(|it| it.offsets.clone()).collect();
        assert_eq!(offsets, [7, 1_007, 1_007].map(Offsets::From));
        assert!(step.from.iter().all(|it| it.arrival_us == 3));
        let elements: Vec<_> = step.into_elements().collect();
        assert!(matches!(
            &elements[..],
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
        let mut codec = WalRecordCodec::new(&schema()).unwrap();
        let whole = bytes(&codec.encode(&source_step()).unwrap());
        for length in 0..whole.len() {
            // Cut between two batches, a record is a smaller one; the checksum below guards that.
            let _ = codec.decode(whole[..length].to_vec());
        }
        assert!(codec.decode(whole[..30].to_vec()).is_err());
    }
}
