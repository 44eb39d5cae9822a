//! Follows files: when to scan for them, when to read, when to wait, when to end.
//!
//! ```text
//!   scan (which files exist) -> read a block of each -> ... nothing more -> wait (changes, time)
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::cursor::FileCursor;
use super::find::Patterns;
use super::follower::{FileContent, FileFollower, blocking};
use super::source_options::FileSourceOptions;
use crate::formats;
use crate::options::{ByteSize, OptionSet};
use crate::{
    Cursor, End, Error, Lifecycle, Output, Result, Retry, Source, SourceArgs, SourceKind, Tally,
};

pub(super) const KIND: SourceKind = SourceKind {
    options: OptionSet::of::<FileSourceOptions>(),
    formats: &["text", "json", "ndjson", "csv", "bytes"],
    max_frame: ByteSize::mib(1),
    columns: SourceKind::declared_columns,
    create,
};

fn create(args: SourceArgs<'_>) -> Result<Box<dyn Source>> {
    let options: FileSourceOptions = args.options.get()?;
    let patterns = Patterns::new(&options.path, &options.exclude).map_err(Error::Options)?;
    let content = FileContent {
        is_text: args.format != Some("bytes"),
        has_header: formats::has_header(args.options),
    };
    let saved = args.cursor.as_ref().map(Cursor::read).transpose()?;
    Ok(Box::new(FileSource {
        options,
        patterns,
        content,
        saved,
        dropped: args.dropped,
    }))
}

struct FileSource {
    options: FileSourceOptions,
    patterns: Patterns,
    content: FileContent,
    /// The cursor to continue from, until `run` takes it.
    saved: Option<FileCursor>,
    /// Drop counter for overlong lines.
    dropped: Arc<Tally>,
}

#[async_trait]
impl Source for FileSource {
    async fn validate(&self) -> Result<()> {
        for base in self.patterns.bases() {
            let found = tokio::fs::read_dir(base).await;
            found.map(drop).map_err(|error| Error::Unreachable {
                target: base.display().to_string(),
                reason: error.to_string(),
                retry: Retry::Backoff,
            })?;
        }
        if self.options.follow || self.saved.is_some() {
            return Ok(());
        }
        let patterns = self.patterns.clone();
        let found = blocking(move || patterns.find()).await?;
        match found.files.is_empty() {
            true => Err(self.nothing_to_read(found.why_nothing())),
            false => Ok(()),
        }
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End> {
        let saved = self.saved.take();
        let patterns = self.patterns.clone();
        let (options, dropped) = (&self.options, &*self.dropped);
        let mut follower = FileFollower::new(options, patterns, self.content, saved, dropped, out);
        self.follow(&mut follower, out, &stop).await
    }

    fn supports_incremental(&self) -> bool {
        true
    }

    fn is_finite(&self) -> bool {
        !self.options.follow
    }
}

impl FileSource {
    fn nothing_to_read(&self, reason: String) -> Error {
        Error::Unreachable {
            target: self.options.path.join(", "),
            reason,
            retry: Retry::Fatal,
        }
    }

    /// Reads until there is nothing more to wait for. Stops only between two blocks, so a cursor covers
    /// everything that was handed on.
    async fn follow(
        &self,
        follower: &mut FileFollower<'_>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<End> {
        follower.scan(out).await?;
        if !self.options.follow && follower.is_empty() {
            return Err(self.nothing_to_read(follower.why_nothing().to_owned()));
        }
        // The state `running` promises that `read_from = 'end'` has already found the ends of the files.
        let to = self.options.path.join(", ");
        out.lifecycle(Lifecycle::Connected { to }).await?;
        follower.report_failures(out);
        while !stop.is_cancelled() {
            let progress = follower.read_round(out).await?;
            follower.end_overdue(out).await?;
            if !progress && !self.options.follow {
                return Ok(End::Finished);
            }
            if !progress {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = follower.wait() => {}
                }
            }
            follower.apply_changes(out).await?;
        }
        Ok(End::Stopped)
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
