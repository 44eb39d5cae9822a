//! All files being read: finding them, reading a block of each in turn, and knowing when one is over.
//!
//! A file is over when no pattern leads to it any more and its writer has been quiet for a while. The
//! one that took its path waits until all that is there of it was read, so lines keep their order
//! over a rotation. What is made of a block is left to `emit.rs`.

mod emit;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::find::{Found, Node, Patterns};
use super::resume::Before;
use super::saved::{Places, Saved};
use super::source::{FileSourceOptions, ReadFrom};
use super::tail::{Step, Tail};
use super::watch::Changes;
use crate::formats::Frames;
use crate::{Error, Gap, Lifecycle, Output, Result, Tally};

/// So many bytes are read at once.
const BLOCK: usize = 256 << 10;
/// Names that come and go in a hurry are looked at no more often than this.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is in the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    /// Whether it is text, before which a mark may stand.
    pub is_text: bool,
    /// Whether the first line of each file names its columns.
    pub has_header: bool,
}

pub(super) struct Reading<'a> {
    options: &'a FileSourceOptions,
    patterns: Arc<Patterns>,
    /// Counts the lines that are left out.
    dropped: &'a Tally,
    content: Content,
    max_frame: usize,
    tails: BTreeMap<Node, Box<Tail>>,
    /// The files to read, by path.
    order: Vec<Node>,
    /// Files of the cursor that were not found yet.
    before: Before,
    /// Whether files that are found now were there before the source was ever started.
    from_end: bool,
    changes: Changes,
    looked: Instant,
    /// Whether names have changed since then.
    names_changed: bool,
    /// What could not be read when it was looked for last.
    failures: Vec<String>,
    /// Why nothing was found then, if that is so.
    why_nothing: String,
    /// Why the source is degraded, as far as it was told.
    reported: Option<String>,
    /// The file whose rows came last.
    last: Option<Node>,
    block: Vec<u8>,
    frames: Frames,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        options: &'a FileSourceOptions,
        patterns: Patterns,
        content: Content,
        saved: Option<Places>,
        dropped: &'a Tally,
        out: &Output,
    ) -> Self {
        Self {
            options,
            patterns: Arc::new(patterns),
            dropped,
            content,
            max_frame: out.max_frame(),
            tails: BTreeMap::new(),
            order: Vec::new(),
            from_end: saved.is_none() && options.read_from == ReadFrom::End,
            before: Before::new(saved.unwrap_or_default()),
            changes: Changes::new(),
            looked: Instant::now(),
            names_changed: false,
            failures: Vec::new(),
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

    // Finding.

    /// Looks what files there are.
    pub(super) async fn look(&mut self, out: &mut Output) -> Result<()> {
        self.looked = Instant::now();
        self.names_changed = false;
        let patterns = self.patterns.clone();
        let mut found = blocking(move || patterns.find()).await?;
        self.changes.watch(std::mem::take(&mut found.folders));
        let from_end = self.from_end;
        let names = self.follow_names(&found, out).await?;
        let nodes = Arc::new(self.before.nodes_among(&found));
        for (node, path) in &found.files {
            if !self.tails.contains_key(node) {
                let opened = self.open(path.clone(), nodes.clone()).await?;
                match opened {
                    Ok(tail) => self.take_on(tail, names.get(path).copied()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        found
                            .failures
                            .push(format!("cannot open {}: {error}", path.display()));
                    }
                }
            }
        }
        self.from_end = false;
        let mut told = self.tell_back(out).await?;
        told |= found.failures.is_empty() && self.find_moved(&found, out).await?;
        self.queue_up();
        self.order = self.tails.keys().copied().collect();
        self.order
            .sort_by(|a, b| self.tails[a].path.cmp(&self.tails[b].path));
        self.why_nothing = found.why_nothing();
        self.failures = found.failures;
        match from_end || told {
            // Where a file is begun, and what was told, are known after a crash as well.
            true => self.save(out).await,
            false => Ok(()),
        }
    }

    /// Tells what keeps files from being read.
    pub(super) fn report(&mut self, out: &mut Output) {
        let nothing = self.tails.is_empty().then_some("no file matches yet");
        let reasons = self.failures.iter().map(String::as_str).chain(nothing);
        let reason = reasons.collect::<Vec<_>>().join("; ");
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        if reason != self.reported {
            self.reported.clone_from(&reason);
            out.degraded(reason);
        }
    }

    /// Notes which files have other names now, or none. Returns who had which name before.
    async fn follow_names(
        &mut self,
        found: &Found,
        out: &mut Output,
    ) -> Result<HashMap<PathBuf, Node>> {
        let taken: Vec<&PathBuf> = found.files.values().collect();
        let mut before = HashMap::new();
        let mut changes = Vec::new();
        for (node, tail) in &mut self.tails {
            before.insert(tail.path.clone(), *node);
            match found.files.get(node) {
                Some(path) => {
                    tail.gone = None;
                    tail.call(path);
                }
                None if tail.gone.is_none() => {
                    tail.gone = Some(Instant::now());
                    (tail.woken, tail.at_end) = (true, false);
                    let how = if taken.contains(&&tail.path) {
                        "replaced"
                    } else {
                        "removed"
                    };
                    changes.push(format!("{} was {how}", tail.path.display()));
                }
                None => {}
            }
        }
        for what in changes {
            out.lifecycle(Lifecycle::Changed { what }).await?;
        }
        Ok(before)
    }

    /// Opens a file, where the cursor says or else where the options say.
    async fn open(
        &mut self,
        path: PathBuf,
        nodes: Arc<HashSet<Node>>,
    ) -> Result<std::io::Result<Box<Tail>>> {
        let (max, from_end) = (self.max_frame, self.from_end);
        let has_header = self.content.has_header;
        let mut before = std::mem::take(&mut self.before);
        let (opened, before) = blocking(move || {
            let open = || {
                let mut tail = Box::new(Tail::open(path, max)?);
                let resumed = before.resume(&mut tail, &nodes)?;
                if !resumed && from_end {
                    tail.skip_to_end()?;
                }
                if has_header {
                    tail.read_header()?;
                }
                Ok(tail)
            };
            (open(), before)
        })
        .await?;
        self.before = before;
        Ok(opened)
    }

    fn take_on(&mut self, tail: Box<Tail>, before: Option<Node>) {
        let node = tail.node;
        self.tails.insert(node, tail);
        let Some(before) = before.filter(|before| *before != node) else {
            return;
        };
        self.read_after(node, before);
        if let Some(before) = self.tails.get_mut(&before) {
            (before.woken, before.at_end) = (true, false);
        }
    }

    /// Tells which files that were gone are read on. Returns whether there were any.
    async fn tell_back(&mut self, out: &mut Output) -> Result<bool> {
        let back = self.before.gone.take_back();
        let told = !back.is_empty();
        for what in back {
            out.lifecycle(Lifecycle::Changed { what }).await?;
        }
        Ok(told)
    }

    /// Files of the cursor that no pattern leads to: moved within their folder while we were away, or
    /// gone with what was not read of them. Returns whether a gap was told.
    async fn find_moved(&mut self, found: &Found, out: &mut Output) -> Result<bool> {
        let mut told = false;
        for (rank, saved) in self.before.take() {
            if !self.tails.contains_key(&saved.node()) && found.files.contains_key(&saved.node()) {
                // It could not be opened.
                self.before.keep(rank, saved);
                continue;
            }
            let path = saved.path.display().to_string();
            let mut gap = Gap {
                reason: format!("{path} was written anew since it was last read"),
                from: Some(format!("{path}:{}", saved.position)),
                to: Some(format!("{path}:0")),
            };
            if self.tails.contains_key(&saved.node()) {
                out.gap(gap).await?;
                told = true;
                continue;
            }
            let max = self.max_frame;
            let (moved, saved) = blocking(move || (saved.moved(max), saved)).await?;
            let Some(mut tail) = moved else {
                gap.reason = format!("{path} is gone: what was added to it since is not known");
                gap.to = None;
                out.gap(gap).await?;
                told = true;
                self.before.gone.keep(saved);
                continue;
            };
            tail.gone = Some(Instant::now());
            self.before.has_moved(rank, saved.path, tail.node);
            self.tails.insert(tail.node, tail);
        }
        Ok(told)
    }

    /// A file that has moved while we were away is read before the one that took its path.
    fn queue_up(&mut self) {
        for (path, moved) in self.before.take_moved() {
            let mut next = None;
            for first in moved {
                if let Some(next) = next {
                    self.read_after(first, next);
                }
                next = Some(first);
            }
            let took = self
                .tails
                .values()
                .find(|tail| tail.path == path && tail.gone.is_none());
            if let (Some(last), Some(took)) = (next, took.map(|tail| tail.node)) {
                self.read_after(took, last);
            }
        }
    }

    /// Has `node` wait for `first`, unless that would wait for it in turn.
    fn read_after(&mut self, node: Node, first: Node) {
        let mut at = Some(first);
        while let Some(other) = at {
            if other == node {
                return;
            }
            at = self.tails.get(&other).and_then(|tail| tail.after);
        }
        if let Some(tail) = self.tails.get_mut(&node) {
            tail.after = Some(first);
        }
    }

    // Reading.

    /// Reads a block of every file that has one, of one file only if none is followed. `false` if
    /// there was nothing to read.
    pub(super) async fn turn(&mut self, out: &mut Output) -> Result<bool> {
        let mut progress = false;
        for at in 0..self.order.len() {
            let node = self.order[at];
            if !self.is_ready(node) {
                continue;
            }
            progress = true;
            self.step(node, out).await?;
            if !self.options.follow {
                break;
            }
        }
        if progress {
            self.tell_lag(out);
        }
        Ok(progress)
    }

    fn is_ready(&self, node: Node) -> bool {
        let Some(tail) = self.tails.get(&node) else {
            return false;
        };
        let first = tail.after.and_then(|node| self.tails.get(&node));
        (!tail.at_end || tail.woken) && first.is_none_or(|first| first.at_end)
    }

    async fn step(&mut self, node: Node, out: &mut Output) -> Result<()> {
        let Some(mut tail) = self.tails.remove(&node) else {
            return Ok(());
        };
        let mut block = std::mem::take(&mut self.block);
        let (tail, block, step) = blocking(move || {
            let step = tail.step(&mut block);
            (tail, block, step)
        })
        .await?;
        let what = format!("cannot read {}", tail.path.display());
        self.tails.insert(node, tail);
        self.block = block;
        match step.map_err(|source| Error::Io { what, source })? {
            Step::Data(length) => self.emit_block(node, length, out).await,
            Step::End => {
                self.end_reached(node);
                Ok(())
            }
            Step::Rewritten { read } => self.rewritten(node, read, out).await,
            Step::Broken { read, cut, reason } => {
                self.end_reached(node);
                self.broken(node, read, cut, reason, out).await
            }
        }
    }

    /// Tells that content is lost; of a file that may still be growing only when it is overdue.
    async fn broken(
        &mut self,
        node: Node,
        read: u64,
        cut: bool,
        reason: String,
        out: &mut Output,
    ) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        if cut {
            tail.cut = Some(reason);
            return Ok(());
        }
        let path = tail.path.display().to_string();
        let reason = format!("{path} cannot be unpacked: {reason}");
        out.gap(Gap {
            reason,
            from: Some(format!("{path}:{read}")),
            to: None,
        })
        .await
    }

    /// Tells that the content of a packed file ends too early.
    async fn tell_cut(&mut self, node: Node, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        let Some(reason) = tail.cut.take() else {
            return Ok(());
        };
        let read = tail.position();
        self.broken(node, read, false, reason, out).await
    }

    fn end_reached(&mut self, node: Node) {
        if let Some(tail) = self.tails.get_mut(&node)
            && !tail.at_end
        {
            tail.at_end = true;
            tail.quiet_since = Instant::now();
        }
    }

    async fn rewritten(&mut self, node: Node, read: u64, out: &mut Output) -> Result<()> {
        self.finish_line(node, out).await?;
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        tail.at_end = false;
        let path = tail.path.display().to_string();
        let what = format!("{path} was emptied or written anew after {read} bytes of it were read");
        let gap = Gap {
            reason: what.clone(),
            from: Some(format!("{path}:{read}")),
            to: Some(format!("{path}:0")),
        };
        out.lifecycle(Lifecycle::Changed { what }).await?;
        out.gap(gap).await?;
        self.save(out).await
    }

    // Waiting.

    /// Ends lines and files that nothing more is expected of.
    pub(super) async fn overdue(&mut self, out: &mut Output) -> Result<()> {
        let now = Instant::now();
        for node in self.order.clone() {
            let Some(tail) = self
                .tails
                .get(&node)
                .filter(|tail| tail.at_end && !tail.woken)
            else {
                continue;
            };
            let overdue = !self.options.follow || now >= self.deadline(tail);
            let gone = tail.gone.is_some();
            if overdue || (gone && tail.is_removed()) {
                self.finish_line(node, out).await?;
                self.tell_cut(node, out).await?;
            }
            if overdue && gone {
                self.leave(node, out).await?;
            }
        }
        Ok(())
    }

    /// Looks into a file that is over once more, then closes it. If it may come back, its place is kept.
    async fn leave(&mut self, node: Node, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        if !tail.last_look {
            (tail.last_look, tail.woken) = (true, true);
            return Ok(());
        }
        if !tail.is_removed() {
            let left = true;
            let saved = Saved::of(tail);
            self.before.gone.keep(Saved { left, ..saved });
        }
        self.tails.remove(&node);
        self.order.retain(|other| *other != node);
        self.save(out).await
    }

    /// When a file at its end has been quiet for long enough.
    fn deadline(&self, tail: &Tail) -> Instant {
        let since = tail
            .gone
            .map_or(tail.quiet_since, |gone| gone.max(tail.quiet_since));
        since + self.options.partial_timeout.0
    }

    /// Waits until something may have changed, or is overdue.
    pub(super) async fn wait(&mut self) {
        let waits =
            |tail: &Tail| tail.gone.is_some() || tail.lines.pending() > 0 || tail.cut.is_some();
        let waiting = self.tails.values().filter(|tail| waits(tail));
        let overdue = waiting.map(|tail| self.deadline(tail));
        let soonest = overdue.chain([self.next_look()]).min();
        tokio::select! {
            () = self.changes.wait(), if !self.names_changed => {}
            () = sleep_until(soonest.unwrap_or_else(Instant::now)) => {}
        }
    }

    fn next_look(&self) -> Instant {
        let pause = if self.names_changed {
            LOOK_AGAIN
        } else {
            self.options.poll_interval.0
        };
        self.looked + pause
    }

    /// Takes note of what has changed, and looks around when it is time.
    pub(super) async fn notice(&mut self, out: &mut Output) -> Result<()> {
        let changed = self.changes.take();
        self.names_changed |= changed.names;
        for tail in self.tails.values_mut() {
            // A file without a path of its own may be under any.
            let any = tail.gone.is_some() && !changed.files.is_empty();
            tail.woken |= any || changed.files.contains(&tail.path);
        }
        if !self.options.follow || Instant::now() < self.next_look() {
            return Ok(());
        }
        self.look(out).await?;
        self.report(out);
        let mut tails = std::mem::take(&mut self.tails);
        self.tails = blocking(move || {
            tails
                .values_mut()
                .for_each(|tail| tail.woken |= tail.has_stirred());
            tails
        })
        .await?;
        self.tell_lag(out);
        Ok(())
    }

    /// Tells how much there is to be read.
    fn tell_lag(&self, out: &mut Output) {
        let behind = self.tails.values().map(|tail| tail.behind());
        out.lag_bytes(Some(behind.sum()));
    }
}

/// Runs what blocks where it may.
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
