//! The state that the writer, the readers and the syncer of one log share, and how it becomes durable.
//!
//! `written` is where the last whole record ends, `durable` the place up to which an fsync has succeeded. One `sync`
//! makes durable all that was written before it began, in the order of the segments, and wakes all waiters (group
//! commit). It then writes the place to the mark (a small file that is never synced: it may be late, never wrong), and
//! writes the index of each segment that is now sealed and durable.
//!
//! A failed fsync ends the log: the kernel may have dropped the bytes and would report success the next time.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile, write_full};
use crate::error::{Error, Result};
use crate::format::{MARK_MAGIC, Position, encode_mark};
use crate::segment::{Segment, index_path, locked};
use crate::syncer::SyncBell;
use crate::writer::LogConfig;

pub(crate) struct SharedLog {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub config: LogConfig,
    /// In the order of the log, the oldest first.
    pub segments: RwLock<Vec<Arc<Segment>>>,
    /// Whether a segment was created since the last sync of the folder.
    pub new_names: AtomicBool,
    progress: Mutex<SyncProgress>,
    moved: Condvar,
    /// `progress.durable.bytes` for the writer, without the lock; it may lag behind.
    durable_bytes: AtomicU64,
    /// The mark's file; locked during an fsync, so that there is one at a time.
    mark: Mutex<Arc<dyn DiskFile>>,
    wakers: Mutex<Vec<Waker>>,
    pub bell: OnceLock<Arc<SyncBell>>,
    /// Whether a sync was requested since the syncer last looked.
    pub asked: AtomicBool,
}

type Waker = Arc<dyn Fn(Result<Position>) + Send + Sync>;

#[derive(Default)]
struct SyncProgress {
    written: Position,
    durable: Position,
    failed: Option<String>,
    /// Number of fsyncs since the log was opened.
    syncs: u64,
}

impl SharedLog {
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        segments: Vec<Arc<Segment>>,
        mark: Arc<dyn DiskFile>,
    ) -> Self {
        SharedLog {
            disk,
            dir: dir.to_owned(),
            config,
            segments: RwLock::new(segments),
            new_names: AtomicBool::new(false),
            progress: Mutex::default(),
            moved: Condvar::new(),
            durable_bytes: AtomicU64::new(0),
            mark: Mutex::new(mark),
            wakers: Mutex::default(),
            bell: OnceLock::new(),
            asked: AtomicBool::new(false),
        }
    }

    /// Sets the end of a log that was just opened: everything before `at` is written and durable.
    pub fn begin(&self, at: Position) {
        let mut progress = locked(&self.progress);
        (progress.written, progress.durable) = (at, at);
        self.durable_bytes.store(at.bytes, Ordering::Relaxed);
    }

    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A lower bound of the place up to which the log is durable.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes.load(Ordering::Relaxed)
    }

    pub fn durable(&self) -> Position {
        locked(&self.progress).durable
    }

    pub fn written(&self) -> Position {
        locked(&self.progress).written
    }

    pub fn syncs(&self) -> u64 {
        locked(&self.progress).syncs
    }

    /// An error if an fsync has failed.
    pub fn check(&self) -> Result<()> {
        self.failure(&locked(&self.progress))
    }

    fn failure(&self, progress: &SyncProgress) -> Result<()> {
        match &progress.failed {
            None => Ok(()),
            Some(cause) => Err(Error::SyncFailed {
                path: self.dir.clone(),
                cause: cause.clone(),
            }),
        }
    }

    /// Moves the written end behind a whole record; returns the number of bytes not yet durable without and with it.
    pub fn wrote(&self, end: Position) -> (u64, u64) {
        let mut progress = locked(&self.progress);
        let before = progress.written.bytes - progress.durable.bytes;
        progress.written = end;
        (before, end.bytes - progress.durable.bytes)
    }

    /// Blocks until `place` is durable.
    pub fn wait(&self, place: Position) -> Result<()> {
        let mut progress = locked(&self.progress);
        while progress.durable.bytes < place.bytes {
            self.failure(&progress)?;
            progress = self
                .moved
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    pub fn wake_with(&self, waker: Waker) {
        locked(&self.wakers).push(waker);
    }

    /// Makes durable all that is written by now. Blocks for an fsync; the writer goes on meanwhile.
    pub fn sync(&self) -> Result<Position> {
        let mark = locked(&self.mark);
        let (written, durable) = {
            let progress = locked(&self.progress);
            self.failure(&progress)?;
            (progress.written, progress.durable)
        };
        if written.bytes == durable.bytes {
            return Ok(durable);
        }
        let segments = self.segments();
        let synced = self.sync_files(&segments);
        self.publish(synced.map(|()| written));
        self.check()?;
        // The mark and the indexes only save work or locate damage after a crash, so the log goes on without them.
        let bytes = encode_mark(MARK_MAGIC, &written, self.config.seed());
        if let Err(error) = write_full(&**mark, &mut [IoSlice::new(&bytes)], 0) {
            tracing::warn!(folder = %self.dir.display(), %error, "cannot write the durable mark of a log");
        }
        self.write_indexes(&segments, written.bytes);
        Ok(written)
    }

    fn sync_files(&self, segments: &[Arc<Segment>]) -> io::Result<()> {
        for segment in segments {
            let file = segment.state().file.clone();
            file.map_or(Ok(()), |file| file.sync())?;
        }
        match self.new_names.swap(false, Ordering::AcqRel) {
            true => self.disk.sync_dir(&self.dir),
            false => Ok(()),
        }
    }

    fn publish(&self, synced: io::Result<Position>) {
        {
            let mut progress = locked(&self.progress);
            progress.syncs += 1;
            match synced {
                Ok(durable) => progress.durable = durable,
                Err(error) => progress.failed = Some(error.to_string()),
            }
            self.durable_bytes
                .store(progress.durable.bytes, Ordering::Relaxed);
        }
        self.moved.notify_all();
        let wakers = locked(&self.wakers).clone();
        wakers
            .iter()
            .for_each(|wake| wake(self.check().map(|()| self.durable())));
    }

    /// Writes the index of each sealed segment that ends at or before `durable` and still has its file open.
    pub fn write_indexes(&self, segments: &[Arc<Segment>], durable: u64) {
        for segment in segments {
            let done = {
                let state = segment.state();
                state.sealed && state.file.is_some() && segment.header.base + state.len <= durable
            };
            if !done {
                continue;
            }
            let path = index_path(&self.dir, segment.header.base);
            let bytes = segment.index().encode(self.config.seed());
            let written = self.disk.create(&path);
            let written =
                written.and_then(|file| write_full(&*file, &mut [IoSlice::new(&bytes)], 0));
            if let Err(error) = written {
                tracing::warn!(index = %path.display(), %error, "cannot write the index of a segment; the next open will read the whole segment");
            }
            segment.state().file = None;
        }
    }
}
