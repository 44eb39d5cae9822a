//! Reads all files that match: a block of each in turn, in the order that rotation demands.
//!
//! A file is over when no pattern matches it any more and its writer has been quiet for a while. The
//! file that took its path waits until the old one was read to its end, so lines keep their order over a
//! rotation. `discovery.rs` opens files and decides that order, `emit.rs` hands blocks on, `idle.rs` waits
//! for changes and ends what is overdue.

mod discovery;
mod emit;
mod idle;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::cursor::FileCursor;
use super::find::{Failures, Patterns};
use super::identity::FileId;
use super::resume::ResumePoints;
use super::source_options::{FileSourceOptions, ReadFrom};
use super::tail::{ReadStep, TailedFile};
use super::watch::FolderWatcher;
use crate::formats::Frames;
use crate::lines::Framing;
use crate::{Error, Gap, Lifecycle, Output, Result, Tally};

/// Read buffer size, bytes.
const BLOCK: usize = 256 << 10;

#[derive(Debug, Clone, Copy)]
pub(super) struct FileContent {
    /// Whether it is text, which may begin with a byte order mark.
    pub is_text: bool,
    /// Whether the first line of each file names its columns.
    pub has_header: bool,
}

pub(super) struct FileFollower<'a> {
    options: &'a FileSourceOptions,
    patterns: Arc<Patterns>,
    /// Drop counter for overlong lines.
    dropped: &'a Tally,
    content: FileContent,
    framing: Framing,
    tails: BTreeMap<FileId, Box<TailedFile>>,
    /// The files to read, by path.
    order: Vec<FileId>,
    /// The files of the cursor that are not among `tails`.
    resume_points: ResumePoints,
    /// Whether files found by the next scan existed before the source was ever started.
    from_end: bool,
    watcher: FolderWatcher,
    scanned: Instant,
    /// Whether names have changed since the last scan.
    names_changed: bool,
    /// What the last scan could not read.
    failures: Failures,
    /// Why the last scan found nothing, if it did.
    why_nothing: String,
    /// The reason for `degraded` that was reported last.
    reported: Option<String>,
    /// The file that the last row came from.
    last: Option<FileId>,
    block: Vec<u8>,
    frames: Frames,
}

impl<'a> FileFollower<'a> {
    pub(super) fn new(
        options: &'a FileSourceOptions,
        patterns: Patterns,
        content: FileContent,
        saved: Option<FileCursor>,
        dropped: &'a Tally,
        out: &Output,
    ) -> Self {
        Self {
            options,
            patterns: Arc::new(patterns),
            dropped,
            content,
            framing: out.framing(),
            tails: BTreeMap::new(),
            order: Vec::new(),
            from_end: saved.is_none() && options.read_from == ReadFrom::End,
            resume_points: ResumePoints::new(saved.unwrap_or_default()),
            watcher: FolderWatcher::new(),
            scanned: Instant::now(),
            names_changed: false,
            failures: Failures::default(),
            why_nothing: String::new(),
            reported: None,
            last: None,
            block: vec![0; BLOCK],
            frames: Frames::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// Why there is nothing to read, if that is so.
    pub(super) fn why_nothing(&self) -> &str {
        &self.why_nothing
    }

    /// Reads a block of every file that has one, of one file only if `follow` is off. `false` if there
    /// was nothing to read.
    pub(super) async fn read_round(&mut self, out: &mut Output) -> Result<bool> {
        let mut progress = false;
        for at in 0..self.order.len() {
            let id = self.order[at];
            if !self.is_ready(id) {
                continue;
            }
            progress = true;
            self.read_block(id, out).await?;
            if !self.options.follow {
                break;
            }
        }
        if progress {
            self.report_lag(out);
        }
        Ok(progress)
    }

    fn is_ready(&self, id: FileId) -> bool {
        let Some(tail) = self.tails.get(&id) else {
            return false;
        };
        let first = tail.after.and_then(|id| self.tails.get(&id));
        (!tail.at_end || tail.woken) && first.is_none_or(|first| first.at_end)
    }

    async fn read_block(&mut self, id: FileId, out: &mut Output) -> Result<()> {
        let Some(mut tail) = self.tails.remove(&id) else {
            return Ok(());
        };
        let mut block = std::mem::take(&mut self.block);
        let (tail, block, step) = blocking(move || {
            let step = tail.step(&mut block);
            (tail, block, step)
        })
        .await?;
        let path = tail.path.display().to_string();
        self.tails.insert(id, tail);
        self.block = block;
        let step = step.map_err(|source| Error::Io {
            what: format!("cannot read {path}"),
            source,
        });
        match step? {
            ReadStep::Data(length) => self.emit_block(id, length, out).await,
            ReadStep::End => {
                self.end_reached(id);
                Ok(())
            }
            ReadStep::Rewritten { read } => self.rewritten(id, &path, read, out).await,
            ReadStep::Truncated { reason } => {
                self.end_reached(id);
                if let Some(tail) = self.tails.get_mut(&id) {
                    tail.truncated = Some(reason);
                }
                Ok(())
            }
            ReadStep::Damaged { read, reason } => {
                self.end_reached(id);
                out.gap(damage(&path, read, &reason)).await
            }
        }
    }

    fn end_reached(&mut self, id: FileId) {
        if let Some(tail) = self.tails.get_mut(&id)
            && !tail.at_end
        {
            tail.at_end = true;
            tail.quiet_since = Instant::now();
        }
    }

    async fn rewritten(
        &mut self,
        id: FileId,
        path: &str,
        read: u64,
        out: &mut Output,
    ) -> Result<()> {
        self.finish_line(id, out).await?;
        if let Some(tail) = self.tails.get_mut(&id) {
            tail.at_end = false;
        }
        let what = format!("{path} was truncated or rewritten after {read} bytes of it were read");
        let gap = Gap {
            reason: what.clone(),
            from: Some(format!("{path}:{read}")),
            to: Some(format!("{path}:0")),
        };
        out.lifecycle(Lifecycle::Changed { what }).await?;
        out.gap(gap).await?;
        self.save(out).await
    }
}

/// The rest of a compressed file is lost.
fn damage(path: &str, read: u64, reason: &str) -> Gap {
    Gap {
        reason: format!("{path} cannot be decompressed: {reason}"),
        from: Some(format!("{path}:{read}")),
        to: None,
    }
}

/// Runs blocking work on a thread where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Panicked {
            what: "source",
            message: error.to_string(),
        })
}
