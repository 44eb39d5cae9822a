//! The bounded queue between the engine and one subscriber.
//!
//! The worker pushes, one reader takes; both lock for a moment, and a poll of an empty queue is one
//! atomic load. The queue of a sink also keeps what the sink has taken until the external system has
//! it, for checkpoints and for the next sink task.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use headwater_connect::Receipt;

use super::gate::Gate;
use super::queue_size::QueueSize;
use crate::dataflow::Run;
use crate::durable::SinkCheckpoint;
use crate::error::Error;
use crate::locked::{locked, notified};

/// One item of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Rows, in the order in which the stream produced them.
    Rows(RecordBatch),
    /// The subscriber was too slow: this many rows were dropped here.
    Missed {
        /// The number of dropped rows.
        rows: u64,
    },
    /// The stream itself did not get rows here, for instance because it was paused.
    Gap {
        /// The number of rows of its inputs that it missed.
        rows: u64,
        /// Why the stream missed them.
        reason: String,
    },
}

/// What happens when a subscriber does not keep up and its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The queue drops its oldest rows, and the subscriber gets [`Event::Missed`].
    #[default]
    DropOldest,
    /// The queue drops new rows until there is room, and the subscriber gets [`Event::Missed`].
    DropNewest,
    /// Nothing is dropped: workers stop reading the sources before it until there is room.
    Wait,
    /// The subscription ends, after the rows that are in the queue, with [`Error::TooSlow`].
    Disconnect,
}

/// An event in the queue, with the size of its rows.
#[derive(Debug)]
struct Queued {
    event: Event,
    size: QueueSize,
}

impl Queued {
    fn rows(batch: RecordBatch) -> Self {
        Self {
            size: QueueSize::of(&batch),
            event: Event::Rows(batch),
        }
    }
}

impl From<Event> for Queued {
    /// Of an event without rows.
    fn from(event: Event) -> Self {
        Self {
            event,
            size: QueueSize::default(),
        }
    }
}

/// A bounded queue of events for one subscriber. Thread-safe.
#[derive(Debug)]
pub(crate) struct SubscriberQueue {
    state: Mutex<SubscriberQueueState>,
    changed: Condvar,
    /// Whether there may be an event, to be read without the lock.
    filled: AtomicBool,
    /// The gate of a lossless queue.
    gate: Option<Arc<Gate>>,
    when_full: WhenFull,
    limit: QueueSize,
    /// The sink that reads it, if one does.
    sink: Option<SinkEnd>,
}

/// What the external system has of a sink's rows: everything up to `receipt`, which covers the first
/// `items` batches that the sink has taken from its queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Delivered {
    /// The sink's position; `None` if it gives no receipts, or has not been opened yet.
    pub receipt: Option<Receipt>,
    /// The number of batches that need not be written again.
    pub items: u64,
}

pub(crate) trait DeliveryTracker: Send + Sync {
    /// What the external system has, at one moment.
    fn delivered(&self) -> Delivered;

    /// The sink has failed and its queue is full: counts `rows` as lost.
    fn lose(&self, rows: u64);
}

struct SinkEnd {
    name: String,
    progress: Arc<dyn DeliveryTracker>,
}

impl std::fmt::Debug for SinkEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Debug, Default)]
struct SubscriberQueueState {
    events: VecDeque<Queued>,
    /// The size of the rows in it.
    size: QueueSize,
    /// Batches that the sink has taken and may need again after a crash, oldest first.
    taken: VecDeque<RecordBatch>,
    /// The number of batches taken before those.
    trimmed: u64,
    /// Whether this queue keeps its gate closed.
    shut: bool,
    /// Whether the sink has failed: its rows wait, but the sources do not.
    stranded: bool,
    /// Whether the engine will send nothing more.
    ended: bool,
    failure: Option<String>,
    /// Whether the subscriber was too slow and was disconnected.
    cut: bool,
    dropped: bool,
    waker: Option<Waker>,
    /// Whether a thread sleeps on `changed`: waking nobody would cost a system call.
    asleep: bool,
}

impl SubscriberQueue {
    pub fn new(limit: QueueSize, gate: Option<Arc<Gate>>) -> Arc<Self> {
        Self::with_policy(limit, gate, WhenFull::DropOldest)
    }

    /// With a gate, `when_full` has no effect: the gate closes.
    pub fn with_policy(
        limit: QueueSize,
        gate: Option<Arc<Gate>>,
        when_full: WhenFull,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            filled: AtomicBool::new(false),
            gate,
            when_full,
            limit,
            sink: None,
        })
    }

    /// A queue for a sink; it begins with the rows that were not written before a restart.
    pub fn for_sink(
        limit: QueueSize,
        gate: Arc<Gate>,
        name: String,
        progress: Arc<dyn DeliveryTracker>,
        waiting: Vec<Run>,
    ) -> Arc<Self> {
        let events = waiting.into_iter().map(|run| Queued::rows(run.rows));
        let events: VecDeque<Queued> = events.collect();
        let sizes = events.iter().map(|queued| queued.size);
        let state = SubscriberQueueState {
            size: sizes.fold(QueueSize::default(), QueueSize::with),
            events,
            ..SubscriberQueueState::default()
        };
        Arc::new(Self {
            filled: AtomicBool::new(state.size.rows > 0),
            state: Mutex::new(state),
            changed: Condvar::new(),
            gate: Some(gate),
            when_full: WhenFull::DropOldest,
            limit,
            sink: Some(SinkEnd { name, progress }),
        })
    }

    /// Whether a sink reads it.
    pub fn is_of_sink(&self) -> bool {
        self.sink.is_some()
    }

    /// The name of the sink that reads it, its position in the external system, and the rows that it has
    /// not written yet: all at one moment.
    pub fn backlog(&self) -> Option<(&str, SinkCheckpoint<Run>)> {
        let sink = self.sink.as_ref()?;
        let mut state = locked(&self.state);
        let Delivered { receipt, items } = sink.progress.delivered();
        state.trim(items);
        let queued = state
            .events
            .iter()
            .filter_map(|queued| match &queued.event {
                Event::Rows(rows) => Some(rows),
                _ => None,
            });
        let waiting = state.taken.iter().chain(queued).cloned().collect();
        let receipt = receipt.map(|receipt| receipt.0);
        Some((&sink.name, SinkCheckpoint::new(receipt, waiting)))
    }

    /// Whether the external system has all rows, if a sink reads the queue.
    pub fn is_delivered(&self) -> bool {
        let Some(sink) = &self.sink else { return true };
        let mut state = locked(&self.state);
        state.trim(sink.progress.delivered().items);
        let nothing_left = state.taken.is_empty() && state.events.is_empty();
        state.dropped || state.stranded || nothing_left
    }

    /// Prepares the queue of a failed sink for its next reader, which begins with the rows that the one
    /// before had taken and not delivered. The sink counts what it delivers from 0.
    pub fn rewind(&self) {
        let mut guard = locked(&self.state);
        let state = &mut *guard;
        if let Some(sink) = &self.sink {
            state.trim(sink.progress.delivered().items);
        }
        (state.stranded, state.ended, state.failure) = (false, false, None);
        state.trimmed = 0;
        for batch in state.taken.drain(..).rev() {
            let queued = Queued::rows(batch);
            state.size = state.size.with(queued.size);
            state.events.push_front(queued);
        }
        if state.size.exceeds(self.limit) {
            self.over_limit(state);
        }
        self.filled.store(true, Ordering::Release);
    }

    /// The sink that reads it has failed: its rows stay, and the sources do not wait for it.
    pub fn strand(&self) {
        let mut state = locked(&self.state);
        if self.sink.is_some() {
            state.stranded = true;
            state.open(self.gate.as_deref());
        }
    }

    /// Its reader has gone. The rows of a failed sink stay for the next reader.
    pub fn leave(&self) {
        let mut state = locked(&self.state);
        if !state.stranded {
            state.abandon(self.gate.as_deref());
        }
    }

    /// No reader will come any more.
    pub fn abandon(&self) {
        locked(&self.state).abandon(self.gate.as_deref());
    }

    /// Adds a batch; false if there is no reader any more.
    pub fn push(&self, batch: RecordBatch) -> bool {
        let queued = Queued::rows(batch);
        let QueueSize { rows, .. } = queued.size;
        let mut state = locked(&self.state);
        if state.dropped || state.ended {
            return false;
        }
        let after = state.size.with(queued.size);
        let full = state.size.rows > 0 && after.exceeds(self.limit);
        if let (true, Some(sink)) = (state.stranded && full, &self.sink) {
            sink.progress.lose(rows as u64);
            return true;
        }
        match (&self.gate, self.when_full) {
            (None, WhenFull::DropNewest) if full => state.miss_newest(rows),
            (None, WhenFull::Disconnect) if full => {
                state.cut = true;
                state.ended = true;
            }
            _ => {
                state.size = after;
                state.events.push_back(queued);
            }
        }
        if state.size.exceeds(self.limit) {
            self.over_limit(&mut state);
        }
        self.notify(state);
        true
    }

    /// Adds an event that the stream itself missed rows; false if there is no reader any more.
    pub fn gap(&self, rows: u64, reason: &str) -> bool {
        let mut state = locked(&self.state);
        if state.dropped || state.ended {
            return false;
        }
        let reason = reason.to_owned();
        state.events.push_back(Event::Gap { rows, reason }.into());
        self.notify(state);
        true
    }

    fn over_limit(&self, state: &mut SubscriberQueueState) {
        match &self.gate {
            Some(_) if state.stranded => {}
            Some(gate) if !state.shut => {
                state.shut = true;
                gate.shut();
            }
            Some(_) => {}
            None => state.drop_oldest(self.limit),
        }
    }

    /// Whether the reader has gone for good.
    pub fn is_abandoned(&self) -> bool {
        locked(&self.state).dropped
    }

    /// Ends the queue; `failure` is the reason unless it is the normal end.
    pub fn end(&self, failure: Option<String>) {
        let mut state = locked(&self.state);
        state.ended = true;
        state.failure = state.failure.take().or(failure);
        self.notify(state);
    }

    fn notify(&self, mut state: MutexGuard<'_, SubscriberQueueState>) {
        // Release: pairs with the Acquire of `try_next`.
        self.filled.store(true, Ordering::Release);
        let waker = state.waker.take();
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.changed.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next event if there is one now. Does not block.
    pub fn try_next(&self) -> Result<Option<Event>, Error> {
        // Acquire: pairs with the Release of `notify`.
        if !self.filled.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut state = locked(&self.state);
        let event = self.take(&mut state);
        if event.is_none() {
            // Under the lock, so a `notify` after this is not undone.
            self.filled.store(false, Ordering::Release);
        }
        event.transpose()
    }

    /// The next event; blocks until there is one, at most until `until`. `None` at the end, too.
    pub fn wait(&self, until: Option<Instant>) -> Result<Option<Event>, Error> {
        let mut state = locked(&self.state);
        loop {
            if let Some(event) = self.take(&mut state) {
                return event.map(Some);
            }
            if state.ended {
                return Ok(None);
            }
            state.asleep = true;
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(None),
                Some(left) => {
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => notified(&self.changed, state),
            };
        }
    }

    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let mut state = locked(&self.state);
        match self.take(&mut state) {
            Some(event) => Poll::Ready(Some(event)),
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether the reader has read the last event.
    pub fn is_ended(&self) -> bool {
        let state = locked(&self.state);
        state.ended && state.events.is_empty() && state.failure.is_none() && !state.cut
    }

    fn take(&self, state: &mut SubscriberQueueState) -> Option<Result<Event, Error>> {
        if let Some(Queued { event, size }) = state.events.pop_front() {
            state.size = state.size.without(size);
            if let (Some(sink), Event::Rows(batch)) = (&self.sink, &event) {
                state.trim(sink.progress.delivered().items);
                state.taken.push_back(batch.clone());
            }
            if state.shut && !state.size.exceeds(self.limit.half()) {
                state.shut = false;
                if let Some(gate) = &self.gate {
                    gate.open();
                }
            }
            return Some(Ok(event));
        }
        if let Some(reason) = state.failure.take() {
            return Some(Err(Error::QueryFailed { reason }));
        }
        let rows = self.limit.rows;
        std::mem::take(&mut state.cut).then_some(Err(Error::TooSlow { rows }))
    }
}

impl SubscriberQueueState {
    /// Drops the oldest rows until `limit` are left, or one batch. Gaps stay.
    fn drop_oldest(&mut self, limit: QueueSize) {
        let is_rows = |queued: &&Queued| matches!(queued.event, Event::Rows(_));
        let (mut at, mut missed) = (0, 0);
        while self.size.exceeds(limit) && self.events.iter().filter(is_rows).nth(1).is_some() {
            match &self.events[at].event {
                Event::Gap { .. } => at += 1,
                Event::Missed { rows } => {
                    missed += rows;
                    self.events.remove(at);
                }
                Event::Rows(batch) => {
                    missed += batch.num_rows() as u64;
                    self.size = self.size.without(self.events[at].size);
                    self.events.remove(at);
                }
            }
        }
        if missed > 0 {
            let missed = Event::Missed { rows: missed };
            self.events.insert(at, missed.into());
        }
    }

    fn miss_newest(&mut self, count: usize) {
        let count = count as u64;
        match self.events.back_mut().map(|queued| &mut queued.event) {
            Some(Event::Missed { rows }) => *rows += count,
            _ => {
                let missed = Event::Missed { rows: count };
                self.events.push_back(missed.into());
            }
        }
    }

    fn abandon(&mut self, gate: Option<&Gate>) {
        self.dropped = true;
        self.events.clear();
        self.size = QueueSize::default();
        self.open(gate);
    }

    /// Opens the gate, if this queue keeps it closed.
    fn open(&mut self, gate: Option<&Gate>) {
        if let (true, Some(gate)) = (std::mem::take(&mut self.shut), gate) {
            gate.open();
        }
    }

    /// Forgets the first `items` batches that the sink has taken.
    fn trim(&mut self, items: u64) {
        while self.trimmed < items && self.taken.pop_front().is_some() {
            self.trimmed += 1;
        }
    }
}
