//! How a sink is doing, for those who watch it, and how far it has come, for checkpoints.
//!
//! The sink task writes it, any thread may read it. The receipt and the number of items that it covers
//! are one value under one mutex, so that no reader sees one without the other. A checkpoint calls
//! [`SinkStatus::sync`] before it saves a receipt, so that the receipt is durable first.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, Weak};

use headwater_connect::{Receipt, Tally};
use tokio::sync::{Notify, oneshot, watch};

use crate::event_log::EventLog;
use crate::locked::locked;
use crate::subscription::{Delivered, DeliveryTracker, SubscriberQueue};

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
    state: Mutex<SinkHealth>,
    /// Why the sink cannot reach the external system, if it reports that.
    outage: Mutex<Option<String>>,
    /// Where its errors are logged, and under which name.
    errors: Option<(Arc<EventLog>, String)>,
    progress: Mutex<SinkProgress>,
    /// Wakes the sink task, because a sync is requested.
    requested: Notify,
    /// Whether the sink has been opened, or never will be.
    opened: watch::Sender<bool>,
    queue: Mutex<Weak<SubscriberQueue>>,
}

/// The state of a sink, as `system.sinks` shows it.
#[derive(Debug, Clone)]
pub(crate) struct SinkHealth {
    pub name: &'static str,
    pub reason: Option<String>,
}

impl Default for SinkHealth {
    fn default() -> Self {
        Self {
            name: "starting",
            reason: None,
        }
    }
}

/// Answered once everything up to the receipt at the time of the request is durable, or with the reason
/// why it cannot be.
pub(crate) type SinkSynced = oneshot::Receiver<Result<(), String>>;

#[derive(Default)]
struct SinkProgress {
    delivered: Delivered,
    /// The last receipt that is durable.
    synced: Option<Receipt>,
    /// Requests for a sync.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    /// Why there will be no sync, once the sink has ended.
    ended: Option<String>,
}

impl SinkStatus {
    /// Logs the errors of the sink under `name`.
    pub fn new(event_log: &Arc<EventLog>, name: &str) -> Self {
        Self {
            errors: Some((Arc::clone(event_log), name.to_owned())),
            ..Self::default()
        }
    }

    pub fn reads(&self, queue: &Arc<SubscriberQueue>) {
        *locked(&self.queue) = Arc::downgrade(queue);
    }

    /// The queue in which its rows wait, if the engine still feeds it.
    pub fn queue(&self) -> Option<Arc<SubscriberQueue>> {
        locked(&self.queue).upgrade()
    }

    /// Whether rows wait to be written, or the sink holds some itself. False after it has ended.
    pub fn is_behind(&self) -> bool {
        let queue = self.queue();
        let backlog = queue.as_ref().and_then(|queue| queue.backlog());
        locked(&self.progress).ended.is_none()
            && backlog.is_some_and(|(_, it)| !it.waiting.is_empty())
    }

    pub fn set(&self, name: &'static str, reason: Option<String>) {
        if let Some(reason) = &reason {
            tracing::warn!(state = name, reason, "sink");
            self.note(reason);
        }
        *locked(&self.state) = SinkHealth { name, reason };
    }

    /// The sink cannot reach the external system and retries by itself; `None` when it can again.
    pub(super) fn set_outage(&self, why: Option<String>) {
        if let Some(reason) = &why {
            self.note(reason);
        }
        *locked(&self.outage) = why;
    }

    fn note(&self, reason: &str) {
        if let Some((event_log, name)) = &self.errors {
            event_log.error("sink", name, reason);
        }
    }

    /// Sets the state to running, if it is `state`.
    pub(super) fn recover(&self, state: &str) {
        if self.state().name == state {
            self.set("running", None);
        }
    }

    /// The state of the sink; a running sink that cannot reach the external system is backing off.
    pub fn get(&self) -> SinkHealth {
        let state = self.state();
        let outage = locked(&self.outage);
        match outage.clone() {
            Some(reason) if state.name == "running" => SinkHealth {
                name: "backing_off",
                reason: Some(reason),
            },
            _ => state,
        }
    }

    pub fn has_failed(&self) -> bool {
        self.state().name == "failed"
    }

    fn state(&self) -> SinkHealth {
        locked(&self.state).clone()
    }

    /// Requests that everything up to the present receipt is made durable. Never blocks; a sink that
    /// hangs does not answer, so the caller needs a deadline. A sink task that ends drops the request.
    pub fn sync(&self) -> SinkSynced {
        let (answer, synced) = oneshot::channel();
        let mut progress = locked(&self.progress);
        let durable = progress.delivered.receipt == progress.synced;
        let now = match &progress.ended {
            _ if durable => Some(Ok(())),
            Some(reason) => Some(Err(reason.clone())),
            None => None,
        };
        match now {
            // The caller may have given up.
            Some(now) => drop(answer.send(now)),
            None => progress.waiting.push(answer),
        }
        drop(progress);
        self.requested.notify_one();
        synced
    }

    pub(super) async fn sync_requested(&self) {
        self.requested.notified().await;
    }

    /// `receipt` is the position before the first write, which is durable already.
    pub fn begin(&self, receipt: Option<Receipt>) {
        let mut progress = locked(&self.progress);
        progress.synced = receipt.clone();
        progress.delivered = Delivered { receipt, items: 0 };
    }

    /// A new sink task continues behind what the last one delivered.
    pub fn restart(&self) {
        let mut progress = locked(&self.progress);
        progress.delivered.items = 0;
        progress.ended = None;
        drop(progress);
        self.set(SinkHealth::default().name, None);
    }

    pub(super) fn set_opened(&self) {
        self.opened.send_replace(true);
    }

    /// Waits until the sink is open, or never will be.
    pub async fn wait_open(&self) {
        // The sender is a field of `self`, so it is not closed.
        let _ = self.opened.subscribe().wait_for(|opened| *opened).await;
    }

    /// `items` more are delivered; `receipt` covers exactly what is delivered.
    pub(super) fn deliver(&self, receipt: Option<Receipt>, items: u64) {
        let delivered = &mut locked(&self.progress).delivered;
        delivered.receipt = receipt;
        delivered.items += items;
    }

    /// The requests for a sync, and the receipt that it must reach.
    pub(super) fn take_sync_requests(&self) -> Option<(SyncRequests, Option<Receipt>)> {
        let mut progress = locked(&self.progress);
        let waiting = std::mem::take(&mut progress.waiting);
        (!waiting.is_empty()).then(|| (SyncRequests(waiting), progress.delivered.receipt.clone()))
    }

    /// Everything up to `receipt` is durable.
    pub(super) fn synced(&self, receipt: Option<Receipt>) {
        locked(&self.progress).synced = receipt;
    }

    /// Nothing more will be written or synced.
    pub(super) fn end(&self, reason: &str) {
        self.set_opened();
        let mut progress = locked(&self.progress);
        progress.ended = Some(reason.to_owned());
        let durable = progress.delivered.receipt == progress.synced;
        let answer = if durable {
            Ok(())
        } else {
            Err(reason.to_owned())
        };
        SyncRequests(std::mem::take(&mut progress.waiting)).answer(&answer);
    }
}

impl DeliveryTracker for SinkStatus {
    fn delivered(&self) -> Delivered {
        locked(&self.progress).delivered.clone()
    }

    fn lose(&self, rows: u64) {
        let reason = "the sink has failed, and its queue is full";
        if self.dropped.add(reason, rows)
            && let Some((event_log, name)) = &self.errors
        {
            event_log.error("sink", name, &format!("rows are dropped: {reason}"));
        }
    }
}

/// Requests for a sync that have no answer yet.
pub(super) struct SyncRequests(Vec<oneshot::Sender<Result<(), String>>>);

impl SyncRequests {
    pub fn answer(self, answer: &Result<(), String>) {
        for waiting in self.0 {
            // The caller may have given up.
            let _ = waiting.send(answer.clone());
        }
    }
}
