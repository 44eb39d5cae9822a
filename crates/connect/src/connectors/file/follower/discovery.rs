//! Scans for files: which appeared, moved, were replaced or are gone, and which is read before which.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::find::FoundFiles;
use super::super::identity::FileId;
use super::super::tail::TailedFile;
use super::{FileFollower, blocking};
use crate::{Gap, Lifecycle, Output, Result};

impl FileFollower<'_> {
    /// Finds all files that match and opens the new ones.
    pub(in super::super) async fn scan(&mut self, out: &mut Output) -> Result<()> {
        self.scanned = Instant::now();
        self.names_changed = false;
        let patterns = self.patterns.clone();
        let mut found = blocking(move || patterns.find()).await?;
        self.watcher.watch(std::mem::take(&mut found.folders));
        let from_end = self.from_end;
        let names = self.follow_names(&found, out).await?;
        let ids = Arc::new(self.resume_points.ids_among(&found));
        for (id, path) in &found.files {
            if !self.tails.contains_key(id) {
                let opened = self.open(path.clone(), ids.clone()).await?;
                match opened {
                    Ok(tail) => self.add(tail, names.get(path).copied()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let failure = format!("cannot open {}: {error}", path.display());
                        found.failures.push(failure);
                    }
                }
            }
        }
        self.from_end = false;
        let mut reported = self.report_returned(out).await?;
        reported |= found.failures.is_empty() && self.resolve_missing(&found, out).await?;
        self.order_moved();
        self.order = self.tails.keys().copied().collect();
        self.order
            .sort_by(|a, b| self.tails[a].path.cmp(&self.tails[b].path));
        self.why_nothing = found.why_nothing();
        self.failures = found.failures;
        match from_end || reported {
            // The start position of a file, and what was reported, must survive a crash.
            true => self.save(out).await,
            false => Ok(()),
        }
    }

    /// Reports what keeps files from being read as the state `degraded`.
    pub(in super::super) fn report_failures(&mut self, out: &mut Output) {
        let nothing = self.tails.is_empty().then_some("no file matches yet");
        let reason = self.failures.shown(nothing);
        if reason != self.reported {
            self.reported.clone_from(&reason);
            out.degraded(reason);
        }
    }

    /// Notes which files have another name now, or none. Returns which file had which name before.
    async fn follow_names(
        &mut self,
        found: &FoundFiles,
        out: &mut Output,
    ) -> Result<HashMap<PathBuf, FileId>> {
        let taken: Vec<&PathBuf> = found.files.values().collect();
        let mut before = HashMap::new();
        let mut changes = Vec::new();
        for (id, tail) in &mut self.tails {
            before.insert(tail.path.clone(), *id);
            match found.files.get(id) {
                Some(path) => {
                    tail.gone = None;
                    tail.rename(path);
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

    /// Opens a file at the position in the cursor, or else where the options say.
    async fn open(
        &mut self,
        path: PathBuf,
        ids: Arc<HashSet<FileId>>,
    ) -> Result<std::io::Result<Box<TailedFile>>> {
        let (framing, from_end) = (self.framing, self.from_end);
        let has_header = self.content.has_header;
        let mut resume_points = std::mem::take(&mut self.resume_points);
        let (opened, resume_points) = blocking(move || {
            let open = || {
                let mut tail = Box::new(TailedFile::open(path, framing)?);
                let resumed = resume_points.resume(&mut tail, &ids)?;
                if !resumed && from_end {
                    tail.skip_to_end()?;
                }
                if has_header {
                    tail.read_header(framing)?;
                }
                Ok(tail)
            };
            (open(), resume_points)
        })
        .await?;
        self.resume_points = resume_points;
        Ok(opened)
    }

    /// Adds a file; `before` is the one that had its path until now.
    fn add(&mut self, tail: Box<TailedFile>, before: Option<FileId>) {
        let id = tail.id;
        self.tails.insert(id, tail);
        let Some(before) = before.filter(|before| *before != id) else {
            return;
        };
        self.read_after(id, before);
        if let Some(before) = self.tails.get_mut(&before) {
            (before.woken, before.at_end) = (true, false);
        }
    }

    /// Reports which files came back. Returns whether there were any.
    async fn report_returned(&mut self, out: &mut Output) -> Result<bool> {
        let returned = self.resume_points.gone.take_returned();
        let any = !returned.is_empty();
        for what in returned {
            out.lifecycle(Lifecycle::Changed { what }).await?;
        }
        Ok(any)
    }

    /// Handles the files of the cursor that no pattern matches: those that moved within their folder while
    /// the source was down are read, the others are gone, with what was not read of them. Returns whether
    /// a gap was reported.
    async fn resolve_missing(&mut self, found: &FoundFiles, out: &mut Output) -> Result<bool> {
        let mut reported = false;
        for (rank, saved) in self.resume_points.take() {
            if !self.tails.contains_key(&saved.id()) && found.files.contains_key(&saved.id()) {
                // It could not be opened.
                self.resume_points.keep(rank, saved);
                continue;
            }
            let path = saved.path.display().to_string();
            let mut gap = Gap {
                reason: format!("{path} was rewritten since it was last read"),
                from: Some(format!("{path}:{}", saved.position)),
                to: Some(format!("{path}:0")),
            };
            if self.tails.contains_key(&saved.id()) {
                out.gap(gap).await?;
                reported = true;
                continue;
            }
            let framing = self.framing;
            let (moved, saved) = blocking(move || (saved.moved(framing), saved)).await?;
            let Some(mut tail) = moved else {
                gap.reason =
                    format!("{path} is gone: lines added since it was last read may be lost");
                gap.to = None;
                out.gap(gap).await?;
                reported = true;
                self.resume_points.gone.keep(saved);
                continue;
            };
            tail.gone = Some(Instant::now());
            self.resume_points.has_moved(rank, saved.path, tail.id);
            self.tails.insert(tail.id, tail);
        }
        Ok(reported)
    }

    /// Puts a file that moved while the source was down before the one that took its path.
    fn order_moved(&mut self) {
        for (path, moved) in self.resume_points.take_moved() {
            let mut next = None;
            for first in moved {
                if let Some(next) = next {
                    self.read_after(first, next);
                }
                next = Some(first);
            }
            let mut tails = self.tails.values();
            let took = tails.find(|tail| tail.path == path && tail.gone.is_none());
            if let (Some(last), Some(took)) = (next, took.map(|tail| tail.id)) {
                self.read_after(took, last);
            }
        }
    }

    /// Makes `id` wait for `first`, unless that would be a cycle.
    fn read_after(&mut self, id: FileId, first: FileId) {
        let mut at = Some(first);
        while let Some(other) = at {
            if other == id {
                return;
            }
            at = self.tails.get(&other).and_then(|tail| tail.after);
        }
        if let Some(tail) = self.tails.get_mut(&id) {
            tail.after = Some(first);
        }
    }
}
