//! Reading a log, from any thread, also while it is written and while retention works.
//!
//! A `LogScan` goes through the log extent by extent: it finds an extent, reads its records with their checksums, and
//! finds the next; so following the writer and skipping damage are one loop. It sees whole records only. At the end
//! `next` returns `None`, and may be called again later.
//!
//! A scan reads to its end a segment that retention removes meanwhile; if the next one is removed too, it fails there.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::error::{Damage, Defect, Error, Result};
use crate::format::{Header, Position, SEGMENT_HEADER};
use crate::index::Extent;
use crate::segment::Segment;
use crate::segment_reader::SegmentReader;
use crate::shared_log::SharedLog;

/// A record of a log. Its payload is borrowed from the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// The offset of its first row.
    pub first_offset: u64,
    /// Number of rows it holds.
    pub rows: u32,
    /// The least and greatest event time of its rows, microseconds.
    pub times: Option<(i64, i64)>,
    /// The number of the step that made it.
    pub sequence: u64,
    /// When it was appended, microseconds since 1970.
    pub appended_us: i64,
    /// The parts given to `append`, joined.
    pub payload: &'a [u8],
}

/// Reads a log. Clones read the same log; thread-safe.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<SharedLog>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<SharedLog>) -> Self {
        LogReader { shared }
    }

    /// All records from the one that holds row `offset` on, including records without rows at `offset`. A scan from an
    /// offset beyond the end begins when the log reaches it. [`Error::Removed`] if it is no longer kept.
    pub fn read_from(&self, offset: u64) -> Result<LogScan> {
        let segments = self.kept()?;
        let first = &segments[0].header;
        if offset < first.first_offset {
            return Err(self.removed(offset));
        }
        let ahead = |extent: &Extent| extent.end_offset < offset;
        let within = |extent: &Extent| extent.first_offset <= offset;
        Ok(LogScan {
            from_offset: offset,
            ..self.scan_behind(&segments, ahead, within)
        })
    }

    /// All records of step `sequence` and later. [`Error::Removed`] if some of them may no longer be kept.
    pub fn from_sequence(&self, sequence: u64) -> Result<LogScan> {
        let segments = self.kept()?;
        let first = &segments[0].header;
        if first.base > 0 && sequence <= first.previous.sequence {
            return Err(self.removed(first.first_offset.saturating_sub(1)));
        }
        let ahead = |extent: &Extent| extent.last_sequence < sequence;
        let within = |extent: &Extent| extent.first_sequence < sequence;
        Ok(LogScan {
            from_sequence: sequence,
            ..self.scan_behind(&segments, ahead, within)
        })
    }

    /// The extents of the log as it is now, in order. [`LogReader::scan_extent`] reads one.
    pub fn extents(&self) -> Vec<Extent> {
        let segments = self.shared.segments();
        segments
            .iter()
            .flat_map(|segment| segment.state().extents.clone())
            .collect()
    }

    /// The records of one extent. [`Error::Removed`] if it is no longer kept.
    pub fn scan_extent(&self, extent: &Extent) -> Result<LogScan> {
        let segments = self.kept()?;
        let found = segments
            .iter()
            .find(|segment| segment.header.base == extent.segment);
        let Some(segment) = found else {
            return Err(self.removed(extent.first_offset));
        };
        Ok(LogScan {
            stop: extent.segment + extent.end(),
            ..self.scan_at(segment.clone(), extent.position, extent.first_offset)
        })
    }

    /// The first row that is kept.
    pub fn first_offset(&self) -> u64 {
        let segments = self.shared.segments();
        segments
            .first()
            .map_or(0, |first| first.header.first_offset)
    }

    /// Where the log begins: the place and offset of its first segment.
    pub fn begin(&self) -> Position {
        let segments = self.shared.segments();
        segments
            .first()
            .map_or(Position::default(), |first| Position {
                bytes: first.header.base,
                offset: first.header.first_offset,
                sequence: first.header.previous.sequence,
            })
    }

    /// The end of the last whole record.
    pub fn end(&self) -> Position {
        self.shared.written()
    }

    /// The segments that are kept, at least one.
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

    /// A scan that begins behind the last extent that is `ahead` of the wanted record. It begins in the next extent if
    /// that is `within`, that is, begins before the wanted record; otherwise the scan first meets any damage between
    /// the two, in which the record may have been.
    fn scan_behind(
        &self,
        segments: &[Arc<Segment>],
        ahead: impl Fn(&Extent) -> bool,
        within: impl Fn(&Extent) -> bool,
    ) -> LogScan {
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

    fn scan_at(&self, segment: Arc<Segment>, position: u64, expected: u64) -> LogScan {
        LogScan {
            reader: self.clone(),
            segment,
            position,
            expected,
            extent: None,
            from_offset: 0,
            from_sequence: 0,
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

/// Reads the records of a log one after the other.
pub struct LogScan {
    reader: LogReader,
    segment: Arc<Segment>,
    /// Position in the segment's file at which the next record is expected.
    position: u64,
    /// The offset that the next record should have.
    expected: u64,
    /// Reads the current extent, if there is one.
    extent: Option<SegmentReader>,
    from_offset: u64,
    from_sequence: u64,
    /// The place at which the scan ends.
    stop: u64,
    skip_damaged: bool,
    lost: VecDeque<Damage>,
}

/// The outcome of looking for the next extent.
enum NextExtent {
    /// It is open for reading.
    Open,
    /// The scan has entered the next segment: look again.
    Passed,
    /// The log has no further extent for now.
    End,
}

impl LogScan {
    /// Skips damage rather than failing with [`Error::Damaged`]; [`LogScan::lost`] returns what was skipped.
    pub fn skip_damaged(mut self) -> LogScan {
        self.skip_damaged = true;
        self
    }

    /// Returns skipped damage, once each and in the order of the log.
    pub fn lost(&mut self) -> Option<Damage> {
        self.lost.pop_front()
    }

    /// The offset behind the last record returned or passed over.
    pub fn offset(&self) -> u64 {
        self.expected
    }

    /// Returns the next record, its checksums verified; `None` at the end of what is written so far, after which it may
    /// be called again. Blocks on the disk. After an error the next call retries the same record.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<LogRecord<'_>>> {
        loop {
            let extent = self.extent.as_ref();
            if extent.is_none_or(|extent| extent.pos >= extent.end) {
                match self.find_extent()? {
                    NextExtent::Open => {}
                    NextExtent::Passed => continue,
                    NextExtent::End => return Ok(None),
                }
            }
            if let Some(header) = self.check_next()? {
                return Ok(Some(self.take_checked(header)));
            }
        }
    }

    /// Reads and checks the next record of the extent; returns its header if the scan wants it.
    fn check_next(&mut self) -> Result<Option<Header>> {
        let Some(extent) = &mut self.extent else {
            return Ok(None);
        };
        let reading = |error| Error::io("read", &self.segment.path, error);
        let why = match extent.header().map_err(reading)? {
            Ok(None) => return Ok(None),
            Err(why) => why,
            Ok(Some(header)) if header.first_offset != self.expected => Defect::Order {
                expected: self.expected,
                found: header.first_offset,
            },
            Ok(Some(header)) => {
                let reached = self.from_offset <= header.first_offset
                    || self.from_offset < header.end_offset();
                if !reached || header.sequence < self.from_sequence {
                    extent.skip(&header);
                    self.position = extent.pos;
                    self.expected = header.end_offset();
                    return Ok(None);
                }
                match extent.check(&header).map_err(reading)? {
                    Ok(()) => return Ok(Some(header)),
                    Err(why) => why,
                }
            }
        };
        self.pass_damage(why)?;
        Ok(None)
    }

    /// Returns the record that `check_next` has read and checked.
    fn take_checked(&mut self, header: Header) -> LogRecord<'_> {
        self.expected = header.end_offset();
        self.position += header.record_len();
        let extent = self.extent.as_mut().expect("the record was read from it");
        LogRecord {
            first_offset: header.first_offset,
            rows: header.rows,
            times: header.times,
            sequence: header.sequence,
            appended_us: header.appended_us,
            payload: extent.take(&header),
        }
    }

    /// Skips the bytes at `position`, which are no record or not the next one, or fails.
    fn pass_damage(&mut self, why: Defect) -> Result<()> {
        let path = self.segment.path.clone();
        let extent = self.extent.as_mut().expect("the damage was found in it");
        let (from, offset) = (self.position, self.expected);
        let reading = |error| Error::io("read", &path, error);
        let next = extent.resync(from + 1, offset).map_err(reading)?;
        let (to, end) = (extent.pos, extent.end);
        extent.pos = from;
        let behind = match next {
            Some(header) => header.first_offset,
            None => {
                let state = self.segment.state();
                let extent = state.extents.iter().find(|extent| extent.end() >= end);
                extent.map_or(offset, |extent| extent.end_offset)
            }
        };
        self.pass(Damage {
            file: path,
            position: from,
            bytes: to - from,
            offsets: offset..behind.max(offset),
            why,
        })?;
        if let Some(extent) = &mut self.extent {
            extent.pos = to;
        }
        self.position = to;
        Ok(())
    }

    /// Goes on behind damage if `skip_damaged` is set, or fails.
    fn pass(&mut self, damage: Damage) -> Result<()> {
        if !self.skip_damaged {
            return Err(Error::Damaged(damage));
        }
        self.expected = damage.offsets.end;
        self.lost.push_back(damage);
        Ok(())
    }

    /// Finds and opens the next extent to read.
    fn find_extent(&mut self) -> Result<NextExtent> {
        if self.segment.header.base + self.position >= self.stop {
            return Ok(NextExtent::End);
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
                Ok(NextExtent::End)
            };
        };
        let start = extent.position.max(self.position);
        let gap = extent.position > self.position;
        if gap || (start == extent.position && extent.first_offset != self.expected) {
            self.pass(Damage {
                file: self.segment.path.clone(),
                position: self.position,
                bytes: start - self.position,
                offsets: self.expected..extent.first_offset.max(self.expected),
                why: Defect::Missing,
            })?;
            (self.position, self.expected) = (start, extent.first_offset);
        }
        self.position = start;
        self.open(&extent, start)?;
        Ok(NextExtent::Open)
    }

    /// Begins to read an extent; keeps the open file if the extent is in the same segment.
    fn open(&mut self, extent: &Extent, start: u64) -> Result<()> {
        let base = self.segment.header.base;
        let current = self.extent.as_mut();
        if let Some(open) = current.filter(|open| open.base() == base) {
            open.seek(start, extent.end());
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
        let seed = shared.config.seed().at(self.segment.header.version);
        let end = extent.end();
        match &mut self.extent {
            Some(open) => open.reset(file, base, seed, start, end),
            none => *none = Some(SegmentReader::new(file, base, seed, start, end)),
        }
        Ok(())
    }

    /// Moves to the segment behind this one, which is sealed and ends at `len`.
    fn enter_next(&mut self, len: u64) -> Result<NextExtent> {
        let segments = self.reader.shared.segments();
        let base = self.segment.header.base;
        let next = segments.partition_point(|segment| segment.header.base <= base);
        let Some(next) = segments.get(next) else {
            return Ok(NextExtent::End);
        };
        let header = next.header;
        if header.previous.bytes != base + len && segments[0].header.base == header.base {
            return Err(self.reader.removed(self.expected));
        }
        if header.first_offset != self.expected || header.previous.bytes != base + len {
            self.pass(Damage {
                file: self.segment.path.clone(),
                position: len,
                bytes: header.base.saturating_sub(base + len),
                offsets: self.expected..header.first_offset.max(self.expected),
                why: Defect::Missing,
            })?;
        }
        self.segment = next.clone();
        (self.position, self.expected) = (SEGMENT_HEADER as u64, header.first_offset);
        Ok(NextExtent::Passed)
    }
}

impl std::fmt::Debug for LogScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogScan")
            .field("offset", &self.expected)
            .finish()
    }
}
