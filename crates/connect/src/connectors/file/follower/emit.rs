//! Turns a block of a file into frames, bad rows and the cursor behind them.
//!
//! The cursor follows the rows it covers before anything is awaited, so both are saved together, or not
//! at all. It is made once a block: it lists every file that is read.

use super::super::cursor::{FileCursor, SavedFile};
use super::super::identity::FileId;
use super::super::source_options::OverlongPolicy;
use super::super::tail::TailedFile;
use super::FileFollower;
use crate::lines::OverlongLine;
use crate::{Cursor, Lifecycle, Output, Result};

impl FileFollower<'_> {
    /// Hands on the lines of the block that was just read.
    pub(super) async fn emit_block(
        &mut self,
        id: FileId,
        length: usize,
        out: &mut Output,
    ) -> Result<()> {
        self.switch_to(id, length, out).await?;
        if let Some(tail) = self.tails.get_mut(&id)
            && self.content.is_text
            && tail.is_first_block(length)
        {
            tail.lines.begin();
        }
        let mut at = 0;
        while at < length {
            let Some(tail) = self.tails.get_mut(&id) else {
                return Ok(());
            };
            (tail.at_end, tail.truncated, tail.final_read) = (false, None, false);
            let (taken, long) = tail.lines.take(&self.block[at..length], &mut self.frames);
            at += taken;
            tail.ahead = (length - at) as u64;
            self.hand_on(id, long, out).await?;
        }
        Ok(())
    }

    /// Makes this file the origin of what follows; `length` bytes of it were read and not handed on yet.
    async fn switch_to(&mut self, id: FileId, length: usize, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get(&id) else {
            return Ok(());
        };
        out.origin(Some(tail.origin.clone())).await?;
        if self.last.replace(id) == Some(id) {
            return Ok(());
        }
        let at_start = tail.position() <= length as u64;
        match &tail.header {
            Some(header) if !at_start => out.frame(header).await,
            _ => Ok(()),
        }
    }

    /// Hands on the lines that were split off, then the overlong one behind them, each with its cursor.
    async fn hand_on(
        &mut self,
        id: FileId,
        long: Option<OverlongLine>,
        out: &mut Output,
    ) -> Result<()> {
        let (long, cut) = match self.options.overlong {
            OverlongPolicy::Truncate => (None, long),
            OverlongPolicy::Dlq | OverlongPolicy::Drop => (long, None),
        };
        if let Some(long) = cut {
            self.frames.push(&long.start);
        }
        let behind = long.as_ref().map_or(0, |long| long.taken);
        self.set_ahead(id, |ahead| ahead + behind);
        if !self.frames.is_empty() {
            out.frames(&mut self.frames).await?;
            self.save(out).await?;
        }
        self.set_ahead(id, |ahead| ahead - behind);
        let Some(long) = long else { return Ok(()) };
        match self.options.overlong {
            OverlongPolicy::Dlq => out.bad(long.into_bad(self.framing.max)).await?,
            OverlongPolicy::Truncate | OverlongPolicy::Drop => {
                let what = self.left_out(id, &long);
                let limit = self.framing.max;
                let reason = format!("a line is longer than max_frame, {limit} bytes");
                self.dropped.add(&reason, 1);
                out.lifecycle(Lifecycle::Changed { what }).await?;
            }
        }
        self.save(out).await
    }

    fn set_ahead(&mut self, id: FileId, change: impl FnOnce(u64) -> u64) {
        if let Some(tail) = self.tails.get_mut(&id) {
            tail.ahead = change(tail.ahead);
        }
    }

    fn left_out(&self, id: FileId, long: &OverlongLine) -> String {
        let path = self.tails.get(&id).map(|tail| tail.path.display());
        let path = path.map(|path| path.to_string()).unwrap_or_default();
        format!(
            "a line of {} bytes in {path} was dropped, the longest taken has {}",
            long.length, self.framing.max
        )
    }

    /// Hands on the last line although it has not ended.
    pub(super) async fn finish_line(&mut self, id: FileId, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&id) else {
            return Ok(());
        };
        if tail.lines.pending() == 0 {
            return Ok(());
        }
        let long = tail.lines.finish(&mut self.frames);
        self.switch_to(id, 0, out).await?;
        self.hand_on(id, long, out).await
    }

    /// Hands on a cursor that covers everything handed on so far.
    pub(super) async fn save(&self, out: &mut Output) -> Result<()> {
        let mut tails: Vec<&TailedFile> = self.tails.values().map(|tail| &**tail).collect();
        tails.sort_by_cached_key(|tail| self.waits_for(tail));
        let read = tails.into_iter().map(SavedFile::of);
        let cursor = FileCursor {
            files: self.resume_points.files().cloned().chain(read).collect(),
            gone: self.resume_points.gone.files().to_vec(),
        };
        out.cursor(Cursor::of(&cursor)?).await
    }

    /// The number of files that must be read before this one, and that precede it in the cursor.
    fn waits_for(&self, tail: &TailedFile) -> usize {
        let first = |tail: &TailedFile| tail.after.and_then(|id| self.tails.get(&id));
        std::iter::successors(first(tail), |tail| first(tail)).count()
    }
}
