//! Topics: everything that has a name and produces rows.
//!
//! A source, the bad rows of a source, a stream, a view and the late rows of a stream are topics.
//! Each has one worker as its **home**, which publishes to it once a step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::clock::now_us;
use crate::dataflow::{self, OpenWindows, Run, StreamElement, Watermark, with_diff};
use crate::durable;
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::locked::locked;
use crate::sql::plan::Relation;
use crate::store::Store;
use crate::subscription::SubscriberQueue;

/// The number of a topic. Never reused within a process.
pub(crate) type TopicId = u64;

/// A named producer of rows, and its subscribers. Thread-safe.
pub(crate) struct Topic {
    pub id: TopicId,
    /// The worker that publishes to it.
    pub home: usize,
    /// Name, columns, event time.
    pub relation: Relation,
    publication: Mutex<Publication>,
    rows: AtomicU64,
    /// Of the query behind it.
    pub open_windows: OpenWindows,
    failed: AtomicBool,
    /// Where a failure is recorded.
    event_log: OnceLock<Arc<EventLog>>,
}

/// Where a new subscriber of a view begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the rows of the view.
    Kept,
    /// With the next change: it had the rest before a restart.
    Next,
}

/// Why a query gives no results, and whether it can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicFailure {
    pub reason: String,
    /// Whether the state is that before the step that failed.
    #[serde(default)]
    pub keeps_state: bool,
    /// Whether it failed because a query that it reads has failed.
    #[serde(default)]
    pub is_inherited: bool,
    /// When it failed, in microseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub at_us: i64,
}

impl TopicFailure {
    /// A failure that leaves nothing to go on with.
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            keeps_state: false,
            is_inherited: false,
            at_us: now_us(),
        }
    }

    /// Whether it ends what reads this queue. A sink waits for a stream that can go on: what that gives
    /// then, the sink has not had.
    fn ends(&self, queue: &SubscriberQueue) -> bool {
        !(self.keeps_state && queue.is_of_sink())
    }
}

/// What is published, and to which subscribers.
#[derive(Default)]
struct Publication {
    queues: Vec<Arc<SubscriberQueue>>,
    /// The current result, if this is a view.
    store: Option<Store>,
    failure: Option<TopicFailure>,
    watermark: Option<Watermark>,
    /// Whether nothing more will be published.
    ended: bool,
}

impl Topic {
    pub fn new(id: TopicId, home: usize, relation: Relation, kept: bool) -> Result<Self> {
        let store = match kept {
            true => Some(new_store(&relation)?),
            false => None,
        };
        let publication = Mutex::new(Publication {
            store,
            ..Publication::default()
        });
        Ok(Self {
            id,
            home,
            relation,
            publication,
            rows: AtomicU64::new(0),
            open_windows: OpenWindows::default(),
            failed: AtomicBool::new(false),
            event_log: OnceLock::new(),
        })
    }

    /// Records a failure of the query behind it in this event log.
    pub fn report_failures_to(&self, event_log: &Arc<EventLog>) {
        // A topic is given one event log, when it is created.
        let _ = self.event_log.set(Arc::clone(event_log));
    }

    /// The columns that subscribers get: with the diff if the result changes.
    pub fn published_schema(&self) -> SchemaRef {
        match self.relation.changes {
            true => with_diff(&self.relation.schema),
            false => Arc::clone(&self.relation.schema),
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn watermark(&self) -> Watermark {
        locked(&self.publication)
            .watermark
            .unwrap_or(Watermark::START)
    }

    /// Whether it keeps its rows: whether it is a view.
    pub fn is_kept(&self) -> bool {
        locked(&self.publication).store.is_some()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The failure of the query behind it, if it has failed.
    pub fn failure(&self) -> Option<TopicFailure> {
        locked(&self.publication).failure.clone()
    }

    /// Publishes what a step produced to the view and the subscribers. On the home worker only.
    pub fn publish(&self, elements: &[StreamElement]) {
        let mut state = locked(&self.publication);
        for element in elements {
            let batch = match element {
                StreamElement::Rows(batch, _) => batch,
                StreamElement::Watermark(watermark) => {
                    let known = state.watermark.unwrap_or(Watermark::START);
                    state.watermark = Some(known.later(*watermark));
                    continue;
                }
                StreamElement::Late { .. }
                | StreamElement::Failed(_)
                | StreamElement::Partial { .. }
                | StreamElement::From(_) => continue,
            };
            self.rows
                .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            if let Some(store) = &mut state.store
                && let Err(error) = store.apply(batch)
            {
                state.fail(TopicFailure::fatal(error.strip_backtrace()));
            }
            state.queues.retain(|queue| queue.push(batch.clone()));
        }
    }

    /// Adds a subscriber, once. A view first sends its rows, unless `from` is [`Begin::Next`]. Between
    /// steps, on the home worker.
    pub fn subscribe(&self, queue: Arc<SubscriberQueue>, from: Begin) {
        let mut state = locked(&self.publication);
        if state.queues.iter().any(|known| Arc::ptr_eq(known, &queue)) {
            return;
        }
        let kept = state.store.as_ref().filter(|_| from == Begin::Kept);
        match kept.map(Store::snapshot) {
            Some(Ok(batches)) => {
                for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
                    queue.push(self.as_published(batch));
                }
            }
            Some(Err(error)) => queue.end(Some(error.strip_backtrace())),
            None => {}
        }
        if let Some(failure) = state.failure.as_ref().filter(|it| it.ends(&queue)) {
            queue.end(Some(failure.reason.clone()));
        } else if state.ended {
            queue.end(None);
        }
        state.queues.push(queue);
    }

    /// The rows of a view. Between steps.
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let state = locked(&self.publication);
        if let Some(failure) = &state.failure {
            return Err(Error::QueryFailed {
                reason: failure.reason.clone(),
            });
        }
        state.rows().map_err(|error| Error::QueryFailed {
            reason: error.strip_backtrace(),
        })
    }

    /// The rows of a view, as they are published to a query that reads it: of one that has failed, those
    /// before the failure.
    pub fn published_rows(&self) -> Vec<RecordBatch> {
        let batches = locked(&self.publication).rows().unwrap_or_default();
        let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0);
        batches.map(|batch| self.as_published(batch)).collect()
    }

    /// Whether its sinks have written all rows published.
    pub fn is_delivered(&self) -> bool {
        locked(&self.publication)
            .queues
            .iter()
            .all(|queue| queue.is_delivered())
    }

    /// Saves a view while it is empty: from then on each save costs only what has changed.
    pub fn begin_saving(&self) -> dataflow::Result<()> {
        match &mut locked(&self.publication).store {
            Some(store) => store.save().map(drop),
            None => Ok(()),
        }
    }

    /// Adds its state, and that of the sinks that read it, to a checkpoint. Between steps, on the home
    /// worker.
    pub fn save(&self, into: &mut durable::Checkpoint<Run>) -> dataflow::Result<()> {
        let mut state = locked(&self.publication);
        let kept = state.store.as_mut().map(Store::save).transpose()?;
        let topic = durable::TopicCheckpoint {
            rows: self.rows(),
            watermark: state.watermark,
            failure: state.failure.as_ref().map(|it| it.reason.clone()),
            resumable: state.failure.clone().filter(|it| it.keeps_state),
            kept: kept.unwrap_or_default(),
        };
        into.topics.insert(self.relation.name.clone(), topic);
        for queue in &state.queues {
            if let Some((sink, backlog)) = queue.backlog() {
                into.sinks.insert(sink.to_owned(), backlog);
            }
        }
        Ok(())
    }

    /// Restores its state from a checkpoint. Before the first step.
    pub fn restore(&self, saved: durable::TopicCheckpoint<Run>) -> dataflow::Result<()> {
        let mut state = locked(&self.publication);
        self.rows.store(saved.rows, Ordering::Relaxed);
        state.watermark = saved.watermark;
        if let Some(store) = &mut state.store {
            store.restore(&saved.kept)?;
        }
        let failure = saved.failure.map(TopicFailure::fatal);
        if let Some(failure) = saved.resumable.or(failure) {
            state.fail(failure);
            self.failed.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn as_published(&self, batch: RecordBatch) -> RecordBatch {
        if !self.relation.changes {
            return batch;
        }
        crate::dataflow::appearing(batch)
    }

    /// The query behind it has failed: ends all subscriptions with the reason.
    pub fn fail(&self, failure: &TopicFailure) {
        let before = {
            // Under the lock: a thread that sees the reason sees the flag too.
            let mut state = locked(&self.publication);
            state.fail(failure.clone());
            self.failed.swap(true, Ordering::AcqRel)
        };
        if let (false, Some(event_log)) = (before, self.event_log.get()) {
            event_log.error("stream", &self.relation.name, &failure.reason);
        }
    }

    /// Records an error of the query behind it, which goes on.
    pub fn note_error(&self, error: &str) {
        if let Some(event_log) = self.event_log.get() {
            event_log.error("stream", &self.relation.name, error);
        }
    }

    /// The query behind it goes on after a failure: a view keeps its rows. Between steps, on the home
    /// worker.
    pub fn resume(&self) {
        let mut state = locked(&self.publication);
        if let Some(failure) = state.failure.take() {
            state.queues.retain(|queue| !failure.ends(queue));
        }
        self.failed.store(false, Ordering::Release);
    }

    /// Sends subscribers an event that the stream missed rows here.
    pub fn report_gap(&self, rows: u64, reason: &str) {
        let queues = &mut locked(&self.publication).queues;
        queues.retain(|queue| queue.gap(rows, reason));
    }

    /// The query behind it was stopped: clears the view and the failure. Between steps, on the home worker.
    pub fn reset(&self) {
        self.resume();
        if let Some(store) = &mut locked(&self.publication).store {
            store.clear();
        }
    }

    /// Ends all subscriptions: nothing more will be published.
    pub fn end(&self) {
        let mut state = locked(&self.publication);
        state.ended = true;
        state.queues.drain(..).for_each(|queue| queue.end(None));
    }
}

impl Publication {
    fn rows(&self) -> dataflow::Result<Vec<RecordBatch>> {
        let store = self.store.as_ref();
        store.map_or(Ok(Vec::new()), Store::snapshot)
    }

    fn fail(&mut self, failure: TopicFailure) {
        if self.failure.is_some() {
            return;
        }
        let ended = self.queues.iter().filter(|queue| failure.ends(queue));
        ended.for_each(|queue| queue.end(Some(failure.reason.clone())));
        self.failure = Some(failure);
    }
}

fn new_store(relation: &Relation) -> Result<Store> {
    let store = Store::new(Arc::clone(&relation.schema), relation.changes);
    store.map_err(|error| {
        let what = format!(
            "view {:?} cannot be kept: {}",
            relation.name,
            error.strip_backtrace()
        );
        Error::Config { what }
    })
}
