//! Acknowledges to a program that the rows it pushed are durable: `wal_mode = 'sync'`.
//!
//! A handle counts the values that it puts into its lane. The worker counts how many it read from each
//! lane in a step ([`Acks`]), and when that step's record is on disk, the WAL writer adds them to the
//! handle's [`AckTracker`]. A push waits until the tracker has reached its own count, so one fsync
//! serves all pushes that wait.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use crate::locked::{locked, notified};

/// How many values of each lane of one channel are durable. Thread-safe.
#[derive(Debug, Default)]
pub(crate) struct AckTracker {
    state: Mutex<DurableCounts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DurableCounts {
    /// Durable values by lane.
    durable: HashMap<u64, u64>,
    closed: bool,
}

impl AckTracker {
    /// Waits until `values` values of `lane` are durable; false if the log closes before that.
    pub fn wait(&self, lane: u64, values: u64) -> bool {
        let mut state = locked(&self.state);
        loop {
            if state.durable.get(&lane).copied().unwrap_or(0) >= values {
                return true;
            }
            if state.closed {
                return false;
            }
            state = notified(&self.changed, state);
        }
    }

    /// Wakes all waiting pushes, which fail.
    pub fn close(&self) {
        locked(&self.state).closed = true;
        self.changed.notify_all();
    }

    fn acknowledge(&self, lane: u64, values: u64) {
        *locked(&self.state).durable.entry(lane).or_default() += values;
        self.changed.notify_all();
    }
}

/// The values that a step read from lanes whose handles wait.
#[derive(Debug, Default)]
pub(crate) struct Acks(Vec<(Arc<AckTracker>, u64, u64)>);

impl Acks {
    /// The step read `values` values of `lane`.
    pub fn add(&mut self, ack_tracker: &Arc<AckTracker>, lane: u64, values: u64) {
        match self.0.last_mut() {
            Some((same, last, count)) if *last == lane && Arc::ptr_eq(same, ack_tracker) => {
                *count += values;
            }
            _ => self.0.push((Arc::clone(ack_tracker), lane, values)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values are durable: wakes the pushes that wait for them.
    pub fn acknowledge(self) {
        for (ack_tracker, lane, values) in self.0 {
            ack_tracker.acknowledge(lane, values);
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
        acks.acknowledge();
        assert!(waiter.join().unwrap());
        assert!(ack_tracker.wait(4, 1));
        ack_tracker.close();
        assert!(
            !ack_tracker.wait(4, 2),
            "a push whose value never becomes durable fails"
        );
    }
}
