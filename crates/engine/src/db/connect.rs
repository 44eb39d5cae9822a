//! Connectors at work: starting sources, and the task that feeds each sink.

use std::sync::Arc;

use headwater_connect::{Status, SystemClock};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalog, Entry, Kind, SinkEntry, SourceConnector, SourceEntry};
use super::feeder::{Feeder, FeederParts};
use super::{Inner, STOP_DEADLINE};
use crate::error::Result;
use crate::ingest::Connected;
use crate::sources::{ConnectorLane, LaneQueue};
use crate::subscription::Subscription;
use crate::worker::{Command, Once};

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
            let topic = catalog.topic(&sink.input)?;
            let missing = sink.rows.is_none();
            let subscribed = missing.then(|| self.subscribe_lossless(catalog, &topic));
            if let Some(Entry::Sink(sink)) = catalog.entries.get_mut(&name)
                && let Some(rows) = sink.rows.take().or(subscribed)
            {
                sink.task = Some(self.start_sink(sink, rows, topic.id));
            }
        }
        Ok(())
    }

    fn start_sink(&self, sink: &SinkEntry, rows: Subscription, seed: u64) -> JoinHandle<()> {
        let spec = sink.spec.clone();
        let feeder = Feeder::new(FeederParts {
            rows,
            stop: sink.stop.clone(),
            status: Arc::clone(&sink.status),
            seed,
            errors: spec.errors().clone(),
            receipt: None,
            stream: sink.input.clone(),
            letters: None,
            clock: Arc::new(SystemClock),
        });
        self.tokio.spawn(async move {
            match spec.sink() {
                Ok(sink) => feeder.run(sink).await,
                Err(error) => feeder.fail(error.to_string()),
            }
        })
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
                sinks.extend(
                    sink.task
                        .take()
                        .map(|task| (task, Arc::clone(&sink.status))),
                );
            }
        }
        self.block_on(async move {
            let deadline = Instant::now() + STOP_DEADLINE;
            for (mut task, status) in sinks {
                if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                    let seconds = STOP_DEADLINE.as_secs();
                    let reason = format!("rows were left unwritten: not done within {seconds} s");
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
