//! From a block of a file to frames, bad rows and the cursor behind them.
//!
//! Whatever is handed on is followed by its cursor before anything is awaited, so rows and cursor are
//! saved as one, or not at all. The cursor is made once a block: it lists every file that is read.

use super::super::find::Node;
use super::super::saved::{self, Places, Saved};
use super::super::source::OverlongPolicy;
use super::super::tail::Tail;
use super::Reading;
use crate::lines::Overlong;
use crate::{Bad, Lifecycle, Output, Result, overlong};

impl Reading<'_> {
    /// Hands on the lines of the block that was just read.
    pub(super) async fn emit_block(
        &mut self,
        node: Node,
        length: usize,
        out: &mut Output,
    ) -> Result<()> {
        self.turn_to(node, length, out).await?;
        if let Some(tail) = self.tails.get_mut(&node)
            && self.content.is_text
            && tail.has_only_read(length)
        {
            tail.lines.begin();
        }
        let mut at = 0;
        while at < length {
            let Some(tail) = self.tails.get_mut(&node) else {
                return Ok(());
            };
            (tail.at_end, tail.cut, tail.last_look) = (false, None, false);
            let (taken, long) = tail.lines.take(&self.block[at..length], &mut self.frames);
            at += taken;
            tail.ahead = (length - at) as u64;
            self.hand_on(node, long, out).await?;
        }
        Ok(())
    }

    /// What follows comes from this file; `length` bytes of it were read that are not handed on yet.
    async fn turn_to(&mut self, node: Node, length: usize, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get(&node) else {
            return Ok(());
        };
        out.origin(Some(tail.origin.clone())).await?;
        if self.last.replace(node) == Some(node) {
            return Ok(());
        }
        let at_start = tail.position() <= length as u64;
        match &tail.header {
            Some(header) if !at_start => out.frame(header).await,
            _ => Ok(()),
        }
    }

    /// Hands on the lines that were taken, then the overlong one behind them. Each part is followed by
    /// its cursor before anything is awaited.
    async fn hand_on(
        &mut self,
        node: Node,
        long: Option<Overlong>,
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
        self.set_ahead(node, |ahead| ahead + behind);
        if !self.frames.is_empty() {
            out.frames(&mut self.frames).await?;
            self.save(out).await?;
        }
        self.set_ahead(node, |ahead| ahead - behind);
        let Some(long) = long else { return Ok(()) };
        match self.options.overlong {
            OverlongPolicy::Dlq => out.bad(self.bad(long)).await?,
            OverlongPolicy::Truncate | OverlongPolicy::Drop => {
                let what = self.left_out(node, &long);
                let limit = self.max_frame;
                let reason = format!("a line is longer than max_frame, {limit} bytes");
                self.dropped.add(&reason, 1);
                out.lifecycle(Lifecycle::Changed { what }).await?;
            }
        }
        self.save(out).await
    }

    fn set_ahead(&mut self, node: Node, change: impl FnOnce(u64) -> u64) {
        if let Some(tail) = self.tails.get_mut(&node) {
            tail.ahead = change(tail.ahead);
        }
    }

    fn left_out(&self, node: Node, long: &Overlong) -> String {
        let path = self.tails.get(&node).map(|tail| tail.path.display());
        let path = path.map(|path| path.to_string()).unwrap_or_default();
        format!(
            "a line of {} bytes in {path} was left out, the longest taken has {}",
            long.length, self.max_frame
        )
    }

    fn bad(&self, long: Overlong) -> Bad {
        let length = usize::try_from(long.length).unwrap_or(usize::MAX);
        overlong(&long.start, length, self.max_frame)
    }

    /// Hands on the last line although it has not ended.
    pub(super) async fn finish_line(&mut self, node: Node, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        if tail.lines.pending() == 0 {
            return Ok(());
        }
        let long = tail.lines.finish(&mut self.frames);
        self.turn_to(node, 0, out).await?;
        self.hand_on(node, long, out).await
    }

    /// Everything handed on so far is covered.
    pub(super) async fn save(&self, out: &mut Output) -> Result<()> {
        let mut tails: Vec<&Tail> = self.tails.values().map(|tail| &**tail).collect();
        tails.sort_by_cached_key(|tail| self.waits_for(tail));
        let read = tails.into_iter().map(Saved::of);
        let places = Places {
            files: self.before.files().cloned().chain(read).collect(),
            gone: self.before.gone.files().to_vec(),
        };
        out.cursor(saved::cursor(&places)?).await
    }

    /// How many files are to be read before this one: so many come before it in the cursor.
    fn waits_for(&self, tail: &Tail) -> usize {
        let first = |tail: &Tail| tail.after.and_then(|node| self.tails.get(&node));
        std::iter::successors(first(tail), |tail| first(tail)).count()
    }
}
