//! The survey of one segment's file when a log is opened: its records, and the holes between them.
//!
//! Of a segment with a sound index beside it only the first record is read. Any other is read from its first byte to its last and every
//! checksum is verified. Reading goes on behind a hole, because only the records *behind* it show whether it had been
//! durable (`recover.rs` judges).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, read_full, read_small};
use crate::error::{Defect, Error, Result};
use crate::format::{
    Header, Position, RECORD_HEADER, SEGMENT_HEADER, Seed, SegmentHeader, SegmentStart, VERSION,
    VERSION_MIN,
};
use crate::index::{Extent, Index, end_of, push};
use crate::segment::{index_path, segment_path};
use crate::segment_reader::SegmentReader;
use crate::writer::LogConfig;

/// The longest index that is read, bytes: one of 800,000 extents.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// A stretch of a segment's file that holds no sound record.
#[derive(Debug, Clone)]
pub(crate) struct Hole {
    /// Position of its first byte in the file.
    pub at: u64,
    /// Position at which the next sound record begins, or the file ends.
    pub to: u64,
    /// The offset of the row that was expected at `at`.
    pub offset: u64,
    /// The first offset of the record behind it; `None` if there is none.
    pub next: Option<u64>,
    pub why: Defect,
}

/// What one segment's file holds.
pub(crate) struct Survey {
    pub base: u64,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub file_len: u64,
    /// Whether the header was sound; if not, `header` is guessed from the first record.
    pub header_sound: bool,
    pub header: SegmentHeader,
    pub extents: Vec<Extent>,
    pub holes: Vec<Hole>,
    /// Position at which its last sound record ends.
    pub len: u64,
    /// The furthest place that its index, header or records name as durable.
    pub synced: u64,
    pub indexed: bool,
    /// Whether its end was cut.
    pub torn: bool,
}

impl Survey {
    pub fn end(&self) -> Position {
        end_of(&self.header, self.len, &self.extents)
    }

    /// Drops all records and holes at and behind `position`.
    pub fn cut(&mut self, position: u64) {
        self.extents.retain(|extent| extent.position < position);
        self.holes.retain(|hole| hole.at < position);
        self.len = position;
        self.torn = true;
    }
}

/// Whether a segment with a sound index is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Only its first record, to see that the index is of this file.
    Indexes,
    /// Every segment is read whole.
    Nothing,
}

/// Surveys the segment that is named for `base`.
pub(crate) fn survey(
    disk: &dyn Disk,
    dir: &Path,
    base: u64,
    config: &LogConfig,
    trust: Trust,
) -> Result<Survey> {
    let path = segment_path(dir, base);
    let reading = |error| Error::io("read", &path, error);
    let file = disk
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    let file_len = file.len().map_err(reading)?;
    let seed = config.seed();
    let index = read_index(disk, dir, base, seed)?;
    if let Some(index) = &index
        && trust == Trust::Indexes
        && index.len <= file_len
        && is_of(index, &file, seed).map_err(reading)?
    {
        return Ok(indexed(path, file, file_len, index.clone()));
    }
    let mut start = [0; SEGMENT_HEADER];
    let have = read_full(&*file, &mut start, 0).map_err(reading)?;
    let (header_sound, header) = match SegmentHeader::decode(&start[..have], base, seed) {
        SegmentStart::Sound(header) => (true, header),
        SegmentStart::Broken => (false, guessed(base, VERSION)),
        SegmentStart::OtherVersion(found) => {
            return Err(Error::Version {
                path,
                found,
                known: VERSION,
            });
        }
    };
    let len = SEGMENT_HEADER.min(have) as u64;
    let mut found = Survey {
        base,
        path: path.clone(),
        file,
        file_len,
        header_sound,
        header,
        extents: Vec::new(),
        holes: Vec::new(),
        len,
        // Whatever has become of the segment: an index is written once all of it is durable.
        synced: header.synced.max(index.map_or(0, |it| base + it.len)),
        indexed: false,
        torn: false,
    };
    walk(&mut found, config, seed).map_err(reading)?;
    if !header_sound && found.extents.is_empty() {
        // Perhaps an earlier version wrote it.
        found.header = guessed(base, VERSION_MIN);
        found.holes.clear();
        walk(&mut found, config, seed).map_err(reading)?;
    }
    Ok(found)
}

/// Whether the first record of the file is the one that the index names.
fn is_of(index: &Index, file: &Arc<dyn DiskFile>, seed: Seed) -> std::io::Result<bool> {
    let Some(first) = index.extents.first() else {
        return Ok(true);
    };
    let mut bytes = [0; RECORD_HEADER];
    let base = index.header.base;
    let have = read_full(&**file, &mut bytes, first.position)?;
    let header = Header::decode(&bytes, base + first.position, seed.at(index.header.version));
    Ok(have == RECORD_HEADER
        && header.is_ok_and(|header| {
            (header.first_offset, header.sequence) == (first.first_offset, first.first_sequence)
        }))
}

fn guessed(base: u64, version: u32) -> SegmentHeader {
    SegmentHeader {
        version,
        base,
        first_offset: 0,
        previous: Position {
            bytes: base,
            ..Position::default()
        },
        synced: 0,
    }
}

/// The index of a segment, if it is sound; the segment may be shorter than it says.
fn read_index(disk: &dyn Disk, dir: &Path, base: u64, seed: Seed) -> Result<Option<Index>> {
    let bytes = read_small(disk, &index_path(dir, base), INDEX_BYTES_MAX)?;
    Ok(bytes.and_then(|bytes| Index::decode(&bytes, base, seed)))
}

fn indexed(path: PathBuf, file: Arc<dyn DiskFile>, file_len: u64, index: Index) -> Survey {
    Survey {
        base: index.header.base,
        path,
        file,
        file_len,
        header_sound: true,
        header: index.header,
        synced: index.header.base + index.len,
        len: index.len,
        extents: index.extents,
        holes: Vec::new(),
        indexed: true,
        torn: false,
    }
}

/// Reads all records into the extents of `found`, and the stretches between them into its holes.
fn walk(found: &mut Survey, config: &LogConfig, seed: Seed) -> std::io::Result<()> {
    let mut records = SegmentReader::new(
        found.file.clone(),
        found.base,
        seed.at(found.header.version),
        SEGMENT_HEADER as u64,
        found.file_len,
    );
    let mut expected = found.header_sound.then_some(found.header.first_offset);
    loop {
        let at = records.pos;
        let why = match sound(&mut records, expected)? {
            Ok(None) => return Ok(()),
            Ok(Some(header)) => {
                let extent_bytes = config.extent_bytes;
                push(&mut found.extents, found.base, at, &header, extent_bytes);
                if expected.is_none() {
                    found.header.first_offset = header.first_offset;
                    found.header.previous.offset = header.first_offset;
                }
                found.synced = found.synced.max(header.synced);
                found.len = records.pos;
                expected = Some(header.end_offset());
                continue;
            }
            Err(why) => why,
        };
        let offset = expected.unwrap_or_default();
        let next = records.resync(at + 1, offset)?;
        let next = next.map(|header| header.first_offset);
        found.holes.push(Hole {
            at,
            to: records.pos,
            offset,
            next,
            why,
        });
        if let (Some(next), true) = (next, expected.is_some()) {
            expected = Some(next);
        }
    }
}

/// Reads the next record; its header if it is sound and has the expected offset.
fn sound(
    records: &mut SegmentReader,
    expected: Option<u64>,
) -> std::io::Result<Result<Option<Header>, Defect>> {
    let header = match records.header()? {
        Ok(Some(header)) => header,
        other => return Ok(other),
    };
    if let Some(expected) = expected
        && header.first_offset != expected
    {
        let found = header.first_offset;
        return Ok(Err(Defect::Order { expected, found }));
    }
    let checked = records.check(&header)?;
    if checked.is_ok() {
        records.skip(&header);
    }
    Ok(checked.map(|()| Some(header)))
}
