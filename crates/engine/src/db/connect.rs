//! Connectors at work: starting sources, and the task that feeds each sink.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_connect::{DeadLetters, Guarantee, Status, SystemClock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::catalog::{Catalog, Entry, Kind, SinkEntry, SourceConnector, SourceEntry};
use super::sink_task::{SinkTask, SinkTaskParts};
use super::{Inner, STOP_DEADLINE};
use crate::error::{Error, Result};
use crate::ingest::{ConnectorChannel, ConnectorLane, LaneQueue};
use crate::subscription::Subscription;
use crate::telemetry::{self, LifecycleEvent};
use crate::worker::{Handoff, WorkerCommand};

impl Inner {
    /// Starts every connector that is to run and has not been started: sinks first, so that they
    /// miss nothing. Gives the names of the sources.
    pub(super) fn start_connectors(&self) -> Result<Vec<String>> {
        self.connectors_begun.store(true, Ordering::Release);
        self.start_sinks(&mut self.catalog())?;
        self.wait_for_sinks();
        // From here on the outside of each sink is known: what is written can be taken back.
        self.checkpoint()?;
        let catalog = self.catalog();
        let wanted = |source: &&SourceEntry| catalog.is_wanted(source.shared.name());
        let sources = catalog.sources().filter(wanted);
        let started = sources.filter(|source| self.start_source(&catalog, source));
        Ok(started.map(|it| it.shared.name().to_owned()).collect())
    }

    /// Starts a source if it can be started; tells whether it was.
    fn start_source(&self, catalog: &Catalog, source: &SourceEntry) -> bool {
        use headwater_connect::State;
        let Some(connector) = &source.connector else {
            return false;
        };
        let can_be = match connector.handle.status().state {
            State::Initial => true,
            State::Paused | State::Stopped | State::Failed => {
                connector.again.load(Ordering::Acquire)
            }
            State::Starting | State::Running | State::BackingOff | State::Degraded => false,
        };
        if !can_be || source.shared.is_closed() {
            return false;
        }
        let home = source.topic.home;
        let bell = Arc::clone(self.sequencer.bell(home));
        let config = &source.config;
        let queue = Arc::new(LaneQueue::new(
            config.buffer_size,
            config.backpressure,
            bell,
        ));
        let channel = ConnectorChannel::new(Arc::clone(&queue), Arc::clone(&source.shared));
        let channel = Handoff::new(Box::new(channel) as _);
        self.sequencer.command(WorkerCommand::AddChannel {
            source: source.topic.id,
            channel,
        });
        self.watch(connector, source);
        let _runtime = self.tokio.enter();
        let errors = connector.spec.errors();
        let started = self
            .lane(catalog, source, errors, ConnectorLane(queue))
            .and_then(|lane| {
                let _span = telemetry::source_span(source.shared.name()).entered();
                let started = connector
                    .handle
                    .start(&CancellationToken::new(), Some(lane));
                started.map_err(|error| Error::Config {
                    what: error.to_string(),
                })
            });
        connector.again.store(false, Ordering::Release);
        if let Err(error) = started {
            tracing::error!(source = source.shared.name(), %error, "cannot start");
            source.shared.note_error(&error.to_string());
            return false;
        }
        let source = source.shared.name().to_owned();
        self.event_log
            .publish(LifecycleEvent::WorkerStarted { source });
        true
    }

    /// Watches a connector from its first start on. When its input ends for good, so does the source:
    /// its windows close. When it stops for whatever reason, so do those who tap it, unless it is to
    /// be started again. Each failure is told.
    fn watch(&self, connector: &SourceConnector, source: &SourceEntry) {
        use headwater_connect::{End, State};
        if connector.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let (mut status, tap) = (connector.handle.watch(), connector.tap.clone());
        let (shared, again) = (Arc::clone(&source.shared), Arc::clone(&connector.again));
        let wal_writer = Arc::clone(&self.event_log);
        self.tokio.spawn(async move {
            let mut told = None;
            while status.changed().await.is_ok() {
                let now = status.borrow_and_update().clone();
                if let Some(event) = death(&now, shared.name())
                    && told.replace((now.since_us, now.restarts))
                        != Some((now.since_us, now.restarts))
                {
                    wal_writer.publish(event);
                }
                if !matches!(now.state, State::Stopped | State::Failed)
                    || again.load(Ordering::Acquire)
                {
                    continue;
                }
                if now.end == Some(End::Finished) {
                    shared.close();
                }
                tap.close();
            }
            tap.close();
        });
    }

    /// Waits until the sinks that can take back what they write are open, or have failed. Blocks.
    fn wait_for_sinks(&self) {
        let commits = |entry: &Entry| match entry {
            Entry::Sink(sink) if sink.task.is_some() => {
                let exact = sink.spec.guarantee() == Guarantee::ExactlyOnce;
                exact.then(|| Arc::clone(&sink.status))
            }
            _ => None,
        };
        let sinks: Vec<_> = self
            .catalog()
            .entries
            .values()
            .filter_map(commits)
            .collect();
        if self.durability.is_none() || sinks.is_empty() {
            return;
        }
        self.block_on(async move {
            let open = async {
                for sink in sinks {
                    sink.wait_open().await;
                }
            };
            if tokio::time::timeout(STOP_DEADLINE, open).await.is_err() {
                tracing::warn!(
                    "a sink does not open; after a crash it may repeat what it writes first"
                );
            }
        });
    }

    pub(super) fn start_sinks(&self, catalog: &mut Catalog) -> Result<()> {
        let names: Vec<String> = catalog.order.clone();
        for name in names {
            let Some(Entry::Sink(sink)) = catalog.entries.get(&name) else {
                continue;
            };
            if sink.task.is_some() || sink.input.is_empty() {
                continue;
            }
            let topic = catalog.topic(&sink.input)?;
            let letters = self.letters(catalog, sink.spec.errors())?;
            let missing = sink.rows.is_none();
            let subscribed =
                missing.then(|| self.subscribe_sink(catalog, &name, &sink.status, &topic));
            if let Some(Entry::Sink(sink)) = catalog.entries.get_mut(&name)
                && let Some(rows) = sink.rows.take().or(subscribed)
            {
                let feeding = self.feed_sink(sink, rows, topic.id, letters);
                let feeding = feeding.instrument(telemetry::sink_span(&name));
                sink.task = Some(self.tokio.spawn(feeding));
            }
        }
        Ok(())
    }

    /// Feeds a sink until it ends.
    fn feed_sink(
        &self,
        sink: &SinkEntry,
        rows: Subscription,
        seed: u64,
        letters: Option<Arc<dyn DeadLetters>>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let spec = sink.spec.clone();
        let sink_task = SinkTask::new(SinkTaskParts {
            rows,
            stop: sink.stop.clone(),
            status: Arc::clone(&sink.status),
            seed,
            errors: spec.errors().clone(),
            receipt: sink.receipt.clone(),
            stream: sink.input.clone(),
            letters,
            clock: Arc::new(SystemClock),
        });
        async move {
            match spec.sink() {
                Ok(sink) => sink_task.run(sink).await,
                Err(error) => sink_task.fail(error.to_string()),
            }
        }
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

    /// Waits for the sinks, whose subscriptions have ended, to write what they have. Blocks, until the
    /// deadline at most.
    pub(super) fn stop_sinks(&self, deadline: std::time::Instant) {
        let mut sinks = Vec::new();
        for entry in self.catalog().entries.values_mut() {
            if let Entry::Sink(sink) = entry {
                sinks.extend(
                    sink.task
                        .take()
                        .map(|task| (task, Arc::clone(&sink.status))),
                );
            }
        }
        self.block_on(async move {
            let deadline = Instant::from_std(deadline);
            for (mut task, status) in sinks {
                if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                    let reason = "rows were left unwritten: it was not done in time".to_owned();
                    status.set("failed", Some(reason));
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

/// That a connector has failed, if that is what its status says.
fn death(status: &Status, source: &str) -> Option<LifecycleEvent> {
    use headwater_connect::State;
    let given_up = match status.state {
        State::BackingOff => false,
        State::Failed => true,
        _ => return None,
    };
    Some(LifecycleEvent::WorkerDied {
        source: source.to_owned(),
        reason: status.reason.as_deref().unwrap_or_default().to_owned(),
        given_up,
    })
}
