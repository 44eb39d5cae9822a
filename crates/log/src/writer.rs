//! The writing end of a log.
//!
//! `append` writes one record with one system call, straight to the file, and never waits for an fsync: the `Syncer`
//! does that. When the segment is full the next one is begun at once. The full one is synced before anything behind it
//! counts as durable, so whatever a crash leaves, what was acknowledged is a prefix of it.
//!
//! A failed append leaves the log unchanged: the part of the record that it had written is cut off, at the latest
//! before the next append.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::disk::{Disk, DiskFile, write_full};
use crate::error::{Error, Result};
use crate::format::{
    Header, MAX_PAYLOAD, Position, RECORD_HEADER, SEGMENT_HEADER, Seed, SegmentHeader, VERSION,
    payload_crc,
};
use crate::index::push;
use crate::reader::LogReader;
use crate::recover::{Recovered, mark_path, recover};
use crate::segment::{Segment, segment_path};
use crate::shared_log::SharedLog;
use crate::syncer::LogDurability;

/// When written records become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// As soon as the disk is free. An append still returns at once: [`LogDurability::wait`] waits.
    Sync,
    /// Within `every`, or as soon as `bytes` are not yet durable, whichever comes first.
    Async {
        /// The longest time until a record is synced.
        every: Duration,
        /// Number of bytes not yet durable that triggers a sync.
        bytes: u64,
    },
}

impl Default for SyncMode {
    /// `Async` with 100 ms and 8 MiB.
    fn default() -> Self {
        SyncMode::Async {
            every: Duration::from_millis(100),
            bytes: 8 << 20,
        }
    }
}

/// The settings of a log; they may change each time it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Segment size at which the next one is begun, bytes. Default: 64 MiB. A record is never split, so a segment may
    /// be larger by one record.
    pub segment_bytes: u64,
    /// Size of the records that one entry of the index covers, bytes. Default: 1 MiB.
    pub extent_bytes: u64,
    /// When written records become durable. Default: within 100 ms or 8 MiB.
    pub mode: SyncMode,
    /// Whether to leave out and report damage rather than refuse to open the log. Default: false.
    pub skip_damaged: bool,
    /// The id of the log, which its checksums cover; it stays the same for the life of the log. Default: 0, for a log
    /// that has none.
    pub id: u64,
    /// A place that the caller knows to have been durable: a log that ends before it is damaged. A log without segments
    /// begins at its offset if its `bytes` are 0. Default: nothing is known.
    pub known: Position,
    /// Where the caller knows the log to have begun once: it begins there, or where retention says. Default: not known.
    pub known_first: Option<Position>,
}

impl LogConfig {
    pub(crate) fn seed(&self) -> Seed {
        Seed::of(self.id)
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 64 << 20,
            extent_bytes: 1 << 20,
            mode: SyncMode::default(),
            skip_damaged: false,
            id: 0,
            known: Position::default(),
            known_first: None,
        }
    }
}

/// A record to append.
#[derive(Debug, Clone, Copy, Default)]
pub struct Append<'a> {
    /// Number of rows; 0 for a record that only carries a watermark or a cursor.
    pub rows: u32,
    /// The least and greatest event time of its rows, microseconds.
    pub times: Option<(i64, i64)>,
    /// The number of the step that made it; never less than that of the record before.
    pub sequence: u64,
    /// The wall clock, microseconds since 1970: retention by age counts from it.
    pub appended_us: i64,
    /// The payload, in parts that are written one after the other; together at most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [&'a [u8]],
}

/// The only writer of a log. [`crate::lock`] keeps a second one from opening the same folder.
pub struct LogWriter {
    pub(crate) shared: Arc<SharedLog>,
    active: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    end: Position,
    /// Whether the file may have bytes of a failed append behind `end`.
    has_leftover: bool,
}

impl LogWriter {
    /// Opens the log in this folder, creating it if needed: cuts a torn end, makes durable what stays, and reports what
    /// it found. It reads the last segment, and any other without an index, whole and verifies each checksum; reading
    /// verifies segments with a sound index. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Damaged`], having changed nothing, if something that was durable is wrong or missing and
    /// `config.skip_damaged` is not set.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
    ) -> Result<(LogWriter, Recovered)> {
        disk.create_dir(dir)
            .map_err(|error| Error::io("create", dir, error))?;
        let mut opened = recover(&*disk, dir, &config)?;
        let mark = open_mark(&*disk, dir)?;
        let last = opened.segments.last().cloned();
        let active = match last.filter(|_| !opened.seal) {
            Some(last) => last,
            None => {
                let header = next_header(opened.segments.last(), &opened.report.end, &opened.floor);
                if let Some(last) = opened.segments.last() {
                    last.state().sealed = true;
                }
                let fresh = Arc::new(create(&*disk, dir, header, config.seed())?);
                opened.segments.push(fresh.clone());
                fresh
            }
        };
        let file = active.state().file.clone();
        let file =
            file.ok_or_else(|| Error::io("open", &active.path, io::ErrorKind::NotFound.into()))?;
        let shared = Arc::new(SharedLog::new(disk, dir, config, opened.segments, mark));
        let end = active.end();
        let mut log = LogWriter {
            shared,
            active,
            file,
            end,
            has_leftover: false,
        };
        log.settle(&mut opened.report)?;
        Ok((log, opened.report))
    }

    /// Makes a segment that was created while opening durable, and sets the end of the log as durable.
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

    /// Writes a record behind the last one; returns its end. Visible to readers at once, durable later.
    ///
    /// Blocks only as a write to the page cache does. An error leaves the log unchanged: after a full disk
    /// ([`Error::is_full`]) the append may be retried; after [`Error::SyncFailed`] the log must be opened again.
    pub fn append(&mut self, record: &Append<'_>) -> Result<Position> {
        self.shared.check()?;
        let mut header = self.header(record)?;
        if self.is_full() {
            self.rotate()?;
        }
        self.cut_leftover()?;
        header.synced = self.shared.durable_bytes();
        let position = self.end.bytes - self.active.header.base;
        self.write(&header, record.payload, position)?;
        {
            let mut state = self.active.state();
            let (base, size) = (self.active.header.base, self.shared.config.extent_bytes);
            push(&mut state.extents, base, position, &header, size);
            state.len = position + header.record_len();
        }
        self.end = Position {
            offset: header.end_offset(),
            sequence: header.sequence,
            bytes: self.end.bytes + header.record_len(),
        };
        self.notify_syncer();
        Ok(self.end)
    }

    /// The end of the last record.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The id of the log; 0 if it has none.
    pub fn id(&self) -> u64 {
        self.shared.config.id
    }

    /// The first row that is kept; the offset of the end if there is none.
    pub fn first_offset(&self) -> u64 {
        self.shared
            .segments()
            .first()
            .map_or(self.end.offset, |first| first.header.first_offset)
    }

    /// A handle with which any thread can read the log, also while it is written.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// A handle with which any thread can see what is durable, and request a sync or wait for it.
    pub fn durability(&self) -> LogDurability {
        LogDurability::new(self.shared.clone())
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
        let seed = self.shared.config.seed();
        let bytes: [u8; RECORD_HEADER] = header.encode(self.end.bytes, seed);
        let mut slices = Vec::with_capacity(payload.len() + 1);
        slices.push(IoSlice::new(&bytes));
        slices.extend(payload.iter().map(|part| IoSlice::new(part)));
        let Err(error) = write_full(&*self.file, &mut slices, position) else {
            return Ok(());
        };
        self.has_leftover = true;
        // If this fails too, the next append retries it before it writes.
        let _ = self.cut_leftover();
        Err(Error::io("write", &self.active.path, error))
    }

    /// Cuts off the bytes of a failed append.
    fn cut_leftover(&mut self) -> Result<()> {
        if self.has_leftover {
            let position = self.end.bytes - self.active.header.base;
            let cut = self.file.truncate(position);
            cut.map_err(|error| Error::io("truncate", &self.active.path, error))?;
            self.has_leftover = false;
        }
        Ok(())
    }

    /// Begins the next segment.
    fn rotate(&mut self) -> Result<()> {
        self.cut_leftover()?;
        let shared = &self.shared;
        let header = SegmentHeader {
            synced: shared.durable_bytes(),
            ..next_header(Some(&self.active), &self.end, &self.end)
        };
        let seed = shared.config.seed();
        let next = Arc::new(create(&*shared.disk, &shared.dir, header, seed)?);
        self.file = next
            .state()
            .file
            .clone()
            .expect("a new segment has its file open");
        shared.new_names.store(true, Ordering::Release);
        // The next segment is listed before the full one is sealed, so a reader that sees the seal finds the next.
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

    /// Wakes the syncer if the log has just become due, or begun to wait.
    fn notify_syncer(&self) {
        let (before, after) = self.shared.wrote(self.end);
        let ring = match self.shared.config.mode {
            SyncMode::Sync => true,
            SyncMode::Async { bytes, .. } => before == 0 || (before < bytes && after >= bytes),
        };
        if let Some(bell) = self.shared.bell.get().filter(|_| ring) {
            bell.ring();
        }
    }
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("dir", &self.shared.dir)
            .field("end", &self.end)
            .finish()
    }
}

/// The header of the segment that follows `before`; its place and offset are at least those of `end` and `floor`.
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
        version: VERSION,
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
fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader, seed: Seed) -> Result<Segment> {
    let path = segment_path(dir, header.base);
    let file = disk
        .create(&path)
        .map_err(|error| Error::io("create", &path, error))?;
    match write_full(&*file, &mut [IoSlice::new(&header.encode(seed))], 0) {
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
