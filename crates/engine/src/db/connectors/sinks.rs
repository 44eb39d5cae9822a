//! Sinks: the queue in which the rows of one wait, and its task, started, started again after a failure,
//! stopped.

use std::sync::Arc;
use std::time::Instant;

use headwater_connect::{DeadLetters, Guarantee, SystemClock};
use tracing::Instrument as _;

use super::STOP_DEADLINE;
use crate::db::catalog::{Catalog, CatalogEntry, SinkEntry, undefined};
use crate::db::dead_letters::dead_letter_writer;
use crate::db::engine::{Engine, LOSSLESS_QUEUE};
use crate::db::outcome::Outcome;
use crate::db::sink_task::{SinkStatus, SinkTask, SinkTaskParts};
use crate::error::Result;
use crate::sql::Name;
use crate::subscription::{DeliveryTracker as _, SubscriberQueue, Subscription};
use crate::telemetry;
use crate::topic::{Begin, Topic};

/// Starts the task of every sink that has none.
pub(crate) fn start_sinks(engine: &Engine, catalog: &mut Catalog) -> Result<()> {
    for name in catalog.order.clone() {
        let Some(sink) = catalog.sink(&name) else {
            continue;
        };
        if sink.task.is_some() || sink.input.is_empty() {
            continue;
        }
        let topic = catalog.topic(&sink.input)?;
        let dead_letters = dead_letter_writer(engine, catalog, sink.spec.errors())?;
        let is_missing = sink.rows.is_none();
        let subscribed =
            is_missing.then(|| subscribe_sink(engine, catalog, &name, &sink.status, &topic));
        if let Some(sink) = catalog.sink_mut(&name)
            && let Some(rows) = sink.rows.take().or(subscribed)
        {
            let work = run_sink(sink, rows, topic.id, dead_letters);
            let work = work.instrument(telemetry::sink_span(&name));
            sink.task = Some(engine.io.spawn(work));
        }
    }
    Ok(())
}

fn run_sink(
    sink: &SinkEntry,
    rows: Subscription,
    seed: u64,
    dead_letters: Option<Arc<dyn DeadLetters>>,
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
        dead_letters,
        clock: Arc::new(SystemClock),
    });
    async move {
        match spec.sink() {
            Ok(sink) => sink_task.run(sink).await,
            Err(error) => sink_task.fail(error.to_string()),
        }
    }
}

/// Waits until the sinks that can take back what they write are open, or have failed. Blocks, at most
/// [`STOP_DEADLINE`].
pub(super) fn wait_until_open(engine: &Engine) {
    let exact =
        |sink: &&SinkEntry| sink.task.is_some() && sink.spec.guarantee() == Guarantee::ExactlyOnce;
    let catalog = engine.catalog();
    let sinks = catalog.sinks().map(|(_, sink)| sink).filter(exact);
    let sinks: Vec<_> = sinks.map(|sink| Arc::clone(&sink.status)).collect();
    drop(catalog);
    if engine.persistence.folder().is_none() || sinks.is_empty() {
        return;
    }
    engine.io.block_on(async move {
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

/// START SINK: starts a sink that has failed, first with the rows that wait for it. Does nothing to one
/// that runs. Blocks until the failed task has closed the sink, at most [`STOP_DEADLINE`].
pub(crate) fn restart_sink(engine: &Engine, given: &Name) -> Result<Outcome> {
    let (name, has_failed) = {
        let catalog = engine.catalog();
        let (name, sink) = catalog.sink_named(given)?;
        (name, sink.status.has_failed())
    };
    if !has_failed {
        return Ok(Outcome::Unchanged { name });
    }
    wait_until_closed(engine, &name);
    let mut catalog = engine.catalog();
    let Some(sink) = catalog.sink(&name) else {
        return Err(undefined(given).into());
    };
    let status = Arc::clone(&sink.status);
    let topic = catalog.topic(&sink.input)?;
    let rows = take_over_queue(engine, &catalog, &name, &status, &topic);
    status.restart();
    if let Some(sink) = catalog.sink_mut(&name) {
        sink.receipt = status.delivered().receipt;
        sink.rows = Some(rows);
    }
    start_sinks(engine, &mut catalog)?;
    Ok(Outcome::Started { name })
}

/// Waits until the task of a failed sink has closed it. Blocks.
fn wait_until_closed(engine: &Engine, name: &str) {
    let task = engine
        .catalog()
        .sink_mut(name)
        .and_then(|it| it.task.take());
    if let Some(mut task) = task {
        engine.io.block_on(async move {
            let closed = tokio::time::timeout(STOP_DEADLINE, &mut task).await;
            if closed.is_err() {
                task.abort();
            }
        });
    }
}

/// Waits for the sinks, whose subscriptions have ended, to write the rows that they have. Blocks, until
/// `deadline` at most.
pub(crate) fn stop_sinks(engine: &Engine, deadline: Instant) {
    let mut sinks = Vec::new();
    for entry in engine.catalog().entries.values_mut() {
        if let CatalogEntry::Sink(sink) = entry {
            let task = sink.task.take();
            sinks.extend(task.map(|task| (task, Arc::clone(&sink.status))));
        }
    }
    engine.io.block_on(async move {
        let deadline = tokio::time::Instant::from_std(deadline);
        for (mut task, status) in sinks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                let reason = "rows were left unwritten: it was not done in time".to_owned();
                status.set("failed", Some(reason));
                task.abort();
            }
        }
    });
}

/// The queue of a sink that reads `inputs`, with the rows that it had not written at the checkpoint; and
/// where the sink begins.
pub(crate) fn open_sink_queue(
    engine: &Engine,
    catalog: &Catalog,
    sink: &str,
    status: &Arc<SinkStatus>,
    inputs: &[String],
) -> (Arc<SubscriberQueue>, Begin) {
    let saved = engine.persistence.saved_sink(sink);
    let from = match saved {
        Some(_) => Begin::Next,
        None => Begin::Kept,
    };
    let gate = engine.workers.gate(&catalog.sources_of(inputs));
    let (name, progress) = (sink.to_owned(), Arc::clone(status) as _);
    let waiting = saved.unwrap_or_default().waiting;
    let queue = SubscriberQueue::for_sink(LOSSLESS_QUEUE, gate, name, progress, waiting);
    status.reads(&queue);
    (queue, from)
}

/// The rows of a sink: after a restart those that it had not written, then the next ones.
pub(crate) fn subscribe_sink(
    engine: &Engine,
    catalog: &Catalog,
    sink: &str,
    status: &Arc<SinkStatus>,
    topic: &Arc<Topic>,
) -> Subscription {
    let inputs = std::slice::from_ref(&topic.relation.name);
    let (queue, from) = open_sink_queue(engine, catalog, sink, status, inputs);
    engine.workers.subscribe(topic, queue, from)
}

/// The rows of a sink that has failed: those that waited, then the next ones.
fn take_over_queue(
    engine: &Engine,
    catalog: &Catalog,
    sink: &str,
    status: &Arc<SinkStatus>,
    topic: &Arc<Topic>,
) -> Subscription {
    // There is none if its query has been rebuilt meanwhile.
    let queue = status.queue().unwrap_or_else(|| {
        let inputs = std::slice::from_ref(&topic.relation.name);
        open_sink_queue(engine, catalog, sink, status, inputs).0
    });
    status.reads(&queue);
    let rows = Subscription::take_up(Arc::clone(&queue), topic.published_schema());
    engine.workers.add_queue(topic, queue, Begin::Next);
    rows
}
