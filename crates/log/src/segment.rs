//! One file of a log, as the writer, the readers and the syncer share it.
//!
//! The header is fixed when a segment is created; what grows is behind one lock, which the writer holds for a few
//! instructions after each record. A reader never reads beyond `len`, so it sees whole records only. A segment keeps
//! its file open until it is sealed and durable; then a reader opens the file itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::DiskFile;
use crate::format::{Position, SEGMENT_HEADER, SegmentHeader};
use crate::index::{Extent, Index, end_of};

/// Locks `mutex`, also after a thread panicked while it held it: every change under a lock of this crate is a single
/// assignment or push, so the data is whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Path of the segment that begins at place `base`.
pub(crate) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// Path of the index of the segment that begins at place `base`.
pub(crate) fn index_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.index"))
}

/// The place that a file of this ending is named for.
pub(crate) fn named_place(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

pub(crate) struct Segment {
    pub header: SegmentHeader,
    pub path: PathBuf,
    state: Mutex<SegmentState>,
}

/// The part of a segment that changes while it is written.
pub(crate) struct SegmentState {
    /// Length of the file up to the end of the last whole record, bytes.
    pub len: u64,
    pub extents: Vec<Extent>,
    /// Whether the segment takes no further records.
    pub sealed: bool,
    /// Open until the segment is sealed and durable.
    pub file: Option<Arc<dyn DiskFile>>,
}

impl Segment {
    pub fn new(dir: &Path, header: SegmentHeader, state: SegmentState) -> Self {
        Segment {
            header,
            path: segment_path(dir, header.base),
            state: Mutex::new(state),
        }
    }

    /// A segment without records, to be written.
    pub fn fresh(dir: &Path, header: SegmentHeader, file: Arc<dyn DiskFile>) -> Self {
        let state = SegmentState {
            len: SEGMENT_HEADER as u64,
            extents: Vec::new(),
            sealed: false,
            file: Some(file),
        };
        Segment::new(dir, header, state)
    }

    pub fn state(&self) -> MutexGuard<'_, SegmentState> {
        locked(&self.state)
    }

    /// The end of its last record.
    pub fn end(&self) -> Position {
        let state = self.state();
        end_of(&self.header, state.len, &state.extents)
    }

    pub fn index(&self) -> Index {
        let state = self.state();
        Index {
            header: self.header,
            len: state.len,
            extents: state.extents.clone(),
        }
    }
}
