//! Reading a log, from any thread, also while it is written and while retention works.
//!
//! A `Scan` goes through the log extent by extent: it looks an extent up, reads its records with their checksums, and
//! looks for the next; so pruning by time, reading along with the writer and going around damage are one loop. It sees
//! whole records only. At the end `next` gives `None`, and may be called again later.
//!
//! A segment that retention removes while a scan is in it can be read to its end; the next one tells if it is gone.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::durable::Shared;
use crate::error::{Damage, Error, Result, Why};
use crate::format::{Header, Position, SEGMENT_HEADER};
use crate::frames::Frames;
use crate::index::Extent;
use crate::segment::Segment;

/// A record of a log. Its payload is borrowed from the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The offset of its first row.
    pub first_offset: u64,
    /// How many rows it has.
    pub rows: u32,
    /// The least and greatest event time of its rows, in microseconds.
    pub times: Option<(i64, i64)>,
    /// The step that made it.
    pub sequence: u64,
    /// When it was appended, in microseconds since 1970.
    pub appended_us: i64,
    /// What was appended.
    pub payload: &'a [u8],
}

/// Reads a log. Clones are the same thing.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        LogReader { shared }
    }

    /// All records from the one that holds row `offset` on. Records without rows that stand at `offset` belong to it.
    /// An offset beyond the end is reached when it comes. [`Error::Removed`] if it is no longer kept.
    pub fn read_from(&self, offset: u64) -> Result<Scan> {
        let segments = self.kept()?;
        let first = &segments[0].header;
        if offset < first.first_offset {
            return Err(Error::Removed {
                wanted: offset,
                first_kept: first.first_offset,
            });
        }
        let ahead = |extent: &Extent| extent.end_offset < offset;
        let within = |extent: &Extent| extent.first_offset <= offset;
        Ok(Scan {
            from_offset: offset,
            ..self.scan_behind(&segments, ahead, within)
        })
    }

    /// All records of step `sequence` and later. [`Error::Removed`] if some of them may no longer be kept.
    pub fn from_sequence(&self, sequence: u64) -> Result<Scan> {
        let segments = self.kept()?;
        let first = &segments[0].header;
        if first.base > 0 && sequence <= first.previous.sequence {
            let wanted = first.first_offset.saturating_sub(1);
            return Err(Error::Removed {
                wanted,
                first_kept: first.first_offset,
            });
        }
        let ahead = |extent: &Extent| extent.last_sequence < sequence;
        let within = |extent: &Extent| extent.first_sequence < sequence;
        Ok(Scan {
            from_sequence: sequence,
            ..self.scan_behind(&segments, ahead, within)
        })
    }

    /// All records from the first whose event times reach `time` (microseconds) on, whatever times those behind it have.
    pub fn from_time(&self, time: i64) -> Result<Scan> {
        let segments = self.kept()?;
        let ahead = |extent: &Extent| !extent.overlaps(time, i64::MAX);
        Ok(Scan {
            from_time: Some(time),
            ..self.scan_behind(&segments, ahead, |_| false)
        })
    }

    /// The records with rows that may have an event time from `min` to `max` (microseconds, both included), in the
    /// order of the log. Segments and extents without such are not read; the payloads of other records are not checked.
    pub fn between(&self, min: i64, max: i64) -> Result<Scan> {
        let segments = self.kept()?;
        Ok(Scan {
            between: Some((min, max)),
            ..self.scan_behind(&segments, |_| false, |_| false)
        })
    }

    /// The stretches of the log as it is now, in order. Each can be read on its own with [`LogReader::scan_extent`].
    pub fn extents(&self) -> Vec<Extent> {
        let segments = self.shared.segments();
        segments
            .iter()
            .flat_map(|segment| segment.state().extents.clone())
            .collect()
    }

    /// The records of one extent. [`Error::Removed`] if it is no longer kept.
    pub fn scan_extent(&self, extent: &Extent) -> Result<Scan> {
        let segments = self.kept()?;
        let found = segments
            .iter()
            .find(|segment| segment.header.base == extent.segment);
        let Some(segment) = found else {
            return Err(self.removed(extent.first_offset));
        };
        let place = extent.segment + extent.position;
        let scan = self.scan_at(segment.clone(), extent.position, extent.first_offset);
        Ok(Scan {
            stop: place + extent.bytes,
            ..scan
        })
    }

    /// The first row that is kept.
    pub fn first_offset(&self) -> u64 {
        let segments = self.shared.segments();
        segments
            .first()
            .map_or(0, |first| first.header.first_offset)
    }

    /// Where the last whole record ends.
    pub fn end(&self) -> Position {
        self.shared.written()
    }

    /// The segments; a log always has one.
    fn kept(&self) -> Result<Vec<Arc<Segment>>> {
        let segments = self.shared.segments();
        match segments.is_empty() {
            true => Err(self.removed(0)),
            false => Ok(segments),
        }
    }

    fn removed(&self, wanted: u64) -> Error {
        Error::Removed {
            wanted,
            first_kept: self.first_offset(),
        }
    }

    /// A scan that begins where the extents end that are `ahead` of what is wanted; in the next one if that is `within`, so begins
    /// before it. Otherwise damage between the two is met first, for what is wanted may lie in it.
    fn scan_behind(
        &self,
        segments: &[Arc<Segment>],
        ahead: impl Fn(&Extent) -> bool,
        within: impl Fn(&Extent) -> bool,
    ) -> Scan {
        let first = &segments[0];
        let mut start = (first, SEGMENT_HEADER as u64, first.header.first_offset);
        'found: for segment in segments {
            for extent in &segment.state().extents {
                if !ahead(extent) {
                    if within(extent) {
                        start = (segment, extent.position, extent.first_offset);
                    }
                    break 'found;
                }
                start = (segment, extent.end(), extent.end_offset);
            }
        }
        let (segment, position, expected) = start;
        self.scan_at(segment.clone(), position, expected)
    }

    fn scan_at(&self, segment: Arc<Segment>, position: u64, expected: u64) -> Scan {
        Scan {
            reader: self.clone(),
            segment,
            position,
            expected,
            frames: None,
            from_offset: 0,
            from_sequence: 0,
            from_time: None,
            between: None,
            stop: u64::MAX,
            skip_damaged: false,
            lost: VecDeque::new(),
        }
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("dir", &self.shared.dir)
            .finish()
    }
}

/// Records of a log, one after the other.
pub struct Scan {
    reader: LogReader,
    segment: Arc<Segment>,
    /// Where in the segment's file the next record is looked for.
    position: u64,
    /// The offset that should come next.
    expected: u64,
    /// The extent that is being read, if one is.
    frames: Option<Frames>,
    from_offset: u64,
    from_sequence: u64,
    from_time: Option<i64>,
    between: Option<(i64, i64)>,
    /// The place in the log to stop at.
    stop: u64,
    skip_damaged: bool,
    lost: VecDeque<Damage>,
}

/// What a look at the next extent told.
enum Look {
    /// Read this one.
    Read,
    /// Look again: something was passed over.
    Again,
    /// There is nothing more, for now.
    End,
}

impl Scan {
    /// Goes around damage rather than to end with [`Error::Damaged`]; [`Scan::lost`] tells what was left out.
    pub fn skip_damaged(mut self) -> Scan {
        self.skip_damaged = true;
        self
    }

    /// The next damage that was passed, oldest first, if damage is skipped.
    pub fn lost(&mut self) -> Option<Damage> {
        self.lost.pop_front()
    }

    /// The offset behind the last record returned or passed.
    pub fn offset(&self) -> u64 {
        self.expected
    }

    /// The next record; `None` at the end of what is written now, after which it may be called again. Its checksums are right.
    /// Blocks on the disk. After an error the same record is tried again.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        loop {
            if self
                .frames
                .as_ref()
                .is_none_or(|frames| frames.pos >= frames.end)
            {
                match self.look()? {
                    Look::Read => {}
                    Look::Again => continue,
                    Look::End => return Ok(None),
                }
            }
            if let Some(header) = self.step()? {
                // `step` has read and checked the payload; asking again finds it in memory.
                return self.give(header).map(Some);
            }
        }
    }

    /// Checks the next record of the extent; its header if it is wanted.
    fn step(&mut self) -> Result<Option<Header>> {
        let Some(frames) = &mut self.frames else {
            return Ok(None);
        };
        let reading = |error| Error::io("read", &self.segment.path, error);
        let why = match frames.header().map_err(reading)? {
            Ok(None) => return Ok(None),
            Err(why) => why,
            Ok(Some(header)) if header.first_offset != self.expected => Why::Order {
                expected: self.expected,
                found: header.first_offset,
            },
            Ok(Some(header)) => {
                let wanted = self.from_offset <= header.first_offset
                    || self.from_offset < header.end_offset();
                let wanted = wanted && header.sequence >= self.from_sequence;
                let reaches = |min, max| match header.times {
                    _ if header.rows == 0 => false,
                    Some((least, greatest)) => least <= max && min <= greatest,
                    None => true,
                };
                let wanted = wanted
                    && self.between.is_none_or(|(min, max)| reaches(min, max))
                    && self.from_time.is_none_or(|time| reaches(time, i64::MAX));
                if !wanted {
                    frames.skip(&header);
                    self.position = frames.pos;
                    self.expected = header.end_offset();
                    return Ok(None);
                }
                match frames.check(&header).map_err(reading)? {
                    Ok(()) => return Ok(Some(header)),
                    Err(why) => why,
                }
            }
        };
        self.pass_damage(why)?;
        Ok(None)
    }

    /// Hands out the record that `step` has checked.
    fn give(&mut self, header: Header) -> Result<Record<'_>> {
        self.from_time = None;
        self.expected = header.end_offset();
        self.position += header.record_len();
        let frames = self.frames.as_mut().expect("the record was read from them");
        Ok(Record {
            first_offset: header.first_offset,
            rows: header.rows,
            times: header.times,
            sequence: header.sequence,
            appended_us: header.appended_us,
            payload: frames.take(&header),
        })
    }

    /// The bytes at `position` are no record, or not the one that should come.
    fn pass_damage(&mut self, why: Why) -> Result<()> {
        let path = self.segment.path.clone();
        let frames = self.frames.as_mut().expect("damage was found in them");
        let (from, offset) = (self.position, self.expected);
        let reading = |error| Error::io("read", &path, error);
        let next = frames.resync(from + 1, offset).map_err(reading)?;
        let (to, end) = (frames.pos, frames.end);
        frames.pos = from;
        let behind = match next {
            Some(header) => header.first_offset,
            None => {
                let state = self.segment.state();
                let extent = state.extents.iter().find(|extent| extent.end() >= end);
                extent.map_or(offset, |extent| extent.end_offset)
            }
        };
        let offsets = offset..behind.max(offset);
        let damage = Damage {
            file: path,
            position: from,
            bytes: to - from,
            offsets,
            why,
        };
        self.pass(damage)?;
        if let Some(frames) = &mut self.frames {
            frames.pos = to;
        }
        self.position = to;
        Ok(())
    }

    /// Goes on behind damage, if that is wished.
    fn pass(&mut self, damage: Damage) -> Result<()> {
        if !self.skip_damaged {
            return Err(Error::Damaged(damage));
        }
        self.expected = damage.offsets.end;
        self.lost.push_back(damage);
        Ok(())
    }

    /// Finds the next extent to read.
    fn look(&mut self) -> Result<Look> {
        if self.segment.header.base + self.position >= self.stop {
            return Ok(Look::End);
        }
        let (found, sealed, len) = {
            let state = self.segment.state();
            let next = state
                .extents
                .partition_point(|extent| extent.end() <= self.position);
            (state.extents.get(next).cloned(), state.sealed, state.len)
        };
        let Some(extent) = found else {
            return if sealed {
                self.enter_next(len)
            } else {
                Ok(Look::End)
            };
        };
        let start = extent.position.max(self.position);
        let gap = extent.position > self.position;
        if gap || (start == extent.position && extent.first_offset != self.expected) {
            let offsets = self.expected..extent.first_offset.max(self.expected);
            let (file, position) = (self.segment.path.clone(), self.position);
            let (bytes, why) = (start - position, Why::Missing);
            self.pass(Damage {
                file,
                position,
                bytes,
                offsets,
                why,
            })?;
            (self.position, self.expected) = (start, extent.first_offset);
        }
        self.position = start;
        if self
            .between
            .is_some_and(|(min, max)| !extent.overlaps(min, max))
        {
            (self.position, self.expected) = (extent.end(), extent.end_offset);
            return Ok(Look::Again);
        }
        self.open(&extent, start)?;
        Ok(Look::Read)
    }

    /// Begins to read an extent, in the file that is open if it is in that.
    fn open(&mut self, extent: &Extent, start: u64) -> Result<()> {
        let base = self.segment.header.base;
        if let Some(frames) = self.frames.as_mut().filter(|frames| frames.base() == base) {
            frames.go(start, extent.end());
            return Ok(());
        }
        let shared = &self.reader.shared;
        let active = self.segment.state().file.clone();
        let file = match active.map_or_else(|| shared.disk.open(&self.segment.path), Ok) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.reader.removed(self.expected));
            }
            Err(error) => return Err(Error::io("open", &self.segment.path, error)),
        };
        match &mut self.frames {
            Some(frames) => frames.reset(file, base, start, extent.end()),
            none => *none = Some(Frames::new(file, base, start, extent.end())),
        }
        Ok(())
    }

    /// Goes to the segment behind this one, which is sealed and ends at `len`.
    fn enter_next(&mut self, len: u64) -> Result<Look> {
        let segments = self.reader.shared.segments();
        let base = self.segment.header.base;
        let next = segments.partition_point(|segment| segment.header.base <= base);
        let Some(next) = segments.get(next) else {
            return Ok(Look::End);
        };
        let header = next.header;
        if header.previous.bytes != base + len && segments[0].header.base == header.base {
            return Err(self.reader.removed(self.expected));
        }
        if header.first_offset != self.expected || header.previous.bytes != base + len {
            let offsets = self.expected..header.first_offset.max(self.expected);
            let (file, bytes) = (
                self.segment.path.clone(),
                header.base.saturating_sub(base + len),
            );
            self.pass(Damage {
                file,
                position: len,
                bytes,
                offsets,
                why: Why::Missing,
            })?;
        }
        self.segment = next.clone();
        (self.position, self.expected) = (SEGMENT_HEADER as u64, header.first_offset);
        Ok(Look::Again)
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("offset", &self.expected)
            .finish()
    }
}
