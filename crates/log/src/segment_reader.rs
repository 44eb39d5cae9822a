//! Reads the records of one segment in order, a large piece of the file at a time, and finds the next record behind
//! damage.
//!
//! It trusts nothing before the checksum matched: a corrupt length cannot make it allocate, because the header that
//! holds the length has a checksum of its own, and the record must end within the file as well.
//!
//! After bytes that are no record, `resync` searches for the next whole sound record. Whether the stretch between is a
//! torn end or damage is the caller's decision.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, read_full};
use crate::error::Defect;
use crate::format::{Header, MARKER, RECORD_HEADER, Seed, payload_crc};

/// Bytes read from the file at once; more only for a larger record.
const PIECE: u64 = 1 << 20;

/// A cursor over the records of a segment's file.
pub(crate) struct SegmentReader {
    file: Arc<dyn DiskFile>,
    /// The place of the file's first byte.
    base: u64,
    seed: Seed,
    /// Position in the file of the next record.
    pub pos: u64,
    /// Position in the file at which reading ends.
    pub end: u64,
    piece: Vec<u8>,
    /// Position in the file of the first byte of `piece`.
    piece_at: u64,
    /// Number of bytes of `piece` that were read from the file.
    filled: usize,
}

impl SegmentReader {
    pub fn new(file: Arc<dyn DiskFile>, base: u64, seed: Seed, pos: u64, end: u64) -> Self {
        SegmentReader {
            file,
            base,
            seed,
            pos,
            end,
            piece: Vec::new(),
            piece_at: 0,
            filled: 0,
        }
    }

    /// Continues in another file, with the same memory.
    pub fn reset(&mut self, file: Arc<dyn DiskFile>, base: u64, seed: Seed, pos: u64, end: u64) {
        let piece = std::mem::take(&mut self.piece);
        *self = SegmentReader {
            piece,
            ..SegmentReader::new(file, base, seed, pos, end)
        };
    }

    /// Continues at another stretch of the same file.
    pub fn seek(&mut self, pos: u64, end: u64) {
        (self.pos, self.end) = (pos, end);
    }

    /// The place of the file's first byte.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The place of the next record.
    fn place(&self) -> u64 {
        self.base + self.pos
    }

    /// Reads the header at `pos`; `Ok(Ok(None))` at the end.
    pub fn header(&mut self) -> io::Result<Result<Option<Header>, Defect>> {
        if self.pos >= self.end {
            return Ok(Ok(None));
        }
        if !self.fill(RECORD_HEADER as u64)? {
            return Ok(Err(Defect::Torn));
        }
        let bytes = self
            .slice(0, RECORD_HEADER)
            .try_into()
            .expect("a header's length");
        let header = match Header::decode(bytes, self.place(), self.seed) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why)),
        };
        let torn = header.record_len() > self.end - self.pos;
        Ok(if torn {
            Err(Defect::Torn)
        } else {
            Ok(Some(header))
        })
    }

    /// Reads and checks the payload of the record whose header was just read.
    pub fn check(&mut self, header: &Header) -> io::Result<Result<(), Defect>> {
        if !self.fill(header.record_len())? {
            return Ok(Err(Defect::Torn));
        }
        let payload = self.slice(RECORD_HEADER, header.payload_len as usize);
        let sound = payload_crc(&[payload]) == header.payload_crc;
        Ok(if sound { Ok(()) } else { Err(Defect::Payload) })
    }

    /// Returns the payload of the record that was just checked, and moves behind the record.
    pub fn take(&mut self, header: &Header) -> &[u8] {
        let from = (self.pos - self.piece_at) as usize + RECORD_HEADER;
        self.pos += header.record_len();
        &self.piece[from..from + header.payload_len as usize]
    }

    /// Moves behind the record whose header was just read, without reading its payload.
    pub fn skip(&mut self, header: &Header) {
        self.pos += header.record_len();
    }

    /// Moves to the first sound record that begins at `from` or later and whose offset is at least `offset`; to the end
    /// if there is none. Returns that record's header.
    pub fn resync(&mut self, from: u64, offset: u64) -> io::Result<Option<Header>> {
        self.pos = from;
        while self.pos < self.end && self.fill(MARKER.len() as u64)? {
            let from = (self.pos - self.piece_at) as usize;
            let Some(found) = find_marker(&self.piece[from..self.filled]) else {
                self.pos = self.piece_at + self.filled as u64 - (MARKER.len() as u64 - 1);
                continue;
            };
            self.pos += found as u64;
            let at = self.pos;
            if let Ok(Some(header)) = self.header()?
                && header.first_offset >= offset
                && self.check(&header)?.is_ok()
            {
                return Ok(Some(header));
            }
            self.pos = at + 1;
        }
        self.pos = self.end;
        Ok(None)
    }

    fn slice(&self, from: usize, len: usize) -> &[u8] {
        let from = (self.pos - self.piece_at) as usize + from;
        &self.piece[from..from + len]
    }

    /// Reads until `piece` holds the next `n` bytes; false if the file does not have them.
    fn fill(&mut self, n: u64) -> io::Result<bool> {
        let left = self.end - self.pos;
        if n > left {
            return Ok(false);
        }
        let kept = (self.piece_at + self.filled as u64).saturating_sub(self.pos);
        if self.pos >= self.piece_at && kept >= n {
            return Ok(true);
        }
        let (from, kept) = match self.pos.checked_sub(self.piece_at) {
            Some(from) if kept > 0 => (from as usize, kept as usize),
            _ => (0, 0),
        };
        self.piece.copy_within(from..from + kept, 0);
        let wanted = n.max(PIECE).min(left) as usize;
        if self.piece.len() < wanted {
            self.piece.resize(wanted, 0);
        }
        (self.piece_at, self.filled) = (self.pos, kept);
        let at = self.pos + kept as u64;
        self.filled += read_full(&*self.file, &mut self.piece[kept..wanted], at)?;
        Ok(self.filled as u64 >= n)
    }
}

fn find_marker(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(MARKER.len())
        .position(|window| window == MARKER)
}
