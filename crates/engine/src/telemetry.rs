//! The names of all events and metrics of the engine.
//!
//! Events are `tracing` events of the target [`TARGET`], with the name in the field `event` and the
//! measurements in their own fields; any `tracing` subscriber can collect them. Lifecycle events of
//! streams are also sent to [`Db::events`](crate::Db::events). Metrics are numbers that
//! [`Db::metrics`](crate::Db::metrics) reads from existing counters.
//!
//! The messages of a connector, a sink or a checkpoint are in a span of the same target: `source` and
//! `sink` with the field `name`, and `checkpoint`.
//!
//! | event | fields | when |
//! |---|---|---|
//! | `stream_started` | stream, worker_count | START or RESUME STREAM |
//! | `stream_paused`, `stream_stopped` | stream | PAUSE, STOP STREAM |
//! | `source_attached`, `source_detached` | stream, source | ATTACH, DETACH SOURCE |
//! | `worker_started` | source | a connector is started |
//! | `worker_died` | source, reason, given_up | a connector failed; the supervisor restarts it unless given up |
//! | `events_created` | source, count | a step took one row of a source |
//! | `events_batch_created` | source, count | a step took several rows of a source |

use tracing::Span;

/// The target of all events.
pub const TARGET: &str = "headwater::telemetry";

/// A lifecycle event of a stream or of a source's connector.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// A stream was started or resumed.
    StreamStarted {
        /// The name of the stream.
        stream: String,
        /// The number of sources that its rows come from.
        sources: usize,
    },
    /// A stream was paused.
    StreamPaused {
        /// The name of the stream.
        stream: String,
    },
    /// A stream was stopped, and its state dropped.
    StreamStopped {
        /// The name of the stream.
        stream: String,
    },
    /// A source was attached to a stream.
    SourceAttached {
        /// The name of the source.
        source: String,
        /// The name of the stream.
        stream: String,
    },
    /// A source was detached from a stream.
    SourceDetached {
        /// The name of the source.
        source: String,
        /// The name of the stream.
        stream: String,
    },
    /// The connector of a source was started.
    WorkerStarted {
        /// The name of the source.
        source: String,
    },
    /// The connector of a source failed or panicked.
    WorkerDied {
        /// The name of the source.
        source: String,
        /// The error or panic message.
        reason: String,
        /// Whether the supervisor has stopped restarting it.
        given_up: bool,
    },
}

impl LifecycleEvent {
    /// The name of the stream that it concerns, if any.
    pub fn stream(&self) -> Option<&str> {
        match self {
            Self::StreamStarted { stream, .. }
            | Self::StreamPaused { stream }
            | Self::StreamStopped { stream }
            | Self::SourceAttached { stream, .. }
            | Self::SourceDetached { stream, .. } => Some(stream),
            Self::WorkerStarted { .. } | Self::WorkerDied { .. } => None,
        }
    }

    /// The name of the source that it concerns, if any.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::SourceAttached { source, .. }
            | Self::SourceDetached { source, .. }
            | Self::WorkerStarted { source }
            | Self::WorkerDied { source, .. } => Some(source),
            Self::StreamStarted { .. } | Self::StreamPaused { .. } | Self::StreamStopped { .. } => {
                None
            }
        }
    }
}

/// The span of a source's connector.
pub(crate) fn source_span(source: &str) -> Span {
    tracing::info_span!(target: TARGET, "source", name = source)
}

/// The span of a sink task.
pub(crate) fn sink_span(sink: &str) -> Span {
    tracing::info_span!(target: TARGET, "sink", name = sink)
}

/// The span of one checkpoint.
pub(crate) fn checkpoint_span() -> Span {
    tracing::info_span!(target: TARGET, "checkpoint")
}

/// Emits the `tracing` event of a lifecycle event.
pub(crate) fn emit(event: &LifecycleEvent) {
    match event {
        LifecycleEvent::StreamStarted { stream, sources } => {
            let worker_count = *sources as u64;
            tracing::info!(target: TARGET, event = "stream_started", stream, worker_count);
        }
        LifecycleEvent::StreamPaused { stream } => {
            tracing::info!(target: TARGET, event = "stream_paused", stream);
        }
        LifecycleEvent::StreamStopped { stream } => {
            tracing::info!(target: TARGET, event = "stream_stopped", stream);
        }
        LifecycleEvent::SourceAttached { source, stream } => {
            tracing::info!(target: TARGET, event = "source_attached", stream, source);
        }
        LifecycleEvent::SourceDetached { source, stream } => {
            tracing::info!(target: TARGET, event = "source_detached", stream, source);
        }
        LifecycleEvent::WorkerStarted { source } => {
            tracing::info!(target: TARGET, event = "worker_started", source);
        }
        LifecycleEvent::WorkerDied {
            source,
            reason,
            given_up,
        } => {
            tracing::warn!(target: TARGET, event = "worker_died", source, reason, given_up);
        }
    }
}

/// Emits that a step took `count` rows of a source. Costs one atomic load without a subscriber.
pub(crate) fn events_created(source: &str, count: u64) {
    match count {
        0 => {}
        1 => tracing::debug!(target: TARGET, event = "events_created", source, count),
        _ => tracing::debug!(target: TARGET, event = "events_batch_created", source, count),
    }
}

/// How a metric changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, until its source, stream or sink is dropped.
    Counter,
    /// May go up and down.
    Gauge,
}

/// The name, kind and help text of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricName {
    /// The Prometheus name, with the unit at its end.
    pub name: &'static str,
    /// Whether it is a counter or a gauge.
    pub kind: MetricKind,
    /// One sentence of description.
    pub help: &'static str,
}

/// One sample of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Which metric it is.
    pub of: &'static MetricName,
    /// The source, stream or sink that it concerns; empty for a metric of the whole engine.
    pub name: String,
    /// The value when it was sampled.
    pub value: f64,
}

/// The metrics of the engine.
pub mod metric {
    use super::{MetricKind, MetricName};

    macro_rules! metrics {
        ($($constant:ident $kind:ident $name:literal $help:literal;)*) => {
            $(
                #[doc = $help]
                pub const $constant: MetricName = MetricName {
                    name: $name,
                    kind: MetricKind::$kind,
                    help: $help,
                };
            )*
            /// All metrics of this module.
            pub const ALL: &[MetricName] = &[$($constant),*];
        };
    }

    metrics! {
        SOURCE_ROWS Counter "headwater_source_rows_total" "Rows taken from a source.";
        SOURCE_BYTES Counter "headwater_source_bytes_total" "Bytes of messages that a source's connector received.";
        SOURCE_BAD Counter "headwater_source_bad_rows_total" "Messages of a source that could not be decoded.";
        SOURCE_DROPPED Counter "headwater_source_dropped_rows_total" "Rows that a source's backpressure policy dropped.";
        SOURCE_GAPS Counter "headwater_source_gaps_total" "Intervals in which rows of a source may have been missed.";
        SOURCE_RESTARTS Counter "headwater_source_restarts_total" "Restarts of a source's connector after a failure.";
        SOURCE_RUNNING Gauge "headwater_source_running" "1 while a source's connector runs, else 0.";
        SOURCE_LAG Gauge "headwater_source_lag_seconds" "How far the watermark of a source is behind the clock.";
        STREAM_ROWS Counter "headwater_stream_rows_total" "Rows that a stream or view published.";
        STREAM_LATE Counter "headwater_stream_late_rows_total" "Rows that came too late for a stream or view.";
        STREAM_DEAD_LETTERS Counter "headwater_stream_dead_letters_total" "Rows whose expressions failed in a stream or view.";
        STREAM_LAG Gauge "headwater_stream_lag_seconds" "How far the watermark of a stream is behind the clock.";
        SINK_ROWS Counter "headwater_sink_rows_total" "Rows that a sink wrote.";
        ACTIVE_STREAMS Gauge "headwater_active_streams" "Streams and views that get rows.";
        PAUSED_STREAMS Gauge "headwater_paused_streams" "Streams and views that are paused.";
        WORKERS Gauge "headwater_workers" "Sources whose connector runs.";
    }
}
