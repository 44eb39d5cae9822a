//! Opening a log: judging what was found, cutting a torn end, making the rest durable.
//!
//! ```text
//!   segment 0          segment 1            segment 2
//!   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓  ▓▓▓▓▓▓▓░▒▒▓▓▒
//!   was durable ─────────────────────────────────►D  └── first bad byte p
//! ```
//!
//! D, the furthest place known to have been durable, is what the indexes, the records (each carries the D of its time)
//! and the mark agree on at least. A bad byte at or behind D was never acknowledged: everything from there on is cut, also sound
//! records and whole segments behind it, for a log is a prefix of what was appended. A bad byte before D is damage: the log is not
//! opened, nothing is changed, unless `Config::skip_damaged` says to go on without it. Then the file stays as it is,
//! is sealed with an index that leaves the damage out, and the log goes on in a new segment.
//!
//! What lies behind D and is sound was written but perhaps never reached the disk (after a failed fsync the kernel
//! shows such bytes as clean). So it is written again, byte for byte, and synced, before anything is appended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, read_full, read_small, write_full};
use crate::error::{Cut, Damage, Error, Result, Why};
use crate::format::{MARK, Position, SEGMENT_HEADER, decode_mark};
use crate::segment::{Segment, State, index_path, named_place};
use crate::survey::{Survey, survey};

/// What was found and done when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The first row that is kept.
    pub first_offset: u64,
    /// Where the log ends: the next row's offset and the last record's sequence.
    pub end: Position,
    /// Torn ends that were cut; never anything that was acknowledged as durable.
    pub cut: Vec<Cut>,
    /// Damage that was left out; always empty without `Config::skip_damaged`.
    pub damaged: Vec<Damage>,
    /// How many segments there are.
    pub segments: usize,
    /// Bytes of the segments that had no index and were read whole.
    pub scanned_bytes: u64,
}

/// The file that holds the mark.
pub(crate) fn mark_path(dir: &Path) -> PathBuf {
    dir.join("durable")
}

/// The segments of a log, fit to go on with.
pub(crate) struct Opened {
    pub segments: Vec<Arc<Segment>>,
    pub report: Recovered,
    /// Whether the last segment must not be written any more.
    pub seal: bool,
    /// The least place and offset with which a segment behind may begin.
    pub floor: Position,
}

/// Reads, judges, cuts, and makes durable.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    extent_bytes: u64,
    skip_damaged: bool,
) -> Result<Opened> {
    let mut surveys = survey_all(disk, dir, extent_bytes)?;
    let mark = read_small(disk, &mark_path(dir), MARK as u64)?;
    let mark = mark
        .and_then(|bytes| decode_mark(&bytes))
        .unwrap_or_default();
    let scanned_bytes = surveys
        .iter()
        .filter(|found| !found.indexed)
        .map(|found| found.file_len)
        .sum();
    let mut judge = Judge::new(dir, &surveys, mark);
    let keep = judge.walk(&mut surveys);
    if let Some(damage) = judge.damaged.first().filter(|_| !skip_damaged) {
        return Err(Error::Damaged(damage.clone()));
    }
    let gone = surveys.split_off(keep);
    apply(disk, dir, &surveys, &gone, judge.durable)?;
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
    let seal = !report.damaged.is_empty() || surveys.last().is_some_and(|found| found.indexed);
    let segments = surveys
        .into_iter()
        .enumerate()
        .map(|(n, found)| segment(dir, found, n < last))
        .collect();
    Ok(Opened {
        segments,
        report,
        seal,
        floor,
    })
}

fn survey_all(disk: &dyn Disk, dir: &Path, extent_bytes: u64) -> Result<Vec<Survey>> {
    let names = disk
        .list(dir)
        .map_err(|error| Error::io("list", dir, error))?;
    let mut places: Vec<u64> = names
        .iter()
        .filter_map(|name| named_place(name, ".log"))
        .collect();
    places.sort_unstable();
    for orphan in names.iter().filter_map(|name| named_place(name, ".index")) {
        if places.binary_search(&orphan).is_err() {
            let path = index_path(dir, orphan);
            disk.remove(&path)
                .map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    places
        .iter()
        .map(|place| survey(disk, dir, *place, extent_bytes))
        .collect()
}

fn segment(dir: &Path, found: Survey, sealed: bool) -> Arc<Segment> {
    let file = (!found.indexed).then_some(found.file);
    let state = State {
        len: found.len,
        extents: found.extents,
        sealed,
        file,
    };
    Arc::new(Segment::new(dir, found.header, state))
}

struct Judge {
    dir: PathBuf,
    /// D: the furthest place known to have been durable.
    durable: u64,
    mark: Position,
    /// How far the log is sound.
    at: Position,
    cut: Vec<Cut>,
    damaged: Vec<Damage>,
}

/// What `Judge` finds wrong at one place of one file.
struct Wrong {
    position: u64,
    bytes: u64,
    /// The offset of the next sound record; `None` if there is none in this file.
    next: Option<u64>,
    why: Why,
}

impl Judge {
    fn new(dir: &Path, surveys: &[Survey], mark: Position) -> Self {
        // Retention left this segment as the first, and it removes only what has a durable segment behind it.
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
            damaged: Vec::new(),
        }
    }

    /// Goes through the segments in order; how many of them stay.
    fn walk(&mut self, surveys: &mut [Survey]) -> usize {
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
                    return self.drop_from(surveys, n, Why::Orphan);
                }
                let before = &surveys[n - 1];
                let wrong = Wrong {
                    position: before.len,
                    bytes: gap,
                    next: Some(found.header.first_offset),
                    why: Why::Missing,
                };
                self.damage(&before.path, wrong, behind);
            }
            if !surveys[n].headed {
                if surveys[n].base >= self.durable {
                    return self.drop_from(surveys, n, Why::Segment);
                }
                let found = &surveys[n];
                let next = found.extents.first().map(|extent| extent.first_offset);
                let bytes = found.file_len.min(SEGMENT_HEADER as u64);
                self.damage(
                    &found.path.clone(),
                    Wrong {
                        position: 0,
                        bytes,
                        next,
                        why: Why::Segment,
                    },
                    behind,
                );
            }
            self.holes(&mut surveys[n], behind);
            let end = surveys[n].end();
            self.at = Position {
                offset: end.offset.max(self.at.offset),
                ..end
            };
        }
        self.reach_the_mark(surveys);
        surveys.len()
    }

    /// Whether this segment begins where the one before ends. Its offset may be further: damage was skipped there.
    fn follows(&self, found: &Survey) -> bool {
        let previous = found.header.previous;
        match found.headed {
            true => previous.bytes == self.at.bytes && previous.offset >= self.at.offset,
            false => found.base == self.at.bytes,
        }
    }

    /// Judges the holes of a segment, and cuts it at the first that was not durable; the next segment does not follow then.
    fn holes(&mut self, found: &mut Survey, behind: u64) {
        for hole in found.holes.clone() {
            if found.base + hole.at >= self.durable {
                let bytes = found.file_len - hole.at;
                let (file, position) = (found.path.clone(), hole.at);
                self.cut.push(Cut {
                    file,
                    position,
                    bytes,
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

    /// Notes a stretch that was durable and is not readable.
    fn damage(&mut self, file: &Path, wrong: Wrong, behind: u64) {
        let from = self.at.offset;
        let to = wrong.next.unwrap_or(behind).max(from);
        let (file, position, bytes) = (file.to_owned(), wrong.position, wrong.bytes);
        self.damaged.push(Damage {
            file,
            position,
            bytes,
            offsets: from..to,
            why: wrong.why,
        });
        self.at.offset = to;
    }

    fn drop_from(&mut self, surveys: &[Survey], keep: usize, why: Why) -> usize {
        for (n, found) in surveys[keep..].iter().enumerate() {
            let why = if n == 0 { why } else { Why::Orphan };
            let (file, bytes, offset) = (found.path.clone(), found.file_len, self.at.offset);
            self.cut.push(Cut {
                file,
                position: 0,
                bytes,
                offset,
                why,
            });
        }
        keep
    }

    /// Everything there is was sound, and yet it may end before a place that was durable.
    fn reach_the_mark(&mut self, surveys: &[Survey]) {
        if self.at.bytes >= self.durable {
            return;
        }
        let (file, position) = match surveys.last() {
            Some(last) => (last.path.clone(), last.len),
            None => (self.dir.clone(), 0),
        };
        let (bytes, behind) = (self.durable - self.at.bytes, self.mark.offset);
        self.damage(
            &file,
            Wrong {
                position,
                bytes,
                next: None,
                why: Why::Missing,
            },
            behind,
        );
    }
}

/// Removes and truncates what was judged to be torn, and makes durable what stays.
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
    // Synced at once: were the truncation lost after the next append, what was cut could come back behind it.
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

/// Writes what is not known to be durable once more, as it is, and syncs it.
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
