//! What the handles of a source, its connector and its worker share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use headwater_connect::Lifecycle;

use crate::durable::SourceGaps;
use crate::event_log::{EventLog, GapEntry};
use crate::telemetry;

/// Called when a handle closes its source.
type OnClose = Box<dyn Fn() + Send + Sync>;

/// Identity and counters of a source. Thread-safe.
pub(crate) struct SourceShared {
    name: String,
    schema: SchemaRef,
    producers: AtomicUsize,
    declared_watermark: Arc<AtomicI64>,
    close: OnClose,
    closed: AtomicBool,
    /// Statistics, which any thread may change at any time.
    pub bad: AtomicU64,
    pub dropped: AtomicU64,
    pub dead_letters: AtomicU64,
    /// Whether rows of a REPROCESS wait to be taken.
    pub reprocessing: AtomicBool,
    /// Whether the connector has its connection.
    connected: AtomicBool,
    event_log: Arc<EventLog>,
    pub gap_count: AtomicU64,
    /// When a step last took rows, in microseconds since 1970-01-01 UTC; `i64::MIN` before the first.
    last_row_us: AtomicI64,
}

impl SourceShared {
    pub fn new(name: String, schema: SchemaRef, close: OnClose, event_log: Arc<EventLog>) -> Self {
        Self {
            name,
            schema,
            producers: AtomicUsize::new(0),
            declared_watermark: Arc::new(AtomicI64::new(i64::MIN)),
            close,
            closed: AtomicBool::new(false),
            bad: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            reprocessing: AtomicBool::new(false),
            connected: AtomicBool::new(true),
            event_log,
            gap_count: AtomicU64::new(0),
            last_row_us: AtomicI64::new(i64::MIN),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn declared_watermark(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.declared_watermark)
    }

    pub fn producer_added(&self) {
        self.producers.fetch_add(1, Ordering::Relaxed);
    }

    pub fn producer_removed(&self) {
        self.producers.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn producers(&self) -> usize {
        self.producers.load(Ordering::Relaxed)
    }

    pub fn close(&self) {
        (self.close)();
        // Release: a thread that sees the flag finds the command in the log of turns.
        self.closed.store(true, Ordering::Release);
    }

    /// Whether it was closed. Never goes back to false.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A step took `count` rows.
    pub fn note_rows(&self, count: u64, now_us: i64) {
        if count > 0 {
            self.last_row_us.store(now_us, Ordering::Relaxed);
            telemetry::events_created(&self.name, count);
        }
    }

    /// When a step last took rows, if one has.
    pub fn last_row_us(&self) -> Option<i64> {
        Some(self.last_row_us.load(Ordering::Relaxed)).filter(|at| *at != i64::MIN)
    }

    /// Records a gap; returns whether it is new rather than one that goes on.
    pub fn note_gap(&self, entry: GapEntry) -> bool {
        let is_new = self.event_log.gap(&self.name, entry);
        if is_new {
            self.gap_count.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// Takes over the gaps of a checkpoint, and the number of all there were.
    pub fn restore_gaps(&self, saved: &SourceGaps) {
        saved.newest.iter().for_each(|gap| {
            self.event_log.gap(&self.name, gap.clone());
        });
        self.gap_count.store(saved.count, Ordering::Relaxed);
    }

    /// The gaps as a checkpoint keeps them.
    pub fn gaps(&self) -> SourceGaps {
        SourceGaps {
            count: self.gap_count.load(Ordering::Relaxed),
            newest: self.event_log.gaps_of(&self.name),
        }
    }

    /// Records an error that does not end the source.
    pub fn note_error(&self, error: &str) {
        self.event_log.error("source", &self.name, error);
    }

    /// Whether rows could come: a source without a connection is not idle.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub fn note_lifecycle(&self, event: &Lifecycle) {
        match event {
            Lifecycle::Connected { .. } => self.connected.store(true, Ordering::Relaxed),
            Lifecycle::Disconnected { .. } => self.connected.store(false, Ordering::Relaxed),
            _ => {}
        }
        match event {
            Lifecycle::Warned { what } => {
                tracing::warn!(source = self.name, warning = what, "source");
                self.note_error(what);
            }
            event => tracing::info!(source = self.name, ?event, "source"),
        }
    }
}
