//! `process`: the output of a command, a line a frame.
//!
//! The command runs in a process group of its own with its input closed: for as long as it lasts
//! (`mode = 'stream'`), once, or repeatedly at an interval. Each run is a `CommandRun`, which leaves nothing
//! behind when it is over. What happens when it ends is `restart`: the source returns an error that may be
//! retried, and the lifecycle around every source does the backoff and gives up.
//!
//! With `cursor_field` it is the command that knows how to continue: the cursor is a field of its last
//! line, and the next run finds it in its environment.
//!
//! `command.rs` splits the command into words and finds the program, `group.rs` sends signals, `cursor.rs`
//! reads the field, `run.rs` is one run.

mod command;
mod cursor;
mod group;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::command::{ProcessCommand, words};
use self::cursor::CursorFinder;
use self::group::Watcher;
use self::run::{CommandRun, Exit};
use crate::options::{ByteSize, Duration, Objection, OptionSet, Options, Secret, seconds};
use crate::{
    Connector, End, Error, Lifecycle, Output, Result, Retry, Source, SourceArgs, SourceKind,
};

pub const CONNECTOR: Connector = Connector {
    name: "process",
    summary: "the output of a command on this machine",
    source: Some(SourceKind {
        options: OptionSet::of::<ProcessOptions>(),
        formats: &["text", "json", "ndjson", "csv", "bytes"],
        max_frame: ByteSize::mib(1),
        columns: SourceKind::declared_columns,
        create,
    }),
    sink: None,
};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProcessOptions {
    /// The program and its arguments: a list such as '["tail", "-F", "/var/log/syslog"]', or one text
    /// that is split at blanks outside quotes. No shell is involved unless `shell` is set.
    command: Vec<String>,
    /// Whether the command is one text for `/bin/sh -c`: with pipes, variables and all.
    #[serde(default)]
    shell: bool,
    /// Variables of the command's environment, in addition to those of Headwater itself.
    #[serde(default)]
    env: BTreeMap<String, Secret>,
    /// Whether the command sees only the variables of `env`.
    #[serde(default)]
    clear_env: bool,
    /// The folder it runs in. Default: that of Headwater itself.
    #[serde(default)]
    cwd: Option<PathBuf>,
    /// `stream` runs it for as long as it lasts, `once` runs it to its end, `interval` runs it every
    /// `interval`, never twice at the same time.
    #[serde(default)]
    mode: RunMode,
    /// The time from one start to the next in mode 'interval'; starts that come due during a run are
    /// skipped.
    #[serde(default)]
    interval: Option<Duration>,
    /// Which of its outputs are rows. A declared column `_stream VARCHAR` holds the name of the output.
    #[serde(default)]
    stream: Stream,
    /// When it is run again after it has ended: `always`, `on_failure` (an exit code other than 0, or
    /// a signal) or `never`. Default: 'on_failure' in mode 'stream', 'never' in mode 'once'.
    #[serde(default)]
    restart: Option<Restart>,
    /// How long it may take to end after SIGTERM, before SIGKILL.
    #[serde(default = "seconds::<3>")]
    grace: Duration,
    /// A field of its lines, which are then JSON objects: the value in the last line read is the
    /// cursor. A run that continues finds it in the variable `HEADWATER_CURSOR` (a text as it is,
    /// anything else as JSON) and must print what comes after it; without a cursor the variable is
    /// not set. A line without the field is not covered until one with it follows.
    #[serde(default)]
    cursor_field: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RunMode {
    #[default]
    Stream,
    Once,
    Interval,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Stream {
    #[default]
    Stdout,
    Stderr,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Restart {
    Always,
    OnFailure,
    Never,
}

impl ProcessOptions {
    fn words(&self) -> Result<Vec<String>, String> {
        words(&self.command, self.shell)
    }
}

impl Options for ProcessOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        let mut object = |options: &[&'static str], reason: &str| {
            objections.push(Objection::new(options, reason));
        };
        if let Err(reason) = self.words() {
            object(&["command"], &reason);
        }
        match (self.mode, self.interval) {
            (RunMode::Interval, None) => object(&["interval"], "mode 'interval' needs it"),
            (RunMode::Interval, Some(interval)) if interval.0.is_zero() => {
                object(&["interval"], "it must be longer than 0");
            }
            (RunMode::Stream | RunMode::Once, Some(_)) => {
                object(&["interval", "mode"], "only mode 'interval' has one");
            }
            _ => {}
        }
        if self.cursor_field.is_some() && self.stream == Stream::Both {
            object(
                &["cursor_field", "stream"],
                "two outputs have no common order",
            );
        }
        match (self.mode, self.restart) {
            (RunMode::Interval, Some(_)) => {
                object(&["restart", "mode"], "mode 'interval' always runs it again");
            }
            (RunMode::Once, Some(Restart::Always)) => {
                object(
                    &["restart", "mode"],
                    "mode 'once' never runs it again when it went well",
                );
            }
            _ => {}
        }
        objections
    }
}

fn create(args: SourceArgs<'_>) -> Result<Box<dyn Source>> {
    let options: ProcessOptions = args.options.get()?;
    let words = options.words().map_err(Error::Options)?;
    let (env, cwd) = (options.env.clone(), options.cwd.clone());
    let command = ProcessCommand::new(words, env, options.clear_env, cwd);
    let cursors = CursorFinder::new(options.cursor_field.as_deref(), args.cursor)?;
    Ok(Box::new(ProcessSource {
        options,
        command,
        cursors,
    }))
}

struct ProcessSource {
    options: ProcessOptions,
    command: ProcessCommand,
    /// `None` if the command cannot continue from a cursor.
    cursors: Option<CursorFinder>,
}

#[async_trait]
impl Source for ProcessSource {
    async fn validate(&self) -> Result<()> {
        self.command.find()
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End> {
        self.command.find()?;
        let mut watcher = Watcher::start(self.options.grace.0);
        let end = match self.options.mode {
            RunMode::Stream | RunMode::Once => self.run_through(&mut watcher, out, &stop).await,
            RunMode::Interval => self.run_repeatedly(&mut watcher, out, &stop).await,
        };
        if let Some(watcher) = watcher {
            watcher.dismiss().await;
        }
        end
    }

    fn supports_incremental(&self) -> bool {
        self.cursors.is_some()
    }

    /// Not that the command ends, but that its end is that of the input.
    fn is_finite(&self) -> bool {
        self.options.mode != RunMode::Interval && self.restart() != Restart::Always
    }
}

impl ProcessSource {
    fn restart(&self) -> Restart {
        match (self.options.restart, self.options.mode) {
            (Some(restart), _) => restart,
            (None, RunMode::Once) => Restart::Never,
            (None, RunMode::Stream | RunMode::Interval) => Restart::OnFailure,
        }
    }

    async fn run_through(
        &mut self,
        watcher: &mut Option<Watcher>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<End> {
        let to = self.command.shown();
        let run = self.start(watcher, out).await?;
        let exit = run.connected(to).await?.until_ended(stop).await?;
        self.report_exit(&exit, out).await?;
        if stop.is_cancelled() {
            return Ok(End::Stopped);
        }
        match (self.restart(), exit.status.success()) {
            (Restart::OnFailure | Restart::Never, true) => Ok(End::Finished),
            (Restart::Always | Restart::OnFailure, _) => Err(self.exited(&exit, Retry::Backoff)),
            (Restart::Never, false) => Err(self.exited(&exit, Retry::Fatal)),
        }
    }

    async fn run_repeatedly(
        &mut self,
        watcher: &mut Option<Watcher>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<End> {
        let every = self.options.interval.unwrap_or_default().0;
        let mut starts = tokio::time::interval(every);
        starts.set_missed_tick_behavior(MissedTickBehavior::Skip);
        out.lifecycle(Lifecycle::Connected {
            to: self.command.shown(),
        })
        .await?;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                _ = starts.tick() => {}
            }
            let exit = self.start(watcher, out).await?.until_ended(stop).await?;
            if stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            let failed = !exit.status.success();
            if failed {
                self.report_exit(&exit, out).await?;
            }
            let failed = failed.then(|| self.exited(&exit, Retry::Backoff).to_string());
            out.degraded(failed.or_else(|| self.missing_cursor()));
        }
    }

    async fn start<'a>(
        &'a mut self,
        watcher: &'a mut Option<Watcher>,
        out: &'a mut Output,
    ) -> Result<CommandRun<'a>> {
        let (rows, grace) = (self.options.stream, self.options.grace.0);
        let cursors = self.cursors.as_mut();
        CommandRun::start(&self.command, rows, grace, watcher, cursors, out).await
    }

    /// The reason for `degraded` when the command prints no cursor although it should.
    fn missing_cursor(&self) -> Option<String> {
        self.cursors.as_ref().and_then(CursorFinder::missing_field)
    }

    async fn report_exit(&self, exit: &Exit, out: &mut Output) -> Result<()> {
        let event = Lifecycle::Exited {
            code: exit.code(),
            signal: exit.signal(),
            ran_for: exit.ran_for,
            stderr_tail: exit.stderr_tail.clone(),
        };
        out.lifecycle(event).await
    }

    fn exited(&self, exit: &Exit, retry: Retry) -> Error {
        Error::Exited {
            command: self.command.shown(),
            how: exit.how(),
            stderr_tail: exit.stderr_tail.clone(),
            retry,
        }
    }
}

#[cfg(test)]
mod tests;
