//! One run of the command: from its start until nothing of it is left.
//!
//! ```text
//!   running --stop, or it ends--> ending --grace--> killed --linger--> given up
//!              SIGTERM                     SIGKILL
//! ```
//!
//! Signals go to the whole group, also when the child itself has ended: what it left in the background
//! ends with it. Both pipes are read until they are closed; only a process that has left the group can keep
//! them open longer, and the run does not wait for it. While the engine does not keep up, the run does not
//! read the pipes: that is the backpressure on the child.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Stream;
use super::command::ProcessCommand;
use super::cursor::CursorFinder;
use super::group::{Group, Watcher};
use crate::formats::Frames;
use crate::lines::{Framing, LineSplitter, OverlongLine};
use crate::shown::excerpt;
use crate::{Error, Lifecycle, Output, Result};

/// Read buffer size, bytes.
const BLOCK: usize = 64 << 10;
/// How long the pipes may stay open after the whole group was killed.
const LINGER: Duration = Duration::from_millis(200);
/// The number of last lines of stderr in the report of the exit.
const TAIL_LINES: usize = 10;
/// The longest of these lines, bytes.
const TAIL_LINE_MAX: usize = 256;

/// How a run ended.
pub(super) struct Exit {
    pub status: ExitStatus,
    pub ran_for: Duration,
    /// The last lines on stderr.
    pub stderr_tail: String,
}

impl Exit {
    /// The exit code; `None` if a signal killed it.
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that killed it, if any.
    pub(super) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// `exit code 3` or `signal 9`.
    pub(super) fn how(&self) -> String {
        match (self.code(), self.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "an unknown status".to_owned(),
        }
    }
}

pub(super) struct CommandRun<'a> {
    child: Child,
    group: Group,
    watcher: &'a mut Option<Watcher>,
    stdout: Pipe,
    stderr: Pipe,
    cursors: Option<&'a mut CursorFinder>,
    out: &'a mut Output,
    started: Instant,
    phase: Phase,
    grace: Duration,
    status: Option<ExitStatus>,
}

/// How far the run is on its way to the end; the instant is the deadline of the phase.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    Ending(Instant),
    Killed(Instant),
}

impl<'a> CommandRun<'a> {
    /// Starts the command; `watcher` ends it if this process dies.
    pub(super) async fn start(
        command: &ProcessCommand,
        rows: Stream,
        grace: Duration,
        watcher: &'a mut Option<Watcher>,
        cursors: Option<&'a mut CursorFinder>,
        out: &'a mut Output,
    ) -> Result<Self> {
        let cursor = cursors.as_ref().and_then(|cursors| cursors.text());
        let mut process = command.process(cursor.as_deref());
        process.stdout(if rows != Stream::Stderr {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        process.stderr(Stdio::piped());
        let mut child = process
            .spawn()
            .map_err(|error| command.not_started(error))?;
        let group = Group::of(&child);
        if let Some(watcher) = watcher {
            watcher.watch(&group).await;
        }
        let both = rows == Stream::Both;
        let name = |name: &str| both.then(|| Arc::from(name));
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as PipeReader);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as PipeReader);
        let framing = out.framing();
        Ok(Self {
            child,
            group,
            watcher,
            stdout: Pipe::new(stdout, true, name("stdout"), None, framing),
            stderr: Pipe::new(
                stderr,
                rows != Stream::Stdout,
                name("stderr"),
                Some(StderrTail::default()),
                framing,
            ),
            cursors,
            out,
            started: Instant::now(),
            phase: Phase::Running,
            grace,
            status: None,
        })
    }

    /// Reports that the command was started.
    pub(super) async fn connected(self, to: String) -> Result<Self> {
        self.out.lifecycle(Lifecycle::Connected { to }).await?;
        Ok(self)
    }

    /// Reads until nothing of the command is left. Ends the command early when `stop` is cancelled.
    pub(super) async fn until_ended(mut self, stop: &CancellationToken) -> Result<Exit> {
        let done = self.read(stop).await;
        self.group.kill();
        let waited = match self.status {
            Some(status) => Ok(status),
            None => self.child.wait().await,
        };
        if let Some(watcher) = self.watcher {
            watcher.forget().await;
        }
        done?;
        let tail = self.stderr.tail.as_ref().map(StderrTail::shown);
        Ok(Exit {
            status: waited.map_err(failed("cannot wait for the child"))?,
            ran_for: self.started.elapsed(),
            stderr_tail: tail.unwrap_or_default(),
        })
    }

    async fn read(&mut self, stop: &CancellationToken) -> Result<()> {
        while self.status.is_none() || self.stdout.is_open() || self.stderr.is_open() {
            let running = matches!(self.phase, Phase::Running);
            let deadline = match self.phase {
                Phase::Running => None,
                Phase::Ending(at) | Phase::Killed(at) => Some(at),
            };
            tokio::select! {
                () = stop.cancelled(), if running => self.end(),
                () = sleep_until_deadline(deadline) => match self.phase {
                    Phase::Ending(_) => {
                        self.group.kill();
                        self.phase = Phase::Killed(Instant::now() + LINGER);
                    }
                    Phase::Running | Phase::Killed(_) => return Ok(()),
                },
                status = self.child.wait(), if self.status.is_none() => {
                    self.status = Some(status.map_err(failed("cannot wait for the child"))?);
                    if running {
                        self.end();
                    }
                }
                read = self.stdout.read(), if self.stdout.is_open() => {
                    let cursors = self.cursors.as_deref_mut();
                    self.stdout.emit(read, cursors, self.out, stop).await?;
                }
                read = self.stderr.read(), if self.stderr.is_open() => {
                    let cursors = self.cursors.as_deref_mut();
                    self.stderr.emit(read, cursors, self.out, stop).await?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        self.group.terminate();
        self.phase = Phase::Ending(Instant::now() + self.grace);
    }
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

async fn sleep_until_deadline(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

type PipeReader = Box<dyn AsyncRead + Send + Unpin>;

/// One output of the child.
struct Pipe {
    /// `None` once it is closed.
    reader: Option<PipeReader>,
    block: Vec<u8>,
    lines: LineSplitter,
    frames: Frames,
    /// Whether its lines are rows.
    rows: bool,
    /// The origin of its rows, if both outputs are rows.
    name: Option<Arc<str>>,
    /// Its last lines; `None` for stdout.
    tail: Option<StderrTail>,
    /// Whether a line was dropped after the stop. Then all that follow are dropped too: rows have no hole.
    closed: bool,
}

impl Pipe {
    fn new(
        reader: Option<PipeReader>,
        rows: bool,
        name: Option<Arc<str>>,
        tail: Option<StderrTail>,
        framing: Framing,
    ) -> Self {
        Self {
            reader,
            block: vec![0; BLOCK],
            lines: LineSplitter::new(if rows { framing } else { TAIL_LINE_MAX.into() }),
            frames: Frames::default(),
            rows,
            name,
            tail,
            closed: false,
        }
    }

    fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Waits for bytes; 0 when the pipe is closed. Dropping this future loses nothing.
    async fn read(&mut self) -> std::io::Result<usize> {
        match &mut self.reader {
            Some(reader) => reader.read(&mut self.block).await,
            None => Ok(0),
        }
    }

    /// Hands on the lines of the block that was read.
    async fn emit(
        &mut self,
        read: std::io::Result<usize>,
        mut cursors: Option<&mut CursorFinder>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<()> {
        let length = read.map_err(failed("cannot read the child's output"))?;
        let mut at = 0;
        while at < length {
            let (taken, long) = self.lines.take(&self.block[at..length], &mut self.frames);
            at += taken;
            let cursors = cursors.as_deref_mut();
            self.hand_on(long, cursors, out, stop).await?;
        }
        if length == 0 {
            self.reader = None;
            let long = self.lines.finish(&mut self.frames);
            self.hand_on(long, cursors, out, stop).await?;
        }
        Ok(())
    }

    async fn hand_on(
        &mut self,
        long: Option<OverlongLine>,
        cursors: Option<&mut CursorFinder>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<()> {
        if let Some(tail) = &mut self.tail {
            tail.extend(&self.frames, long.as_ref());
        }
        if !self.rows || self.closed {
            self.frames.clear();
            return Ok(());
        }
        let handed = self.hand_on_rows(long, cursors, out).await;
        match handed {
            // After the stop, output of the child is taken only while there is room.
            Err(Error::Stopped) if stop.is_cancelled() => {
                self.closed = true;
                self.frames.clear();
                Ok(())
            }
            handed => handed,
        }
    }

    async fn hand_on_rows(
        &mut self,
        long: Option<OverlongLine>,
        cursors: Option<&mut CursorFinder>,
        out: &mut Output,
    ) -> Result<()> {
        if !self.frames.is_empty() || long.is_some() {
            out.origin(self.name.clone()).await?;
        }
        if let Some(cursors) = cursors {
            let before = cursors.missing_field();
            if let Some((covered, cursor)) = cursors.find(&self.frames) {
                let rest = self.frames.split_off(covered);
                out.frames(&mut self.frames).await?;
                out.cursor(cursor).await?;
                self.frames = rest;
            }
            let now = cursors.missing_field();
            if now != before {
                out.degraded(now);
            }
        }
        if !self.frames.is_empty() {
            out.frames(&mut self.frames).await?;
        }
        if let Some(long) = long {
            out.bad(long.into_bad(out.max_frame())).await?;
        }
        Ok(())
    }
}

/// The last lines of stderr.
#[derive(Default)]
struct StderrTail {
    lines: VecDeque<String>,
}

impl StderrTail {
    fn extend(&mut self, frames: &Frames, long: Option<&OverlongLine>) {
        let skipped = frames.len().saturating_sub(TAIL_LINES);
        frames.iter().skip(skipped).for_each(|line| self.push(line));
        long.into_iter().for_each(|line| self.push(&line.start));
    }

    fn push(&mut self, line: &[u8]) {
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(excerpt(line, TAIL_LINE_MAX));
    }

    fn shown(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
