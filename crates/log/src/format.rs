//! The bytes of segments, records and the mark: encoding and checking, no files. `FORMAT.md` draws them.
//!
//! All numbers are little endian. A *place* is a byte's position in the whole log (PostgreSQL's LSN): the segments laid
//! end to end since the log began, those removed by retention included. A segment is named for the place of its first
//! byte. A record header's checksum also covers the record's place and the id of the log, so stale or misplaced bytes,
//! or those of another log, never pass for a record.
//!
//! Decoding takes any bytes and returns the defect found. Readers trust a header that passes, so everything in it that
//! could do harm (length, offset arithmetic) is checked here.

use crc32c::{crc32c, crc32c_append};

use crate::error::Defect;

/// Length of a record's header, bytes; the payload follows.
pub(crate) const RECORD_HEADER: usize = 72;
/// Length of a segment's header, bytes; the first record follows.
pub(crate) const SEGMENT_HEADER: usize = 64;
/// Length of the mark, the file that holds a durable place, bytes.
pub(crate) const MARK: usize = 32;
/// The format version that this build writes. In the second version, only payloads differ from the first; from the third
/// on, checksums cover the id of the log.
pub(crate) const VERSION: u32 = 3;
/// The first format version whose checksums cover the id of the log.
const VERSION_WITH_ID: u32 = 3;
/// The oldest format version that this build reads.
pub(crate) const VERSION_MIN: u32 = 1;

/// The limit of a record's payload, bytes: 1 GiB.
pub const MAX_PAYLOAD: u64 = 1 << 30;

/// The first bytes of each record.
pub(crate) const MARKER: [u8; 4] = [0xf5, b'H', b'W', b'R'];
const SEGMENT_MAGIC: [u8; 8] = *b"HWLOG\x1a\r\n";
/// The first bytes of the mark.
pub(crate) const MARK_MAGIC: [u8; 4] = *b"HWSY";
/// The first bytes of the file that says where the log begins.
pub(crate) const FIRST_MAGIC: [u8; 4] = *b"HWFI";
const HAS_TIMES: u32 = 1;

/// What all checksums of a log begin with: its id, so that bytes of another log never match. A log without an id has
/// seed 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub fn of(id: u64) -> Self {
        Seed(if id == 0 {
            0
        } else {
            crc32c(&id.to_le_bytes())
        })
    }

    /// The seed of what has this format version.
    pub fn at(self, version: u32) -> Self {
        if has_id(version) { self } else { Seed(0) }
    }

    pub fn crc(self, bytes: &[u8]) -> u32 {
        crc32c_append(self.0, bytes)
    }
}

/// A place in a log, with what lies before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of rows before it: the offset of the next row.
    pub offset: u64,
    /// The sequence of the last record before it; 0 if there is none.
    pub sequence: u64,
    /// Its place, bytes since the log began; grows with every record, including those without rows.
    pub bytes: u64,
}

/// A record's header without its marker and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub first_offset: u64,
    pub sequence: u64,
    pub appended_us: i64,
    pub times: Option<(i64, i64)>,
    /// The place up to which the log was known to be durable when this record was written.
    pub synced: u64,
    pub rows: u32,
    pub payload_len: u32,
    pub payload_crc: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    u64_at(bytes, at) as i64
}

/// Writes `numbers` one after the other from byte `at` on.
pub(crate) fn put(bytes: &mut [u8], at: usize, numbers: &[u64]) {
    for (n, number) in numbers.iter().enumerate() {
        bytes[at + 8 * n..at + 8 * n + 8].copy_from_slice(&number.to_le_bytes());
    }
}

impl Header {
    pub fn end_offset(&self) -> u64 {
        self.first_offset + u64::from(self.rows)
    }

    /// Length of header and payload, bytes.
    pub fn record_len(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.payload_len)
    }

    pub fn encode(&self, place: u64, seed: Seed) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        let (min, max) = self.times.unwrap_or_default();
        let flags = if self.times.is_some() { HAS_TIMES } else { 0 };
        bytes[..4].copy_from_slice(&MARKER);
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        let appended = self.appended_us as u64;
        put(
            &mut bytes,
            16,
            &[
                self.first_offset,
                self.sequence,
                appended,
                min as u64,
                max as u64,
                self.synced,
            ],
        );
        bytes[64..68].copy_from_slice(&self.rows.to_le_bytes());
        bytes[68..72].copy_from_slice(&flags.to_le_bytes());
        let crc = header_crc(&bytes, place, seed);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the header of the record at `place`.
    pub fn decode(bytes: &[u8; RECORD_HEADER], place: u64, seed: Seed) -> Result<Self, Defect> {
        if bytes[..4] != MARKER {
            return Err(Defect::Marker);
        }
        if header_crc(bytes, place, seed) != u32_at(bytes, 4) {
            return Err(Defect::Header);
        }
        let flags = u32_at(bytes, 68);
        let times = (i64_at(bytes, 40), i64_at(bytes, 48));
        let header = Header {
            payload_len: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 12),
            first_offset: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            appended_us: i64_at(bytes, 32),
            times: (flags & HAS_TIMES != 0).then_some(times),
            synced: u64_at(bytes, 56),
            rows: u32_at(bytes, 64),
        };
        let sane = flags & !HAS_TIMES == 0
            && u64::from(header.payload_len) <= MAX_PAYLOAD
            && header
                .first_offset
                .checked_add(u64::from(header.rows))
                .is_some()
            && header.synced <= place
            && header.times.is_none_or(|(min, max)| min <= max);
        if sane {
            Ok(header)
        } else {
            Err(Defect::Header)
        }
    }
}

fn header_crc(bytes: &[u8; RECORD_HEADER], place: u64, seed: Seed) -> u32 {
    crc32c_append(seed.crc(&place.to_le_bytes()), &bytes[8..])
}

/// The checksum of a payload given in parts.
pub(crate) fn payload_crc(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c_append(crc, part))
}

/// The first bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The format version of the segment.
    pub version: u32,
    /// The place of the segment's first byte, for which its file is named.
    pub base: u64,
    /// The offset of its first row.
    pub first_offset: u64,
    /// The end of the segment before; its `bytes` and `offset` are less than `base` and `first_offset` only where
    /// damage was skipped.
    pub previous: Position,
    /// The place up to which the log was known to be durable when the segment was created.
    pub synced: u64,
}

/// The outcome of decoding a segment's header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SegmentStart {
    Sound(SegmentHeader),
    OtherVersion(u32),
    Broken,
}

impl SegmentHeader {
    pub fn encode(&self, seed: Seed) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        let previous = &self.previous;
        put(
            &mut bytes,
            16,
            &[
                self.base,
                self.first_offset,
                previous.sequence,
                previous.bytes,
                previous.offset,
                self.synced,
            ],
        );
        let crc = segment_crc(&bytes, seed.at(self.version));
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the header of the segment that is named for `base`.
    pub fn decode(bytes: &[u8], base: u64, seed: Seed) -> SegmentStart {
        if bytes.len() < SEGMENT_HEADER || bytes[..8] != SEGMENT_MAGIC {
            return SegmentStart::Broken;
        }
        let version = u32_at(bytes, 8);
        if segment_crc(bytes, seed.at(version)) != u32_at(bytes, 12) {
            return SegmentStart::Broken;
        }
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return SegmentStart::OtherVersion(version);
        }
        let header = SegmentHeader {
            version,
            base: u64_at(bytes, 16),
            first_offset: u64_at(bytes, 24),
            previous: Position {
                sequence: u64_at(bytes, 32),
                bytes: u64_at(bytes, 40),
                offset: u64_at(bytes, 48),
            },
            synced: u64_at(bytes, 56),
        };
        let sane = header.base == base
            && header.previous.bytes <= base
            && header.previous.offset <= header.first_offset
            && header.synced <= base;
        if sane {
            SegmentStart::Sound(header)
        } else {
            SegmentStart::Broken
        }
    }
}

fn segment_crc(bytes: &[u8], seed: Seed) -> u32 {
    crc32c_append(seed.crc(&bytes[..12]), &bytes[16..SEGMENT_HEADER])
}

/// Whether the checksums of this format version cover the id of the log.
pub(crate) fn has_id(version: u32) -> bool {
    version >= VERSION_WITH_ID
}

/// Encodes a place as a file of its own, such as the mark.
pub(crate) fn encode_mark(magic: [u8; 4], durable: &Position, seed: Seed) -> [u8; MARK] {
    let mut bytes = [0; MARK];
    bytes[..4].copy_from_slice(&magic);
    put(
        &mut bytes,
        8,
        &[durable.bytes, durable.offset, durable.sequence],
    );
    let crc = seed.crc(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Decodes a place; `None` if the bytes are torn or not of this log. An earlier version wrote it without a seed.
pub(crate) fn decode_mark(magic: [u8; 4], bytes: &[u8], seed: Seed) -> Option<Position> {
    let matches = |seed: Seed| seed.crc(&bytes[8..MARK]) == u32_at(bytes, 4);
    let sound =
        bytes.len() >= MARK && bytes[..4] == magic && (matches(seed) || matches(Seed::default()));
    sound.then(|| Position {
        bytes: u64_at(bytes, 8),
        offset: u64_at(bytes, 16),
        sequence: u64_at(bytes, 24),
    })
}

/// Reads `N` numbers that [`put`] wrote at byte `at`.
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u64; N] {
    std::array::from_fn(|n| u64_at(bytes, at + 8 * n))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed(7);

    fn header() -> Header {
        Header {
            first_offset: 7,
            sequence: 3,
            appended_us: -5,
            times: Some((-2, 9)),
            synced: 64,
            rows: 11,
            payload_len: 100,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_is_sound_at_its_own_place_of_its_own_log_only() {
        let bytes = header().encode(200, SEED);
        assert_eq!(Header::decode(&bytes, 200, SEED), Ok(header()));
        for (place, seed) in [(201, SEED), (200, Seed::of(8)), (200, Seed::default())] {
            assert_eq!(Header::decode(&bytes, place, seed), Err(Defect::Header));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let sound = header().encode(200, SEED);
        for bit in 0..RECORD_HEADER * 8 {
            let mut bytes = sound;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes, 200, SEED).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_segment_header_or_mark_is_noticed() {
        let place = Position {
            offset: 1,
            sequence: 2,
            bytes: 3,
        };
        let header = SegmentHeader {
            version: VERSION,
            base: 9,
            first_offset: 4,
            previous: place,
            synced: 1,
        };
        let sound = header.encode(SEED);
        assert_eq!(
            SegmentHeader::decode(&sound, 9, SEED),
            SegmentStart::Sound(header)
        );
        assert_eq!(SegmentHeader::decode(&sound, 8, SEED), SegmentStart::Broken);
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut bytes = sound;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                SegmentHeader::decode(&bytes, 9, SEED),
                SegmentStart::Broken,
                "bit {bit}"
            );
        }
        let sound = encode_mark(MARK_MAGIC, &place, SEED);
        assert_eq!(decode_mark(MARK_MAGIC, &sound, SEED), Some(place));
        for bit in 0..MARK * 8 {
            let mut bytes = sound;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_mark(MARK_MAGIC, &bytes, SEED), None, "bit {bit}");
        }
    }
}
