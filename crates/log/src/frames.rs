//! Reads the records of one segment in order, a large piece of the file at a time, and finds its way behind damage.
//!
//! Nothing is believed before its checksum was right: a length that lies cannot make it allocate, because the header
//! that holds the length has a checksum of its own, and the length must lie within the file as well.
//!
//! After bytes that are no record, `resync` looks for the next place where a whole sound record stands. What the
//! stretch between means (a torn end, or damage) is for the caller to judge.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, read_full};
use crate::error::Why;
use crate::format::{Header, MARKER, RECORD_HEADER, payload_crc};

/// How much is read at once.
const PIECE: u64 = 1 << 20;

/// A cursor over the records of a segment's file.
pub(crate) struct Frames {
    file: Arc<dyn DiskFile>,
    /// The place of the file's first byte.
    base: u64,
    /// The next record's first byte in the file.
    pub pos: u64,
    /// Where the last record ends in the file.
    pub end: u64,
    piece: Vec<u8>,
    /// Where `piece` begins in the file.
    piece_at: u64,
    /// How much of `piece` was read from the file.
    have: usize,
}

impl Frames {
    pub fn new(file: Arc<dyn DiskFile>, base: u64, pos: u64, end: u64) -> Self {
        Frames {
            file,
            base,
            pos,
            end,
            piece: Vec::new(),
            piece_at: 0,
            have: 0,
        }
    }

    /// Goes on in another file, with the same memory.
    pub fn reset(&mut self, file: Arc<dyn DiskFile>, base: u64, pos: u64, end: u64) {
        let piece = std::mem::take(&mut self.piece);
        *self = Frames {
            file,
            base,
            pos,
            end,
            piece,
            piece_at: 0,
            have: 0,
        };
    }

    /// Goes to another stretch of the same file.
    pub fn go(&mut self, pos: u64, end: u64) {
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

    /// The header at `pos`; `Ok(Ok(None))` at the end.
    pub fn header(&mut self) -> io::Result<Result<Option<Header>, Why>> {
        if self.pos >= self.end {
            return Ok(Ok(None));
        }
        if !self.fill(RECORD_HEADER as u64)? {
            return Ok(Err(Why::Torn));
        }
        let bytes = self
            .slice(0, RECORD_HEADER)
            .try_into()
            .expect("a header's length");
        let header = match Header::decode(bytes, self.place()) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why)),
        };
        let torn = header.record_len() > self.end - self.pos;
        Ok(if torn {
            Err(Why::Torn)
        } else {
            Ok(Some(header))
        })
    }

    /// Whether the payload of the record whose header was just read is sound.
    pub fn check(&mut self, header: &Header) -> io::Result<Result<(), Why>> {
        if !self.fill(header.record_len())? {
            return Ok(Err(Why::Torn));
        }
        let payload = self.slice(RECORD_HEADER, header.payload_len as usize);
        let sound = payload_crc(&[payload]) == header.payload_crc;
        Ok(if sound { Ok(()) } else { Err(Why::Payload) })
    }

    /// The payload of the record that was just checked; goes behind the record.
    pub fn take(&mut self, header: &Header) -> &[u8] {
        let from = (self.pos - self.piece_at) as usize + RECORD_HEADER;
        self.pos += header.record_len();
        &self.piece[from..from + header.payload_len as usize]
    }

    /// Goes behind the record whose header was just read, without looking at its payload.
    pub fn skip(&mut self, header: &Header) {
        self.pos += header.record_len();
    }

    /// Goes to the first sound record that begins at `from` or later and does not go back before `offset`; to the end
    /// if there is none. Returns that record's header.
    pub fn resync(&mut self, from: u64, offset: u64) -> io::Result<Option<Header>> {
        self.pos = from;
        while self.pos < self.end && self.fill(MARKER.len() as u64)? {
            let from = (self.pos - self.piece_at) as usize;
            let Some(found) = find_marker(&self.piece[from..self.have]) else {
                self.pos = self.piece_at + self.have as u64 - (MARKER.len() as u64 - 1);
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

    /// Has the next `n` bytes in `piece`; false if the file does not have them.
    fn fill(&mut self, n: u64) -> io::Result<bool> {
        let left = self.end - self.pos;
        if n > left {
            return Ok(false);
        }
        let kept = (self.piece_at + self.have as u64).saturating_sub(self.pos);
        if self.pos >= self.piece_at && kept >= n {
            return Ok(true);
        }
        let kept = if self.pos >= self.piece_at {
            kept as usize
        } else {
            0
        };
        let from = if kept > 0 {
            (self.pos - self.piece_at) as usize
        } else {
            0
        };
        self.piece.copy_within(from..from + kept, 0);
        let wanted = n.max(PIECE).min(left) as usize;
        if self.piece.len() < wanted {
            self.piece.resize(wanted, 0);
        }
        (self.piece_at, self.have) = (self.pos, kept);
        let at = self.pos + kept as u64;
        self.have += read_full(&*self.file, &mut self.piece[kept..wanted], at)?;
        Ok(self.have as u64 >= n)
    }
}

fn find_marker(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(MARKER.len())
        .position(|window| window == MARKER)
}
