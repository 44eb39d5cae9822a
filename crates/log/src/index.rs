//! The sparse index of a segment: its extents, each with the offsets, steps and event times of its records.
//!
//! While a segment grows, its extents grow along with it in memory. When it is sealed and durable they are written
//! beside it (`<place>.index`), so that opening a large log reads a few kilobytes per segment instead of its records.
//! The file is a cache: if it is missing or wrong, the segment is read and the file written again. It is also evidence:
//! a sound index proves that its segment was durable up to the length it names.
//!
//! Extents are contiguous, except around damage that was skipped when the log was opened.

use crc32c::crc32c_append;

use crate::format::{
    Header, Position, SEGMENT_HEADER, Seed, SegmentHeader, VERSION, VERSION_MIN, get, put,
};

const MAGIC: [u8; 8] = *b"HWIDX\x1a\r\n";
const HEADER: usize = 80;
const ENTRY: usize = 80;
const HAS_TIMES: u64 = 1;
const UNTIMED: u64 = 2;

/// A stretch of one segment: whole, contiguous records. A query can read extents in parallel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The place of the segment, for which its file is named.
    pub segment: u64,
    /// Position of the first byte in the segment's file.
    pub position: u64,
    /// Length of its records, bytes.
    pub bytes: u64,
    /// The offset of its first row.
    pub first_offset: u64,
    /// The offset after its last row.
    pub end_offset: u64,
    /// The sequence of its first record.
    pub first_sequence: u64,
    /// The sequence of its last record.
    pub last_sequence: u64,
    /// The least and greatest event time in its records, microseconds; `None` if no record has event times.
    pub times: Option<(i64, i64)>,
    /// Whether some record has rows without event times.
    pub untimed: bool,
    /// When its newest record was appended, microseconds since 1970.
    pub appended_us: i64,
    /// Number of records it holds.
    pub records: u32,
}

impl Extent {
    /// Whether it may hold rows with an event time from `min` to `max`, both included.
    pub fn overlaps(&self, min: i64, max: i64) -> bool {
        self.untimed
            || self
                .times
                .is_some_and(|(least, greatest)| least <= max && min <= greatest)
    }

    pub(crate) fn end(&self) -> u64 {
        self.position + self.bytes
    }

    fn of(segment: u64, position: u64, header: &Header) -> Self {
        Extent {
            segment,
            position,
            bytes: header.record_len(),
            first_offset: header.first_offset,
            end_offset: header.end_offset(),
            first_sequence: header.sequence,
            last_sequence: header.sequence,
            times: header.times,
            untimed: header.times.is_none() && header.rows > 0,
            appended_us: header.appended_us,
            records: 1,
        }
    }

    fn extend(&mut self, header: &Header) {
        self.bytes += header.record_len();
        self.end_offset = header.end_offset();
        self.last_sequence = header.sequence;
        self.times = match (self.times, header.times) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (known, other) => known.or(other),
        };
        self.untimed |= header.times.is_none() && header.rows > 0;
        self.appended_us = self.appended_us.max(header.appended_us);
        self.records += 1;
    }
}

/// Adds a record to the last extent, or begins a new one when that has `extent_bytes` or does not touch the record.
pub(crate) fn push(
    extents: &mut Vec<Extent>,
    segment: u64,
    position: u64,
    header: &Header,
    extent_bytes: u64,
) {
    match extents.last_mut() {
        Some(last) if last.end() == position && last.bytes < extent_bytes => last.extend(header),
        _ => extents.push(Extent::of(segment, position, header)),
    }
}

/// What is known of a sealed segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub header: SegmentHeader,
    /// Length of the segment up to the end of its last record, bytes.
    pub len: u64,
    pub extents: Vec<Extent>,
}

impl Index {
    pub fn encode(&self, seed: Seed) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + ENTRY * self.extents.len()];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.header.version.to_le_bytes());
        let (header, previous) = (&self.header, &self.header.previous);
        let head = [
            header.base,
            header.first_offset,
            previous.sequence,
            previous.bytes,
            previous.offset,
            header.synced,
            self.len,
            self.extents.len() as u64,
        ];
        put(&mut bytes, 16, &head);
        for (n, extent) in self.extents.iter().enumerate() {
            put(&mut bytes, HEADER + n * ENTRY, &entry(extent));
        }
        let crc = checksum(&bytes, seed.at(self.header.version));
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the index of segment `base`; `None` if the bytes are not a sound index of it.
    pub fn decode(bytes: &[u8], base: u64, seed: Seed) -> Option<Self> {
        if bytes.len() < HEADER || bytes[..8] != MAGIC {
            return None;
        }
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if bytes[12..16] != checksum(bytes, seed.at(version)).to_le_bytes() {
            return None;
        }
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return None;
        }
        let [
            named,
            first_offset,
            sequence,
            previous,
            offset,
            synced,
            len,
            count,
        ] = get(bytes, 16);
        let entries = (bytes.len() - HEADER) as u64;
        if named != base || !entries.is_multiple_of(ENTRY as u64) || entries / ENTRY as u64 != count
        {
            return None;
        }
        let previous = Position {
            offset,
            sequence,
            bytes: previous,
        };
        let header = SegmentHeader {
            version,
            base,
            first_offset,
            previous,
            synced,
        };
        let extents = (0..count as usize).map(|n| extent(base, get(bytes, HEADER + n * ENTRY)));
        let index = Index {
            header,
            len,
            extents: extents.collect(),
        };
        index.is_sane().then_some(index)
    }

    fn is_sane(&self) -> bool {
        let mut at = SEGMENT_HEADER as u64;
        let mut offset = self.header.first_offset;
        let ordered = self.extents.iter().all(|extent| {
            let end = extent.position.checked_add(extent.bytes);
            let sane = extent.position >= at
                && extent.first_offset >= offset
                && extent.end_offset >= extent.first_offset
                && end.is_some();
            (at, offset) = (end.unwrap_or(at), extent.end_offset);
            sane
        });
        ordered && at <= self.len && self.header.base.checked_add(self.len).is_some()
    }
}

/// The end of a segment with these extents.
pub(crate) fn end_of(header: &SegmentHeader, len: u64, extents: &[Extent]) -> Position {
    let last = extents.last();
    Position {
        offset: last.map_or(header.first_offset, |extent| extent.end_offset),
        sequence: last.map_or(header.previous.sequence, |extent| extent.last_sequence),
        bytes: header.base + len,
    }
}

fn checksum(bytes: &[u8], seed: Seed) -> u32 {
    crc32c_append(seed.crc(&bytes[..12]), &bytes[16..])
}

fn entry(extent: &Extent) -> [u64; 10] {
    let (min, max) = extent.times.unwrap_or_default();
    let timed = if extent.times.is_some() { HAS_TIMES } else { 0 };
    let untimed = if extent.untimed { UNTIMED } else { 0 };
    [
        extent.position,
        extent.bytes,
        extent.first_offset,
        extent.end_offset,
        extent.first_sequence,
        extent.last_sequence,
        min as u64,
        max as u64,
        extent.appended_us as u64,
        u64::from(extent.records) << 32 | timed | untimed,
    ]
}

fn extent(segment: u64, numbers: [u64; 10]) -> Extent {
    let [
        position,
        bytes,
        first_offset,
        end_offset,
        first_sequence,
        last_sequence,
        min,
        max,
        appended,
        counts,
    ] = numbers;
    Extent {
        segment,
        position,
        bytes,
        first_offset,
        end_offset,
        first_sequence,
        last_sequence,
        times: (counts & HAS_TIMES != 0).then_some((min as i64, max as i64)),
        untimed: counts & UNTIMED != 0,
        appended_us: appended as i64,
        records: (counts >> 32) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let header = SegmentHeader {
            version: VERSION,
            base: 100,
            first_offset: 5,
            previous: Position::default(),
            synced: 1,
        };
        let mut extents = Vec::new();
        let mut record = Header {
            first_offset: 5,
            sequence: 1,
            appended_us: 77,
            times: Some((-3, 4)),
            synced: 0,
            rows: 2,
            payload_len: 28,
            payload_crc: 0,
        };
        for n in 0..5 {
            push(&mut extents, 100, 64 + n * 100, &record, 150);
            record.first_offset += 2;
            record.times = if n == 1 { None } else { Some((n as i64, 10)) };
        }
        Index {
            header,
            len: 564,
            extents,
        }
    }

    #[test]
    fn extents_gather_records_until_they_are_large() {
        let index = index();
        assert_eq!(index.extents.len(), 3);
        assert_eq!(index.extents[0].times, Some((-3, 10)));
        assert_eq!(
            (index.extents[1].untimed, index.extents[1].end_offset),
            (true, 13)
        );
        assert_eq!(end_of(&index.header, index.len, &index.extents).offset, 15);
    }

    #[test]
    fn an_index_is_read_back_and_every_flipped_bit_is_noticed() {
        let seed = Seed::of(7);
        let sound = index().encode(seed);
        assert_eq!(Index::decode(&sound, 100, seed), Some(index()));
        assert_eq!(Index::decode(&sound, 101, seed), None);
        assert_eq!(Index::decode(&sound, 100, Seed::of(8)), None);
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Index::decode(&bytes, 100, seed), None, "bit {bit}");
        }
    }
}
