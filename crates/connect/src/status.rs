//! The status of a source: its state, why, and since when.
//!
//! ```text
//!   initial -> starting -> running <-> degraded
//!                 ^           |  \
//!                 |           v   `-> paused, stopped, failed
//!                 `----- backing_off
//! ```
//!
//! A [`StatusCell`] is the one place where the state of a source is written. Anyone may read it or wait for
//! its changes; a reader sees whole statuses, never a half-written one. Each start bumps the generation of
//! the cell; writers of an older generation are ignored.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::{Clock, Cursor, End, Error, Item, Lifecycle};

/// The state of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Created and never started.
    Initial,
    /// Started; not yet connected and nothing received.
    Starting,
    /// Connected, or receiving rows.
    Running,
    /// Waiting before the next attempt.
    BackingOff,
    /// Stopped by `pause`; the next start continues from its cursor.
    Paused,
    /// Running, but only in part.
    Degraded,
    /// Ended because it was stopped, or because its input ended.
    Stopped,
    /// Ended by an error that a retry does not help against.
    Failed,
}

impl State {
    /// Whether the source has a running task.
    pub fn is_active(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::BackingOff | Self::Degraded => true,
            Self::Initial | Self::Paused | Self::Stopped | Self::Failed => false,
        }
    }

    /// The name used in SQL and on the dashboard.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Paused => "paused",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The status of a source at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// What the source is doing.
    pub state: State,
    /// Why it is in that state: the last failure while backing off or failed, what is missing while
    /// degraded, what was lost while stopping.
    pub reason: Option<Arc<str>>,
    /// The failure behind `reason`, if it was one.
    pub error: Option<Arc<Error>>,
    /// How the last run ended, if it ended without failure.
    pub end: Option<End>,
    /// Since when it is in this state, in microseconds since 1970-01-01 UTC.
    pub since_us: i64,
    /// When it was last started or restarted, in microseconds since 1970-01-01 UTC; `None` if never.
    pub started_us: Option<i64>,
    /// How often it was restarted, or reconnected by itself, after a failure. Only grows.
    pub restarts: u64,
    /// The last failure, also when it is over.
    pub last_failure: Option<Failure>,
    /// Bytes of the external system that were not read yet, as of the source's last check; `None` if it
    /// does not know.
    pub lag_bytes: Option<u64>,
    /// When the last row or bad frame came, in microseconds since 1970-01-01 UTC.
    pub last_row_us: Option<i64>,
    /// Rows handed to the engine. Only grows.
    pub rows: u64,
    /// Undecodable frames. Only grows.
    pub bad: u64,
    /// Intervals in which rows may have been missed. Only grows.
    pub gaps: u64,
    /// The last cursor that was handed to the engine.
    pub cursor: Option<Cursor>,
    /// The number of starts. Writers of an older generation are ignored.
    generation: u64,
}

/// What went wrong with a source, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, as a sentence.
    pub reason: Arc<str>,
    /// When it failed, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// A status that many read and wait for, and that the supervisor of the source writes.
#[derive(Clone)]
pub(crate) struct StatusCell {
    cell: watch::Sender<Status>,
    clock: Arc<dyn Clock>,
    /// The generation that this writer belongs to.
    generation: u64,
}

impl StatusCell {
    pub(crate) fn new(clock: Arc<dyn Clock>, cursor: Option<Cursor>) -> Self {
        let status = Status {
            state: State::Initial,
            reason: None,
            error: None,
            end: None,
            since_us: clock.now_us(),
            started_us: None,
            restarts: 0,
            last_failure: None,
            lag_bytes: None,
            last_row_us: None,
            rows: 0,
            bad: 0,
            gaps: 0,
            cursor,
            generation: 0,
        };
        Self {
            cell: watch::Sender::new(status),
            clock,
            generation: 0,
        }
    }

    pub(crate) fn get(&self) -> Status {
        self.cell.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.cell.subscribe()
    }

    /// Bumps the generation, so that older writers are ignored, and enters `starting`.
    pub(crate) fn next_generation(&self) -> Self {
        let generation = self.get().generation + 1;
        self.cell
            .send_modify(|status| status.generation = generation);
        let next = Self {
            generation,
            ..self.clone()
        };
        next.enter(State::Starting, |status| status.end = None);
        next
    }

    /// Makes the next start continue from `cursor`. Does nothing while the source runs.
    pub(crate) fn resume_from(&self, cursor: Option<Cursor>) {
        self.cell.send_if_modified(|status| {
            let idle = !status.state.is_active();
            if idle {
                status.cursor = cursor;
            }
            idle
        });
    }

    /// A writer of the current generation.
    pub(crate) fn current(&self) -> Self {
        Self {
            generation: self.get().generation,
            ..self.clone()
        }
    }

    fn modify(&self, change: impl FnOnce(&mut Status)) {
        self.cell.send_if_modified(|status| {
            let current = status.generation == self.generation;
            if current {
                change(status);
            }
            current
        });
    }

    /// Enters `state`; `also` changes other fields with it.
    pub(crate) fn enter(&self, state: State, also: impl FnOnce(&mut Status)) {
        let now = self.clock.now_us();
        self.modify(|status| {
            if status.state != state {
                status.since_us = now;
            }
            if state == State::Starting {
                status.started_us = Some(now);
            }
            status.state = state;
            status.reason = None;
            status.error = None;
            also(status);
        });
    }

    /// Enters `state` because of `error`.
    pub(crate) fn fail(&self, state: State, error: Error) {
        self.enter_because(state, error.to_string().into(), Some(Arc::new(error)));
    }

    /// Enters `state`, and keeps the reason as the last failure.
    fn enter_because(&self, state: State, reason: Arc<str>, error: Option<Arc<Error>>) {
        let at_us = self.clock.now_us();
        self.enter(state, |status| {
            status.reason = Some(reason.clone());
            status.error = error;
            status.last_failure = Some(Failure { reason, at_us });
        });
    }

    pub(crate) fn lag_bytes(&self, lag: Option<u64>) {
        self.cell.send_if_modified(|status| {
            let news = status.generation == self.generation && status.lag_bytes != lag;
            if news {
                status.lag_bytes = lag;
            }
            news
        });
    }

    pub(crate) fn degraded(&self, reason: Option<String>) {
        let now = self.get().state;
        match reason {
            Some(reason) if now.is_active() => {
                self.enter(State::Degraded, |status| {
                    status.reason = Some(reason.into())
                });
            }
            None if now == State::Degraded => self.enter(State::Running, |_| {}),
            _ => {}
        }
    }

    /// Applies an event of the source at once, before the engine takes it.
    pub(crate) fn lifecycle(&self, event: &Lifecycle) {
        match event {
            Lifecycle::Connected { .. } => match self.get().state {
                // A connector that connects again by itself counts as restarted.
                State::BackingOff => self.enter(State::Running, |status| status.restarts += 1),
                State::Starting => self.enter(State::Running, |_| {}),
                _ => {}
            },
            Lifecycle::Disconnected { reason, .. } => {
                self.enter_because(State::BackingOff, reason.as_str().into(), None);
            }
            Lifecycle::Exited { .. } | Lifecycle::Changed { .. } | Lifecycle::Warned { .. } => {}
        }
    }

    /// Counts a gap that the engine has accepted.
    pub(crate) fn gap(&self) {
        self.modify(|status| status.gaps += 1);
    }

    /// Counts an item that the engine has accepted.
    pub(crate) fn count(&self, taken: ItemCounts) {
        if taken.rows + taken.bad > 0 && self.get().state == State::Starting {
            self.enter(State::Running, |_| {});
        }
        self.modify(|status| {
            status.rows += taken.rows;
            status.bad += taken.bad;
            status.gaps += taken.gaps;
            if taken.rows + taken.bad > 0 {
                status.last_row_us = Some(taken.arrival_us);
            }
            if taken.cursor.is_some() {
                status.cursor = taken.cursor;
            }
        });
    }
}

/// What an item adds to the counts of a status.
#[derive(Default)]
pub(crate) struct ItemCounts {
    rows: u64,
    bad: u64,
    gaps: u64,
    arrival_us: i64,
    cursor: Option<Cursor>,
}

impl ItemCounts {
    pub(crate) fn of(item: &Item) -> Self {
        match item {
            Item::Rows(delivery) => Self {
                rows: delivery.rows.num_rows() as u64,
                bad: delivery.bad.len() as u64,
                gaps: 0,
                arrival_us: delivery.arrival_us,
                cursor: delivery.cursor.clone(),
            },
            Item::Gap(_) => Self {
                gaps: 1,
                ..Self::default()
            },
            Item::Lifecycle(_) => Self::default(),
        }
    }
}
