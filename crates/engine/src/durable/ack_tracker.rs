//! What tells a program that what it pushed is durable: `wal_mode = 'sync'`.
//!
//! A handle counts the values that it puts into its lane. The worker notes how many it read of each
//! lane in a step ([`Acks`]), and when that step's record is on disk, the journal enters them in the
//! handle's [`AckTracker`]. A push waits until the ledger has come to its own count, so one fsync serves
//! all that were waiting.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How many values of each lane of one channel are durable. Thread-safe.
#[derive(Debug, Default)]
pub(crate) struct AckTracker {
    state: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Entries {
    durable: HashMap<u64, u64>,
    /// Nothing will become durable any more.
    closed: bool,
}

impl AckTracker {
    /// Waits until `values` values of `lane` are durable; false if that will not come to be.
    pub fn wait(&self, lane: u64, values: u64) -> bool {
        let mut state = self.lock();
        loop {
            if state.durable.get(&lane).copied().unwrap_or(0) >= values {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all waiting.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn enter(&self, lane: u64, values: u64) {
        *self.lock().durable.entry(lane).or_default() += values;
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values that a step read from lanes whose handles wait.
#[derive(Debug, Default)]
pub(crate) struct Acks(Vec<(Arc<AckTracker>, u64, u64)>);

impl Acks {
    /// `values` values of `lane` were read.
    pub fn add(&mut self, ack_tracker: &Arc<AckTracker>, lane: u64, values: u64) {
        match self.0.last_mut() {
            Some((same, last, count)) if *last == lane && Arc::ptr_eq(same, ack_tracker) => {
                *count += values;
            }
            _ => self.0.push((Arc::clone(ack_tracker), lane, values)),
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// They are durable.
    pub fn enter(self) {
        for (ack_tracker, lane, values) in self.0 {
            ack_tracker.enter(lane, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_waits_for_its_own_count() {
        let ack_tracker = Arc::new(AckTracker::default());
        let mut acks = Acks::default();
        acks.add(&ack_tracker, 3, 2);
        acks.add(&ack_tracker, 3, 1);
        acks.add(&ack_tracker, 4, 1);
        let waiting = Arc::clone(&ack_tracker);
        let waiter = std::thread::spawn(move || waiting.wait(3, 3));
        acks.enter();
        assert!(waiter.join().unwrap());
        assert!(ack_tracker.wait(4, 1));
        ack_tracker.close();
        assert!(
            !ack_tracker.wait(4, 2),
            "what never becomes durable is told"
        );
    }
}
