//! One file of a log, as the writer, the readers and the syncing side share it.
//!
//! What is fixed when a segment is made stands in its header; what grows stands behind one lock, which the writer holds
//! for a few instructions after each record. A reader never looks beyond `len`, so it sees whole records only.
//! A segment keeps its file open until it is sealed and durable; readers open a file of their own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::DiskFile;
use crate::format::{Position, SEGMENT_HEADER, SegmentHeader};
use crate::index::{Extent, Index, end_of};

/// Locks; what a panicking thread left behind is whole, because every change here is a single assignment or push.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file of the segment that begins at this place.
pub(crate) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// Its index.
pub(crate) fn index_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.index"))
}

/// The place that a file is named for, if it has this ending.
pub(crate) fn named_place(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// A segment.
pub(crate) struct Segment {
    pub header: SegmentHeader,
    pub path: PathBuf,
    state: Mutex<State>,
}

/// What changes while a segment is written.
pub(crate) struct State {
    /// Where the last whole record ends in the file.
    pub len: u64,
    pub extents: Vec<Extent>,
    /// Whether a later segment has taken over.
    pub sealed: bool,
    /// Open until the segment is sealed and durable.
    pub file: Option<Arc<dyn DiskFile>>,
}

impl Segment {
    /// A new one, or one that was found on disk.
    pub fn new(dir: &Path, header: SegmentHeader, state: State) -> Self {
        Segment {
            header,
            path: segment_path(dir, header.base),
            state: Mutex::new(state),
        }
    }

    /// An empty one that is being written.
    pub fn fresh(dir: &Path, header: SegmentHeader, file: Arc<dyn DiskFile>) -> Self {
        let len = SEGMENT_HEADER as u64;
        Segment::new(
            dir,
            header,
            State {
                len,
                extents: Vec::new(),
                sealed: false,
                file: Some(file),
            },
        )
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Where its last record ends.
    pub fn end(&self) -> Position {
        let state = self.state();
        end_of(&self.header, state.len, &state.extents)
    }

    /// Its index as it is now.
    pub fn index(&self) -> Index {
        let state = self.state();
        Index {
            header: self.header,
            len: state.len,
            extents: state.extents.clone(),
        }
    }
}
