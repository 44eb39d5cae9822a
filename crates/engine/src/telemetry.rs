//! Every event and every metric of the engine by its name: the one place where they are spelled.
//!
//! Events are `tracing` events of the target [`TARGET`], with the name in the field `event` and the
//! measurements in fields of their own; whoever collects them needs a subscriber and nothing of ours.
//! Those of a stream's life are also sent to [`Db::events`](crate::Db::events). Metrics are numbers
//! that [`Db::metrics`](crate::Db::metrics) reads off; nothing is counted twice for them.
//!
//! What a connector, a sink or a checkpoint says of itself stands in a span of the same target: `source` and
//! `sink` with the field `name`, and `checkpoint`.
//!
//! | event | fields | when |
//! |---|---|---|
//! | `stream_started` | stream, worker_count | START or RESUME STREAM |
//! | `stream_paused`, `stream_stopped` | stream | PAUSE, STOP STREAM |
//! | `source_attached`, `source_detached` | stream, source | ATTACH, DETACH SOURCE |
//! | `worker_started` | source | a connector is started |
//! | `worker_died` | source, reason, given_up | a connector failed; it is tried again unless given up |
//! | `events_created` | source, count | a step took one row of a source |
//! | `events_batch_created` | source, count | a step took several |

use tracing::Span;

/// The target of all events.
pub const TARGET: &str = "headwater::telemetry";

/// Something in the life of a stream or of a source's connector.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// A stream was started or resumed.
    StreamStarted {
        /// Its name.
        stream: String,
        /// How many sources its rows come from.
        sources: usize,
    },
    /// A stream was paused.
    StreamPaused {
        /// Its name.
        stream: String,
    },
    /// A stream was stopped, and its state dropped.
    StreamStopped {
        /// Its name.
        stream: String,
    },
    /// A source was attached to a stream.
    SourceAttached {
        /// The source.
        source: String,
        /// The stream.
        stream: String,
    },
    /// A source was detached from a stream.
    SourceDetached {
        /// The source.
        source: String,
        /// The stream.
        stream: String,
    },
    /// The connector of a source was started.
    WorkerStarted {
        /// The source.
        source: String,
    },
    /// The connector of a source failed or panicked.
    WorkerDied {
        /// The source.
        source: String,
        /// What happened.
        reason: String,
        /// Whether it is left alone from now on.
        given_up: bool,
    },
}

impl LifecycleEvent {
    /// The stream it is about, if it is about one.
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

    /// The source it is about, if it is about one.
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

/// What the connector of a source does.
pub(crate) fn source_span(source: &str) -> Span {
    tracing::info_span!(target: TARGET, "source", name = source)
}

/// What is done to write the rows of a sink.
pub(crate) fn sink_span(sink: &str) -> Span {
    tracing::info_span!(target: TARGET, "sink", name = sink)
}

/// One checkpoint.
pub(crate) fn checkpoint_span() -> Span {
    tracing::info_span!(target: TARGET, "checkpoint")
}

/// Emits the `tracing` event of something that happened.
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

/// Emits that a step took `count` rows of a source. Costs one load where nobody listens.
pub(crate) fn events_created(source: &str, count: u64) {
    match count {
        0 => {}
        1 => tracing::debug!(target: TARGET, event = "events_created", source, count),
        _ => tracing::debug!(target: TARGET, event = "events_batch_created", source, count),
    }
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, as long as what it is about lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a metric is: its name, what it counts, and a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricName {
    /// Its name, with the unit at its end; in the form that Prometheus wants.
    pub name: &'static str,
    /// What it counts.
    pub kind: MetricKind,
    /// What it is, for people.
    pub help: &'static str,
}

/// One number, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// What it is.
    pub of: &'static MetricName,
    /// The source, stream or sink it is about; empty if it is about all.
    pub name: String,
    /// The number.
    pub value: f64,
}

/// All metrics.
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
            /// Every metric there is.
            pub const ALL: &[MetricName] = &[$($constant),*];
        };
    }

    metrics! {
        SOURCE_ROWS Counter "headwater_source_rows_total" "Rows taken from a source.";
        SOURCE_BYTES Counter "headwater_source_bytes_total" "Bytes of messages that a source's connector received.";
        SOURCE_BAD Counter "headwater_source_bad_rows_total" "Messages of a source that were no rows.";
        SOURCE_DROPPED Counter "headwater_source_dropped_rows_total" "Rows that a source's backpressure policy dropped.";
        SOURCE_GAPS Counter "headwater_source_gaps_total" "Intervals in which rows of a source may have been missed.";
        SOURCE_RESTARTS Counter "headwater_source_restarts_total" "How often a source's connector was run again after a failure.";
        SOURCE_RUNNING Gauge "headwater_source_running" "1 while a source's connector is at work, else 0.";
        SOURCE_LAG Gauge "headwater_source_lag_seconds" "How far the watermark of a source is behind the clock.";
        STREAM_ROWS Counter "headwater_stream_rows_total" "Rows that a stream or view published.";
        STREAM_LATE Counter "headwater_stream_late_rows_total" "Rows that came too late for a stream or view.";
        STREAM_LAG Gauge "headwater_stream_lag_seconds" "How far the watermark of a stream is behind the clock.";
        SINK_ROWS Counter "headwater_sink_rows_total" "Rows that a sink wrote.";
        ACTIVE_STREAMS Gauge "headwater_active_streams" "Streams and views that get rows.";
        PAUSED_STREAMS Gauge "headwater_paused_streams" "Streams and views that are paused.";
        WORKERS Gauge "headwater_workers" "Sources whose connector is at work.";
    }
}
