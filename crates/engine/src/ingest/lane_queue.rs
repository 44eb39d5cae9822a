//! The queue between the task of a connector and the worker that reads it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use headwater_connect::{Item, Lane, LaneClosed};
use headwater_ring::{Backpressure, Bell};
use tokio::sync::Notify;

use crate::batch_bytes::{QUEUE_BYTES, batch_bytes};
use crate::locked::locked;

/// Events and gaps that may wait in a queue: with more, the connector waits, whatever the policy for rows.
const EVENTS_MAX: usize = 1_024;

/// A queue bounded in rows and bytes, with a backpressure policy. Thread-safe.
pub(crate) struct LaneQueue {
    state: Mutex<LaneQueueState>,
    /// Rows in the queue, at most.
    limit: usize,
    policy: Backpressure,
    bell: Arc<Bell>,
    space: Notify,
}

#[derive(Default)]
struct LaneQueueState {
    items: VecDeque<(Item, Weight)>,
    /// What is in the queue.
    weight: Weight,
    /// Rows that the policy has dropped.
    dropped: u64,
    closed: bool,
    /// Whether the connector has dropped its end.
    finished: bool,
}

/// What an item counts against the limits of its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Weight {
    /// Rows, good and bad.
    rows: usize,
    bytes: usize,
    /// Gaps and lifecycle events.
    events: usize,
}

impl Weight {
    fn of(item: &Item) -> Self {
        let event = Self {
            events: 1,
            ..Self::default()
        };
        let Item::Rows(delivery) = item else {
            return event;
        };
        let bad = delivery.bad.iter();
        let bad = bad.map(|bad| bad.bytes.len() + bad.reason.len());
        Self {
            rows: (lost(item) as usize).max(1),
            bytes: batch_bytes(&delivery.rows) + bad.sum::<usize>(),
            events: 0,
        }
    }

    fn add(&mut self, item: Self) {
        self.rows += item.rows;
        self.bytes += item.bytes;
        self.events += item.events;
    }

    fn remove(&mut self, item: Self) {
        self.rows -= item.rows;
        self.bytes -= item.bytes;
        self.events -= item.events;
    }
}

/// Rows that are lost if the item is dropped.
fn lost(item: &Item) -> u64 {
    match item {
        Item::Rows(delivery) => (delivery.rows.num_rows() + delivery.bad.len()) as u64,
        Item::Gap(_) | Item::Lifecycle(_) => 0,
    }
}

impl LaneQueue {
    /// `limit` is in rows; a queue without rows accepts an item of any size.
    pub fn new(limit: usize, policy: Backpressure, bell: Arc<Bell>) -> Self {
        Self {
            state: Mutex::default(),
            limit,
            policy,
            bell,
            space: Notify::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        locked(&self.state).items.is_empty()
    }

    pub fn is_finished(&self) -> bool {
        let state = locked(&self.state);
        state.items.is_empty() && (state.finished || state.closed)
    }

    pub fn pop(&self) -> Option<Item> {
        let mut state = locked(&self.state);
        let (item, weight) = state.items.pop_front()?;
        state.weight.remove(weight);
        drop(state);
        self.space.notify_one();
        Some(item)
    }

    pub fn close(&self) {
        locked(&self.state).closed = true;
        self.space.notify_one();
    }

    pub fn dropped(&self) -> u64 {
        locked(&self.state).dropped
    }

    /// Adds the item, or gives it back if the queue is full and the policy is to block.
    fn offer(&self, item: Item) -> Result<(), RefusedItem> {
        let weight = Weight::of(&item);
        let mut state = locked(&self.state);
        if state.closed {
            return Err(RefusedItem::Closed);
        }
        if weight.events > 0 {
            if state.weight.events >= EVENTS_MAX {
                return Err(RefusedItem::Full(item));
            }
        } else if !self.fits(&state, weight) {
            match self.policy {
                Backpressure::Block => return Err(RefusedItem::Full(item)),
                Backpressure::Reject => {
                    state.dropped += lost(&item);
                    return Ok(());
                }
                Backpressure::DropOldest => {
                    while !self.fits(&state, weight) {
                        state.drop_oldest();
                    }
                }
            }
        }
        state.weight.add(weight);
        state.items.push_back((item, weight));
        drop(state);
        self.bell.ring();
        Ok(())
    }

    fn fits(&self, state: &LaneQueueState, item: Weight) -> bool {
        let queued = state.weight;
        queued.rows == 0
            || queued.rows + item.rows <= self.limit && queued.bytes + item.bytes <= QUEUE_BYTES
    }
}

impl LaneQueueState {
    /// Drops the oldest rows. Gaps and events stay.
    fn drop_oldest(&mut self) {
        let oldest = self.items.iter().position(|(_, weight)| weight.rows > 0);
        if let Some((item, weight)) = oldest.and_then(|at| self.items.remove(at)) {
            self.weight.remove(weight);
            self.dropped += lost(&item);
        }
    }
}

/// Why the queue did not take an item.
enum RefusedItem {
    Full(Item),
    Closed,
}

/// The connector's end of a [`LaneQueue`].
pub(crate) struct ConnectorLane(pub Arc<LaneQueue>);

#[async_trait]
impl Lane for ConnectorLane {
    async fn send(&mut self, item: Item) -> Result<(), LaneClosed> {
        let mut item = item;
        loop {
            let space = self.0.space.notified();
            match self.0.offer(item) {
                Ok(()) => return Ok(()),
                Err(RefusedItem::Closed) => return Err(LaneClosed),
                Err(RefusedItem::Full(back)) => item = back,
            }
            space.await;
        }
    }
}

impl Drop for ConnectorLane {
    fn drop(&mut self) {
        locked(&self.0.state).finished = true;
        self.0.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use headwater_connect::{Bad, Delivery, Gap};

    use super::*;

    /// A delivery of a bad row of this many bytes.
    fn delivery(bytes: usize) -> Item {
        let column = Arc::new(Int64Array::from(Vec::<i64>::new())) as _;
        let bad = Bad {
            bytes: vec![0; bytes],
            reason: "no".to_owned(),
        };
        Item::Rows(Delivery {
            rows: RecordBatch::try_from_iter([("n", column)]).unwrap(),
            bad: vec![bad],
            cursor: None,
            origin: None,
            arrival_us: 0,
        })
    }

    fn gap() -> Item {
        Item::Gap(Gap {
            reason: "away".to_owned(),
            from: None,
            to: None,
        })
    }

    fn queue(policy: Backpressure) -> LaneQueue {
        LaneQueue::new(1_000, policy, Arc::new(Bell::new()))
    }

    #[test]
    fn a_queue_is_full_of_bytes_and_takes_one_item_of_any_size() {
        let block = queue(Backpressure::Block);
        assert!(block.offer(delivery(QUEUE_BYTES + 1)).is_ok());
        let second = block.offer(delivery(1));
        assert!(matches!(second, Err(RefusedItem::Full(_))));
        assert!(
            block.offer(gap()).is_ok(),
            "an event does not wait for rows"
        );
        block.pop().unwrap();
        assert!(block.offer(delivery(1)).is_ok());

        let reject = queue(Backpressure::Reject);
        let oldest = queue(Backpressure::DropOldest);
        for queue in [&reject, &oldest] {
            for _ in 0..3 {
                assert!(queue.offer(delivery(QUEUE_BYTES / 2)).is_ok());
            }
            assert_eq!(queue.dropped(), 2);
            assert_eq!(locked(&queue.state).items.len(), 1);
        }
    }

    #[test]
    fn events_of_a_peer_that_reconnects_for_ever_wait() {
        for policy in [Backpressure::Block, Backpressure::DropOldest] {
            let queue = queue(policy);
            while queue.offer(gap()).is_ok() {}
            assert_eq!(locked(&queue.state).items.len(), EVENTS_MAX);
            queue.pop().unwrap();
            assert!(queue.offer(gap()).is_ok());
        }
    }
}
