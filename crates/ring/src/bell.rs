//! An eventcount: a thread sleeps until something it looks at has changed, and a wake-up is never lost.
//!
//! A ringer rings after each change; a waiter passes a closure that checks whether it may go on:
//!
//! ```text
//!   ringer: change; light fence; is anyone armed? ── no: done (one load of a line that stays in the cache)
//!                                                └─ yes: disarm, next generation, wake all
//!   waiter: arm; heavy fence; look again; sleep until the generation changes; start over
//! ```
//!
//! Either the ringer sees the arming or the waiter's second look sees the change, because a light and a heavy
//! fence are ordered with each other (`barrier`). One ringer disarms for all, so a stream of pushes pays for one
//! wake-up only, and a waiter that finds nothing arms again.
//!
//! Many channels may share a bell, and several threads may wait on it. The closure defines what is waited for.

use std::fmt;
use std::time::{Duration, Instant};

use std::sync::atomic::Ordering;

use crate::barrier;
use crate::config::WaitStrategy;
use crate::sync::{AtomicBool, CachePadded, Condvar, Mutex, lock, spin, wait_notified, yield_now};

/// Wakes threads that sleep until any of several channels has something. Shared in an `Arc`; thread-safe.
pub struct Bell {
    /// Some thread may be asleep, or about to sleep. Written under the lock and only around a sleep, so ringers keep it
    /// in their cache.
    armed: CachePadded<AtomicBool>,
    /// Counts the wake-ups; a sleeper sleeps as long as it does not change.
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    /// A bell with no waiters.
    pub fn new() -> Bell {
        barrier::init();
        Bell {
            armed: CachePadded(AtomicBool::new(false)),
            generation: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Wakes all waiters; call it after changing what they check. Does not block, and costs about a nanosecond when
    /// nobody sleeps.
    #[inline]
    pub fn ring(&self) {
        barrier::light();
        self.ring_after_fence();
    }

    /// [`ring`](Self::ring) for a caller that has just had its light fence.
    #[inline(always)]
    pub(crate) fn ring_after_fence(&self) {
        // Relaxed: ordered after the caller's change by the light fence, which pairs with the heavy one in `arm`.
        if self.armed.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let mut generation = lock(&self.generation);
        // Relaxed, both: written only under the lock.
        if self.armed.load(Ordering::Relaxed) {
            self.armed.store(false, Ordering::Relaxed);
            *generation += 1;
            drop(generation);
            self.changed.notify_all();
        }
    }

    /// Sleeps until `ready` returns true or `timeout` has passed (`None`: no limit); returns the last result of
    /// `ready`.
    ///
    /// Calls `ready` on this thread, at least once, and uses no CPU while it sleeps. Spurious calls happen; between
    /// rings there are none, so every change of what `ready` checks must ring this bell.
    pub fn wait(&self, mut ready: impl FnMut() -> bool, timeout: Option<Duration>) -> bool {
        self.sleep_until(&mut ready, deadline(timeout))
    }

    /// As [`wait`](Self::wait), but first spins and yields according to `strategy`.
    pub fn wait_as(
        &self,
        strategy: WaitStrategy,
        mut ready: impl FnMut() -> bool,
        timeout: Option<Duration>,
    ) -> bool {
        let deadline = deadline(timeout);
        match strategy {
            WaitStrategy::Spin => spin_until(&mut ready, deadline),
            WaitStrategy::SpinYield(turns) => {
                look(&mut ready, turns, spin_longer)
                    || look(&mut ready, turns.div_ceil(10), |_| yield_now())
                    || self.sleep_until(&mut ready, deadline)
            }
            WaitStrategy::Park => self.sleep_until(&mut ready, deadline),
        }
    }

    fn sleep_until(&self, ready: &mut impl FnMut() -> bool, deadline: Option<Instant>) -> bool {
        loop {
            if ready() {
                return true;
            }
            let seen = self.arm();
            if ready() {
                return true;
            }
            if !self.sleep(seen, deadline) {
                return ready();
            }
        }
    }

    /// Makes the next ring wake this thread; returns the generation to sleep in.
    fn arm(&self) -> u64 {
        let generation = lock(&self.generation);
        // Relaxed: written under the lock, and published by the heavy fence, which pairs with the light one of a
        // ringer.
        self.armed.store(true, Ordering::Relaxed);
        let seen = *generation;
        drop(generation);
        barrier::heavy();
        seen
    }

    /// Sleeps until the generation is no longer `seen`. False if the deadline came first.
    fn sleep(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut generation = lock(&self.generation);
        while *generation == seen {
            match wait_notified(&self.changed, generation, deadline) {
                Some(woken) => generation = woken,
                None => return false,
            }
        }
        true
    }
}

impl Default for Bell {
    fn default() -> Self {
        Bell::new()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

/// The moment a timeout ends; none for a timeout beyond what the clock can count.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Calls `ready` up to `turns` times until it returns true, with `pause(turn)` after each failure.
fn look(ready: &mut impl FnMut() -> bool, turns: u32, pause: impl Fn(u32)) -> bool {
    (0..turns).any(|turn| {
        let there = ready();
        if !there {
            pause(turn);
        }
        there
    })
}

/// Spins a little longer each turn, at most a few hundred nanoseconds: every check takes the cache line away from the
/// thread that is about to write it. A hundred turns take some ten microseconds, about the cost of a sleep.
fn spin_longer(turn: u32) {
    (0..=(turn / 8).min(15)).for_each(|_| spin());
}

/// Checks `ready` 64 times between two reads of the clock, because a read costs more than a check.
fn spin_until(ready: &mut impl FnMut() -> bool, deadline: Option<Instant>) -> bool {
    const LOOKS: u32 = 64;
    loop {
        if look(ready, LOOKS, |_| spin()) {
            return true;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return ready();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// Longer than any wait below takes, so that a lost wake-up fails the test.
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(600));

    #[test]
    fn a_wait_that_is_ready_does_not_sleep() {
        assert!(Bell::new().wait(|| true, Some(Duration::ZERO)));
    }

    #[test]
    fn a_wait_without_a_ring_ends_at_its_timeout() {
        for strategy in [
            WaitStrategy::Spin,
            WaitStrategy::SpinYield(3),
            WaitStrategy::Park,
        ] {
            assert!(!Bell::new().wait_as(strategy, || false, Some(Duration::from_millis(1))));
        }
    }

    #[test]
    fn a_timeout_beyond_the_clock_is_no_limit() {
        assert_eq!(deadline(Some(Duration::MAX)), None);
    }

    #[test]
    fn every_ring_is_answered() {
        const TURNS: usize = if cfg!(miri) { 20 } else { 2000 };
        let pair = Arc::new((Bell::new(), AtomicUsize::new(0), Bell::new()));
        let other = Arc::clone(&pair);
        let answering = std::thread::spawn(move || {
            let (ask, count, answer) = &*other;
            for turn in 0..TURNS {
                let asked = || count.load(Ordering::Acquire) == 2 * turn + 1;
                assert!(ask.wait(asked, PATIENCE), "question {turn} did not wake");
                count.fetch_add(1, Ordering::Release);
                answer.ring();
            }
        });
        let (ask, count, answer) = &*pair;
        for turn in 0..TURNS {
            count.fetch_add(1, Ordering::Release);
            ask.ring();
            let answered = || count.load(Ordering::Acquire) == 2 * turn + 2;
            assert!(
                answer.wait(answered, PATIENCE),
                "answer {turn} did not wake"
            );
        }
        answering.join().unwrap();
    }

    #[test]
    fn one_ring_wakes_all_waiters() {
        let shared = Arc::new((Bell::new(), AtomicBool::new(false)));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    shared.0.wait(|| shared.1.load(Ordering::Acquire), PATIENCE)
                })
            })
            .collect();
        shared.1.store(true, Ordering::Release);
        shared.0.ring();
        let woken = |thread: std::thread::JoinHandle<bool>| thread.join().unwrap();
        assert!(waiting.into_iter().all(woken), "a waiter was not woken");
    }
}
