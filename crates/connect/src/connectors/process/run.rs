//! One run of the command: from its start until nothing of it is left.
//!
//! ```text
//!   running --stop, or it ends--> ending --grace--> killed --linger--> given up
//!              SIGTERM                     SIGKILL
//! ```
//!
//! Signals go to the whole group, also when the child itself has ended: what it left in the
//! background ends with it. Both pipes are read until they are closed; only something that has
//! left the group can keep them open longer, and is not waited for. Not reading a pipe while the
//! engine does not keep up is the backpressure on the child.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::cursor::Marker;
use super::group::{Group, Watcher};
use crate::formats::Frames;
use crate::lines::{Lines, Overlong};
use crate::{Error, Lifecycle, Output, Result, overlong};

/// So many bytes are read at once.
const BLOCK: usize = 64 << 10;
/// So long the pipes may stay open when all of the group was killed.
const LINGER: Duration = Duration::from_millis(200);
/// So many lines of stderr are kept for the report of the exit ...
const TAIL_LINES: usize = 10;
/// ... each of at most so many bytes.
const TAIL_LINE_MAX: usize = 256;

/// How a run ended.
pub(super) struct Exit {
    pub status: ExitStatus,
    pub ran_for: Duration,
    /// Its last lines on stderr.
    pub stderr_tail: String,
}

impl Exit {
    /// Its exit code, if it exited.
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that killed it, if one did.
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

/// Which output of the child is its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams {
    pub stdout: bool,
    pub stderr: bool,
}

pub(super) struct Run<'a> {
    child: Child,
    group: Group,
    watcher: &'a mut Option<Watcher>,
    stdout: Pipe,
    stderr: Pipe,
    marker: Option<&'a mut Marker>,
    out: &'a mut Output,
    started: Instant,
    phase: Phase,
    grace: Duration,
    status: Option<ExitStatus>,
}

/// How far the end of a run has come; each until an instant.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    Ending(Instant),
    Killed(Instant),
}

impl<'a> Run<'a> {
    /// Starts the command, under the eyes of `watcher`.
    pub(super) async fn start(
        command: &Command,
        streams: Streams,
        grace: Duration,
        watcher: &'a mut Option<Watcher>,
        marker: Option<&'a mut Marker>,
        out: &'a mut Output,
    ) -> Result<Self> {
        let cursor = marker.as_ref().and_then(|marker| marker.told());
        let mut process = command.process(cursor.as_deref());
        process.stdout(if streams.stdout {
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
        let both = streams.stdout && streams.stderr;
        let name = |name: &str| both.then(|| Arc::from(name));
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Reader);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Reader);
        let max = out.max_frame();
        Ok(Self {
            child,
            group,
            watcher,
            stdout: Pipe::new(stdout, true, name("stdout"), None, max),
            stderr: Pipe::new(
                stderr,
                streams.stderr,
                name("stderr"),
                Some(Tail::default()),
                max,
            ),
            marker,
            out,
            started: Instant::now(),
            phase: Phase::Running,
            grace,
            status: None,
        })
    }

    /// Tells that the command was started.
    pub(super) async fn connected(self, to: String) -> Result<Self> {
        self.out.lifecycle(Lifecycle::Connected { to }).await?;
        Ok(self)
    }

    /// Reads until nothing of the command is left. Ends it early when `stop` is cancelled.
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
        let what = "cannot wait for the child".to_owned();
        let status = waited.map_err(|source| Error::Io { what, source })?;
        let stderr_tail = self
            .stderr
            .tail
            .as_ref()
            .map(Tail::shown)
            .unwrap_or_default();
        Ok(Exit {
            status,
            ran_for: self.started.elapsed(),
            stderr_tail,
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
                () = until(deadline) => match self.phase {
                    Phase::Ending(_) => {
                        self.group.kill();
                        self.phase = Phase::Killed(Instant::now() + LINGER);
                    }
                    Phase::Running | Phase::Killed(_) => return Ok(()),
                },
                status = self.child.wait(), if self.status.is_none() => {
                    let what = "cannot wait for the child".to_owned();
                    self.status = Some(status.map_err(|source| Error::Io { what, source })?);
                    if running {
                        self.end();
                    }
                }
                read = self.stdout.read(), if self.stdout.is_open() => {
                    let marker = self.marker.as_deref_mut();
                    self.stdout.emit(read, marker, self.out, stop).await?;
                }
                read = self.stderr.read(), if self.stderr.is_open() => {
                    let marker = self.marker.as_deref_mut();
                    self.stderr.emit(read, marker, self.out, stop).await?;
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

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// One output of the child.
struct Pipe {
    /// `None` once it is closed.
    reader: Option<Reader>,
    block: Vec<u8>,
    lines: Lines,
    frames: Frames,
    /// Whether its lines are rows.
    rows: bool,
    /// The origin of its rows, if both outputs are rows.
    name: Option<Arc<str>>,
    /// Its last lines, if they are wanted.
    tail: Option<Tail>,
    /// Whether lines were left out, and so is all that follows: there is no hole.
    cut: bool,
}

impl Pipe {
    fn new(
        reader: Option<Reader>,
        rows: bool,
        name: Option<Arc<str>>,
        tail: Option<Tail>,
        max: usize,
    ) -> Self {
        Self {
            reader,
            block: vec![0; BLOCK],
            lines: Lines::new(if rows { max } else { TAIL_LINE_MAX }),
            frames: Frames::default(),
            rows,
            name,
            tail,
            cut: false,
        }
    }

    fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// Waits for bytes; loses none if it is dropped. 0 when it is closed.
    async fn read(&mut self) -> std::io::Result<usize> {
        match &mut self.reader {
            Some(reader) => reader.read(&mut self.block).await,
            None => Ok(0),
        }
    }

    /// Hands on the lines of what was read.
    async fn emit(
        &mut self,
        read: std::io::Result<usize>,
        mut marker: Option<&mut Marker>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<()> {
        let what = "cannot read the child's output".to_owned();
        let length = read.map_err(|source| Error::Io { what, source })?;
        let mut at = 0;
        while at < length {
            let (taken, long) = self.lines.take(&self.block[at..length], &mut self.frames);
            at += taken;
            let marker = marker.as_deref_mut();
            self.hand_on(long, marker, out, stop).await?;
        }
        if length == 0 {
            self.reader = None;
            let long = self.lines.finish(&mut self.frames);
            self.hand_on(long, marker, out, stop).await?;
        }
        Ok(())
    }

    async fn hand_on(
        &mut self,
        long: Option<Overlong>,
        marker: Option<&mut Marker>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<()> {
        if let Some(tail) = &mut self.tail {
            tail.see(&self.frames, long.as_ref());
        }
        if !self.rows || self.cut {
            self.frames.clear();
            return Ok(());
        }
        let handed = self.hand_on_rows(long, marker, out).await;
        match handed {
            // What a child says after it was told to end is taken only as far as there is room.
            Err(Error::Stopped) if stop.is_cancelled() => {
                self.cut = true;
                self.frames.clear();
                Ok(())
            }
            handed => handed,
        }
    }

    async fn hand_on_rows(
        &mut self,
        long: Option<Overlong>,
        marker: Option<&mut Marker>,
        out: &mut Output,
    ) -> Result<()> {
        if !self.frames.is_empty() || long.is_some() {
            out.origin(self.name.clone()).await?;
        }
        if let Some(marker) = marker {
            let before = marker.unmarked();
            if let Some((covered, cursor)) = marker.find(&self.frames) {
                let rest = self.frames.split_off(covered);
                out.frames(&mut self.frames).await?;
                out.cursor(cursor).await?;
                self.frames = rest;
            }
            let now = marker.unmarked();
            if now != before {
                out.degraded(now);
            }
        }
        if !self.frames.is_empty() {
            out.frames(&mut self.frames).await?;
        }
        if let Some(long) = long {
            let length = usize::try_from(long.length).unwrap_or(usize::MAX);
            out.bad(overlong(&long.start, length, out.max_frame()))
                .await?;
        }
        Ok(())
    }
}

/// The last lines of an output.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    fn see(&mut self, frames: &Frames, long: Option<&Overlong>) {
        let skipped = frames.len().saturating_sub(TAIL_LINES);
        frames.iter().skip(skipped).for_each(|line| self.add(line));
        long.into_iter().for_each(|line| self.add(&line.start));
    }

    fn add(&mut self, line: &[u8]) {
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        let line = &line[..line.len().min(TAIL_LINE_MAX)];
        self.lines
            .push_back(String::from_utf8_lossy(line).into_owned());
    }

    fn shown(&self) -> String {
        self.lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}
