//! The writing end of a log.
//!
//! `append` writes one record with one system call, straight to the file, and never waits for an fsync: that is the
//! `Syncer`'s. When the segment is full the next one is begun at once. The full one is synced before anything behind it
//! counts as durable, so whatever a crash leaves, what was acknowledged is a prefix of it.
//!
//! A failed append leaves the log as it was. What it had written of the record is cut off again; if even that fails,
//! it is tried before the next append.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::disk::{Disk, DiskFile, write_full};
use crate::durable::Shared;
use crate::error::{Error, Result};
use crate::format::{
    Header, MAX_PAYLOAD, Position, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, payload_crc,
};
use crate::index::push;
use crate::reader::LogReader;
use crate::recover::{Recovered, mark_path, recover};
use crate::segment::{Segment, segment_path};
use crate::syncer::Durability;

/// When what was written becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As soon as the disk is free; whoever must be sure waits for it ([`Durability::wait`]).
    Sync,
    /// Within `every`, or when `bytes` are not yet durable, whichever comes first.
    Async {
        /// The longest that a record stays not durable.
        every: Duration,
        /// The most bytes that stay not durable.
        bytes: u64,
    },
}

impl Default for Mode {
    /// 100 ms or 8 MiB.
    fn default() -> Self {
        Mode::Async {
            every: Duration::from_millis(100),
            bytes: 8 << 20,
        }
    }
}

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// When a segment has this many bytes the next one is begun; 64 MiB unless said otherwise. A record is never split, so a
    /// segment may be larger by one record.
    pub segment_bytes: u64,
    /// How many bytes of records one entry of the index covers; 1 MiB unless said otherwise.
    pub extent_bytes: u64,
    /// When what was written becomes durable.
    pub mode: Mode,
    /// Go on without what is damaged, and report it, rather than refuse to open the log.
    pub skip_damaged: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes: 64 << 20,
            extent_bytes: 1 << 20,
            mode: Mode::default(),
            skip_damaged: false,
        }
    }
}

/// A record to be appended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Append<'a> {
    /// How many rows it holds; 0 for a record that only carries a watermark or a cursor.
    pub rows: u32,
    /// The least and greatest event time of its rows, in microseconds.
    pub times: Option<(i64, i64)>,
    /// The number of the step that made it; never less than that of the record before.
    pub sequence: u64,
    /// The wall clock, in microseconds since 1970: retention by age counts from it.
    pub appended_us: i64,
    /// The bytes, in parts that are written one after the other; together at most [`MAX_PAYLOAD`].
    pub payload: &'a [&'a [u8]],
}

/// The one writer of a log. Keep two from opening the same folder with [`crate::lock`].
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    active: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    end: Position,
    /// Whether the file may have bytes of a failed append behind its end.
    untidy: bool,
}

impl Log {
    /// Opens the log in this folder, creating it if need be: cuts a torn end, makes durable what stays, and says what
    /// it found. The last segment, and any other without an index, is read whole and each checksum verified; segments with a
    /// sound index are verified when they are read. Blocks on the disk.
    ///
    /// Fails with [`Error::Damaged`], having changed nothing, if something that was durable is wrong or missing and
    /// `config.skip_damaged` is not set.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: Config) -> Result<(Log, Recovered)> {
        disk.create_dir(dir)
            .map_err(|error| Error::io("create", dir, error))?;
        let mut opened = recover(&*disk, dir, config.extent_bytes, config.skip_damaged)?;
        let mark = open_mark(&*disk, dir)?;
        let last = opened.segments.last().cloned();
        let active = match last.filter(|_| !opened.seal) {
            Some(last) => last,
            None => {
                let header = next_header(opened.segments.last(), &opened.report.end, &opened.floor);
                if let Some(last) = opened.segments.last() {
                    last.state().sealed = true;
                }
                let fresh = Arc::new(create(&*disk, dir, header)?);
                opened.segments.push(fresh.clone());
                fresh
            }
        };
        let file = active.state().file.clone();
        let file =
            file.ok_or_else(|| Error::io("open", &active.path, io::ErrorKind::NotFound.into()))?;
        let shared = Arc::new(Shared::new(disk, dir, config, opened.segments, mark));
        let end = active.end();
        let mut log = Log {
            shared,
            active,
            file,
            end,
            untidy: false,
        };
        log.settle(&mut opened.report)?;
        Ok((log, opened.report))
    }

    /// Makes a segment that was created while opening durable, and takes the end of the log as durable.
    fn settle(&mut self, report: &mut Recovered) -> Result<()> {
        let shared = &self.shared;
        let syncing = |error| Error::io("sync", &self.active.path, error);
        if self.active.state().extents.is_empty() {
            self.file.sync().map_err(syncing)?;
            shared.disk.sync_dir(&shared.dir).map_err(syncing)?;
        }
        shared.begin(self.end);
        let segments = shared.segments();
        shared.write_indexes(&segments, self.end.bytes);
        report.end = self.end;
        report.segments = segments.len();
        Ok(())
    }

    /// Writes a record behind the last one; where it ends. Visible to readers at once, durable later.
    ///
    /// Blocks only as a write to the page cache does. On an error the log is as it was: a full disk
    /// ([`Error::is_full`]) may be tried again; after [`Error::SyncFailed`] the log must be opened again.
    pub fn append(&mut self, record: &Append<'_>) -> Result<Position> {
        self.shared.check()?;
        let mut header = self.header(record)?;
        if self.is_full() {
            self.rotate()?;
        }
        self.tidy()?;
        header.synced = self.shared.durable_bytes();
        let position = self.end.bytes - self.active.header.base;
        self.write(&header, record.payload, position)?;
        {
            let mut state = self.active.state();
            let extent_bytes = self.shared.config.extent_bytes;
            push(
                &mut state.extents,
                self.active.header.base,
                position,
                &header,
                extent_bytes,
            );
            state.len = position + header.record_len();
        }
        self.end = Position {
            offset: header.end_offset(),
            sequence: header.sequence,
            bytes: self.end.bytes + header.record_len(),
        };
        self.tell();
        Ok(self.end)
    }

    /// Where the last record ends.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The first row that is kept; equal to the end's offset if there is none.
    pub fn first_offset(&self) -> u64 {
        self.shared
            .segments()
            .first()
            .map_or(self.end.offset, |first| first.header.first_offset)
    }

    /// A handle to read the log with, from any thread, also while it is written.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// A handle to learn what is durable, to ask and to wait for it, from any thread.
    pub fn durability(&self) -> Durability {
        Durability::new(self.shared.clone())
    }

    /// Makes everything durable and ends the writing. Blocks for an fsync.
    pub fn close(self) -> Result<Position> {
        self.shared.sync()
    }

    fn header(&self, record: &Append<'_>) -> Result<Header> {
        let bytes: u64 = record.payload.iter().map(|part| part.len() as u64).sum();
        if bytes > MAX_PAYLOAD {
            return Err(Error::TooLarge {
                bytes,
                limit: MAX_PAYLOAD,
            });
        }
        if record.sequence < self.end.sequence {
            let (sequence, last) = (record.sequence, self.end.sequence);
            return Err(Error::Backwards { sequence, last });
        }
        if let Some((min, max)) = record.times.filter(|(min, max)| min > max) {
            return Err(Error::Times { min, max });
        }
        Ok(Header {
            first_offset: self.end.offset,
            sequence: record.sequence,
            appended_us: record.appended_us,
            times: record.times,
            synced: 0,
            rows: record.rows,
            payload_len: bytes as u32,
            payload_crc: payload_crc(record.payload),
        })
    }

    fn is_full(&self) -> bool {
        let position = self.end.bytes - self.active.header.base;
        position >= self.shared.config.segment_bytes && position > SEGMENT_HEADER as u64
    }

    fn write(&mut self, header: &Header, payload: &[&[u8]], position: u64) -> Result<()> {
        let bytes: [u8; RECORD_HEADER] = header.encode(self.end.bytes);
        let mut slices = Vec::with_capacity(payload.len() + 1);
        slices.push(IoSlice::new(&bytes));
        slices.extend(payload.iter().map(|part| IoSlice::new(part)));
        let Err(error) = write_full(&*self.file, &mut slices, position) else {
            return Ok(());
        };
        self.untidy = true;
        // If this fails too it is tried again before the next record is written.
        let _ = self.tidy();
        Err(Error::io("write", &self.active.path, error))
    }

    /// Cuts off what a failed append has left.
    fn tidy(&mut self) -> Result<()> {
        if self.untidy {
            let position = self.end.bytes - self.active.header.base;
            let cut = self.file.truncate(position);
            cut.map_err(|error| Error::io("truncate", &self.active.path, error))?;
            self.untidy = false;
        }
        Ok(())
    }

    /// Begins the next segment.
    fn rotate(&mut self) -> Result<()> {
        self.tidy()?;
        let shared = &self.shared;
        let header = SegmentHeader {
            synced: shared.durable_bytes(),
            ..next_header(Some(&self.active), &self.end, &self.end)
        };
        let next = Arc::new(create(&*shared.disk, &shared.dir, header)?);
        self.file = next
            .state()
            .file
            .clone()
            .expect("a new segment has its file open");
        shared.new_names.store(true, Ordering::Release);
        // Before it is sealed its successor is there, so a reader that sees the seal finds where to go on.
        shared
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(next.clone());
        self.active.state().sealed = true;
        self.active = next;
        self.end = self.active.end();
        Ok(())
    }

    /// Tells the syncing side that there is something to do.
    fn tell(&self) {
        let (before, after) = self.shared.wrote(self.end);
        let ring = match self.shared.config.mode {
            Mode::Sync => true,
            Mode::Async { bytes, .. } => before == 0 || (before < bytes && after >= bytes),
        };
        if let Some(bell) = self.shared.bell.get().filter(|_| ring) {
            bell.ring();
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.shared.dir)
            .field("end", &self.end)
            .finish()
    }
}

/// The header of a segment that follows this one; `end` and `floor` say with which offset and place it may begin.
fn next_header(before: Option<&Arc<Segment>>, end: &Position, floor: &Position) -> SegmentHeader {
    let previous = before.map(|before| before.end());
    let base = previous
        .map_or(0, |previous| previous.bytes)
        .max(end.bytes)
        .max(floor.bytes);
    let previous = previous.unwrap_or(Position {
        bytes: base,
        ..*floor
    });
    let first_offset = previous.offset.max(end.offset).max(floor.offset);
    let sequence = previous.sequence.max(floor.sequence);
    SegmentHeader {
        base,
        first_offset,
        previous: Position {
            sequence,
            ..previous
        },
        synced: 0,
    }
}

/// Creates a segment's file with its header; nothing of it is durable yet.
fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader) -> Result<Segment> {
    let path = segment_path(dir, header.base);
    let file = disk
        .create(&path)
        .map_err(|error| Error::io("create", &path, error))?;
    match write_full(&*file, &mut [IoSlice::new(&header.encode())], 0) {
        Ok(()) => Ok(Segment::fresh(dir, header, file)),
        Err(error) => {
            // An empty or torn segment at the end is cut when the log is opened, so a failure here does no harm.
            let _ = disk.remove(&path);
            Err(Error::io("write", &path, error))
        }
    }
}

fn open_mark(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>> {
    let path = mark_path(dir);
    let file = match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path),
        other => other,
    };
    file.map_err(|error| Error::io("open", &path, error))
}
