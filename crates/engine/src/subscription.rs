//! Results on their way out: a bounded queue for each subscriber.
//!
//! A subscriber that does not keep up never slows the engine: when its queue is full the oldest
//! batches go, and it is told how many rows it missed. A sink's queue is different: it closes a
//! [`Gate`] instead, which keeps the sources before it from being read until there is room.

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
    gate: Option<Arc<Gate>>,
    limit: usize,
    /// The sink that reads it, if one does.
    sink: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<RecordBatch>,
    /// What the sink is writing now.
    in_flight: Option<RecordBatch>,
    /// What the sink has taken and may not have sent yet.
    unsent: VecDeque<RecordBatch>,
    /// The sink's place in the outside system after its last complete write.
    receipt: Option<Receipt>,
    rows: usize,
    missed: u64,
    shut: bool,
    /// The engine will send nothing more.
    ended: bool,
    failure: Option<String>,
    /// The subscriber has gone.
    dropped: bool,
    waker: Option<Waker>,
    /// Whether a thread sleeps on `changed`: waking nobody would cost a system call.
    asleep: bool,
}

impl Queue {
    pub fn new(limit: usize, gate: Option<Arc<Gate>>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            filled: AtomicBool::new(false),
            gate,
            limit,
            sink: None,
        })
    }

    /// A queue for a sink, which begins with what was not written before a restart.
    pub fn for_sink(
        limit: usize,
        gate: Arc<Gate>,
        sink: String,
        saved: Option<SinkState<Run>>,
    ) -> Arc<Self> {
        let saved = saved.unwrap_or_default();
        let batches: VecDeque<_> = saved.waiting.into_iter().map(|run| run.rows).collect();
        let state = State {
            rows: batches.iter().map(RecordBatch::num_rows).sum(),
            batches,
            receipt: saved.receipt.map(Receipt),
            ..State::default()
        };
        Arc::new(Self {
            filled: AtomicBool::new(state.rows > 0),
            state: Mutex::new(state),
            changed: Condvar::new(),
            gate: Some(gate),
            limit,
            sink: Some(sink),
        })
    }

    /// The sink that reads it, where it is in the outside system, and what it has not written yet:
    /// all at one moment.
    pub fn backlog(&self) -> Option<(&str, SinkState<Run>)> {
        let sink = self.sink.as_deref()?;
        let state = self.lock();
        let waiting = state.unsent.iter().chain(&state.in_flight);
        let waiting = waiting.chain(&state.batches).cloned();
        let receipt = state.receipt.clone().map(|receipt| receipt.0);
        Some((sink, SinkState::new(receipt, waiting.collect())))
    }

    /// The sink has taken what it was given last, is at `receipt` now, and holds `unsent` rows itself.
    pub fn written(&self, receipt: Option<Receipt>, unsent: usize) {
        let mut state = self.lock();
        let taken = state.in_flight.take();
        state.unsent.extend(taken);
        state.receipt = receipt;
        state.trim(unsent);
    }

    /// The sink holds `unsent` rows itself.
    pub fn sent(&self, unsent: usize) {
        self.lock().trim(unsent);
    }

    /// Where the sink was before a restart.
    pub fn receipt(&self) -> Option<Receipt> {
        self.lock().receipt.clone()
    }

    /// Adds a batch; false if nobody listens any more.
    pub fn push(&self, batch: RecordBatch) -> bool {
        let mut state = self.lock();
        if state.dropped {
            return false;
        }
        state.rows += batch.num_rows();
        state.batches.push_back(batch);
        if state.rows > self.limit {
            self.over_limit(&mut state);
        }
        self.notify(state);
        true
    }

    fn over_limit(&self, state: &mut State) {
        match &self.gate {
            Some(gate) if !state.shut => {
                state.shut = true;
                gate.shut();
            }
            Some(_) => {}
            None => {
                while state.rows > self.limit && state.batches.len() > 1 {
                    let Some(oldest) = state.batches.pop_front() else {
                        break;
                    };
                    state.rows -= oldest.num_rows();
                    state.missed += oldest.num_rows() as u64;
                }
            }
        }
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
        if state.missed > 0 {
            return Some(Ok(Event::Missed {
                rows: std::mem::take(&mut state.missed),
            }));
        }
        if let Some(batch) = state.batches.pop_front() {
            state.rows -= batch.num_rows();
            if self.sink.is_some() {
                state.in_flight = Some(batch.clone());
            }
            if state.shut && state.rows <= self.limit / 2 {
                state.shut = false;
                if let Some(gate) = &self.gate {
                    gate.open();
                }
            }
            return Some(Ok(Event::Rows(batch)));
        }
        let failure = state.failure.take()?;
        Some(Err(Error::QueryFailed { reason: failure }))
    }
}

impl State {
    /// Forgets what is not among the last `unsent` rows.
    fn trim(&mut self, unsent: usize) {
        let mut held: usize = self.unsent.iter().map(RecordBatch::num_rows).sum();
        while let Some(oldest) = self.unsent.front().map(RecordBatch::num_rows)
            && held - oldest >= unsent
        {
            held -= oldest;
            self.unsent.pop_front();
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
        state.ended && state.batches.is_empty() && state.missed == 0 && state.failure.is_none()
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
        state.dropped = true;
        state.batches.clear();
        state.rows = 0;
        if std::mem::take(&mut state.shut)
            && let Some(gate) = &self.queue.gate
        {
            gate.open();
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
            Err(error) => Some(Err(error)),
        }
    }

    /// The next row if there is one now. Does not block.
    ///
    /// # Errors
    /// [`Error::Missed`] when this subscriber was too slow (later rows follow), and when the query
    /// failed.
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
