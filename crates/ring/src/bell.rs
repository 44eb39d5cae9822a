//! An eventcount: a thread sleeps until something it looks at has changed, and a wake-up is never lost.
//!
//! Whoever changes something rings afterwards; whoever waits says how to see whether it may go on:
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
//! A bell may be shared by many channels, and waited on by more than one thread. What is looked at is the
//! caller's business.

use std::fmt;
use std::time::{Duration, Instant};

use std::sync::atomic::Ordering;

use crate::barrier;
use crate::config::WaitStrategy;
use crate::sync::{AtomicBool, CachePadded, Condvar, Mutex, lock, spin, yield_now};

/// Wakes a thread that sleeps until any of several channels has something. Shared in an `Arc`; thread-safe.
pub struct Bell {
    /// Some thread may be asleep, or about to sleep. Written under the lock and only around a sleep, so ringers keep it
    /// in their cache.
    armed: CachePadded<AtomicBool>,
    /// Counts the wake-ups; a sleeper sleeps as long as it does not change.
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    /// A bell nobody waits on.
    pub fn new() -> Bell {
        barrier::init();
        Bell {
            armed: CachePadded(AtomicBool::new(false)),
            generation: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Wakes whoever waits, after the caller has changed what they look at. Does not block, and costs about a
    /// nanosecond when nobody sleeps.
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

    /// Sleeps until `ready` says true or `timeout` has passed (`None`: no limit); returns what `ready` said last.
    ///
    /// `ready` is called at least once, on this thread. Uses no CPU while it sleeps. It may be called again without
    /// cause, and is not called between rings, so everything it looks at must ring this bell when it changes.
    pub fn wait(&self, mut ready: impl FnMut() -> bool, timeout: Option<Duration>) -> bool {
        self.sleep_until(&mut ready, deadline(timeout))
    }

    /// As [`wait`](Self::wait), but first spins and yields as `strategy` says.
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

    /// Asks to be woken by whatever rings from now on; returns the generation in which that was asked.
    fn arm(&self) -> u64 {
        let generation = lock(&self.generation);
        // Relaxed: written under the lock, and published by the heavy fence, which pairs with the light one of a ringer.
        self.armed.store(true, Ordering::Relaxed);
        let seen = *generation;
        drop(generation);
        barrier::heavy();
        seen
    }

    /// Sleeps until the generation is no longer `seen`; false when the deadline came first.
    fn sleep(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut generation = lock(&self.generation);
        while *generation == seen {
            generation = match deadline {
                None => self
                    .changed
                    .wait(generation)
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed
                        .wait_timeout(generation, left)
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .0
                }
            };
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

/// Looks up to `turns` times and calls `pause` with the number of the turn in between.
fn look(ready: &mut impl FnMut() -> bool, turns: u32, pause: impl Fn(u32)) -> bool {
    (0..turns).any(|turn| {
        let there = ready();
        if !there {
            pause(turn);
        }
        there
    })
}

/// Spins a little longer each turn, at most a few hundred nanoseconds: every look takes the cache line away from the
/// thread that is about to write it. A hundred turns take some ten microseconds, about the price of a sleep.
fn spin_longer(turn: u32) {
    (0..=(turn / 8).min(15)).for_each(|_| spin());
}

/// Looks at the clock only now and then: that costs more than a look.
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
                assert!(ask.wait(|| count.load(Ordering::Acquire) == 2 * turn + 1, None));
                count.fetch_add(1, Ordering::Release);
                answer.ring();
            }
        });
        let (ask, count, answer) = &*pair;
        for turn in 0..TURNS {
            count.fetch_add(1, Ordering::Release);
            ask.ring();
            assert!(answer.wait(|| count.load(Ordering::Acquire) == 2 * turn + 2, None));
        }
        answering.join().unwrap();
    }

    #[test]
    fn one_ring_wakes_all_who_wait() {
        let shared = Arc::new((Bell::new(), AtomicBool::new(false)));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.0.wait(|| shared.1.load(Ordering::Acquire), None))
            })
            .collect();
        shared.1.store(true, Ordering::Release);
        shared.0.ring();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
    }
}
