//! The queue between the task of a connector and the worker that reads it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use headwater_connect::{Item, Lane, LaneClosed};
use headwater_ring::{Backpressure, Bell};
use tokio::sync::Notify;

use crate::locked::locked;

/// A queue bounded in rows, with a backpressure policy. Thread-safe.
pub(crate) struct LaneQueue {
    state: Mutex<LaneQueueState>,
    limit: usize,
    policy: Backpressure,
    bell: Arc<Bell>,
    space: Notify,
}

#[derive(Default)]
struct LaneQueueState {
    items: VecDeque<Item>,
    /// Rows in the queue, good and bad.
    weight: usize,
    /// Rows that the policy has dropped.
    dropped: u64,
    closed: bool,
    /// Whether the connector has dropped its end.
    finished: bool,
}

/// Rows that an item counts against the limit.
fn weight(item: &Item) -> usize {
    match item {
        Item::Rows(_) => rows(item).max(1) as usize,
        Item::Gap(_) | Item::Lifecycle(_) => 0,
    }
}

/// Rows that are lost if the item is dropped.
fn rows(item: &Item) -> u64 {
    match item {
        Item::Rows(delivery) => (delivery.rows.num_rows() + delivery.bad.len()) as u64,
        Item::Gap(_) | Item::Lifecycle(_) => 0,
    }
}

impl LaneQueue {
    /// `limit` is in rows; an empty queue accepts an item of any size.
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
        let item = state.items.pop_front()?;
        state.weight -= weight(&item);
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
        let mut state = locked(&self.state);
        if state.closed {
            return Err(RefusedItem::Closed);
        }
        let weight = weight(&item);
        let fits = |state: &LaneQueueState| {
            state.weight == 0 || weight == 0 || state.weight + weight <= self.limit
        };
        match (fits(&state), self.policy) {
            (true, _) => {}
            (false, Backpressure::Block) => return Err(RefusedItem::Full(item)),
            (false, Backpressure::Reject) => {
                state.dropped += rows(&item);
                return Ok(());
            }
            (false, Backpressure::DropOldest) => {
                while !fits(&state) {
                    state.drop_oldest();
                }
            }
        }
        state.weight += weight;
        state.items.push_back(item);
        drop(state);
        self.bell.ring();
        Ok(())
    }
}

impl LaneQueueState {
    fn drop_oldest(&mut self) {
        // Gaps and events have no weight and are never dropped.
        let oldest = self.items.iter().position(|item| weight(item) > 0);
        if let Some(oldest) = oldest.and_then(|at| self.items.remove(at)) {
            self.weight -= weight(&oldest);
            self.dropped += rows(&oldest);
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
