//! Topics: everything that has a name and produces rows.
//!
//! A source, the bad rows of a source, a stream, a view and the late rows of a stream are topics.
//! Each has one worker as its **home**, which publishes to it once a step.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::clock::now_us;
use crate::dataflow::{self, OpenWindows, Run, StreamElement, Watermark, with_diff};
use crate::durable;
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::locked::locked;
use crate::sql::plan::Relation;
use crate::store::{Store, ViewVersion};
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
    /// Whether it keeps its rows: whether it is a view.
    pub is_kept: bool,
    kept_rows: AtomicUsize,
    /// Of the query behind it.
    pub open_windows: OpenWindows,
    failed: AtomicBool,
    /// Where a failure is recorded.
    event_log: OnceLock<Arc<EventLog>>,
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.relation.name)
    }
}

/// Where a new subscriber of a view begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With the rows of the view.
    Kept,
    /// With the next change: it had the rest before a restart.
    Next,
}

/// A question for the rows of a view, which its home worker answers between two steps.
#[derive(Debug)]
pub(crate) struct ViewRead {
    pub topic: Arc<Topic>,
    /// The keys of the rows, if it is not for all; as [`Store::look_up`] takes them.
    pub keys: Option<Vec<ArrayRef>>,
    answer: OnceLock<Arc<ViewVersion>>,
}

impl ViewRead {
    pub fn new(topic: Arc<Topic>, keys: Option<Vec<ArrayRef>>) -> Self {
        Self {
            topic,
            keys,
            answer: OnceLock::new(),
        }
    }

    /// Answers it. Between steps, on the home worker.
    pub fn answer(&self) -> Result<()> {
        let rows = self.topic.read(self.keys.as_deref())?;
        self.answer.get_or_init(|| rows);
        Ok(())
    }

    /// The rows, once it has been answered.
    pub fn rows(&self) -> Option<&Arc<ViewVersion>> {
        self.answer.get()
    }
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
            is_kept: kept,
            kept_rows: AtomicUsize::new(0),
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

    /// The number of rows that it keeps, about.
    pub fn kept_rows(&self) -> usize {
        self.kept_rows.load(Ordering::Relaxed)
    }

    pub fn watermark(&self) -> Watermark {
        locked(&self.publication)
            .watermark
            .unwrap_or(Watermark::START)
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The failure of the query behind it, if it has failed.
    pub fn failure(&self) -> Option<TopicFailure> {
        locked(&self.publication).failure.clone()
    }

    /// Publishes what a step produced to the view and the subscribers. On the home worker only.
    ///
    /// # Errors
    /// If the view cannot keep it: then nobody gets the rows of this step, and the topic has failed.
    pub fn publish(&self, elements: &[StreamElement]) -> std::result::Result<(), String> {
        let mut state = locked(&self.publication);
        if let Err(error) = state.keep(elements) {
            drop(state);
            let reason = format!("its rows cannot be kept: {}", error.strip_backtrace());
            self.fail(&TopicFailure::fatal(reason.clone()));
            return Err(reason);
        }
        self.count_kept(&state);
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
            state.queues.retain(|queue| queue.push(batch.clone()));
        }
        Ok(())
    }

    fn count_kept(&self, state: &Publication) {
        let kept = state.store.as_ref().map_or(0, Store::len);
        self.kept_rows.store(kept, Ordering::Relaxed);
    }

    /// Adds a subscriber, once. A view first sends its rows, unless `from` is [`Begin::Next`]. Between
    /// steps, on the home worker.
    pub fn subscribe(&self, queue: Arc<SubscriberQueue>, from: Begin) {
        let mut state = locked(&self.publication);
        if state.queues.iter().any(|known| Arc::ptr_eq(known, &queue)) {
            return;
        }
        let kept = state.store.as_ref().filter(|_| from == Begin::Kept);
        match kept.map(|store| store.version().published()) {
            Some(Ok(batches)) => {
                for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
                    queue.push(batch);
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

    /// The rows of a view, or those with these keys. Between steps.
    ///
    /// # Errors
    /// If the query behind it has failed.
    pub fn read(&self, keys: Option<&[ArrayRef]>) -> Result<Arc<ViewVersion>> {
        let failed = |reason| Err(Error::QueryFailed { reason });
        let state = locked(&self.publication);
        match (&state.failure, &state.store, keys) {
            (Some(failure), ..) => failed(failure.reason.clone()),
            (None, Some(store), Some(keys)) => {
                let rows = store.look_up(keys);
                rows.or_else(|error| failed(error.strip_backtrace()))
            }
            (None, Some(store), None) => Ok(store.version()),
            (None, None, _) => Ok(self.no_rows()),
        }
    }

    /// The rows of a view: of one that has failed, those before the failure.
    pub fn version(&self) -> Arc<ViewVersion> {
        let state = locked(&self.publication);
        let version = state.store.as_ref().map(Store::version);
        version.unwrap_or_else(|| self.no_rows())
    }

    fn no_rows(&self) -> Arc<ViewVersion> {
        let schema = Arc::clone(&self.relation.schema);
        Arc::new(ViewVersion::new(schema, self.relation.changes))
    }

    /// Whether its sinks have written all rows published.
    pub fn is_delivered(&self) -> bool {
        locked(&self.publication)
            .queues
            .iter()
            .all(|queue| queue.is_delivered())
    }

    /// Adds its state, and that of the sinks that read it, to a checkpoint. Between steps, on the home
    /// worker.
    pub fn save(&self, into: &mut durable::Checkpoint<Run>) -> dataflow::Result<()> {
        let state = locked(&self.publication);
        let kept = state.store.as_ref().map(|store| store.version().to_runs());
        let topic = durable::TopicCheckpoint {
            rows: self.rows(),
            watermark: state.watermark,
            failure: state.failure.as_ref().map(|it| it.reason.clone()),
            resumable: state.failure.clone().filter(|it| it.keeps_state),
            kept: kept.transpose()?.unwrap_or_default(),
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
    pub fn restore(&self, saved: durable::TopicCheckpoint<Run>) {
        let mut state = locked(&self.publication);
        self.rows.store(saved.rows, Ordering::Relaxed);
        state.watermark = saved.watermark;
        let restored = state.store.as_mut().map(|store| store.restore(&saved.kept));
        self.count_kept(&state);
        let unreadable = restored.and_then(dataflow::Result::err).map(|error| {
            let reason = format!("its rows cannot be restored: {}", error.strip_backtrace());
            TopicFailure::fatal(reason)
        });
        let failure = saved.failure.map(TopicFailure::fatal);
        if let Some(failure) = unreadable.or(saved.resumable).or(failure) {
            state.fail(failure);
            self.failed.store(true, Ordering::Release);
        }
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
    /// Adds the rows that a step produced to the view.
    fn keep(&mut self, elements: &[StreamElement]) -> dataflow::Result<()> {
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let rows = elements.iter().filter_map(|element| match element {
            StreamElement::Rows(rows, _) => Some(rows.clone()),
            _ => None,
        });
        let rows: Vec<RecordBatch> = rows.collect();
        match rows.is_empty() {
            true => Ok(()),
            false => store.apply(&rows),
        }
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
    let key = relation.key.as_deref();
    let store = Store::new(Arc::clone(&relation.schema), relation.changes, key);
    store.map_err(|error| {
        let what = format!(
            "view {:?} cannot be kept: {}",
            relation.name,
            error.strip_backtrace()
        );
        Error::Config { what }
    })
}
