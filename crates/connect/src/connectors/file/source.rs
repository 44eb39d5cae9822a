//! Follows files: what they are, when to look, when to wait, when to end.
//!
//! ```text
//!   look (what is there) -> turn (a block of each file) -> ... nothing more -> wait (changes, time)
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::find::Patterns;
use super::reading::{Content, Reading, blocking};
use super::saved::{self, Places};
use crate::formats;
use crate::options::{ByteSize, Duration, Objection, OptionSet, Options};
use crate::{End, Error, Lifecycle, Output, Result, Retry, Source, SourceArgs, SourceKind, Tally};

pub(super) const KIND: SourceKind = SourceKind {
    options: OptionSet::of::<FileSourceOptions>(),
    formats: &["text", "json", "ndjson", "csv", "bytes"],
    max_frame: ByteSize::mib(1),
    columns: SourceKind::declared_columns,
    create,
};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSourceOptions {
    /// The files, or patterns that lead to them: `*` and `?` within a name, `**` for any folders,
    /// `{a,b}`. Files packed by gzip or zstd are unpacked. A byte order mark at the start of a file is
    /// left out, but for the format `bytes`. A file that is gone for a while and comes back is read on
    /// where it was, if it is among the 64 that went last.
    path: Vec<String>,
    /// Patterns for files to leave out; matched against the whole path and against the name.
    #[serde(default)]
    exclude: Vec<String>,
    /// Where to begin in the files that are there when the source is first started; a file that comes
    /// later is read from its beginning.
    #[serde(default)]
    pub read_from: ReadFrom,
    /// Whether to wait for more. Otherwise the source ends when every file is read, one after the other.
    #[serde(default = "yes")]
    pub follow: bool,
    /// How long a last line without a line end is waited for; also, how long a file that was moved
    /// away or removed is still read for what its writer adds.
    #[serde(default = "five_seconds")]
    pub partial_timeout: Duration,
    /// How often to look for changes that the system has not told of.
    #[serde(default = "one_second")]
    pub poll_interval: Duration,
    /// What becomes of a line longer than `max_frame`: `dlq` makes it a bad row, `truncate` cuts it
    /// off, `drop` leaves it out, warns once, and counts it in `dropped` of `system.sources`.
    #[serde(default)]
    pub overlong: OverlongPolicy,
}

fn yes() -> bool {
    true
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReadFrom {
    #[default]
    Beginning,
    End,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OverlongPolicy {
    #[default]
    Dlq,
    Truncate,
    Drop,
}

impl Options for FileSourceOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        let mut object = |options: &[&'static str], reason: String| {
            objections.push(Objection {
                options: options.to_vec(),
                reason,
            });
        };
        if let Err(reason) = Patterns::new(&self.path, &[]) {
            object(&["path"], reason);
        }
        if self.path.is_empty() {
            object(&["path"], "it names no file".to_owned());
        }
        if let Err(reason) = Patterns::new(&[], &self.exclude) {
            object(&["exclude"], reason);
        }
        if self.poll_interval.0.is_zero() {
            object(&["poll_interval"], "it must be longer than 0".to_owned());
        }
        if !self.follow && self.read_from == ReadFrom::End {
            let reason = "without 'follow' nothing comes after the end".to_owned();
            object(&["read_from", "follow"], reason);
        }
        objections
    }
}

fn create(args: SourceArgs<'_>) -> Result<Box<dyn Source>> {
    let options: FileSourceOptions = args.options.get()?;
    let patterns = Patterns::new(&options.path, &options.exclude).map_err(Error::Options)?;
    let content = Content {
        is_text: args.format != Some("bytes"),
        has_header: formats::has_header(args.options),
    };
    let saved = args.cursor.as_ref().map(saved::places).transpose()?;
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
    content: Content,
    /// What the cursor says.
    saved: Option<Places>,
    /// Counts the lines that are left out.
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
        let mut reading = Reading::new(options, patterns, self.content, saved, dropped, out);
        self.read(&mut reading, out, &stop).await
    }

    fn supports_incremental(&self) -> bool {
        true
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

    /// Reads until there is nothing more to wait for. Stops only between two blocks: what was handed
    /// on is covered by a cursor.
    async fn read(
        &self,
        reading: &mut Reading<'_>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<End> {
        reading.look(out).await?;
        if !self.options.follow && reading.is_empty() {
            return Err(self.nothing_to_read(reading.why_nothing().to_owned()));
        }
        // Whoever sees the source running knows that the ends of files were looked at.
        let to = self.options.path.join(", ");
        out.lifecycle(Lifecycle::Connected { to }).await?;
        reading.report(out);
        while !stop.is_cancelled() {
            let progress = reading.turn(out).await?;
            reading.overdue(out).await?;
            if !progress && !self.options.follow {
                return Ok(End::Finished);
            }
            if !progress {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = reading.wait() => {}
                }
            }
            reading.notice(out).await?;
        }
        Ok(End::Stopped)
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
