//! What all parts of a source share: its counters, and the queue between its connector and the
//! worker that reads it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use headwater_connect::{Gap, Item, Lane, LaneClosed, Lifecycle};
use headwater_ring::{Backpressure, Bell};
use tokio::sync::Notify;

use crate::event_log::EventLog;
use crate::telemetry;

/// Told when a handle closes its source.
type Closer = Box<dyn Fn() + Send + Sync>;

/// Shared by the handles of a source, its connector and its worker.
pub(crate) struct SourceShared {
    name: String,
    schema: SchemaRef,
    producers: AtomicUsize,
    said_watermark: Arc<AtomicI64>,
    close: Closer,
    closed: AtomicBool,
    /// Counters for people: any thread may change them at any time.
    pub bad: AtomicU64,
    pub dropped: AtomicU64,
    /// Bad rows that went to the dead letters.
    pub dead_letters: AtomicU64,
    /// Rows that REPROCESS made wait to be taken.
    pub reprocessing: AtomicBool,
    event_log: Arc<EventLog>,
    pub gap_count: AtomicU64,
    /// When a step last took rows, in microseconds since 1970-01-01 UTC; the least while none came.
    last_row_us: AtomicI64,
}

impl SourceShared {
    pub fn new(name: String, schema: SchemaRef, close: Closer, event_log: Arc<EventLog>) -> Self {
        Self {
            name,
            schema,
            producers: AtomicUsize::new(0),
            said_watermark: Arc::new(AtomicI64::new(i64::MIN)),
            close,
            closed: AtomicBool::new(false),
            bad: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            reprocessing: AtomicBool::new(false),
            event_log,
            gap_count: AtomicU64::new(0),
            last_row_us: AtomicI64::new(i64::MIN),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn said_watermark(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.said_watermark)
    }

    pub fn producer_added(&self) {
        self.producers.fetch_add(1, Ordering::Relaxed);
    }

    pub fn producer_removed(&self) {
        self.producers.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn producers(&self) -> usize {
        self.producers.load(Ordering::Relaxed)
    }

    pub fn close(&self) {
        (self.close)();
        // Release: whoever sees it finds the command in the log of turns.
        self.closed.store(true, Ordering::Release);
    }

    /// Whether it was closed; never false again after true.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A step took this many rows.
    pub fn note_rows(&self, count: u64, now_us: i64) {
        if count > 0 {
            self.last_row_us.store(now_us, Ordering::Relaxed);
            telemetry::events_created(&self.name, count);
        }
    }

    /// When a step last took rows, if one has.
    pub fn last_row_us(&self) -> Option<i64> {
        Some(self.last_row_us.load(Ordering::Relaxed)).filter(|at| *at != i64::MIN)
    }

    pub fn note_gap(&self, gap: Gap) {
        tracing::warn!(
            source = self.name,
            reason = gap.reason,
            "rows may be missing"
        );
        self.gap_count.fetch_add(1, Ordering::Relaxed);
        self.event_log.gap(&self.name, gap);
    }

    /// Something went wrong that does not end the source.
    pub fn note_error(&self, error: &str) {
        self.event_log.error("source", &self.name, error);
    }

    pub fn note_lifecycle(&self, event: &Lifecycle) {
        tracing::info!(source = self.name, ?event, "source");
    }
}

/// The queue between a connector's task and the worker, bounded in rows.
pub(crate) struct LaneQueue {
    state: Mutex<Queued>,
    limit: usize,
    policy: Backpressure,
    bell: Arc<Bell>,
    space: Notify,
}

#[derive(Default)]
struct Queued {
    items: VecDeque<Item>,
    weight: usize,
    dropped: u64,
    closed: bool,
    /// The connector has let go of its end.
    finished: bool,
}

/// What an item counts against the limit.
fn weight(item: &Item) -> usize {
    match item {
        Item::Rows(delivery) => (delivery.rows.num_rows() + delivery.bad.len()).max(1),
        Item::Gap(_) | Item::Lifecycle(_) => 0,
    }
}

/// What is lost if the item is dropped.
fn rows(item: &Item) -> u64 {
    match item {
        Item::Rows(delivery) => (delivery.rows.num_rows() + delivery.bad.len()) as u64,
        Item::Gap(_) | Item::Lifecycle(_) => 0,
    }
}

impl LaneQueue {
    /// `limit` is in rows; an item that exceeds it alone is taken when the queue is empty.
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
        self.lock().items.is_empty()
    }

    pub fn is_finished(&self) -> bool {
        let state = self.lock();
        state.items.is_empty() && (state.finished || state.closed)
    }

    pub fn pop(&self) -> Option<Item> {
        let mut state = self.lock();
        let item = state.items.pop_front()?;
        state.weight -= weight(&item);
        drop(state);
        self.space.notify_one();
        Some(item)
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.space.notify_one();
    }

    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Takes the item, or gives it back if the queue is full and the policy is to wait.
    fn offer(&self, item: Item) -> Result<(), Offered> {
        let mut state = self.lock();
        if state.closed {
            return Err(Offered::Closed);
        }
        let weight = weight(&item);
        let fits = |state: &Queued| {
            state.weight == 0 || weight == 0 || state.weight + weight <= self.limit
        };
        match (fits(&state), self.policy) {
            (true, _) => {}
            (false, Backpressure::Block) => return Err(Offered::Full(item)),
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

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queued {
    fn drop_oldest(&mut self) {
        // Gaps and events are never dropped: they have no weight.
        let oldest = self.items.iter().position(|item| weight(item) > 0);
        if let Some(oldest) = oldest.and_then(|at| self.items.remove(at)) {
            self.weight -= weight(&oldest);
            self.dropped += rows(&oldest);
        }
    }
}

enum Offered {
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
                Err(Offered::Closed) => return Err(LaneClosed),
                Err(Offered::Full(back)) => item = back,
            }
            space.await;
        }
    }
}

impl Drop for ConnectorLane {
    fn drop(&mut self) {
        self.0.lock().finished = true;
        self.0.bell.ring();
    }
}
