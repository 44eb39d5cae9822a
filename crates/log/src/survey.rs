//! What is found in one segment's file when a log is opened: its records, and the stretches that are none.
//!
//! A segment with a sound index beside it is not read. Any other is read from its first byte to its last and every
//! checksum is verified; behind a stretch that is no record the reading goes on, because only what stands *behind* it
//! tells whether it had been durable (`recover.rs` judges).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, read_full, read_small};
use crate::error::{Error, Result, Why};
use crate::format::{Header, Position, SEGMENT_HEADER, SegmentHeader, SegmentStart, VERSION};
use crate::frames::Frames;
use crate::index::{Extent, Index, end_of, push};
use crate::segment::{index_path, segment_path};

/// A stretch of a segment's file that holds no sound record.
#[derive(Debug, Clone)]
pub(crate) struct Hole {
    /// Its first byte.
    pub at: u64,
    /// Where the next sound record begins, or the file ends.
    pub to: u64,
    /// The offset that should have come.
    pub offset: u64,
    /// The offset of the record behind it; `None` if there is none.
    pub next: Option<u64>,
    pub why: Why,
}

/// One segment's file.
pub(crate) struct Survey {
    pub base: u64,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub file_len: u64,
    /// Whether the header was sound; if not, `header` is guessed from what follows.
    pub headed: bool,
    pub header: SegmentHeader,
    pub extents: Vec<Extent>,
    pub holes: Vec<Hole>,
    /// Where its last sound record ends in the file.
    pub len: u64,
    /// The furthest place that this segment knows to have been durable.
    pub synced: u64,
    pub indexed: bool,
    /// Whether its end was judged to be torn.
    pub torn: bool,
}

impl Survey {
    pub fn end(&self) -> Position {
        end_of(&self.header, self.len, &self.extents)
    }

    /// Leaves out all records at and behind `position`.
    pub fn cut(&mut self, position: u64) {
        self.extents.retain(|extent| extent.position < position);
        self.holes.retain(|hole| hole.at < position);
        self.len = position;
        self.torn = true;
    }
}

/// Looks at the segment that is named for `base`.
pub(crate) fn survey(disk: &dyn Disk, dir: &Path, base: u64, extent_bytes: u64) -> Result<Survey> {
    let path = segment_path(dir, base);
    let reading = |error| Error::io("read", &path, error);
    let file = disk
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    let file_len = file.len().map_err(reading)?;
    if let Some(index) = read_index(disk, dir, base, file_len)? {
        return Ok(indexed(path, file, file_len, index));
    }
    let mut start = [0; SEGMENT_HEADER];
    let have = read_full(&*file, &mut start, 0).map_err(reading)?;
    let (headed, header) = match SegmentHeader::decode(&start[..have], base) {
        SegmentStart::Sound(header) => (true, header),
        SegmentStart::Broken => (false, guessed(base)),
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
        headed,
        header,
        extents: Vec::new(),
        holes: Vec::new(),
        len,
        synced: header.synced,
        indexed: false,
        torn: false,
    };
    walk(&mut found, extent_bytes).map_err(reading)?;
    Ok(found)
}

fn guessed(base: u64) -> SegmentHeader {
    SegmentHeader {
        base,
        first_offset: 0,
        previous: Position {
            bytes: base,
            ..Position::default()
        },
        synced: 0,
    }
}

fn read_index(disk: &dyn Disk, dir: &Path, base: u64, file_len: u64) -> Result<Option<Index>> {
    let bytes = read_small(disk, &index_path(dir, base), Index::len_max(file_len))?;
    let index = bytes.and_then(|bytes| Index::decode(&bytes, base));
    Ok(index.filter(|index| index.len <= file_len))
}

fn indexed(path: PathBuf, file: Arc<dyn DiskFile>, file_len: u64, index: Index) -> Survey {
    Survey {
        base: index.header.base,
        path,
        file,
        file_len,
        headed: true,
        header: index.header,
        synced: index.header.base + index.len,
        len: index.len,
        extents: index.extents,
        holes: Vec::new(),
        indexed: true,
        torn: false,
    }
}

/// Reads all records, and notes what is none.
fn walk(found: &mut Survey, extent_bytes: u64) -> std::io::Result<()> {
    let mut frames = Frames::new(
        found.file.clone(),
        found.base,
        SEGMENT_HEADER as u64,
        found.file_len,
    );
    let mut expected = found.headed.then_some(found.header.first_offset);
    loop {
        let at = frames.pos;
        let why = match sound(&mut frames, expected)? {
            Ok(None) => return Ok(()),
            Ok(Some(header)) => {
                push(&mut found.extents, found.base, at, &header, extent_bytes);
                if expected.is_none() {
                    found.header.first_offset = header.first_offset;
                    found.header.previous.offset = header.first_offset;
                }
                found.synced = found.synced.max(header.synced);
                found.len = frames.pos;
                expected = Some(header.end_offset());
                continue;
            }
            Err(why) => why,
        };
        let offset = expected.unwrap_or_default();
        let next = frames.resync(at + 1, offset)?;
        let next = next.map(|header| header.first_offset);
        found.holes.push(Hole {
            at,
            to: frames.pos,
            offset,
            next,
            why,
        });
        if let (Some(next), true) = (next, expected.is_some()) {
            expected = Some(next);
        }
    }
}

/// The next record, if it is sound and the one that should come.
fn sound(
    frames: &mut Frames,
    expected: Option<u64>,
) -> std::io::Result<Result<Option<Header>, Why>> {
    let header = match frames.header()? {
        Ok(Some(header)) => header,
        other => return Ok(other),
    };
    if let Some(expected) = expected
        && header.first_offset != expected
    {
        let found = header.first_offset;
        return Ok(Err(Why::Order { expected, found }));
    }
    let checked = frames.check(&header)?;
    if checked.is_ok() {
        frames.skip(&header);
    }
    Ok(checked.map(|()| Some(header)))
}
