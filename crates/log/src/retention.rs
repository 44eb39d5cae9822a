//! Retention: removes the oldest whole segments when they are too old or the log is too large.
//!
//! It never removes the segment that is being written, one that is not yet durable, or one that is still needed. It
//! removes one at a time, oldest first, each removal made durable before the next: a crash never leaves a hole. Age
//! counts from when the newest record of a segment was appended, not from its event time, so imported history stays.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{Position, SEGMENT_HEADER};
use crate::recover::write_first;
use crate::segment::{Segment, index_path};
use crate::writer::LogWriter;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose newest record is older are removed. Default: no limit.
    pub age: Option<Duration>,
    /// Total size of all segments above which the oldest is removed, bytes. Default: no limit.
    pub bytes: Option<u64>,
}

/// What must be kept under any [`Retention`]: all rows from `offset` on, and all records of step `sequence` and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// The first row needed.
    pub offset: u64,
    /// The first step needed; it distinguishes records without rows, which an offset cannot.
    pub sequence: u64,
}

impl Needed {
    /// All rows and steps may be removed.
    pub const NOTHING: Needed = Needed {
        offset: u64::MAX,
        sequence: u64::MAX,
    };
}

/// A segment that retention has removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The path that its file had.
    pub file: PathBuf,
    /// The rows that were in it.
    pub offsets: Range<u64>,
    /// The length that it had, bytes.
    pub bytes: u64,
    /// When its newest record was appended, microseconds since 1970; `None` if it had no records.
    pub appended_us: Option<i64>,
}

impl LogWriter {
    /// Removes the segments that `retention` does not keep and that are not `needed`; `now_us` is the wall clock,
    /// microseconds since 1970. Blocks on the disk, once per segment removed. On an error the other segments stay until
    /// the next call.
    pub fn retain(
        &mut self,
        now_us: i64,
        retention: &Retention,
        needed: Needed,
    ) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        let mut segments = self.shared.segments();
        let mut total: u64 = segments.iter().map(|segment| segment.state().len).sum();
        while let [oldest, next, ..] = &segments[..] {
            let found = describe(oldest);
            let too_old = retention
                .age
                .zip(found.appended_us)
                .is_some_and(|(age, newest)| {
                    i128::from(now_us) - i128::from(newest) > age.as_micros() as i128
                });
            let too_large = retention.bytes.is_some_and(|bytes| total > bytes);
            let durable = next.header.base + SEGMENT_HEADER as u64 <= self.shared.durable().bytes;
            let end = oldest.end();
            let free = end.offset <= needed.offset && end.sequence < needed.sequence;
            if !(free && durable && (too_old || too_large)) {
                break;
            }
            self.remove_first(oldest, next)?;
            total -= found.bytes;
            removed.push(found);
            segments.remove(0);
        }
        Ok(removed)
    }

    /// Removes the first segment; a scan that has it open can read it to its end. It is noted first that the log begins
    /// with the next: a segment that is missing for another reason is damage.
    fn remove_first(&self, oldest: &Segment, next: &Segment) -> Result<()> {
        let shared = &self.shared;
        let first = Position {
            bytes: next.header.base,
            offset: next.header.first_offset,
            sequence: next.header.previous.sequence,
        };
        write_first(&*shared.disk, &shared.dir, &shared.config, first)?;
        remove_file(&*shared.disk, &oldest.path)?;
        shared
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|kept| kept.header.base != oldest.header.base);
        remove_file(&*shared.disk, &index_path(&shared.dir, oldest.header.base))?;
        let synced = shared.disk.sync_dir(&shared.dir);
        synced.map_err(|error| Error::io("sync", &shared.dir, error))
    }
}

/// Removes a file; succeeds if it does not exist.
fn remove_file(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn describe(segment: &Segment) -> Removed {
    let end = segment.end();
    let state = segment.state();
    Removed {
        file: segment.path.clone(),
        offsets: segment.header.first_offset..end.offset,
        bytes: state.len,
        appended_us: state.extents.iter().map(|extent| extent.appended_us).max(),
    }
}
