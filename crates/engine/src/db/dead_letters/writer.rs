//! Sends dead letters to their stream: those of a sink, or the bad rows in the lane of a source.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use headwater_connect::{
    Bad, Clock, DeadLetter, DeadLetters, Error as ConnectError, ErrorOptions, Item, Lane,
    LaneClosed, SystemClock,
};
use tokio::sync::watch;

use crate::db::catalog::{Catalog, SourceConnector, SourceEntry};
use crate::db::engine::Engine;
use crate::error::Result;
use crate::ingest::ConnectorLane;
use crate::source::SourceShared;
use crate::source::{ArrowSource, Backpressure, SourceConfig, WalMode};

struct DeadLetterWriter {
    stream: Arc<Mutex<ArrowSource>>,
    shared: Arc<SourceShared>,
    /// Whether recovery has replayed the logs: no row may come between their steps.
    caught_up: Option<watch::Receiver<bool>>,
}

#[async_trait]
impl DeadLetters for DeadLetterWriter {
    async fn take(&self, letters: &[DeadLetter]) -> Result<(), String> {
        if let Some(caught_up) = &self.caught_up {
            let caught_up = caught_up.clone().wait_for(|it| *it).await.map(|_| ());
            caught_up.map_err(|_| "the database is closed".to_owned())?;
        }
        if self.shared.is_closed() {
            return Err(format!("source {:?} is closed", self.shared.name()));
        }
        let rows = DeadLetter::rows(letters).map_err(|error| error.to_string())?;
        let stream = Arc::clone(&self.stream);
        // A push waits for space, and for the disk.
        let pushed = tokio::task::spawn_blocking(move || {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            push(&stream, &rows)
        });
        pushed.await.map_err(|error| error.to_string())?
    }
}

fn push(stream: &ArrowSource, letters: &RecordBatch) -> Result<(), String> {
    // A stream that a user declared may allow NULL.
    let rows = RecordBatch::try_new(Arc::clone(stream.schema()), letters.columns().to_vec());
    let rows = rows.map_err(|error| error.to_string())?;
    stream.push_arrow(rows).map_err(|error| error.to_string())
}

/// The writer of the dead letters of a source or sink, if its options name a stream for them.
pub(crate) fn dead_letter_writer(
    engine: &Engine,
    catalog: &Catalog,
    errors: &ErrorOptions,
) -> Result<Option<Arc<dyn DeadLetters>>> {
    let Some(stream) = errors.dlq_stream() else {
        return Ok(None);
    };
    let entry = catalog.source(stream)?;
    let has_log = engine.persistence.wal_writer(entry.shared.name()).is_some();
    let config = SourceConfig {
        backpressure: Backpressure::Block,
        wal_mode: has_log.then_some(WalMode::Sync),
        ..entry.config.clone()
    };
    let stream = ArrowSource::new(engine.source_handle(entry, &config)?);
    let folder = engine.persistence.folder();
    Ok(Some(Arc::new(DeadLetterWriter {
        stream: Arc::new(Mutex::new(stream)),
        shared: Arc::clone(&entry.shared),
        caught_up: folder.map(|it| it.caught_up.subscribe()),
    })))
}

/// A lane that sends bad rows to `dead_letters` before it passes on the rows that came with them. What
/// the stream does not take becomes rows of `<source>__bad`.
struct DeadLetterLane {
    lane: ConnectorLane,
    dead_letters: Arc<dyn DeadLetters>,
    source: Arc<SourceShared>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Lane for DeadLetterLane {
    async fn send(&mut self, item: Item) -> Result<(), LaneClosed> {
        let mut item = item;
        if let Item::Rows(delivery) = &mut item
            && !delivery.bad.is_empty()
        {
            let bad = std::mem::take(&mut delivery.bad);
            delivery.bad = self.send_dead_letters(bad).await;
        }
        self.lane.send(item).await
    }
}

impl DeadLetterLane {
    /// Sends bad rows to their stream; returns those that it does not take.
    async fn send_dead_letters(&self, bad: Vec<Bad>) -> Vec<Bad> {
        let letters: Vec<DeadLetter> = bad.iter().map(|bad| self.dead_letter(bad)).collect();
        let count = letters.len() as u64;
        match self.dead_letters.take(&letters).await {
            Ok(()) => {
                self.source.bad.fetch_add(count, Ordering::Relaxed);
                self.source.dead_letters.fetch_add(count, Ordering::Relaxed);
                Vec::new()
            }
            Err(refusal) => {
                let source = self.source.name();
                tracing::error!(
                    source,
                    count,
                    refusal,
                    "dead letters were not delivered; they are bad rows of the source"
                );
                self.source.note_error(&format!(
                    "{count} dead letters were not delivered, and are in {source}__bad: {refusal}"
                ));
                bad
            }
        }
    }

    fn dead_letter(&self, bad: &Bad) -> DeadLetter {
        let reason = bad.reason.clone();
        DeadLetter {
            original_event: bad.bytes.clone(),
            error_type: ConnectError::BadRow { reason }.name().to_owned(),
            error_message: bad.reason.clone(),
            timestamp_us: self.clock.now_us(),
            attempt_count: 1,
            stream_name: self.source.name().to_owned(),
        }
    }
}

pub(crate) fn connector_lane(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceEntry,
    connector: &SourceConnector,
    lane: ConnectorLane,
) -> Result<Box<dyn Lane>> {
    Ok(
        match dead_letter_writer(engine, catalog, connector.spec.errors())? {
            None => Box::new(lane),
            Some(dead_letters) => Box::new(DeadLetterLane {
                lane,
                dead_letters,
                source: Arc::clone(&source.shared),
                clock: Arc::new(SystemClock),
            }),
        },
    )
}
