//! How the database is doing: metrics, how many streams are at work, and what has failed for good.

use std::sync::atomic::Ordering;

use headwater_connect::State;

use super::system_rows::lag;
use crate::db::catalog::{Catalog, CatalogEntry, SourceEntry};
use crate::sql::Kind;
use crate::stream_status::{StreamStats, StreamStatus};
use crate::telemetry::{Metric, MetricName, metric};

pub(crate) fn stream_stats(catalog: &Catalog) -> StreamStats {
    let mut stats = StreamStats::default();
    for (_, query) in catalog.queries() {
        match query.lifecycle.status {
            StreamStatus::Active => stats.active_streams += 1,
            StreamStatus::Paused => stats.paused_streams += 1,
            _ => stats.idle_streams += 1,
        }
    }
    for connector in catalog.sources().filter_map(|it| it.connector.as_ref()) {
        let status = connector.handle.status();
        stats.total_workers += usize::from(status.state.is_active());
        stats.failed_workers += usize::from(status.state == State::Failed);
        stats.restarts += status.restarts;
    }
    stats
}

/// What has failed for good, and why: sources, queries, sinks.
pub(crate) fn failures(catalog: &Catalog) -> Vec<(Kind, String, String)> {
    let failure = |entry: &CatalogEntry| match entry {
        CatalogEntry::Source(source) => {
            let status = source.connector.as_ref()?.handle.status();
            let has_failed = status.state == State::Failed;
            has_failed.then(|| status.reason.map(|it| it.to_string()).unwrap_or_default())
        }
        CatalogEntry::Query(query) => Some(query.topic.failure()?.reason),
        CatalogEntry::Sink(sink) => {
            let has_failed = sink.status.has_failed();
            has_failed.then(|| sink.status.get().reason.unwrap_or_default())
        }
    };
    let failed = catalog.entries.iter().filter_map(|(name, entry)| {
        let reason = failure(entry)?;
        Some((entry.kind(), name.clone(), reason))
    });
    failed.collect()
}

/// All metrics at this moment, in the order of [`metric::ALL`], then by name.
pub(crate) fn metrics(catalog: &Catalog) -> Vec<Metric> {
    let mut list = MetricList::default();
    for (name, entry) in &catalog.entries {
        match entry {
            CatalogEntry::Source(source) => list.add_source(name, source),
            CatalogEntry::Query(query) => {
                list.add(&metric::STREAM_ROWS, name, query.topic.rows());
                list.add(&metric::STREAM_LATE, name, query.late_rows());
                let dead_letters = query.dead_letter_rows();
                list.add(&metric::STREAM_DEAD_LETTERS, name, dead_letters);
                list.add_if(&metric::STREAM_LAG, name, lag(query.topic.watermark()));
            }
            CatalogEntry::Sink(sink) => {
                let rows = sink.status.rows.load(Ordering::Relaxed);
                list.add(&metric::SINK_ROWS, name, rows);
            }
        }
    }
    let stats = stream_stats(catalog);
    list.add(&metric::ACTIVE_STREAMS, "", stats.active_streams as u64);
    list.add(&metric::PAUSED_STREAMS, "", stats.paused_streams as u64);
    list.add(&metric::WORKERS, "", stats.total_workers as u64);
    let position = |it: &Metric| metric::ALL.iter().position(|of| of.name == it.of.name);
    list.0.sort_by_key(position);
    list.0
}

#[derive(Default)]
struct MetricList(Vec<Metric>);

impl MetricList {
    fn add(&mut self, of: &'static MetricName, name: &str, value: u64) {
        self.add_if(of, name, Some(value as f64));
    }

    fn add_if(&mut self, of: &'static MetricName, name: &str, value: Option<f64>) {
        let name = name.to_owned();
        self.0.extend(value.map(|value| Metric { of, name, value }));
    }

    fn add_source(&mut self, name: &str, source: &SourceEntry) {
        let shared = &source.shared;
        self.add(&metric::SOURCE_ROWS, name, source.topic.rows());
        self.add(
            &metric::SOURCE_BAD,
            name,
            shared.bad.load(Ordering::Relaxed),
        );
        self.add(&metric::SOURCE_DROPPED, name, source.dropped());
        let gaps = shared.gap_count.load(Ordering::Relaxed);
        self.add(&metric::SOURCE_GAPS, name, gaps);
        self.add_if(&metric::SOURCE_LAG, name, lag(source.topic.watermark()));
        if let Some(connector) = &source.connector {
            let status = connector.handle.status();
            let running = u64::from(status.state.is_active());
            self.add(&metric::SOURCE_BYTES, name, connector.tap.bytes());
            self.add(&metric::SOURCE_RESTARTS, name, status.restarts);
            self.add(&metric::SOURCE_RUNNING, name, running);
        }
    }
}
