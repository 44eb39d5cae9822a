//! Connectors at work: starting sources, and the task that feeds each sink.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use headwater_connect::{Attempts, Backoff, Sink, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalog, Entry, Kind, SinkEntry, SourceConnector, SourceEntry};
use super::{Inner, STOP_DEADLINE};
use crate::error::Result;
use crate::ingest::Connected;
use crate::sources::{ConnectorLane, LaneQueue};
use crate::subscription::{Event, Gate, Queue, Subscription};
use crate::topic::Topic;
use crate::worker::{Command, Once};

/// Rows that wait for a sink before the sources behind it are held back.
const SINK_QUEUE_ROWS: usize = 1 << 18;

/// How a sink is doing.
#[derive(Default)]
pub(crate) struct SinkStatus {
    pub rows: AtomicU64,
    pub state: Mutex<SinkState>,
}

/// The state of a sink, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct SinkState {
    pub name: &'static str,
    pub reason: Option<String>,
}

impl SinkStatus {
    fn set(&self, name: &'static str, reason: Option<String>) {
        if let Some(reason) = &reason {
            tracing::warn!(state = name, reason, "sink");
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = SinkState { name, reason };
    }

    pub fn get(&self) -> SinkState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Inner {
    /// Starts every connector that has not been started: sinks first, so that they miss nothing.
    pub(super) fn start_connectors(&self) -> Result<()> {
        let mut catalog = self.catalog();
        self.start_sinks(&mut catalog)?;
        for source in catalog.sources() {
            self.start_source(source);
        }
        Ok(())
    }

    fn start_source(&self, source: &SourceEntry) {
        use headwater_connect::State;
        let Some(connector) = &source.connector else {
            return;
        };
        if connector.handle.status().state != State::Initial {
            return;
        }
        let home = source.topic.home;
        let bell = Arc::clone(self.turns.bell(home));
        let config = &source.config;
        let queue = Arc::new(LaneQueue::new(
            config.buffer_size,
            config.backpressure,
            bell,
        ));
        let channel = Connected::new(Arc::clone(&queue), Arc::clone(&source.shared));
        let channel = Once::new(Box::new(channel) as _);
        self.turns.command(Command::AddChannel {
            source: source.topic.id,
            channel,
        });
        let _runtime = self.tokio.enter();
        let lane = Box::new(ConnectorLane(queue));
        let started = connector
            .handle
            .start(&CancellationToken::new(), Some(lane));
        if let Err(error) = started {
            tracing::error!(source = source.shared.name(), %error, "cannot start");
        }
        self.close_when_ended(connector, source);
    }

    /// When the connector's input ends for good, so does the source: its windows close. When the
    /// connector stops for whatever reason, so do those who tap it.
    fn close_when_ended(&self, connector: &SourceConnector, source: &SourceEntry) {
        use headwater_connect::{End, State};
        let (mut status, tap) = (connector.handle.watch(), connector.tap.clone());
        let shared = Arc::clone(&source.shared);
        self.tokio.spawn(async move {
            let ended = |status: &Status| matches!(status.state, State::Stopped | State::Failed);
            let finished = match status.wait_for(ended).await {
                Ok(status) => status.end == Some(End::Finished),
                Err(_) => false,
            };
            if finished {
                shared.close();
            }
            tap.close();
        });
    }

    fn start_sinks(&self, catalog: &mut Catalog) -> Result<()> {
        let names: Vec<String> = catalog.order.clone();
        for name in names {
            let Some(Entry::Sink(sink)) = catalog.entries.get(&name) else {
                continue;
            };
            if sink.task.is_some() || sink.input.is_empty() {
                continue;
            }
            let task = self.start_sink(catalog, sink)?;
            if let Some(Entry::Sink(sink)) = catalog.entries.get_mut(&name) {
                sink.task = Some(task);
            }
        }
        Ok(())
    }

    fn start_sink(
        &self,
        catalog: &Catalog,
        sink: &SinkEntry,
    ) -> Result<tokio::task::JoinHandle<()>> {
        let topic = catalog.topic(&sink.input)?;
        let rows = self.subscribe_lossless(catalog, &topic);
        let feeder = Feeder {
            rows,
            stop: sink.stop.clone(),
            status: Arc::clone(&sink.status),
            attempts: Attempts::new(Backoff::default(), topic.id),
        };
        let spec = sink.spec.clone();
        Ok(self.tokio.spawn(async move {
            match spec.sink() {
                Ok(sink) => feeder.run(sink).await,
                Err(error) => feeder.status.set("failed", Some(error.to_string())),
            }
        }))
    }

    /// A subscription that holds back the sources before it while its queue is full.
    pub(super) fn subscribe_lossless(&self, catalog: &Catalog, topic: &Arc<Topic>) -> Subscription {
        let bells = (0..self.workers).map(|worker| Arc::clone(self.turns.bell(worker)));
        let gate = Arc::new(Gate::new(bells.collect()));
        for source in catalog.sources_of(&topic.relation.name) {
            let gate = Arc::clone(&gate);
            self.turns.command(Command::AddGate {
                source: source.id,
                gate,
            });
        }
        self.subscribe(topic, Queue::new(SINK_QUEUE_ROWS, Some(gate)))
    }

    /// Stops all sources that have connectors, and closes those whose input has ended, so that their
    /// windows close. Blocks.
    pub(super) fn stop_sources(&self) {
        use headwater_connect::End;
        let connected = |source: &SourceEntry| {
            let handle = Arc::clone(&source.connector.as_ref()?.handle);
            Some((handle, Arc::clone(&source.shared)))
        };
        let sources: Vec<_> = self.catalog().sources().filter_map(connected).collect();
        self.block_on(async move {
            let stops = sources.iter().map(|(handle, shared)| async move {
                handle.stop().await;
                if handle.status().end == Some(End::Finished) {
                    shared.close();
                }
            });
            futures_util::future::join_all(stops).await;
        });
    }

    /// What has failed for good: sources, queries, sinks.
    pub(super) fn failures(&self) -> Vec<(Kind, String, String)> {
        use headwater_connect::State;
        let failure = |entry: &Entry| match entry {
            Entry::Source(source) => {
                let status = source.connector.as_ref()?.handle.status();
                let failed = status.state == State::Failed;
                failed.then(|| status.reason.map(|it| it.to_string()).unwrap_or_default())
            }
            Entry::Query(query) => query.topic.failure(),
            Entry::Sink(sink) => {
                let state = sink.status.get();
                (state.name == "failed").then(|| state.reason.unwrap_or_default())
            }
        };
        let catalog = self.catalog();
        let failed = catalog.entries.iter().filter_map(|(name, entry)| {
            let reason = failure(entry)?;
            Some((entry.kind(), name.clone(), reason))
        });
        failed.collect()
    }

    /// Waits for the sinks, whose subscriptions have ended, to write what they have. Blocks.
    pub(super) fn stop_sinks(&self) {
        let mut sinks = Vec::new();
        for entry in self.catalog().entries.values_mut() {
            if let Entry::Sink(sink) = entry {
                sinks.extend(sink.task.take().map(|task| (task, sink.stop.clone())));
            }
        }
        self.block_on(async move {
            let deadline = Instant::now() + STOP_DEADLINE;
            for (mut task, stop) in sinks {
                if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                    stop.cancel();
                    task.abort();
                }
            }
        });
    }

    pub(super) fn validate(&self) -> Vec<(String, Result<(), headwater_connect::Error>)> {
        let mut sources = Vec::new();
        let mut sinks = Vec::new();
        for (name, entry) in &self.catalog().entries {
            match entry {
                Entry::Source(source) => {
                    let connector = source.connector.as_ref();
                    sources.extend(connector.map(|it| (name.clone(), Arc::clone(&it.handle))));
                }
                Entry::Sink(sink) => sinks.push((name.clone(), sink.spec.clone())),
                Entry::Query(_) => {}
            }
        }
        self.block_on(async move {
            let mut answers = Vec::new();
            for (name, handle) in sources {
                answers.push((name, handle.validate().await));
            }
            for (name, spec) in sinks {
                let answer = match spec.sink() {
                    Ok(sink) => sink.validate().await,
                    Err(error) => Err(error),
                };
                answers.push((name, answer));
            }
            answers
        })
        .unwrap_or_default()
    }

    /// Runs `work` on the database's runtime and waits for it, from any thread.
    pub(super) fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.tokio.spawn(async move {
            // Whoever asked is waiting below.
            let _ = answer.send(work.await);
        });
        answered.recv().ok()
    }
}

/// Moves rows from a subscription into a sink, trying again when the sink fails.
struct Feeder {
    rows: Subscription,
    stop: CancellationToken,
    status: Arc<SinkStatus>,
    attempts: Attempts,
}

impl Feeder {
    async fn run(mut self, mut sink: Box<dyn Sink>) {
        let opened = loop {
            match sink.open().await {
                Ok(()) => break true,
                Err(error) if self.may_retry(&error, Duration::ZERO).await => {}
                Err(error) => {
                    self.status.set("failed", Some(error.to_string()));
                    break false;
                }
            }
        };
        if !opened {
            return;
        }
        self.status.set("running", None);
        while let Some(event) = self.next(sink.as_mut()).await {
            if !self.deliver(sink.as_mut(), event).await {
                return;
            }
        }
        match sink.close().await {
            Ok(()) => self.status.set("stopped", None),
            Err(error) => self.status.set("failed", Some(error.to_string())),
        }
    }

    /// The next event; flushes the sink before it waits.
    async fn next(&mut self, sink: &mut dyn Sink) -> Option<Event> {
        let event = match self.rows.try_next() {
            Ok(Some(event)) => Some(Ok(event)),
            Ok(None) => {
                if let Err(error) = sink.flush().await {
                    self.status.set("degraded", Some(error.to_string()));
                }
                tokio::select! {
                    event = StreamExt::next(&mut self.rows) => event,
                    () = self.stop.cancelled() => None,
                }
            }
            Err(error) => Some(Err(error)),
        };
        match event? {
            Ok(event) => Some(event),
            Err(error) => {
                self.status.set("failed", Some(error.to_string()));
                None
            }
        }
    }

    /// Writes one event; false if the sink is lost.
    async fn deliver(&mut self, sink: &mut dyn Sink, event: Event) -> bool {
        let Event::Rows(batch) = event else {
            return true;
        };
        loop {
            let began = Instant::now();
            match sink.write(&batch).await {
                Ok(()) => {
                    self.status
                        .rows
                        .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    return true;
                }
                Err(error) if self.may_retry(&error, began.elapsed()).await => {}
                Err(error) => {
                    self.status.set("failed", Some(error.to_string()));
                    return false;
                }
            }
        }
    }

    /// Waits before another attempt; false if there is to be none.
    async fn may_retry(&mut self, error: &headwater_connect::Error, ran_for: Duration) -> bool {
        let Some(delay) = self.attempts.next(ran_for, error.retry()) else {
            return false;
        };
        self.status.set("backing_off", Some(error.to_string()));
        tokio::select! {
            () = tokio::time::sleep(delay) => {
                self.status.set("running", None);
                true
            }
            () = self.stop.cancelled() => false,
        }
    }
}
