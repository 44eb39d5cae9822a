//! Results on their way out: a bounded queue for each subscriber.
//!
//! A subscriber that does not keep up never slows the engine: when its queue is full its policy
//! ([`WhenFull`]) says what goes, and it is told at that place how many rows it missed. A lossless
//! subscriber and a sink are different: their queue closes a [`Gate`] instead, which keeps the
//! sources before it from being read until there is room.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connect::Receipt;
use headwater_ring::Bell;

use crate::dataflow::Run;
use crate::durable::SinkState;
use crate::error::Error;
use crate::record::Record;

/// Rows a queue holds before its policy acts.
pub(crate) const QUEUE_ROWS: usize = 1 << 20;

/// What a subscriber gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Rows, in the order in which the stream produced them.
    Rows(RecordBatch),
    /// The subscriber was too slow: this many rows were dropped here.
    Missed {
        /// How many.
        rows: u64,
    },
    /// The stream itself did not get rows here, for instance because it was paused.
    Gap {
        /// How many rows of its inputs.
        rows: u64,
        /// What happened.
        reason: String,
    },
}

/// What happens when a subscriber does not keep up and its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest rows go, and the subscriber is told how many.
    #[default]
    DropOldest,
    /// New rows go until there is room, and the subscriber is told how many.
    DropNewest,
    /// Nothing goes: the sources before it are not read until there is room.
    Wait,
    /// The subscription ends, after the rows that are in the queue, with [`Error::TooSlow`].
    Disconnect,
}

/// How much waits for a subscriber, and what happens to the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Rows that wait at most; one batch is taken in any case. Default: 1 Mi.
    pub rows: usize,
    /// What happens when as many wait. Default: the oldest go.
    pub when_full: WhenFull,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            rows: QUEUE_ROWS,
            when_full: WhenFull::default(),
        }
    }
}

/// Keeps sources from being read while what they feed is full.
#[derive(Debug)]
pub(crate) struct Gate {
    full: AtomicUsize,
    bells: Vec<Arc<Bell>>,
}

impl Gate {
    pub fn new(bells: Vec<Arc<Bell>>) -> Self {
        Self {
            full: AtomicUsize::new(0),
            bells,
        }
    }

    /// Whether some queue behind this gate is full.
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release of `shut` and `open`; the count alone decides.
        self.full.load(Ordering::Acquire) > 0
    }

    fn shut(&self) {
        self.full.fetch_add(1, Ordering::Release);
    }

    fn open(&self) {
        self.full.fetch_sub(1, Ordering::Release);
        self.bells.iter().for_each(|bell| bell.ring());
    }
}

/// The queue between the engine and one subscriber.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Tells whether there may be something without taking the lock.
    filled: AtomicBool,
    /// Of a queue that loses nothing.
    gate: Option<Arc<Gate>>,
    when_full: WhenFull,
    limit: usize,
    /// The sink that reads it, if one does.
    sink: Option<SinkEnd>,
}

/// What the outside has of a sink's rows: everything up to `receipt`, which is the first `items`
/// batches that the sink has taken from its queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Delivered {
    /// The sink's place; `None` if it gives no receipts, or is not open yet for the first time.
    pub receipt: Option<Receipt>,
    /// Batches of which nothing needs to be written again.
    pub items: u64,
}

/// Who tells how far a sink has come.
pub(crate) trait Delivery: Send + Sync {
    /// What the outside has, at one moment.
    fn delivered(&self) -> Delivered;

    /// Rows are gone: the sink has failed, and no more wait for it.
    fn lose(&self, rows: u64);
}

/// The sink at the end of a queue.
struct SinkEnd {
    name: String,
    progress: Arc<dyn Delivery>,
}

impl std::fmt::Debug for SinkEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// The rows in `events`.
    rows: usize,
    /// What a sink has taken and may have to be given again after a crash, oldest first.
    taken: VecDeque<RecordBatch>,
    /// How many batches were taken before those.
    trimmed: u64,
    shut: bool,
    /// The sink has failed: rows wait for it, but nothing waits for that.
    stranded: bool,
    /// The engine will send nothing more.
    ended: bool,
    failure: Option<String>,
    /// The subscriber was too slow, and gets nothing more.
    cut: bool,
    /// The subscriber has gone.
    dropped: bool,
    waker: Option<Waker>,
    /// Whether a thread sleeps on `changed`: waking nobody would cost a system call.
    asleep: bool,
}

impl Queue {
    pub fn new(limit: usize, gate: Option<Arc<Gate>>) -> Arc<Self> {
        Self::with_policy(limit, gate, WhenFull::DropOldest)
    }

    /// With a gate, `when_full` is of no meaning: the gate closes.
    pub fn with_policy(limit: usize, gate: Option<Arc<Gate>>, when_full: WhenFull) -> Arc<Self> {
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

    /// A queue for a sink, which begins with what was not written before a restart.
    pub fn for_sink(
        limit: usize,
        gate: Arc<Gate>,
        name: String,
        progress: Arc<dyn Delivery>,
        waiting: Vec<Run>,
    ) -> Arc<Self> {
        let events = waiting.into_iter().map(|run| Event::Rows(run.rows));
        let events: VecDeque<Event> = events.collect();
        let state = State {
            rows: events.iter().map(rows_of).sum(),
            events,
            ..State::default()
        };
        Arc::new(Self {
            filled: AtomicBool::new(state.rows > 0),
            state: Mutex::new(state),
            changed: Condvar::new(),
            gate: Some(gate),
            when_full: WhenFull::DropOldest,
            limit,
            sink: Some(SinkEnd { name, progress }),
        })
    }

    /// The sink that reads it, where it is in the outside system, and what it has not written yet:
    /// all at one moment.
    pub fn backlog(&self) -> Option<(&str, SinkState<Run>)> {
        let sink = self.sink.as_ref()?;
        let mut state = self.lock();
        let Delivered { receipt, items } = sink.progress.delivered();
        state.trim(items);
        let queued = state.events.iter().filter_map(|event| match event {
            Event::Rows(rows) => Some(rows),
            _ => None,
        });
        let waiting = state.taken.iter().chain(queued).cloned().collect();
        let receipt = receipt.map(|receipt| receipt.0);
        Some((&sink.name, SinkState::new(receipt, waiting)))
    }

    /// Whether the outside has all of it, if a sink reads it.
    pub fn is_delivered(&self) -> bool {
        let Some(sink) = &self.sink else { return true };
        let mut state = self.lock();
        state.trim(sink.progress.delivered().items);
        let nothing_left = state.taken.is_empty() && state.events.is_empty();
        state.dropped || state.stranded || nothing_left
    }

    /// A new reader for the queue of a sink that has failed, which begins with the rows that the one
    /// before had taken and not delivered. The sink counts what it delivers from 0.
    pub fn take_up(self: &Arc<Self>, schema: SchemaRef) -> Subscription {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(sink) = &self.sink {
            state.trim(sink.progress.delivered().items);
        }
        (state.stranded, state.ended, state.failure) = (false, false, None);
        state.trimmed = 0;
        for batch in state.taken.drain(..).rev() {
            state.rows += batch.num_rows();
            state.events.push_front(Event::Rows(batch));
        }
        if state.rows > self.limit {
            self.over_limit(state);
        }
        self.filled.store(true, Ordering::Release);
        drop(guard);
        Subscription::new(Arc::clone(self), schema)
    }

    /// Nobody reads it any more, nor will.
    pub fn abandon(&self) {
        self.lock().abandon(self.gate.as_deref());
    }

    /// Adds a batch; false if nobody listens any more.
    pub fn push(&self, batch: RecordBatch) -> bool {
        let mut state = self.lock();
        if state.dropped || state.ended {
            return false;
        }
        if let (true, Some(sink)) = (state.stranded && state.rows >= self.limit, &self.sink) {
            sink.progress.lose(batch.num_rows() as u64);
            return true;
        }
        let full = state.rows > 0 && state.rows + batch.num_rows() > self.limit;
        match (&self.gate, self.when_full) {
            (None, WhenFull::DropNewest) if full => state.miss_newest(batch.num_rows()),
            (None, WhenFull::Disconnect) if full => {
                state.cut = true;
                state.ended = true;
            }
            _ => {
                state.rows += batch.num_rows();
                state.events.push_back(Event::Rows(batch));
            }
        }
        if state.rows > self.limit {
            self.over_limit(&mut state);
        }
        self.notify(state);
        true
    }

    /// Tells that the stream itself missed rows; false if nobody listens any more.
    pub fn gap(&self, rows: u64, reason: &str) -> bool {
        let mut state = self.lock();
        if state.dropped || state.ended {
            return false;
        }
        let reason = reason.to_owned();
        state.events.push_back(Event::Gap { rows, reason });
        self.notify(state);
        true
    }

    fn over_limit(&self, state: &mut State) {
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

    /// Whether nobody listens any more.
    pub fn is_abandoned(&self) -> bool {
        self.lock().dropped
    }

    /// Nothing more will come; `failure` says why if it is not the normal end.
    pub fn end(&self, failure: Option<String>) {
        let mut state = self.lock();
        state.ended = true;
        state.failure = state.failure.take().or(failure);
        self.notify(state);
    }

    fn notify(&self, mut state: MutexGuard<'_, State>) {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, state: &mut State) -> Option<Result<Event, Error>> {
        if let Some(event) = state.events.pop_front() {
            state.rows -= rows_of(&event);
            if let (Some(sink), Event::Rows(batch)) = (&self.sink, &event) {
                state.trim(sink.progress.delivered().items);
                state.taken.push_back(batch.clone());
            }
            if state.shut && state.rows <= self.limit / 2 {
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
        let rows = self.limit;
        std::mem::take(&mut state.cut).then_some(Err(Error::TooSlow { rows }))
    }
}

fn rows_of(event: &Event) -> usize {
    match event {
        Event::Rows(batch) => batch.num_rows(),
        Event::Missed { .. } | Event::Gap { .. } => 0,
    }
}

impl State {
    /// The oldest rows go until `limit` are left, or one batch; what is told of gaps stays.
    fn drop_oldest(&mut self, limit: usize) {
        let is_rows = |event: &&Event| matches!(event, Event::Rows(_));
        let (mut at, mut missed) = (0, 0);
        while self.rows > limit && self.events.iter().filter(is_rows).nth(1).is_some() {
            match &self.events[at] {
                Event::Gap { .. } => at += 1,
                Event::Missed { rows } => {
                    missed += rows;
                    self.events.remove(at);
                }
                Event::Rows(batch) => {
                    self.rows -= batch.num_rows();
                    missed += batch.num_rows() as u64;
                    self.events.remove(at);
                }
            }
        }
        if missed > 0 {
            self.events.insert(at, Event::Missed { rows: missed });
        }
    }

    fn miss_newest(&mut self, count: usize) {
        let count = count as u64;
        match self.events.back_mut() {
            Some(Event::Missed { rows }) => *rows += count,
            _ => self.events.push_back(Event::Missed { rows: count }),
        }
    }
}

impl State {
    fn abandon(&mut self, gate: Option<&Gate>) {
        self.dropped = true;
        self.events.clear();
        self.rows = 0;
        self.open(gate);
    }

    /// Sources need not wait for it.
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

/// The results of a stream, view or source, from now on.
///
/// Iterate to block for the next event, poll it as a [`Stream`](futures_util::Stream), or ask with
/// [`try_next`](Self::try_next). It ends when the stream is dropped or the database closes.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    schema: SchemaRef,
}

impl Subscription {
    pub(crate) fn new(queue: Arc<Queue>, schema: SchemaRef) -> Self {
        Self { queue, schema }
    }

    /// The sink that reads it has failed. Its rows stay, as many as the queue holds, for
    /// [`Queue::take_up`] and for checkpoints; later ones are lost and counted. Sources go on.
    pub(crate) fn strand(&self) {
        let mut state = self.queue.lock();
        if self.queue.sink.is_some() {
            state.stranded = true;
            state.open(self.queue.gate.as_deref());
        }
    }

    /// The columns of the rows; a changing stream has the column `_diff` at the end.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next event if there is one now. Does not block; while nothing has come since the last
    /// call it is one atomic load.
    ///
    /// # Errors
    /// When the query failed.
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        // Acquire: pairs with the Release of `notify`.
        if !self.queue.filled.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut state = self.queue.lock();
        let event = self.queue.take(&mut state);
        if event.is_none() {
            // Under the lock, so a `notify` after this is not undone.
            self.queue.filled.store(false, Ordering::Release);
        }
        event.transpose()
    }

    /// The next event; blocks until there is one, at most `timeout`. `None` at the end, or when the
    /// time is over.
    ///
    /// # Errors
    /// When the query failed.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.wait(Instant::now().checked_add(timeout))
    }

    /// Whether nothing will come any more.
    pub fn is_ended(&self) -> bool {
        let state = self.queue.lock();
        state.ended && state.events.is_empty() && state.failure.is_none() && !state.cut
    }

    fn wait(&mut self, until: Option<Instant>) -> Result<Option<Event>, Error> {
        let mut state = self.queue.lock();
        loop {
            if let Some(event) = self.queue.take(&mut state) {
                return event.map(Some);
            }
            if state.ended {
                return Ok(None);
            }
            let changed = &self.queue.changed;
            state.asleep = true;
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(None),
                Some(left) => {
                    changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.wait(None).transpose()
    }
}

impl futures_util::Stream for Subscription {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.queue.lock();
        match self.queue.take(&mut state) {
            Some(event) => Poll::Ready(Some(event)),
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if !state.stranded {
            state.abandon(self.queue.gate.as_deref());
        }
    }
}

/// A [`Subscription`] whose rows are structs.
#[derive(Debug)]
pub struct TypedSubscription<T> {
    events: Subscription,
    rows: std::vec::IntoIter<T>,
}

impl<T: Record> TypedSubscription<T> {
    pub(crate) fn new(events: Subscription) -> Self {
        Self {
            events,
            rows: Vec::new().into_iter(),
        }
    }

    fn unpack(&mut self, event: Result<Event, Error>) -> Option<Result<T, Error>> {
        match event {
            Ok(Event::Rows(batch)) => match T::from_columns(&batch) {
                Ok(rows) => {
                    self.rows = rows.into_iter();
                    None
                }
                Err(error) => Some(Err(error.into())),
            },
            Ok(Event::Missed { rows }) => Some(Err(Error::Missed { rows })),
            Ok(Event::Gap { rows, reason }) => Some(Err(Error::Gap { rows, reason })),
            Err(error) => Some(Err(error)),
        }
    }

    /// The next row if there is one now. Does not block.
    ///
    /// # Errors
    /// [`Error::Missed`] when this subscriber was too slow and [`Error::Gap`] when the stream missed
    /// rows (later rows follow), [`Error::TooSlow`], and when the query failed.
    pub fn try_next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            let Some(event) = self.events.try_next()? else {
                return Ok(None);
            };
            if let Some(row) = self.unpack(Ok(event)) {
                return row.map(Some);
            }
        }
    }
}

impl<T: Record> Iterator for TypedSubscription<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            let event = self.events.next()?;
            if let Some(row) = self.unpack(event) {
                return Some(row);
            }
        }
    }
}

impl<T: Record + Unpin> futures_util::Stream for TypedSubscription<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Poll::Ready(Some(Ok(row)));
            }
            match Pin::new(&mut self.events).poll_next(context) {
                Poll::Ready(Some(event)) => {
                    if let Some(row) = self.unpack(event) {
                        return Poll::Ready(Some(row));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
