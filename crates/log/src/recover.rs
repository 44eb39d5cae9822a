//! Opening a log: judging what the segments hold, cutting a torn end, making the rest durable.
//!
//! ```text
//!   segment 0          segment 1            segment 2
//!   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓  ▓▓▓▓▓▓▓░▒▒▓▓▒
//!   was durable ─────────────────────────────────►D  └── first bad byte p
//! ```
//!
//! D, the furthest place known to have been durable, is the greatest that any index, segment header, record (each
//! carries the D of its time), the mark or the caller names. A bad byte at or behind D was never acknowledged: everything from
//! there on is cut, including sound records and whole segments behind it, because a log is a prefix of what was
//! appended. A bad byte before D is damage: opening fails and changes nothing, unless `LogConfig::skip_damaged` is set.
//! Then the file stays as it is, is sealed with an index that leaves the damage out, and the log goes on in a new
//! segment.
//!
//! Sound bytes behind D were written but perhaps never reached the disk (after a failed fsync the kernel shows such
//! bytes as clean). So they are written again, byte for byte, and synced, before anything is appended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, read_full, read_small, write_full};
use crate::error::{Cut, Damage, Defect, Error, Result};
use crate::format::{
    FIRST_MAGIC, MARK, MARK_MAGIC, Position, SEGMENT_HEADER, VERSION, decode_mark, encode_mark,
    has_id,
};
use crate::segment::{Segment, SegmentState, index_path, named_place};
use crate::survey::{Survey, Trust, survey};
use crate::writer::LogConfig;

/// The name of the file that says where retention has made the log begin.
const FIRST: &str = "first";

/// The report of opening a log: what was found, cut and left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The first row that is kept.
    pub first_offset: u64,
    /// The end of the log: the next row's offset and the last record's sequence.
    pub end: Position,
    /// Torn ends that were cut; never anything that was acknowledged as durable.
    pub cut: Vec<Cut>,
    /// Damage that was left out; always empty without `LogConfig::skip_damaged`.
    pub damaged: Vec<Damage>,
    /// Number of segments that are kept.
    pub segments: usize,
    /// Total length of the segments that had no index and were read whole, bytes.
    pub scanned_bytes: u64,
}

/// Path of the mark.
pub(crate) fn mark_path(dir: &Path) -> PathBuf {
    dir.join("durable")
}

/// The segments of a log after recovery.
pub(crate) struct RecoveredSegments {
    pub segments: Vec<Arc<Segment>>,
    pub report: Recovered,
    /// Whether the last segment takes no further records.
    pub seal: bool,
    /// The least place and offset with which the next segment may begin.
    pub floor: Position,
}

/// Recovers the log in `dir`.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    config: &LogConfig,
) -> Result<RecoveredSegments> {
    remove_orphans(disk, dir)?;
    let mut surveys = survey_all(disk, dir, config, Trust::Indexes)?;
    let mark = read_mark(disk, dir, config)?;
    let scanned_bytes = surveys
        .iter()
        .filter(|found| !found.indexed)
        .map(|found| found.file_len)
        .sum();
    let first = read_first(disk, dir, config, &surveys)?;
    let mut judge = Judge::new(dir, &surveys, mark, first);
    let keep = judge.walk(&mut surveys);
    if let Some(damage) = judge.damaged.first().filter(|_| !config.skip_damaged) {
        return Err(Error::Damaged(damage.clone()));
    }
    let gone = surveys.split_off(keep);
    apply(disk, dir, &surveys, &gone, judge.durable)?;
    note_first(disk, dir, config, &surveys, first)?;
    let floor = Position {
        bytes: judge.durable,
        ..mark
    };
    let report = Recovered {
        first_offset: surveys
            .first()
            .map_or(floor.offset, |found| found.header.first_offset),
        end: judge.at,
        segments: surveys.len(),
        cut: judge.cut,
        damaged: judge.damaged,
        scanned_bytes,
    };
    let last = surveys.len().saturating_sub(1);
    // A build of an older version must not find records of this one in a segment that it can read.
    let is_closed = |found: &Survey| found.indexed || found.header.version != VERSION;
    let seal = !report.damaged.is_empty() || surveys.last().is_some_and(is_closed);
    let segments = surveys
        .into_iter()
        .enumerate()
        .map(|(n, found)| segment(dir, found, n < last))
        .collect();
    Ok(RecoveredSegments {
        segments,
        report,
        seal,
        floor,
    })
}

/// The furthest place that the mark or the caller names as durable.
pub(crate) fn read_mark(disk: &dyn Disk, dir: &Path, config: &LogConfig) -> Result<Position> {
    let mark = read_small(disk, &mark_path(dir), MARK as u64)?;
    let mark = mark
        .and_then(|bytes| decode_mark(MARK_MAGIC, &bytes, config.seed()))
        .unwrap_or_default();
    Ok(match mark.bytes > config.known.bytes {
        true => mark,
        false => config.known,
    })
}

/// Where retention may have made the log begin; `None` for a log of an earlier version, which did not note that.
pub(crate) fn read_first(
    disk: &dyn Disk,
    dir: &Path,
    config: &LogConfig,
    surveys: &[Survey],
) -> Result<Option<Position>> {
    let noted = read_small(disk, &dir.join(FIRST), MARK as u64)?;
    let noted = noted.and_then(|bytes| decode_mark(FIRST_MAGIC, &bytes, config.seed()));
    let known = noted.into_iter().chain(config.known_first);
    let known = known.max_by_key(|place| place.bytes);
    let is_new = surveys.first().is_none_or(|it| has_id(it.header.version));
    Ok(known.or(is_new.then(Position::default)))
}

/// Notes where the log begins, unless `first` says so already.
fn note_first(
    disk: &dyn Disk,
    dir: &Path,
    config: &LogConfig,
    surveys: &[Survey],
    first: Option<Position>,
) -> Result<()> {
    let Some(found) = surveys.first().filter(|found| found.base > 0) else {
        return Ok(());
    };
    let begin = Position {
        bytes: found.base,
        offset: found.header.first_offset,
        sequence: found.header.previous.sequence,
    };
    match first.is_none_or(|first| first.bytes < begin.bytes) {
        true => write_first(disk, dir, config, begin),
        false => Ok(()),
    }
}

/// Notes where the log begins from now on, durable when this returns.
pub(crate) fn write_first(
    disk: &dyn Disk,
    dir: &Path,
    config: &LogConfig,
    first: Position,
) -> Result<()> {
    let (path, temporary) = (dir.join(FIRST), dir.join("first.new"));
    let bytes = encode_mark(FIRST_MAGIC, &first, config.seed());
    let written = disk.create(&temporary).and_then(|file| {
        write_full(&*file, &mut [std::io::IoSlice::new(&bytes)], 0)?;
        file.sync()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)
    });
    written.map_err(|error| Error::io("write", &path, error))
}

/// The places of all files of this ending in the folder, in order.
fn places(disk: &dyn Disk, dir: &Path, ending: &str) -> Result<Vec<u64>> {
    let names = disk
        .list(dir)
        .map_err(|error| Error::io("list", dir, error))?;
    let places = names.iter().filter_map(|name| named_place(name, ending));
    let mut places: Vec<u64> = places.collect();
    places.sort_unstable();
    Ok(places)
}

/// Removes the indexes of segments that are gone.
fn remove_orphans(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let segments = places(disk, dir, ".log")?;
    for orphan in places(disk, dir, ".index")? {
        if segments.binary_search(&orphan).is_err() {
            let path = index_path(dir, orphan);
            disk.remove(&path)
                .map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Surveys all segments in the folder.
pub(crate) fn survey_all(
    disk: &dyn Disk,
    dir: &Path,
    config: &LogConfig,
    trust: Trust,
) -> Result<Vec<Survey>> {
    let segments = places(disk, dir, ".log")?;
    let surveys = segments
        .into_iter()
        .map(|place| survey(disk, dir, place, config, trust));
    surveys.collect()
}

fn segment(dir: &Path, found: Survey, sealed: bool) -> Arc<Segment> {
    let file = (!found.indexed).then_some(found.file);
    let state = SegmentState {
        len: found.len,
        extents: found.extents,
        sealed,
        file,
    };
    Arc::new(Segment::new(dir, found.header, state))
}

/// Tells torn ends from damage.
pub(crate) struct Judge {
    dir: PathBuf,
    /// D: the furthest place known to have been durable.
    pub durable: u64,
    mark: Position,
    /// The end of what was judged so far.
    pub at: Position,
    pub cut: Vec<Cut>,
    pub damaged: Vec<Damage>,
}

/// The damage if segments are missing that retention did not remove.
fn begins_late(surveys: &[Survey], first: Option<Position>) -> Option<Damage> {
    let (found, first) = (surveys.first()?, first?);
    (found.base > first.bytes).then(|| Damage {
        file: found.path.clone(),
        position: 0,
        bytes: found.base - first.bytes,
        offsets: first.offset..found.header.first_offset.max(first.offset),
        why: Defect::Beginning,
    })
}

/// An unreadable stretch of one file.
struct Wrong {
    position: u64,
    bytes: u64,
    /// The offset of the next sound record; `None` if there is none in this file.
    next: Option<u64>,
    why: Defect,
}

impl Judge {
    pub fn new(dir: &Path, surveys: &[Survey], mark: Position, first: Option<Position>) -> Self {
        // Retention removes a segment only if the one behind it is durable, so the first one kept is.
        let kept = surveys.first().filter(|first| first.base > 0);
        let kept = kept.map_or(0, |first| first.base + SEGMENT_HEADER as u64);
        let durable = surveys
            .iter()
            .map(|found| found.synced)
            .fold(mark.bytes.max(kept), u64::max);
        let at = match surveys.first() {
            None => Position::default(),
            Some(first) => Position {
                bytes: first.base,
                offset: first.header.first_offset,
                sequence: first.header.previous.sequence,
            },
        };
        Judge {
            dir: dir.to_owned(),
            durable,
            mark,
            at,
            cut: Vec::new(),
            damaged: begins_late(surveys, first).into_iter().collect(),
        }
    }

    /// Judges the segments in order; returns the number of them to keep.
    pub fn walk(&mut self, surveys: &mut [Survey]) -> usize {
        let starts: Vec<u64> = surveys
            .iter()
            .map(|found| found.header.first_offset)
            .collect();
        for n in 0..surveys.len() {
            let behind = starts.get(n + 1).copied().unwrap_or(self.mark.offset);
            if n > 0 && !self.follows(&surveys[n]) {
                let found = &surveys[n];
                let gap = found.base.saturating_sub(self.at.bytes);
                if self.at.bytes >= self.durable {
                    return self.drop_from(surveys, n, Defect::Orphan);
                }
                let before = &surveys[n - 1];
                let wrong = Wrong {
                    position: before.len,
                    bytes: gap,
                    next: Some(found.header.first_offset),
                    why: Defect::Missing,
                };
                self.damage(&before.path, wrong, behind);
            }
            if !surveys[n].header_sound {
                if surveys[n].base >= self.durable {
                    return self.drop_from(surveys, n, Defect::Segment);
                }
                let found = &surveys[n];
                let wrong = Wrong {
                    position: 0,
                    bytes: found.file_len.min(SEGMENT_HEADER as u64),
                    next: found.extents.first().map(|extent| extent.first_offset),
                    why: Defect::Segment,
                };
                self.damage(&found.path, wrong, behind);
            }
            self.holes(&mut surveys[n], behind);
            let end = surveys[n].end();
            self.at = Position {
                offset: end.offset.max(self.at.offset),
                ..end
            };
        }
        self.check_end(surveys);
        surveys.len()
    }

    /// Whether this segment begins where the one before ends. Its offset may be greater, where damage was skipped.
    fn follows(&self, found: &Survey) -> bool {
        let previous = found.header.previous;
        match found.header_sound {
            true => previous.bytes == self.at.bytes && previous.offset >= self.at.offset,
            false => found.base == self.at.bytes,
        }
    }

    /// Judges the holes of a segment, and cuts it at the first that was not durable; then the next segment does not
    /// follow.
    fn holes(&mut self, found: &mut Survey, behind: u64) {
        for hole in found.holes.clone() {
            if found.base + hole.at >= self.durable {
                self.cut.push(Cut {
                    file: found.path.clone(),
                    position: hole.at,
                    bytes: found.file_len - hole.at,
                    offset: hole.offset,
                    why: hole.why,
                });
                found.cut(hole.at);
                return;
            }
            self.at.offset = hole.offset;
            let wrong = Wrong {
                position: hole.at,
                bytes: hole.to - hole.at,
                next: hole.next,
                why: hole.why,
            };
            self.damage(&found.path, wrong, behind);
            if hole.next.is_none() {
                found.len = found.file_len;
            }
        }
    }

    /// Reports a stretch that was durable and is not readable.
    fn damage(&mut self, file: &Path, wrong: Wrong, behind: u64) {
        let from = self.at.offset;
        let to = wrong.next.unwrap_or(behind).max(from);
        self.damaged.push(Damage {
            file: file.to_owned(),
            position: wrong.position,
            bytes: wrong.bytes,
            offsets: from..to,
            why: wrong.why,
        });
        self.at.offset = to;
    }

    fn drop_from(&mut self, surveys: &[Survey], keep: usize, why: Defect) -> usize {
        for (n, found) in surveys[keep..].iter().enumerate() {
            self.cut.push(Cut {
                file: found.path.clone(),
                position: 0,
                bytes: found.file_len,
                offset: self.at.offset,
                why: if n == 0 { why } else { Defect::Orphan },
            });
        }
        keep
    }

    /// Reports the end of a log as missing if its last segment ends before a place that was durable.
    fn check_end(&mut self, surveys: &[Survey]) {
        if self.at.bytes >= self.durable {
            return;
        }
        let (file, position) = match surveys.last() {
            Some(last) => (last.path.clone(), last.len),
            None => (self.dir.clone(), 0),
        };
        let wrong = Wrong {
            position,
            bytes: self.durable - self.at.bytes,
            next: None,
            why: Defect::Missing,
        };
        self.damage(&file, wrong, self.mark.offset);
    }
}

/// Removes and truncates torn segments, and makes the others durable.
fn apply(
    disk: &dyn Disk,
    dir: &Path,
    kept: &[Survey],
    gone: &[Survey],
    durable: u64,
) -> Result<()> {
    for found in gone.iter().rev() {
        disk.remove(&found.path)
            .map_err(|error| Error::io("remove", &found.path, error))?;
    }
    // Synced at once: if the truncation were lost after the next append, the cut bytes could come back behind it.
    if let Some(last) = kept.last().filter(|last| last.torn) {
        let truncated = last.file.truncate(last.len).and_then(|()| last.file.sync());
        truncated.map_err(|error| Error::io("truncate", &last.path, error))?;
    }
    for found in kept.iter().filter(|found| found.base + found.len > durable) {
        write_again(found, durable).map_err(|error| Error::io("write", &found.path, error))?;
    }
    disk.sync_dir(dir)
        .map_err(|error| Error::io("sync", dir, error))
}

/// Writes the bytes not known to be durable once more, unchanged, and syncs them.
fn write_again(found: &Survey, durable: u64) -> std::io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut at = durable.saturating_sub(found.base);
    while at < found.len {
        let wanted = (found.len - at).min(piece.len() as u64) as usize;
        let read = read_full(&*found.file, &mut piece[..wanted], at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        write_full(
            &*found.file,
            &mut [std::io::IoSlice::new(&piece[..read])],
            at,
        )?;
        at += read as u64;
    }
    found.file.sync()
}
