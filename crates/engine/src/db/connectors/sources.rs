//! The connectors of sources: started, followed until they end, stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_connect::{End, State, Status};
use tokio_util::sync::CancellationToken;

use crate::db::catalog::{Catalog, SourceConnector, SourceEntry};
use crate::db::dead_letters::connector_lane;
use crate::db::engine::Engine;
use crate::error::Error;
use crate::ingest::ConnectorChannel;
use crate::ingest::{ConnectorLane, LaneQueue};
use crate::telemetry::{self, LifecycleEvent};
use crate::worker::{Handoff, WorkerCommand};

/// Starts the connector of a source unless it runs or has ended; returns whether it did.
pub(super) fn start_source(engine: &Engine, catalog: &Catalog, source: &SourceEntry) -> bool {
    let Some(connector) = &source.connector else {
        return false;
    };
    let is_startable = match connector.handle.status().state {
        State::Initial => true,
        State::Paused | State::Stopped | State::Failed => connector.restart.load(Ordering::Acquire),
        State::Starting | State::Running | State::BackingOff | State::Degraded => false,
    };
    if !is_startable || source.shared.is_closed() {
        return false;
    }
    let queue = Arc::new(LaneQueue::new(
        source.config.buffer_size,
        source.config.backpressure,
        engine.workers.bell(source.topic.home),
    ));
    let channel = ConnectorChannel::new(Arc::clone(&queue), Arc::clone(&source.shared));
    engine.workers.command(WorkerCommand::AddChannel {
        source: source.topic.id,
        channel: Handoff::new(Box::new(channel) as _),
    });
    follow(engine, connector, source);
    let _runtime = engine.io.handle.enter();
    let lane = connector_lane(engine, catalog, source, connector, ConnectorLane(queue));
    let started = lane.and_then(|lane| {
        let _span = telemetry::source_span(source.shared.name()).entered();
        let started = connector
            .handle
            .start(&CancellationToken::new(), Some(lane));
        started.map_err(Error::config)
    });
    connector.restart.store(false, Ordering::Release);
    if let Err(error) = started {
        tracing::error!(source = source.shared.name(), %error, "cannot start");
        source.shared.note_error(&error.to_string());
        return false;
    }
    let source = source.shared.name().to_owned();
    engine
        .event_log
        .publish(LifecycleEvent::WorkerStarted { source });
    true
}

/// Follows the status of a connector from its first start on. When its input ends for good, its source
/// is closed, so that windows close. When it stops for any reason, taps of it end, unless it is to be
/// started again. Each failure becomes an event.
fn follow(engine: &Engine, connector: &SourceConnector, source: &SourceEntry) {
    if connector.followed.swap(true, Ordering::AcqRel) {
        return;
    }
    let (mut status, tap) = (connector.handle.watch(), connector.tap.clone());
    let (shared, restart) = (Arc::clone(&source.shared), Arc::clone(&connector.restart));
    let event_log = Arc::clone(&engine.event_log);
    engine.io.spawn(async move {
        let mut reported = None;
        while status.changed().await.is_ok() {
            let now = status.borrow_and_update().clone();
            let failure = (now.since_us, now.restarts);
            if let Some(event) = failure_event(&now, shared.name())
                && reported.replace(failure) != Some(failure)
            {
                event_log.publish(event);
            }
            if !matches!(now.state, State::Stopped | State::Failed)
                || restart.load(Ordering::Acquire)
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

/// The event that a connector has failed, if its status says so.
fn failure_event(status: &Status, source: &str) -> Option<LifecycleEvent> {
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

/// Stops all connectors of sources, and closes the sources whose input has ended, so that their windows
/// close. Blocks.
pub(crate) fn stop_sources(engine: &Engine) {
    let connected = |source: &SourceEntry| {
        let handle = Arc::clone(&source.connector.as_ref()?.handle);
        Some((handle, Arc::clone(&source.shared)))
    };
    let sources: Vec<_> = engine.catalog().sources().filter_map(connected).collect();
    engine.io.block_on(async move {
        let stops = sources.iter().map(|(handle, shared)| async move {
            handle.stop().await;
            if handle.status().end == Some(End::Finished) {
                shared.close();
            }
        });
        futures_util::future::join_all(stops).await;
    });
}
