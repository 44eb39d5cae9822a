//! What can go wrong with a log, said to a person.
//!
//! Two kinds must not be mixed up. What ends the log after a crash (a torn tail) is no error: it is cut when the log
//! is opened, and reported as a [`Cut`]. What lies *before* something known to be durable and cannot be read is
//! [`Damage`]: acknowledged data is gone, and nobody but a person may decide to go on without it. What that person
//! can do: restore the named file from a backup, or open the log with `Config::skip_damaged`, which keeps the file
//! as it is, leaves out the rows named, and goes on behind them.
//!
//! A full disk is an [`Error::Io`] for which [`Error::is_full`] holds: the append may simply be tried again. After
//! [`Error::SyncFailed`] nothing may be tried again but opening the log anew.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What every function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a log could not do what was asked.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused. An append that failed so left the log as it was and may be tried again.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The verb: `write`, `open`, ...
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were durable are wrong or missing.
    #[error("{0}")]
    Damaged(Damage),
    /// The file was written by a later version of this crate.
    #[error("{} has format version {found}; this build reads version {known}", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// The version it names.
        found: u32,
        /// The version this build reads and writes.
        known: u32,
    },
    /// Retention has removed what was asked for.
    #[error("offset {wanted} is no longer kept; the first kept offset is {first_kept}")]
    Removed {
        /// The first row that was wanted.
        wanted: u64,
        /// The first row still there.
        first_kept: u64,
    },
    /// A record's payload is larger than a record may be.
    #[error("a record of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Bytes of the payload.
        bytes: u64,
        /// [`crate::MAX_PAYLOAD`].
        limit: u64,
    },
    /// Sequence numbers never go back.
    #[error("sequence {sequence} is less than {last}, the last one appended")]
    Backwards {
        /// The sequence given.
        sequence: u64,
        /// The last one in the log.
        last: u64,
    },
    /// The event time range ends before it begins.
    #[error("an event time range begins at {min} and ends before, at {max}")]
    Times {
        /// Its least time, in microseconds.
        min: i64,
        /// Its greatest time, in microseconds.
        max: i64,
    },
    /// An fsync failed, so what was written since the last good one may be gone although it can still be read, and a
    /// second fsync would not tell. The log takes nothing more until it is opened again.
    #[error("an fsync of {} failed ({cause}); the log must be opened again before it can be written", path.display())]
    SyncFailed {
        /// The log's folder.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Another process (or another handle of this one) has the data folder.
    #[error("the data folder {} is in use{}", folder.display(), Holder(*pid))]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process that has it, if the lock file tells.
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

    /// Whether the disk or a quota is full: an append that failed so can be tried again when there is room.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " by process {pid}"),
            None => f.write_str(" by another process"),
        }
    }
}

/// A stretch of a log that was durable and cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment in which, or behind which, it lies.
    pub file: PathBuf,
    /// Its first byte in that file.
    pub position: u64,
    /// How many bytes are unreadable or missing.
    pub bytes: u64,
    /// The rows lost with it; empty if only records without rows, or none, were hit.
    pub offsets: Range<u64>,
    /// What is wrong at `position`.
    pub why: Why,
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

/// A torn end that was cut off when the log was opened: bytes that were written and never became durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment. It is gone altogether if `position` is 0.
    pub file: PathBuf,
    /// Where the file ends now.
    pub position: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// The first row that was cut, if the bytes held any: the log goes on with this offset.
    pub offset: u64,
    /// What is wrong at `position`.
    pub why: Why,
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

/// What is wrong with bytes that should be a record.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The file ends within a header or a payload.
    #[error("the file ends in the middle of a record")]
    Torn,
    /// The first four bytes are not those of a record.
    #[error("no record begins here")]
    Marker,
    /// The record header's checksum is wrong.
    #[error("the record header does not match its checksum")]
    Header,
    /// The payload's checksum is wrong.
    #[error("the payload does not match its checksum")]
    Payload,
    /// A sound record, but not the one that follows here.
    #[error("a record with offset {found} stands where offset {expected} should")]
    Order {
        /// The offset that should follow.
        expected: u64,
        /// The offset that does.
        found: u64,
    },
    /// The segment's own header is wrong or incomplete.
    #[error("the segment header is wrong or incomplete")]
    Segment,
    /// Something that came before it is missing, so it cannot be used.
    #[error("what comes before it is missing")]
    Orphan,
    /// The log once reached further.
    #[error("the log ends before a place that was known to be durable")]
    Missing,
}
