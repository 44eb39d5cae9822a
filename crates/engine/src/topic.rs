//! Topics: everything that has a name and produces rows.
//!
//! A source, the bad rows of a source, a stream, a view and the late rows of a stream are topics.
//! Each lives on one worker, its **home**; that worker publishes to it once a step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::dataflow::{self, Run, StreamElement, Watermark, with_diff};
use crate::durable;
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::sql::plan::Relation;
use crate::store::Store;
use crate::subscription::Queue;

/// The number of a topic; never used again.
pub(crate) type TopicId = u64;

/// Something with a name that produces rows.
pub(crate) struct Topic {
    pub id: TopicId,
    /// The worker that publishes to it.
    pub home: usize,
    /// Name, columns, event time.
    pub relation: Relation,
    state: Mutex<State>,
    rows: AtomicU64,
    failed: AtomicBool,
    /// Who is told of a failure.
    event_log: OnceLock<Arc<EventLog>>,
}

/// Where a subscriber of a view begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With what the view holds.
    Kept,
    /// With what comes next: it had the rest before a restart.
    Next,
}

#[derive(Default)]
struct State {
    queues: Vec<Arc<Queue>>,
    /// The current result, if this is a view.
    store: Option<Store>,
    failure: Option<String>,
    watermark: Option<Watermark>,
    /// Nothing will be published any more.
    ended: bool,
}

impl Topic {
    pub fn new(id: TopicId, home: usize, relation: Relation, kept: bool) -> Result<Self> {
        let store = match kept {
            true => Some(new_store(&relation)?),
            false => None,
        };
        let state = Mutex::new(State {
            store,
            ..State::default()
        });
        Ok(Self {
            id,
            home,
            relation,
            state,
            rows: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            event_log: OnceLock::new(),
        })
    }

    /// A failure of the query behind it is an entry of this notices.
    pub fn tell_failures_to(&self, event_log: &Arc<EventLog>) {
        // Only the first that is said counts, and nobody says another.
        let _ = self.event_log.set(Arc::clone(event_log));
    }

    /// The columns as subscribers see them: with the diff if rows may be taken back.
    pub fn published_schema(&self) -> SchemaRef {
        match self.relation.changes {
            true => with_diff(&self.relation.schema),
            false => Arc::clone(&self.relation.schema),
        }
    }

    /// Rows published so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// The watermark as of the last step.
    pub fn watermark(&self) -> Watermark {
        self.lock().watermark.unwrap_or(Watermark::START)
    }

    /// Whether this is a view.
    pub fn is_kept(&self) -> bool {
        self.lock().store.is_some()
    }

    /// Whether the query behind it has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Why the query behind it has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Hands a step's rows to the view and the subscribers. On the home worker only.
    pub fn publish(&self, chunks: &[StreamElement]) {
        let mut state = self.lock();
        for chunk in chunks {
            let batch = match chunk {
                StreamElement::Rows(batch) => batch,
                StreamElement::Watermark(watermark) => {
                    let known = state.watermark.unwrap_or(Watermark::START);
                    state.watermark = Some(known.later(*watermark));
                    continue;
                }
                StreamElement::Late { .. }
                | StreamElement::Partial { .. }
                | StreamElement::From(_) => continue,
            };
            self.rows
                .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            if let Some(store) = &mut state.store
                && let Err(error) = store.apply(batch)
            {
                state.fail(error.strip_backtrace());
            }
            state.queues.retain(|queue| queue.push(batch.clone()));
        }
    }

    /// Adds a subscriber that is not there yet; a view first sends what it holds, if that is wanted. Between steps, on the
    /// home worker.
    pub fn subscribe(&self, queue: Arc<Queue>, from: Begin) {
        let mut state = self.lock();
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
        if let Some(failure) = &state.failure {
            queue.end(Some(failure.clone()));
        } else if state.ended {
            queue.end(None);
        }
        state.queues.push(queue);
    }

    /// The rows that a view holds now. Between steps.
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let state = self.lock();
        if let Some(reason) = &state.failure {
            return Err(Error::QueryFailed {
                reason: reason.clone(),
            });
        }
        let snapshot = state
            .store
            .as_ref()
            .map(Store::snapshot)
            .unwrap_or(Ok(Vec::new()));
        snapshot.map_err(|error| Error::QueryFailed {
            reason: error.strip_backtrace(),
        })
    }

    /// A snapshot as chunks for a query that begins to read this view.
    pub fn snapshot_chunks(&self) -> Vec<StreamElement> {
        let batches = self.snapshot().unwrap_or_default().into_iter();
        let batches = batches.filter(|batch| batch.num_rows() > 0);
        batches
            .map(|batch| StreamElement::Rows(self.as_published(batch)))
            .collect()
    }

    /// Whether its sinks have written all that they were given.
    pub fn is_delivered(&self) -> bool {
        self.lock().queues.iter().all(|queue| queue.is_delivered())
    }

    /// Saved from now on, while it keeps nothing yet: then each save costs only what has changed.
    pub fn begin_saving(&self) -> dataflow::Result<()> {
        match &mut self.lock().store {
            Some(store) => store.save().map(drop),
            None => Ok(()),
        }
    }

    /// What is known of it, and of the sinks that it feeds, for a checkpoint. Between steps, on the
    /// home worker.
    pub fn save(&self, into: &mut durable::State<Run>) -> dataflow::Result<()> {
        let mut state = self.lock();
        let kept = state.store.as_mut().map(Store::save).transpose()?;
        let topic = durable::TopicState {
            rows: self.rows(),
            watermark: state.watermark,
            failure: state.failure.clone(),
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

    /// Continues from a checkpoint. Before the first step.
    pub fn restore(&self, saved: durable::TopicState<Run>) -> dataflow::Result<()> {
        let mut state = self.lock();
        self.rows.store(saved.rows, Ordering::Relaxed);
        state.watermark = saved.watermark;
        if let Some(store) = &mut state.store {
            store.restore(&saved.kept)?;
        }
        if let Some(reason) = saved.failure {
            state.fail(reason);
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

    /// The query behind it has failed: subscribers are told, and nothing more comes.
    pub fn fail(&self, reason: &str) {
        let before = {
            // Whoever sees the reason sees the flag too.
            let mut state = self.lock();
            state.fail(reason.to_owned());
            self.failed.swap(true, Ordering::AcqRel)
        };
        if let (false, Some(event_log)) = (before, self.event_log.get()) {
            event_log.error("stream", &self.relation.name, reason);
        }
    }

    /// Rows that subscribers would have seen are missing here.
    pub fn tell_gap(&self, rows: u64, reason: &str) {
        let mut state = self.lock();
        state.queues.retain(|queue| queue.gap(rows, reason));
    }

    /// The query behind it was stopped: it holds nothing, and what it failed of is forgotten.
    /// Between steps, on the home worker.
    pub fn reset(&self) {
        let mut state = self.lock();
        if state.failure.take().is_some() {
            // They were told, and hear no more.
            state.queues.clear();
        }
        if let Some(store) = &mut state.store {
            store.clear();
        }
        self.failed.store(false, Ordering::Release);
    }

    /// Nothing will be published any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.queues.drain(..).for_each(|queue| queue.end(None));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, reason: String) {
        if self.failure.is_some() {
            return;
        }
        self.queues
            .iter()
            .for_each(|queue| queue.end(Some(reason.clone())));
        self.failure = Some(reason);
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
