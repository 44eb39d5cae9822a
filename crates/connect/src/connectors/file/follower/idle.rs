//! Between reads: waits for changes, ends lines and files that are overdue, starts the next scan.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::cursor::SavedFile;
use super::super::identity::FileId;
use super::super::tail::TailedFile;
use super::{FileFollower, blocking, damage};
use crate::{Output, Result};

/// The shortest time between two scans while names keep changing.
const RESCAN_PAUSE: Duration = Duration::from_millis(20);

impl FileFollower<'_> {
    /// Ends lines and files that nothing more is expected of.
    pub(in super::super) async fn end_overdue(&mut self, out: &mut Output) -> Result<()> {
        let now = Instant::now();
        for id in self.order.clone() {
            let Some(tail) = self.tails.get(&id) else {
                continue;
            };
            if !tail.at_end || tail.woken {
                continue;
            }
            let overdue = !self.options.follow || now >= self.deadline(tail);
            let gone = tail.gone.is_some();
            // Within quotes a line end is no end: more must come.
            let waits = self.options.follow && !gone && tail.lines.is_open();
            if overdue && !waits || (gone && tail.is_removed()) {
                self.finish_line(id, out).await?;
                self.report_truncated(id, out).await?;
            }
            if overdue && gone {
                self.close(id, out).await?;
            }
        }
        Ok(())
    }

    /// Reports that a compressed file ends too early, now that the rest is overdue.
    async fn report_truncated(&mut self, id: FileId, out: &mut Output) -> Result<()> {
        if let Some(tail) = self.tails.get_mut(&id)
            && let Some(reason) = tail.truncated.take()
        {
            let path = tail.path.display().to_string();
            out.gap(damage(&path, tail.position(), &reason)).await?;
        }
        Ok(())
    }

    /// Reads a file that is over once more, then closes it. If it may come back, its position is kept.
    async fn close(&mut self, id: FileId, out: &mut Output) -> Result<()> {
        let Some(tail) = self.tails.get_mut(&id) else {
            return Ok(());
        };
        if !tail.final_read {
            (tail.final_read, tail.woken) = (true, true);
            return Ok(());
        }
        if !tail.is_removed() {
            let left = true;
            let saved = SavedFile::of(tail);
            self.resume_points.gone.keep(SavedFile { left, ..saved });
        }
        self.tails.remove(&id);
        self.order.retain(|other| *other != id);
        self.save(out).await
    }

    /// When a file at its end has been quiet for long enough.
    fn deadline(&self, tail: &TailedFile) -> Instant {
        let since = tail
            .gone
            .map_or(tail.quiet_since, |gone| gone.max(tail.quiet_since));
        since + self.options.partial_timeout.0
    }

    /// Waits until something may have changed, or is overdue.
    pub(in super::super) async fn wait(&mut self) {
        let waits = |tail: &TailedFile| {
            let partial = tail.lines.pending() > 0 && !tail.lines.is_open();
            tail.gone.is_some() || partial || tail.truncated.is_some()
        };
        let waiting = self.tails.values().filter(|tail| waits(tail));
        let overdue = waiting.map(|tail| self.deadline(tail));
        let soonest = overdue.chain([self.next_scan()]).min();
        tokio::select! {
            () = self.watcher.wait(), if !self.names_changed => {}
            () = sleep_until(soonest.unwrap_or_else(Instant::now)) => {}
        }
    }

    fn next_scan(&self) -> Instant {
        let pause = if self.names_changed {
            RESCAN_PAUSE
        } else {
            self.options.poll_interval.0
        };
        self.scanned + pause
    }

    /// Marks the files that changed for reading, and scans when it is time.
    pub(in super::super) async fn apply_changes(&mut self, out: &mut Output) -> Result<()> {
        let changed = self.watcher.take();
        self.names_changed |= changed.names;
        for tail in self.tails.values_mut() {
            // An event for any path may be about a file that has none of its own any more.
            let any = tail.gone.is_some() && !changed.files.is_empty();
            tail.woken |= any || changed.files.contains(&tail.path);
        }
        if !self.options.follow || Instant::now() < self.next_scan() {
            return Ok(());
        }
        self.scan(out).await?;
        self.report_failures(out);
        let mut tails = std::mem::take(&mut self.tails);
        self.tails = blocking(move || {
            tails
                .values_mut()
                .for_each(|tail| tail.woken |= tail.has_changed());
            tails
        })
        .await?;
        self.report_lag(out);
        Ok(())
    }

    /// Reports how many bytes were not read yet.
    pub(super) fn report_lag(&self, out: &mut Output) {
        let behind = self.tails.values().map(|tail| tail.behind());
        out.lag_bytes(Some(behind.sum()));
    }
}
