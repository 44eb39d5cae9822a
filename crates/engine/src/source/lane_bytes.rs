//! What the rows in the lanes of one channel hold beside their slots: a lane is bounded in bytes, too.
//!
//! ```text
//!   push: in the lane? ── under the limit: counts the row   pushed ┐
//!             │                                                    ├─ in the lane
//!             └─ at it: waits, or fails                     taken  ┘◄── the worker, a run at a time
//! ```
//!
//! Rows without text or bytes hold nothing there, and their pushes cost nothing. A lane that drops its
//! oldest rows is not counted: what it drops it could not tell, and its slots bound it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_ring::{Backpressure, Bell, WaitStrategy};

use crate::batch_bytes::QUEUE_BYTES;
use crate::locked::locked;

/// Time after which a push that waits looks whether the source was closed.
const CLOSE_POLL: Duration = Duration::from_millis(50);

/// How the handles of a channel push. Thread-safe.
#[derive(Debug)]
pub(crate) struct LanesBytes {
    backpressure: Backpressure,
    wait: WaitStrategy,
    lanes: Mutex<BTreeMap<u64, Arc<LaneBytes>>>,
}

/// What the worker has taken from one lane.
#[derive(Debug)]
struct LaneBytes {
    /// Bytes, in all; only grows.
    taken: AtomicU64,
    /// Rung when it has grown.
    room: Bell,
}

/// The pushing end of one lane.
pub(super) struct PushedBytes {
    lane: Arc<LaneBytes>,
    channel: Arc<LanesBytes>,
    number: u64,
    /// Bytes pushed so far, in all.
    pushed: Cell<u64>,
    /// The last `taken` that this end saw.
    seen: Cell<u64>,
}

impl LanesBytes {
    pub fn new(backpressure: Backpressure, wait: WaitStrategy) -> Arc<Self> {
        Arc::new(Self {
            backpressure,
            wait,
            lanes: Mutex::default(),
        })
    }

    /// The worker has taken `bytes` bytes from this lane.
    pub fn took(&self, lane: u64, bytes: usize) {
        let lane = match bytes {
            0 => None,
            _ => locked(&self.lanes).get(&lane).cloned(),
        };
        if let Some(lane) = lane {
            // Release: pairs with the Acquire of `is_full`; the rows are out of the lane.
            lane.taken.fetch_add(bytes as u64, Ordering::Release);
            lane.room.ring();
        }
    }
}

impl PushedBytes {
    pub fn new(channel: &Arc<LanesBytes>, number: u64) -> Self {
        let lane = Arc::new(LaneBytes {
            taken: AtomicU64::new(0),
            room: Bell::new(),
        });
        locked(&channel.lanes).insert(number, Arc::clone(&lane));
        Self {
            lane,
            channel: Arc::clone(channel),
            number,
            pushed: Cell::new(0),
            seen: Cell::new(0),
        }
    }

    pub fn channel(&self) -> &Arc<LanesBytes> {
        &self.channel
    }

    /// Whether the lane holds so much that a row must wait. False stays so until this end pushes.
    #[inline]
    pub fn is_full(&self) -> bool {
        let limit = QUEUE_BYTES as u64;
        if self.pushed.get() - self.seen.get() < limit {
            return false;
        }
        self.seen.set(self.lane.taken.load(Ordering::Acquire));
        self.pushed.get() - self.seen.get() >= limit
    }

    /// Waits until there is room, or `is_closed`; false if there is none and the lane does not wait.
    #[cold]
    pub fn make_room(&self, is_closed: impl Fn() -> bool) -> bool {
        if self.channel.backpressure == Backpressure::Reject {
            return false;
        }
        let ready = || !self.is_full() || is_closed();
        let (room, wait) = (&self.lane.room, self.channel.wait);
        while !room.wait_as(wait, ready, Some(CLOSE_POLL)) {}
        true
    }

    /// A row that holds `bytes` bytes is in the lane.
    #[inline]
    pub fn count(&self, bytes: usize) {
        if self.channel.backpressure != Backpressure::DropOldest {
            self.pushed.set(self.pushed.get() + bytes as u64);
        }
    }
}

impl Drop for PushedBytes {
    fn drop(&mut self) {
        locked(&self.channel.lanes).remove(&self.number);
    }
}
