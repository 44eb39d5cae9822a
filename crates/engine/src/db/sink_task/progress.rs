//! How far a sink has come: what it tells those who look at it, and what a checkpoint saves of it.
//!
//! The feeder writes it, anyone may read it. The receipt and the number of items that it covers are one
//! value under one mutex, so that nobody ever sees one without the other. Whoever saves a receipt asks
//! with [`SinkStatus::sync`] for it to be durable first.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use headwater_connect::{Receipt, Tally};
use tokio::sync::{Notify, oneshot, watch};

use crate::event_log::EventLog;
use crate::subscription::{Delivered, DeliveryTracker, SubscriberQueue};

/// How a sink is doing.
#[derive(Default)]
pub(crate) struct SinkStatus {
    /// Rows that the sink has handed on. Only grows.
    pub rows: AtomicU64,
    /// Rows that `error.strategy = 'drop'` left out, and dead letters that no stream took.
    pub dropped: Tally,
    /// Rows that a policy of the sink's own dropped. Only grows.
    pub overflowed: AtomicU64,
    /// Rows that were sent to the dead letters. Only grows.
    pub dead_letters: AtomicU64,
    state: Mutex<SinkState>,
    /// Why the outside cannot be reached, if the sink has said so.
    outage: Mutex<Option<String>>,
    /// Where its errors are kept, and under which name.
    errors: OnceLock<(Arc<EventLog>, String)>,
    progress: Mutex<Progress>,
    /// Told to the feeder: somebody waits for a sync.
    asked: Notify,
    /// Whether it has been opened, or never will be.
    settled: watch::Sender<bool>,
    /// Where its rows wait.
    queue: Mutex<Weak<SubscriberQueue>>,
}

/// The state of a sink, and why.
#[derive(Debug, Clone)]
pub(crate) struct SinkState {
    pub name: &'static str,
    pub reason: Option<String>,
}

impl Default for SinkState {
    fn default() -> Self {
        Self {
            name: "starting",
            reason: None,
        }
    }
}

/// Answered once everything up to the receipt of the moment of asking is durable, or with why not.
pub(crate) type Synced = oneshot::Receiver<Result<(), String>>;

#[derive(Default)]
struct Progress {
    delivered: Delivered,
    /// The last receipt that is durable.
    synced: Option<Receipt>,
    /// Those who wait for a sync.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    /// Why there will be no sync any more.
    ended: Option<String>,
}

impl SinkStatus {
    /// The errors of the sink of this name are kept in `notices`.
    pub fn tell_errors_to(&self, event_log: &Arc<EventLog>, name: &str) {
        // Only the first that is said counts, and nobody says another.
        let _ = self.errors.set((Arc::clone(event_log), name.to_owned()));
    }

    /// Its rows wait in `queue`.
    pub fn reads(&self, queue: &Arc<SubscriberQueue>) {
        *self.queue_lock() = Arc::downgrade(queue);
    }

    /// Where its rows wait, if the engine still feeds it.
    pub fn queue(&self) -> Option<Arc<SubscriberQueue>> {
        self.queue_lock().upgrade()
    }

    /// Whether rows wait to be written, or are in the sink's own hands. Never after it has ended.
    pub fn is_behind(&self) -> bool {
        let queue = self.queue();
        let backlog = queue.as_ref().and_then(|queue| queue.backlog());
        self.progress().ended.is_none() && backlog.is_some_and(|(_, it)| !it.waiting.is_empty())
    }

    pub fn set(&self, name: &'static str, reason: Option<String>) {
        if let Some(reason) = &reason {
            tracing::warn!(state = name, reason, "sink");
            self.note(reason);
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = SinkState { name, reason };
    }

    /// The outside cannot be reached, or again. The sink is trying by itself.
    pub(super) fn cannot_reach(&self, why: Option<String>) {
        if let Some(reason) = &why {
            self.note(reason);
        }
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn note(&self, reason: &str) {
        if let Some((event_log, name)) = self.errors.get() {
            event_log.error("sink", name, reason);
        }
    }

    /// Running again, if `state` was what it was.
    pub(super) fn recover(&self, state: &str) {
        if self.state().name == state {
            self.set("running", None);
        }
    }

    /// How it is doing. One that would be running but cannot reach the outside is not.
    pub fn get(&self) -> SinkState {
        let state = self.state();
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match outage.clone() {
            Some(reason) if state.name == "running" => SinkState {
                name: "backing_off",
                reason: Some(reason),
            },
            _ => state,
        }
    }

    fn state(&self) -> SinkState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks for everything up to the present receipt to be made durable. Never blocks; a sink that
    /// hangs does not answer, so who waits needs a deadline. A feeder that ends drops the question.
    pub fn sync(&self) -> Synced {
        let (answer, synced) = oneshot::channel();
        let mut progress = self.progress();
        let durable = progress.delivered.receipt == progress.synced;
        let now = match &progress.ended {
            _ if durable => Some(Ok(())),
            Some(reason) => Some(Err(reason.clone())),
            None => None,
        };
        match now {
            // Who asked may have gone.
            Some(now) => drop(answer.send(now)),
            None => progress.waiting.push(answer),
        }
        drop(progress);
        self.asked.notify_one();
        synced
    }

    /// Waits until somebody asks for a sync.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The place before the first write, which was durable before it.
    pub fn begin(&self, receipt: Option<Receipt>) {
        let mut progress = self.progress();
        progress.synced = receipt.clone();
        progress.delivered = Delivered { receipt, items: 0 };
    }

    /// Another feeder goes on behind what this one delivered.
    pub fn begin_again(&self) {
        let mut progress = self.progress();
        progress.delivered.items = 0;
        progress.ended = None;
        drop(progress);
        self.set(SinkState::default().name, None);
    }

    /// The sink is open.
    pub(super) fn opened(&self) {
        self.settled.send_replace(true);
    }

    /// Waits until the sink is open, or never will be.
    pub async fn wait_open(&self) {
        // The sender lives as long as this.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// `items` more need not be written again; `receipt` covers all of them and nothing else.
    pub(super) fn deliver(&self, receipt: Option<Receipt>, items: u64) {
        let delivered = &mut self.progress().delivered;
        delivered.receipt = receipt;
        delivered.items += items;
    }

    /// Those who wait for a sync, and the receipt that it must reach.
    pub(super) fn take_waiting(&self) -> Option<(Waiting, Option<Receipt>)> {
        let mut progress = self.progress();
        let waiting = std::mem::take(&mut progress.waiting);
        (!waiting.is_empty()).then(|| (Waiting(waiting), progress.delivered.receipt.clone()))
    }

    /// Everything up to `receipt` is durable.
    pub(super) fn synced(&self, receipt: Option<Receipt>) {
        self.progress().synced = receipt;
    }

    /// Nothing more will be written or synced.
    pub(super) fn end(&self, reason: &str) {
        self.opened();
        let mut progress = self.progress();
        progress.ended = Some(reason.to_owned());
        let durable = progress.delivered.receipt == progress.synced;
        let answer = if durable {
            Ok(())
        } else {
            Err(reason.to_owned())
        };
        Waiting(std::mem::take(&mut progress.waiting)).answer(&answer);
    }

    fn queue_lock(&self) -> MutexGuard<'_, Weak<SubscriberQueue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic while the lock was held leaves a progress whose every field is still valid.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeliveryTracker for SinkStatus {
    fn delivered(&self) -> Delivered {
        self.progress().delivered.clone()
    }

    fn lose(&self, rows: u64) {
        let reason = "the sink has failed, and its queue is full";
        if self.dropped.add(reason, rows)
            && let Some((event_log, name)) = self.errors.get()
        {
            event_log.error("sink", name, &format!("rows are dropped: {reason}"));
        }
    }
}

/// Those who wait for a sync.
pub(super) struct Waiting(Vec<oneshot::Sender<Result<(), String>>>);

impl Waiting {
    pub fn answer(self, answer: &Result<(), String>) {
        for waiting in self.0 {
            // Who asked may have given up waiting.
            let _ = waiting.send(answer.clone());
        }
    }
}
