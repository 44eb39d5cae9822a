//! What can go wrong with a log.
//!
//! Two kinds of bad bytes must be kept apart. A torn tail after a crash is no error: opening the log cuts it and
//! reports a [`Cut`]. Bytes that cannot be read and lie *before* something known to be durable are [`Damage`]:
//! acknowledged data is gone, and only an operator may decide to go on without it: restore the named file from a
//! backup, or open the log with `LogConfig::skip_damaged`, which keeps the file as it is, leaves out the rows named,
//! and goes on behind them.
//!
//! A full disk is an [`Error::Io`] for which [`Error::is_full`] holds: the append may be retried. After
//! [`Error::SyncFailed`] only opening the log again helps.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The result of a fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a log failed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file system operation failed. A failed append left the log unchanged and may be retried.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation as a verb: `write`, `open`, ...
        doing: &'static str,
        /// The file or folder it was applied to.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Bytes that were durable are wrong or missing.
    #[error("{0}")]
    Damaged(Damage),
    /// The file was written by a later version of this crate.
    #[error("{} has format version {found}; this build reads version {known}", path.display())]
    Version {
        /// Path of the segment's file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
        /// The version this build reads and writes.
        known: u32,
    },
    /// Retention has removed the requested rows.
    #[error("offset {wanted} is no longer kept; the first kept offset is {first_kept}")]
    Removed {
        /// The first row that was requested.
        wanted: u64,
        /// The first row that is still kept.
        first_kept: u64,
    },
    /// A record's payload exceeds the limit.
    #[error("a record of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Size of the payload, bytes.
        bytes: u64,
        /// The limit, [`crate::MAX_PAYLOAD`], bytes.
        limit: u64,
    },
    /// A record's sequence is less than that of the record before.
    #[error("sequence {sequence} is less than {last}, the last one appended")]
    Backwards {
        /// The sequence of the refused record.
        sequence: u64,
        /// The sequence of the last record in the log.
        last: u64,
    },
    /// The event time range ends before it begins.
    #[error("an event time range ends at {max}, before it begins at {min}")]
    Times {
        /// Its least time, in microseconds.
        min: i64,
        /// Its greatest time, in microseconds.
        max: i64,
    },
    /// An fsync failed, so what was written since the last good one may be lost although it can still be read, and a
    /// second fsync would succeed all the same. The log refuses appends until it is opened again.
    #[error("an fsync of {} failed ({cause}); the log must be opened again before it can be written", path.display())]
    SyncFailed {
        /// The folder of the log.
        path: PathBuf,
        /// The error of the operating system.
        cause: String,
    },
    /// Another process, or another handle of this one, holds the lock of the data folder.
    #[error("{} is in use{}", folder.display(), Holder(*pid))]
    Locked {
        /// Path of the data folder.
        folder: PathBuf,
        /// The process that holds the lock, if the lock file names it.
        pid: Option<u32>,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Error::Io {
            doing,
            path,
            source,
        }
    }

    /// Whether the disk or a quota is full, or no file may be longer: a failed append can be retried when there is
    /// room.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let full = [FileTooLarge, QuotaExceeded, StorageFull];
        matches!(self, Error::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// The process that holds a lock, as the end of a sentence.
struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " by process {pid}"),
            None => f.write_str(" by another process"),
        }
    }
}

/// A stretch of a log that was durable and can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file in which, or behind which, it lies.
    pub file: PathBuf,
    /// Position of its first byte in that file.
    pub position: u64,
    /// Number of bytes that are unreadable or missing.
    pub bytes: u64,
    /// The offsets of the lost rows; empty if it held only records without rows, or none.
    pub offsets: Range<u64>,
    /// The defect at `position`.
    pub why: Defect,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, from, to) = (self.file.display(), self.offsets.start, self.offsets.end);
        write!(
            f,
            "{file} is damaged at byte {}: {}; {} bytes with ",
            self.position, self.why, self.bytes
        )?;
        match self.offsets.is_empty() {
            true => write!(f, "no rows are unreadable, at offset {from}"),
            false => write!(f, "the rows from offset {from} up to {to} are unreadable"),
        }
    }
}

/// A torn end that opening the log cut off: bytes that were written and never became durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file. It was removed if `position` is 0.
    pub file: PathBuf,
    /// The length of the file after the cut.
    pub position: u64,
    /// Number of bytes cut.
    pub bytes: u64,
    /// The offset with which the log goes on: that of the first row cut, if the bytes held any.
    pub offset: u64,
    /// The defect at `position`.
    pub why: Defect,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, at) = (self.file.display(), self.position);
        write!(
            f,
            "cut {} bytes from {file} at byte {at}, offset {}: {}",
            self.bytes, self.offset, self.why
        )
    }
}

/// The reason why bytes are not the record expected there.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The file ends within a header or a payload.
    #[error("the file ends in the middle of a record")]
    Torn,
    /// The first four bytes are not the marker of a record.
    #[error("no record begins here")]
    Marker,
    /// The record's header does not match its checksum.
    #[error("the record header does not match its checksum")]
    Header,
    /// The record's payload does not match its checksum.
    #[error("the payload does not match its checksum")]
    Payload,
    /// A sound record, but not the next one.
    #[error("found the record with offset {found}, expected offset {expected}")]
    Order {
        /// The offset of the next row.
        expected: u64,
        /// The first offset of the record found.
        found: u64,
    },
    /// The segment's own header is wrong or incomplete.
    #[error("the segment header is wrong or incomplete")]
    Segment,
    /// The segment before it is missing or was cut, so it cannot be used.
    #[error("the segment before it is missing or was cut")]
    Orphan,
    /// Segments in front of it are missing, and retention did not remove them.
    #[error("segments before this one are missing")]
    Beginning,
    /// The log was once longer: bytes that were durable are missing at its end or between two segments.
    #[error("the log ends before a place that was known to be durable")]
    Missing,
}
