//! The order of everything that happens: one log of turns that all workers follow.
//!
//! ```text
//!   turn    0        1      2      3        4
//!           install  step   step   read     step   ...
//!   worker 0 ─────────────────────────▲
//!   worker 1 ───────────────▲
//! ```
//!
//! A turn is a step (take what has arrived, run it to the end, publish) or a command (install a
//! query, read a view, ...). A worker whose lanes have rows appends a step; callers of the engine
//! append commands. All workers do the same turns in the same order, so a command falls between the
//! same two steps on every worker. The epoch of a step is its position in the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use headwater_ring::Bell;

use crate::locked::locked;

/// One entry of the log, which every worker carries out.
#[derive(Debug)]
pub(crate) enum Turn<C> {
    /// Take what has arrived and run it to the end.
    Step,
    /// Carry out this command.
    Command(Arc<C>),
}

impl<C> Clone for Turn<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Step => Self::Step,
            Self::Command(command) => Self::Command(Arc::clone(command)),
        }
    }
}

/// The log of turns. Thread-safe.
#[derive(Debug)]
pub(crate) struct Sequencer<C> {
    log: Mutex<TurnLog<C>>,
    /// The number of turns so far, to be read without the lock.
    len: AtomicU64,
    /// Whether a worker has ended within its turn, so that its peers must not wait for it.
    broken: AtomicBool,
    bells: Vec<Arc<Bell>>,
}

#[derive(Debug)]
struct TurnLog<C> {
    /// The number of the first turn in `turns`: all workers have taken those before.
    first: u64,
    turns: VecDeque<Turn<C>>,
    /// By worker, the number of turns that it has taken.
    taken: Vec<u64>,
    steps: u64,
    ended: bool,
}

impl<C> Sequencer<C> {
    /// A log for `workers` workers, each with its own bell.
    pub fn new(workers: usize) -> Self {
        let log = TurnLog {
            first: 0,
            turns: VecDeque::new(),
            taken: vec![0; workers],
            steps: 0,
            ended: false,
        };
        Self {
            log: Mutex::new(log),
            len: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            bells: (0..workers).map(|_| Arc::new(Bell::new())).collect(),
        }
    }

    /// The bell that wakes a worker when there is a turn, or its sources have rows.
    pub fn bell(&self, worker: usize) -> &Arc<Bell> {
        &self.bells[worker]
    }

    /// Appends a command. Behind the last one it is dropped: the channel for its answer closes, which
    /// ends the wait.
    pub fn command(&self, command: C) {
        self.append(&mut locked(&self.log), Turn::Command(Arc::new(command)));
    }

    pub fn end(&self, command: C) {
        let mut log = locked(&self.log);
        self.append(&mut log, Turn::Command(Arc::new(command)));
        log.ended = true;
    }

    /// Appends a step in any case.
    pub fn step(&self) {
        self.append(&mut locked(&self.log), Turn::Step);
    }

    /// Appends a step, unless there is a turn at `position` already.
    pub fn open_step(&self, position: u64) {
        let mut log = locked(&self.log);
        if log.len() == position {
            self.append(&mut log, Turn::Step);
        }
    }

    /// The number of steps so far.
    pub fn steps(&self) -> u64 {
        locked(&self.log).steps
    }

    /// Whether there is a turn at `position`.
    pub fn has(&self, position: u64) -> bool {
        // Acquire: pairs with the Release of `append`; the turn itself is read under the lock.
        self.len.load(Ordering::Acquire) > position
    }

    /// Takes the turn at `position` for `worker`, if there is one.
    pub fn take(&self, worker: usize, position: u64) -> Option<Turn<C>> {
        if !self.has(position) {
            return None;
        }
        let mut log = locked(&self.log);
        let turn = log.turns.get((position - log.first) as usize).cloned();
        log.taken[worker] = position + 1;
        log.forget_taken();
        turn
    }

    /// A worker ends within a turn: `command` is the last.
    pub fn break_off(&self, command: C) {
        self.broken.store(true, Ordering::Release);
        self.end(command);
    }

    /// Whether a worker has ended within a turn.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn append(&self, log: &mut TurnLog<C>, turn: Turn<C>) {
        if log.ended {
            return;
        }
        log.steps += u64::from(matches!(turn, Turn::Step));
        log.turns.push_back(turn);
        // Release: pairs with the Acquire of `has`.
        self.len.store(log.len(), Ordering::Release);
        for bell in &self.bells {
            bell.ring();
        }
    }
}

impl<C> TurnLog<C> {
    fn len(&self) -> u64 {
        self.first + self.turns.len() as u64
    }

    fn forget_taken(&mut self) {
        let by_all = self.taken.iter().copied().min().unwrap_or(self.first);
        while self.first < by_all {
            self.turns.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_take_the_same_turns() {
        let sequencer = Sequencer::new(2);
        sequencer.command("a");
        sequencer.open_step(1);
        sequencer.open_step(1);
        sequencer.command("b");
        for worker in 0..2 {
            assert!(matches!(sequencer.take(worker, 0), Some(Turn::Command(c)) if *c == "a"));
            assert!(matches!(sequencer.take(worker, 1), Some(Turn::Step)));
            assert!(matches!(sequencer.take(worker, 2), Some(Turn::Command(c)) if *c == "b"));
            assert!(sequencer.take(worker, 3).is_none());
        }
        assert!(
            locked(&sequencer.log).turns.is_empty(),
            "turns that all have taken are forgotten"
        );
    }
}
