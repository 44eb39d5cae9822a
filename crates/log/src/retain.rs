//! Retention: the oldest whole segments go when they are too old or the log is too large.
//!
//! Never the segment that is being written, never one that is not yet durable, never one that somebody still needs.
//! They go one at a time, oldest first, each removal made durable before the next: after a crash there is never a hole.
//! Age counts from when the newest record of a segment was appended, not from its event time, so importing
//! history does not make it vanish.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::SEGMENT_HEADER;
use crate::log::Log;
use crate::segment::{Segment, index_path};

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose newest record is older go.
    pub age: Option<Duration>,
    /// While all segments together have more bytes, the oldest goes.
    pub bytes: Option<u64>,
}

/// What must be kept whatever the retention says: all rows from `offset` on, and all records of step `sequence` and
/// later. `Needed::NOTHING` if nobody needs anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// The first row needed.
    pub offset: u64,
    /// The first step needed; it tells records without rows apart, which an offset cannot.
    pub sequence: u64,
}

impl Needed {
    /// Nothing is needed.
    pub const NOTHING: Needed = Needed {
        offset: u64::MAX,
        sequence: u64::MAX,
    };
}

/// A segment that retention has removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its file.
    pub file: PathBuf,
    /// The rows that were in it.
    pub offsets: Range<u64>,
    /// How many bytes it had.
    pub bytes: u64,
    /// When its newest record was appended, in microseconds since 1970.
    pub appended_us: Option<i64>,
}

impl Log {
    /// Removes what `retention` does not keep and nobody needs; `now_us` is the wall clock in microseconds since 1970.
    /// Blocks on the disk, once per segment removed. On an error the rest is left for the next time.
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
            self.remove_first(oldest)?;
            total -= found.bytes;
            removed.push(found);
            segments.remove(0);
        }
        Ok(removed)
    }

    /// Removes the first segment; a reader that is in it may finish it.
    fn remove_first(&self, oldest: &Arc<Segment>) -> Result<()> {
        let shared = &self.shared;
        let removing = |error| Error::io("remove", &oldest.path, error);
        match shared.disk.remove(&oldest.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(removing(error)),
            _ => {}
        }
        shared
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|kept| kept.header.base != oldest.header.base);
        let index = index_path(&shared.dir, oldest.header.base);
        match shared.disk.remove(&index) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &index, error));
            }
            _ => {}
        }
        shared.disk.sync_dir(&shared.dir).map_err(removing)
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
