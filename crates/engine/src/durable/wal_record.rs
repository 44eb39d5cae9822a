//! One record of a source's write-ahead log as bytes: a [`SourceStep`] encoded and decoded.
//!
//! ```text
//!   0x80 | sections                     section: tag u8 | length u32 | bytes
//!   0x81 | length u32 | lz4 block       the same, compressed
//! ```
//!
//! | tag | section | bytes |
//! |---|---|---|
//! | 1 | rows | Arrow IPC messages without the schema |
//! | 2 | bad rows | the same, with the columns of `<source>__bad` |
//! | 3 | watermark | i64, idle u8 |
//! | 4 | cursor | JSON |
//! | 5 | reprocessed | step u64, number u32; repeated |
//! | 6 | origins | batches u32, arrival i64, length u32, the origin's bytes; repeated |
//! | 7 | frontier | column u32, delay i64, frontier i64, others i64, lanes u32, lanes times: lane u32, mark i64, idle u8; then events: kind u8 and its fields; repeated |
//! | 8 | gaps | at i64, then reason, from and to: length u32, text; repeated |
//!
//! A section that is not needed is not there. A reader refuses a tag that it does not know: what a later
//! version adds is never dropped silently. Records of the first version have a first byte below 0x80 and
//! are read as well (`version_1.rs`).
//!
//! The schema of the rows is the source's and does not change while its log exists. The encoder hands the
//! buffers of a batch on and never copies them. All numbers are little endian. An entry of the origins
//! covers that many batches, in their order; the length 2^32 - 1 means no origin, or no text. Without the
//! origins, all rows arrived when the record was made. The cursor is in the record of the rows that it
//! covers, so a reader that has one has the other.

mod fields;
mod version_1;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use headwater_connect::Cursor;

use super::source_step::{SourceStep, bad_schema};
use crate::dataflow::Watermark;
use fields::{FieldReader, frontier, gaps, origins, positions};

/// The first byte of a record of this version.
const VERSION_2: u8 = 0x80;
const COMPRESSED: u8 = 1;

/// The sections of a record, by their tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Section {
    Rows = 1,
    Bad,
    Watermark,
    Cursor,
    Reprocessed,
    Origins,
    Frontier,
    Gaps,
}

impl Section {
    fn of_tag(tag: u8) -> Result<Self, WalRecordError> {
        use Section::{Bad, Cursor, Frontier, Gaps, Origins, Reprocessed, Rows, Watermark};
        let all = [
            Rows,
            Bad,
            Watermark,
            Cursor,
            Reprocessed,
            Origins,
            Frontier,
            Gaps,
        ];
        let known = all.into_iter().find(|section| *section as u8 == tag);
        known.ok_or(WalRecordError::Section { tag })
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WalRecordError {
    #[error("the record ends at byte {at} of {need}")]
    Short { at: usize, need: usize },
    #[error(
        "it has a section {tag}, which this build does not know: a later version wrote it, open the folder with that"
    )]
    Section { tag: u8 },
    #[error("its frontier has an event of kind {kind}, which this build does not know")]
    FrontierEvent { kind: u8 },
    #[error("its frontier is that of column {column}, which is not a timestamp")]
    FrontierColumn { column: u32 },
    #[error("its cursor is not JSON: {0}")]
    Cursor(#[from] serde_json::Error),
    #[error("its rows are not those of the source: {0}")]
    Rows(#[from] ArrowError),
    #[error("its origins cover more than {max} batches")]
    Batches { max: usize },
    #[error("its rows have lengths that no encoder writes")]
    Lengths,
    #[error("it claims {claimed} bytes, but can hold {max} at most")]
    Claims { claimed: usize, max: usize },
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
        let mut head = vec![VERSION_2];
        if let Some(watermark) = step.watermark {
            let mut bytes = watermark.at_us.to_le_bytes().to_vec();
            bytes.push(u8::from(watermark.idle));
            section(&mut head, Section::Watermark, &bytes);
        }
        if let Some(cursor) = &step.cursor {
            section(&mut head, Section::Cursor, cursor.0.to_string().as_bytes());
        }
        if !step.reprocessed.is_empty() {
            let positions = positions::encode(&step.reprocessed);
            section(&mut head, Section::Reprocessed, &positions);
        }
        if !step.from.is_empty() {
            section(&mut head, Section::Origins, &origins::encode(&step.from));
        }
        if let Some(moves) = &step.moves {
            section(&mut head, Section::Frontier, &frontier::encode(moves));
        }
        if !step.gaps.is_empty() {
            section(&mut head, Section::Gaps, &gaps::encode(&step.gaps));
        }
        let mut parts = vec![Buffer::from_vec(head)];
        let batches = [
            (Section::Rows, self.rows.encode(&step.rows)?),
            (Section::Bad, self.bad.encode(step.bad.as_slice())?),
        ];
        for (tag, buffers) in batches {
            let length: usize = buffers.iter().map(Buffer::len).sum();
            if length > 0 {
                parts.push(Buffer::from_vec(section_head(tag, length)));
                parts.extend(buffers);
            }
        }
        Ok(parts)
    }

    /// Reads the bytes of one record of any version, compressed or not.
    pub fn decode(&self, bytes: Vec<u8>) -> Result<SourceStep, WalRecordError> {
        let mut bytes = Buffer::from_vec(bytes);
        if bytes.first().is_some_and(|first| first & COMPRESSED != 0) {
            bytes = Buffer::from_vec(decompress(&bytes[1..])?);
        }
        match bytes.first() {
            Some(&VERSION_2) => self.decode_sections(FieldReader::new(bytes.slice(1))),
            _ => self.decode_version_1(&bytes),
        }
    }

    fn decode_sections(&self, mut sections: FieldReader) -> Result<SourceStep, WalRecordError> {
        let mut step = SourceStep::default();
        while !sections.is_empty() {
            let tag = Section::of_tag(sections.u8()?)?;
            let length = sections.u32()? as usize;
            let mut bytes = FieldReader::new(sections.take(length)?);
            match tag {
                Section::Rows => step.rows = self.rows.decode(bytes.rest())?,
                Section::Bad => step.bad = self.bad.decode(bytes.rest())?.pop(),
                Section::Watermark => {
                    let at_us = bytes.i64()?;
                    let idle = bytes.u8()? != 0;
                    step.watermark = Some(Watermark { at_us, idle });
                }
                Section::Cursor => {
                    step.cursor = Some(Cursor(serde_json::from_slice(&bytes.rest())?));
                }
                Section::Reprocessed => step.reprocessed = positions::decode(&mut bytes)?,
                Section::Origins => step.from = origins::decode(&mut bytes)?,
                Section::Frontier => step.moves = Some(Arc::new(frontier::decode(&mut bytes)?)),
                Section::Gaps => step.gaps = gaps::decode(&mut bytes)?,
            }
        }
        if let Some(moves) = &step.moves {
            self.check(moves.column)?;
        }
        Ok(step)
    }

    /// An error unless this column of the rows is a timestamp.
    fn check(&self, column: u32) -> Result<(), WalRecordError> {
        let field = self.rows.columns.fields().get(column as usize);
        match field.map(|field| field.data_type()) {
            Some(DataType::Timestamp(..)) => Ok(()),
            _ => Err(WalRecordError::FrontierColumn { column }),
        }
    }
}

fn section(to: &mut Vec<u8>, tag: Section, bytes: &[u8]) {
    to.extend(section_head(tag, bytes.len()));
    to.extend_from_slice(bytes);
}

/// A record is far shorter than 4 GiB.
fn section_head(tag: Section, length: usize) -> Vec<u8> {
    let mut head = vec![tag as u8];
    head.extend_from_slice(&(length as u32).to_le_bytes());
    head
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
    out[0] = VERSION_2 | COMPRESSED;
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

/// The greatest ratio at which an lz4 block compresses.
const LZ4_RATIO_MAX: usize = 255;

/// The bytes behind a length. A length that no block of this size can have is never allocated.
fn decompress(bytes: &[u8]) -> Result<Vec<u8>, WalRecordError> {
    let Some((length, block)) = bytes.split_first_chunk() else {
        let (at, need) = (bytes.len(), size_of::<u32>());
        return Err(WalRecordError::Short { at, need });
    };
    let claimed = u32::from_le_bytes(*length) as usize;
    let max = block.len().saturating_mul(LZ4_RATIO_MAX);
    match claimed > max {
        true => Err(WalRecordError::Claims { claimed, max }),
        false => Ok(lz4_flex::block::decompress(block, claimed)?),
    }
}

/// Batches of one schema as IPC messages, the schema's own message left out.
struct IpcMessages {
    columns: SchemaRef,
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
            columns: SchemaRef::clone(schema),
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

    /// The batches. Arrow's reader panics on some lengths that no encoder writes: that is an error, too.
    fn decode(&self, bytes: Buffer) -> Result<Vec<RecordBatch>, WalRecordError> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let read = catch_unwind(AssertUnwindSafe(|| self.read(bytes)));
        Ok(read.map_err(|_| WalRecordError::Lengths)??)
    }

    fn read(&self, mut bytes: Buffer) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut batches = Vec::new();
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

    use arrow::array::{Int64Array, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use headwater_connect::{Bad, Gap};

    use super::*;
    use crate::dataflow::{
        FrontierEvent, FrontierMoves, LaneMark, LaneMarks, NO_LANE, Offsets, Provenance,
        StreamElement,
    };
    use crate::durable::source_step::bad_rows;
    use crate::event_log::GapEntry;

    fn schema() -> SchemaRef {
        let n = Field::new("n", DataType::Int64, false);
        let s = Field::new("s", DataType::Utf8, true);
        let t = DataType::Timestamp(TimeUnit::Millisecond, None);
        Arc::new(Schema::new(vec![n, s, Field::new("t", t, true)]))
    }

    fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
        let s = rows
            .clone()
            .map(|n| (n % 3 > 0).then(|| format!("row {n}")));
        let s: StringArray = s.collect();
        let t = TimestampMillisecondArray::from_iter_values(rows.clone());
        let n = Int64Array::from_iter_values(rows);
        RecordBatch::try_new(schema(), vec![Arc::new(n), Arc::new(s), Arc::new(t)]).unwrap()
    }

    fn from(origin: Option<&str>, arrival_us: i64) -> Provenance {
        Provenance::arrived(arrival_us, origin.map(Into::into))
    }

    fn moves() -> FrontierMoves {
        let mark = |lane, at_us, idle| LaneMark { lane, at_us, idle };
        FrontierMoves {
            column: 2,
            delay_us: 7,
            start: LaneMarks {
                at_us: -1_000,
                others_us: 900_000,
                lanes: vec![mark(0, -1_000, false), mark(5, i64::MIN, true)],
            },
            events: vec![
                FrontierEvent::Joined(9),
                FrontierEvent::Rows {
                    lane: 0,
                    count: 990,
                },
                FrontierEvent::Rows { lane: 9, count: 10 },
                FrontierEvent::Rows {
                    lane: NO_LANE,
                    count: 3,
                },
                FrontierEvent::Idle(9),
                FrontierEvent::Ended(0),
                FrontierEvent::AtLeast(i64::MAX),
            ],
        }
    }

    fn gap(from: Option<&str>) -> GapEntry {
        let gap = Gap {
            reason: "it was away".to_owned(),
            from: from.map(str::to_owned),
            to: Some("now".to_owned()),
        };
        GapEntry { gap, at_us: -3 }
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
            moves: Some(Arc::new(moves())),
            frontiers: Vec::new(),
            bad: Some(bad_rows(&[bad], 7)),
            watermark: Some(Watermark {
                at_us: -5,
                idle: true,
            }),
            cursor: Some(Cursor(serde_json::json!({"at": 1_007}))),
            reprocessed: vec![(7, 0), (7, 3), (u64::MAX, u32::MAX)],
            gaps: vec![gap(None), gap(Some("")), gap(Some("12:00"))],
        }
    }

    fn bytes_of(parts: &[Buffer]) -> Vec<u8> {
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
                assert_eq!(codec.decode(bytes_of(&parts)).unwrap(), step);
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
        let elements: Vec<_> = step.into_elements("s").collect();
        assert!(matches!(
            &elements[..],
            [
                StreamElement::From(_),
                StreamElement::Rows(..),
                ..,
                StreamElement::From(_),
                StreamElement::Rows(..),
                StreamElement::Watermark(_)
            ]
        ));
    }

    #[test]
    fn a_record_that_was_cut_is_an_error() {
        let mut codec = WalRecordCodec::new(&schema()).unwrap();
        let whole = bytes_of(&codec.encode(&source_step()).unwrap());
        for length in 0..whole.len() {
            // Cut between two batches, a record is a smaller one; the checksum below guards that.
            let _ = codec.decode(whole[..length].to_vec());
        }
        assert!(codec.decode(whole[..30].to_vec()).is_err());
    }

    #[test]
    fn what_a_later_version_adds_is_refused() {
        let codec = WalRecordCodec::new(&schema()).unwrap();
        let later = vec![VERSION_2, 99, 0, 0, 0, 0];
        let error = codec.decode(later).unwrap_err();
        assert!(
            matches!(error, WalRecordError::Section { tag: 99 }),
            "{error}"
        );
        let mut step = source_step();
        Arc::make_mut(step.moves.as_mut().unwrap()).column = 1;
        let mut codec = codec;
        let no_time = bytes_of(&codec.encode(&step).unwrap());
        assert!(codec.decode(no_time).is_err());
    }

    #[test]
    fn a_length_that_no_block_can_have_is_refused() {
        let codec = WalRecordCodec::new(&schema()).unwrap();
        let mut bytes = vec![VERSION_2 | COMPRESSED];
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        bytes.extend_from_slice(&[0; 100]);
        let error = codec.decode(bytes).unwrap_err();
        let claimed = u32::MAX as usize;
        assert!(
            matches!(error, WalRecordError::Claims { claimed: it, max: 25_500 } if it == claimed)
        );
        let short = vec![VERSION_2 | COMPRESSED, 1];
        assert!(matches!(
            codec.decode(short),
            Err(WalRecordError::Short { .. })
        ));
        // The block that compresses best is read.
        let step = SourceStep {
            bad: Some(bad_rows(
                &[Bad {
                    bytes: vec![0; 10 << 20],
                    reason: String::new(),
                }],
                0,
            )),
            ..SourceStep::default()
        };
        let mut writing = WalRecordCodec::new(&schema()).unwrap();
        let parts = compress(&writing.encode(&step).unwrap());
        assert_eq!(codec.decode(bytes_of(&parts)).unwrap(), step);
    }

    /// Checksums keep damage from the decoder; what passes them all the same is an error or other rows.
    #[test]
    fn no_damage_makes_the_decoder_panic() {
        let mut codec = WalRecordCodec::new(&schema()).unwrap();
        let whole = bytes_of(&codec.encode(&source_step()).unwrap());
        let mut dice = 1_u64;
        for _ in 0..3_000 {
            let mut damaged = whole.clone();
            for _ in 0..=dice % 3 {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (dice >> 33) as usize % damaged.len();
                damaged[at] ^= (dice >> 20) as u8 | 1;
            }
            // An error or not: it returns.
            let _ = codec.decode(damaged);
        }
    }
}
