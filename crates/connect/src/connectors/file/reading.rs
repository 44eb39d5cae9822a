//! All files being read: finding them, reading a block of each in turn, and knowing when one is over.
//!
//! A file is over when no pattern leads to it any more and its writer has been quiet for a while. The
//! one that took its path waits until all that is there of it was read, so lines keep their order
//! over a rotation. Every block is followed by the cursor that covers it.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::find::{Found, Node, Patterns};
use super::saved::{self, Saved};
use super::source::{FileSourceOptions, OverlongPolicy, ReadFrom};
use super::tail::{Step, Tail};
use super::watch::Changes;
use crate::formats::Frames;
use crate::lines::Overlong;
use crate::{Bad, Error, Gap, Lifecycle, Output, Result, overlong};

/// So many bytes are read at once.
const BLOCK: usize = 256 << 10;
/// Names that come and go in a hurry are looked at no more often than this.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) struct Reading<'a> {
    options: &'a FileSourceOptions,
    patterns: Arc<Patterns>,
    has_header: bool,
    max_frame: usize,
    tails: BTreeMap<Node, Box<Tail>>,
    /// The files to read, by path.
    order: Vec<Node>,
    /// Files of the cursor that were not found yet.
    saved: Vec<Saved>,
    /// Whether files that are found now were there before the source was ever started.
    from_end: bool,
    changes: Changes,
    looked: Instant,
    /// Whether names have changed since then.
    names_changed: bool,
    /// What could not be read when it was looked for last.
    failures: Vec<String>,
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
        has_header: bool,
        saved: Option<Vec<Saved>>,
        out: &Output,
    ) -> Self {
        Self {
            options,
            patterns: Arc::new(patterns),
            has_header,
            max_frame: out.max_frame(),
            tails: BTreeMap::new(),
            order: Vec::new(),
            from_end: saved.is_none() && options.read_from == ReadFrom::End,
            saved: saved.unwrap_or_default(),
            changes: Changes::new(),
            looked: Instant::now(),
            names_changed: false,
            failures: Vec::new(),
            reported: None,
            last: None,
            block: vec![0; BLOCK],
            frames: Frames::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    // Finding.

    /// Looks what files there are.
    pub(super) async fn look(&mut self, out: &mut Output) -> Result<()> {
        self.looked = Instant::now();
        self.names_changed = false;
        let patterns = self.patterns.clone();
        let mut found = blocking(move || patterns.find()).await?;
        self.changes.watch(std::mem::take(&mut found.folders));
        let before = self.follow_names(&found, out).await?;
        for (node, path) in &found.files {
            if !self.tails.contains_key(node) {
                let opened = self.open(path.clone()).await?;
                match opened {
                    Ok(tail) => self.take_on(tail, before.get(path).copied()),
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
        if found.failures.is_empty() {
            self.find_moved(&found, out).await?;
        }
        self.order = self.tails.keys().copied().collect();
        self.order
            .sort_by(|a, b| self.tails[a].path.cmp(&self.tails[b].path));
        self.failures = found.failures;
        Ok(())
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
    async fn open(&mut self, path: PathBuf) -> Result<std::io::Result<Box<Tail>>> {
        let (max, from_end, has_header) = (self.max_frame, self.from_end, self.has_header);
        let mut saved = std::mem::take(&mut self.saved);
        let (opened, saved) = blocking(move || {
            let open = || {
                let mut tail = Box::new(Tail::open(path, max)?);
                let resumed = resume(&mut tail, &mut saved)?;
                if !resumed && from_end {
                    tail.skip_to_end()?;
                }
                if has_header {
                    tail.read_header()?;
                }
                Ok(tail)
            };
            (open(), saved)
        })
        .await?;
        self.saved = saved;
        Ok(opened)
    }

    fn take_on(&mut self, mut tail: Box<Tail>, before: Option<Node>) {
        tail.after = before.filter(|node| *node != tail.node);
        if let Some(before) = tail.after.and_then(|node| self.tails.get_mut(&node)) {
            (before.woken, before.at_end) = (true, false);
        }
        self.tails.insert(tail.node, tail);
    }

    /// Files of the cursor that no pattern leads to: moved within their folder while we were away, or
    /// gone with what was not read of them.
    async fn find_moved(&mut self, found: &Found, out: &mut Output) -> Result<()> {
        for saved in std::mem::take(&mut self.saved) {
            if self.tails.contains_key(&saved.node()) {
                let path = saved.path.display();
                let gap = Gap {
                    reason: format!("{path} was written anew since it was last read"),
                    from: Some(format!("{path}:{}", saved.position)),
                    to: Some(format!("{path}:0")),
                };
                out.gap(gap).await?;
                continue;
            }
            if found.files.contains_key(&saved.node()) {
                // It could not be opened.
                self.saved.push(saved);
                continue;
            }
            let max = self.max_frame;
            let lost = saved.clone();
            let Some(mut tail) = blocking(move || moved(&saved, max)).await? else {
                let path = lost.path.display();
                let gap = Gap {
                    reason: format!("{path} is gone: what was added to it since is not known"),
                    from: Some(format!("{path}:{}", lost.position)),
                    to: None,
                };
                out.gap(gap).await?;
                continue;
            };
            tail.gone = Some(Instant::now());
            let node = tail.node;
            for next in self
                .tails
                .values_mut()
                .filter(|next| next.path == lost.path)
            {
                next.after = Some(node);
            }
            self.tails.insert(node, tail);
        }
        Ok(())
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
        out.gap(gap).await
    }

    /// Hands on the lines of the block that was just read.
    async fn emit_block(&mut self, node: Node, length: usize, out: &mut Output) -> Result<()> {
        self.turn_to(node, length, out).await?;
        let mut at = 0;
        while at < length {
            let Some(tail) = self.tails.get_mut(&node) else {
                return Ok(());
            };
            (tail.at_end, tail.cut, tail.last_look) = (false, None, false);
            let (taken, long) = tail.lines.take(&self.block[at..length], &mut self.frames);
            at += taken;
            self.hand_on(node, long, out).await?;
        }
        self.save(out).await
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

    async fn hand_on(
        &mut self,
        node: Node,
        long: Option<Overlong>,
        out: &mut Output,
    ) -> Result<()> {
        if let Some(long) = &long
            && self.options.overlong == OverlongPolicy::Truncate
        {
            self.frames.push(&long.start);
        }
        if !self.frames.is_empty() {
            out.frames(&mut self.frames).await?;
        }
        match (self.options.overlong, long) {
            (OverlongPolicy::Dlq, Some(long)) => out.bad(self.bad(long)).await,
            (OverlongPolicy::Drop, Some(long)) => {
                let path = self
                    .tails
                    .get(&node)
                    .map(|tail| tail.path.display().to_string());
                let what = format!(
                    "a line of {} bytes in {} was left out, the longest taken has {}",
                    long.length,
                    path.unwrap_or_default(),
                    self.max_frame
                );
                out.lifecycle(Lifecycle::Changed { what }).await
            }
            _ => Ok(()),
        }
    }

    fn bad(&self, long: Overlong) -> Bad {
        let length = usize::try_from(long.length).unwrap_or(usize::MAX);
        overlong(&long.start, length, self.max_frame)
    }

    /// Hands on the last line although it has not ended.
    async fn finish_line(&mut self, node: Node, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        if tail.lines.pending() == 0 {
            return Ok(());
        }
        let long = tail.lines.finish(&mut self.frames);
        self.turn_to(node, 0, out).await?;
        self.hand_on(node, long, out).await?;
        self.save(out).await
    }

    /// Everything handed on so far is covered.
    async fn save(&self, out: &mut Output) -> Result<()> {
        let read = self.tails.values().map(|tail| Saved::of(tail));
        let files = read.chain(self.saved.iter().cloned()).collect();
        out.cursor(saved::cursor(files)?).await
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

    /// Looks into a file that is over once more, then forgets it.
    async fn leave(&mut self, node: Node, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&node) else {
            return Ok(());
        };
        if !tail.last_look {
            (tail.last_look, tail.woken) = (true, true);
            return Ok(());
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
        Ok(())
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Panicked {
            what: "source",
            message: error.to_string(),
        })
}

/// Continues where the cursor says, if it knows the file: by its node, or under its path.
fn resume(tail: &mut Tail, saved: &mut Vec<Saved>) -> std::io::Result<bool> {
    let same_node = |saved: &Saved| saved.node() == tail.node;
    let same_path = |saved: &Saved| saved.path == tail.path && saved.prefix.length > 0;
    let known = saved
        .iter()
        .position(same_node)
        .or_else(|| saved.iter().position(same_path));
    let Some(at) = known else { return Ok(false) };
    let resumed = tail.resume(saved[at].prefix, saved[at].position)?;
    if resumed {
        saved.remove(at);
    }
    Ok(resumed)
}

/// The file under another name in its folder.
fn moved(saved: &Saved, max: usize) -> Option<Box<Tail>> {
    let entries = std::fs::read_dir(saved.path.parent()?).ok()?;
    let is_it = |entry: &std::fs::DirEntry| {
        entry
            .metadata()
            .is_ok_and(|found| (found.dev(), found.ino()) == saved.node())
    };
    let path = entries.flatten().find(is_it)?.path();
    let mut tail = Tail::open(path, max).ok()?;
    let resumed = tail.resume(saved.prefix, saved.position).ok()?;
    resumed.then(|| Box::new(tail))
}
