//! The fields of a record's sections: read in order, and written.

use arrow::buffer::Buffer;

use super::WalRecordError;

/// Reads fields one after the other.
pub(super) struct FieldReader {
    bytes: Buffer,
    at: usize,
}

impl FieldReader {
    pub fn new(bytes: Buffer) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next `length` bytes, shared.
    pub fn take(&mut self, length: usize) -> Result<Buffer, WalRecordError> {
        let need = self.at.saturating_add(length);
        if need > self.bytes.len() {
            let at = self.bytes.len();
            return Err(WalRecordError::Short { at, need });
        }
        let taken = self.bytes.slice_with_length(self.at, length);
        self.at = need;
        Ok(taken)
    }

    /// The bytes that no field has taken.
    pub fn rest(&mut self) -> Buffer {
        let rest = self.bytes.slice(self.at);
        self.at = self.bytes.len();
        rest
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WalRecordError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, WalRecordError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, WalRecordError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, WalRecordError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, WalRecordError> {
        Ok(i64::from_le_bytes(self.array()?))
    }
}

/// Positions of bad rows that REPROCESS decoded.
pub(super) mod positions {
    use super::{FieldReader, WalRecordError};
    use crate::durable::BadRowPosition;

    pub fn encode(positions: &[BadRowPosition]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (step, number) in positions {
            bytes.extend_from_slice(&step.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &mut FieldReader) -> Result<Vec<BadRowPosition>, WalRecordError> {
        let mut positions = Vec::new();
        while !bytes.is_empty() {
            positions.push((bytes.u64()?, bytes.u32()?));
        }
        Ok(positions)
    }
}

/// The length that stands for no text.
const NO_TEXT: u32 = u32::MAX;

/// Texts behind their lengths.
mod text {
    use super::{FieldReader, NO_TEXT, WalRecordError};

    pub fn encode(text: Option<&str>, bytes: &mut Vec<u8>) {
        let length = text.map_or(NO_TEXT, |text| text.len() as u32);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    pub fn decode(bytes: &mut FieldReader) -> Result<Option<String>, WalRecordError> {
        let length = bytes.u32()?;
        if length == NO_TEXT {
            return Ok(None);
        }
        let text = bytes.take(length as usize)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }
}

/// Intervals in which rows may have been missed.
pub(super) mod gaps {
    use headwater_connect::Gap;

    use super::{FieldReader, WalRecordError, text};
    use crate::event_log::GapEntry;

    pub fn encode(gaps: &[GapEntry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for GapEntry { gap, at_us } in gaps {
            bytes.extend_from_slice(&at_us.to_le_bytes());
            for of in [
                Some(gap.reason.as_str()),
                gap.from.as_deref(),
                gap.to.as_deref(),
            ] {
                text::encode(of, &mut bytes);
            }
        }
        bytes
    }

    pub fn decode(bytes: &mut FieldReader) -> Result<Vec<GapEntry>, WalRecordError> {
        let mut gaps = Vec::new();
        while !bytes.is_empty() {
            let at_us = bytes.i64()?;
            let gap = Gap {
                reason: text::decode(bytes)?.unwrap_or_default(),
                from: text::decode(bytes)?,
                to: text::decode(bytes)?,
            };
            gaps.push(GapEntry { gap, at_us });
        }
        Ok(gaps)
    }
}

/// Where the batches came from, and when.
pub(super) mod origins {
    use super::{FieldReader, WalRecordError, text};
    use crate::dataflow::Provenance;

    /// Batches of a record, at most. A step takes far fewer.
    const BATCHES_MAX: usize = 1 << 20;

    /// Neighbours of the same origin and arrival time share one entry.
    pub fn encode(from: &[Provenance]) -> Vec<u8> {
        let same = |a: &Provenance, b: &Provenance| {
            a.arrival_us == b.arrival_us && a.origin.as_deref() == b.origin.as_deref()
        };
        let mut bytes = Vec::new();
        for run in from.chunk_by(same) {
            let origin = run[0].origin.as_deref();
            bytes.extend_from_slice(&(run.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&run[0].arrival_us.to_le_bytes());
            text::encode(origin, &mut bytes);
        }
        bytes
    }

    pub fn decode(bytes: &mut FieldReader) -> Result<Vec<Provenance>, WalRecordError> {
        let mut from = Vec::new();
        while !bytes.is_empty() {
            decode_entry(bytes, &mut from)?;
        }
        Ok(from)
    }

    pub fn decode_entry(
        bytes: &mut FieldReader,
        from: &mut Vec<Provenance>,
    ) -> Result<(), WalRecordError> {
        let batches = bytes.u32()? as usize;
        let arrival_us = bytes.i64()?;
        let origin = text::decode(bytes)?.map(Into::into);
        if from.len().saturating_add(batches) > BATCHES_MAX {
            return Err(WalRecordError::Batches { max: BATCHES_MAX });
        }
        from.resize(
            from.len() + batches,
            Provenance::arrived(arrival_us, origin),
        );
        Ok(())
    }
}

/// How the frontier moves over the rows.
pub(super) mod frontier {
    use super::{FieldReader, WalRecordError};
    use crate::dataflow::{FrontierEvent, FrontierMoves, LaneMark, LaneMarks};

    pub fn encode(moves: &FrontierMoves) -> Vec<u8> {
        let mut bytes = moves.column.to_le_bytes().to_vec();
        let start = &moves.start;
        for number in [moves.delay_us, start.at_us, start.others_us] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(start.lanes.len() as u32).to_le_bytes());
        for mark in &start.lanes {
            bytes.extend_from_slice(&mark.lane.to_le_bytes());
            bytes.extend_from_slice(&mark.at_us.to_le_bytes());
            bytes.push(u8::from(mark.idle));
        }
        for event in &moves.events {
            encode_event(*event, &mut bytes);
        }
        bytes
    }

    fn encode_event(event: FrontierEvent, bytes: &mut Vec<u8>) {
        let mut lane = |kind: u8, lane: u32| {
            bytes.push(kind);
            bytes.extend_from_slice(&lane.to_le_bytes());
        };
        match event {
            FrontierEvent::Rows { lane: of, count } => {
                lane(0, of);
                bytes.extend_from_slice(&count.to_le_bytes());
            }
            FrontierEvent::Joined(of) => lane(1, of),
            FrontierEvent::Idle(of) => lane(2, of),
            FrontierEvent::Ended(of) => lane(3, of),
            FrontierEvent::AtLeast(at_us) => {
                bytes.push(4);
                bytes.extend_from_slice(&at_us.to_le_bytes());
            }
        }
    }

    pub fn decode(bytes: &mut FieldReader) -> Result<FrontierMoves, WalRecordError> {
        let column = bytes.u32()?;
        let delay_us = bytes.i64()?;
        let (at_us, others_us) = (bytes.i64()?, bytes.i64()?);
        let mut lanes = Vec::new();
        for _ in 0..bytes.u32()? {
            lanes.push(LaneMark {
                lane: bytes.u32()?,
                at_us: bytes.i64()?,
                idle: bytes.u8()? != 0,
            });
        }
        let mut events = Vec::new();
        while !bytes.is_empty() {
            events.push(decode_event(bytes)?);
        }
        let start = LaneMarks {
            at_us,
            others_us,
            lanes,
        };
        Ok(FrontierMoves {
            column,
            delay_us,
            start,
            events,
        })
    }

    fn decode_event(bytes: &mut FieldReader) -> Result<FrontierEvent, WalRecordError> {
        Ok(match bytes.u8()? {
            0 => FrontierEvent::Rows {
                lane: bytes.u32()?,
                count: bytes.u32()?,
            },
            1 => FrontierEvent::Joined(bytes.u32()?),
            2 => FrontierEvent::Idle(bytes.u32()?),
            3 => FrontierEvent::Ended(bytes.u32()?),
            4 => FrontierEvent::AtLeast(bytes.i64()?),
            kind => return Err(WalRecordError::FrontierEvent { kind }),
        })
    }
}
