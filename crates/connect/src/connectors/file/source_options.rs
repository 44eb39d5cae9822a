//! The options of the file source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::find::Patterns;
use crate::options::{Duration, Objection, Options, seconds, yes};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSourceOptions {
    /// The files, or patterns that match them: `*` and `?` within a name, `**` for any folders,
    /// `{a,b}`. Files compressed by gzip or zstd are decompressed. A byte order mark at the start of a
    /// file is skipped, except for the format `bytes`. A file that disappears for a while and comes back
    /// is read on from its last position, if it is among the last 64 that disappeared.
    pub path: Vec<String>,
    /// Patterns for files to leave out; matched against the whole path and against the name.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Where to begin in the files that exist when the source is first started; a file that appears
    /// later is read from its beginning.
    #[serde(default)]
    pub read_from: ReadFrom,
    /// Whether to wait for more. Otherwise the source ends when every file is read, one after the other.
    #[serde(default = "yes")]
    pub follow: bool,
    /// How long to wait for the end of a last line without a line end, but not within the quotes of a CSV
    /// field; also, how long a file that was moved away or removed is still read for what its writer adds.
    #[serde(default = "seconds::<5>")]
    pub partial_timeout: Duration,
    /// How often to look for changes that the system did not report.
    #[serde(default = "seconds::<1>")]
    pub poll_interval: Duration,
    /// What happens to a line longer than `max_frame`: `dlq` makes it a bad row, `truncate` cuts it
    /// off, `drop` leaves it out, warns once, and counts it in `dropped` of `system.sources`.
    #[serde(default)]
    pub overlong: OverlongPolicy,
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
            objections.push(Objection::new(options, reason));
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
