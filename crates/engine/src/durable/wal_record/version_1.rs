//! Records of the first version: read, never written.
//!
//! ```text
//!   flags u8 | watermark i64 | cursor length u32 | rows length u64 | cursor | rows | [reprocessed] | [origins] | bad rows
//!   reprocessed: count u32 | count times: step u64, number u32
//!   origins:     count u32 | count entries, as in the section
//! ```
//!
//! They do not say how the frontier moved: within a record it stays where the record before left it.

use arrow::buffer::Buffer;
use headwater_connect::Cursor;

use super::fields::{FieldReader, origins};
use super::{WalRecordCodec, WalRecordError};
use crate::canonical::canonical_batch;
use crate::dataflow::Watermark;
use crate::durable::SourceStep;

const HAS_WATERMARK: u8 = 2;
const IDLE: u8 = 4;
const HAS_CURSOR: u8 = 8;
const HAS_REPROCESSED: u8 = 16;
const HAS_ORIGINS: u8 = 32;

impl WalRecordCodec {
    /// Reads an uncompressed record.
    pub(super) fn decode_version_1(&self, bytes: &Buffer) -> Result<SourceStep, WalRecordError> {
        let mut bytes = FieldReader::new(bytes.clone());
        let mut step = SourceStep::default();
        let flags = bytes.u8()?;
        let at_us = bytes.i64()?;
        if flags & HAS_WATERMARK != 0 {
            let idle = flags & IDLE != 0;
            step.watermark = Some(Watermark { at_us, idle });
        }
        let cursor_length = bytes.u32()? as usize;
        let rows_length = usize::try_from(bytes.u64()?).unwrap_or(usize::MAX);
        let cursor = bytes.take(cursor_length)?;
        if flags & HAS_CURSOR != 0 {
            step.cursor = Some(Cursor(serde_json::from_slice(&cursor)?));
        }
        // Its floats may not be canonical.
        let rows = self.rows.decode(bytes.take(rows_length)?)?;
        step.rows = rows.into_iter().map(canonical_batch).collect();
        if flags & HAS_REPROCESSED != 0 {
            for _ in 0..bytes.u32()? {
                step.reprocessed.push((bytes.u64()?, bytes.u32()?));
            }
        }
        if flags & HAS_ORIGINS != 0 {
            for _ in 0..bytes.u32()? {
                origins::decode_entry(&mut bytes, &mut step.from)?;
            }
        }
        step.bad = self.bad.decode(bytes.rest())?.pop();
        Ok(step)
    }
}
