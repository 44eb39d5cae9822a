//! The numbers that the metrics of `telemetry` have now, read off what counts them anyway.

use std::sync::atomic::Ordering;

use crate::db::Db;
use crate::db::catalog::{Entry, SourceEntry};
use crate::db::query::system_rows::lag;
use crate::db::statements::dropped;
use crate::telemetry::{Metric, MetricName, metric};

impl Db {
    /// All metrics at this moment, in the order of [`telemetry::metric::ALL`](metric::ALL), then by name.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut found = Found::default();
        {
            let catalog = self.inner.catalog();
            for (name, entry) in &catalog.entries {
                match entry {
                    Entry::Source(source) => found.source(name, source),
                    Entry::Query(query) => {
                        let late = query.late.iter().map(|late| late.rows()).sum();
                        found.add(&metric::STREAM_ROWS, name, query.topic.rows());
                        found.add(&metric::STREAM_LATE, name, late);
                        found.add_if(&metric::STREAM_LAG, name, lag(query.topic.watermark()));
                    }
                    Entry::Sink(sink) => {
                        let rows = sink.status.rows.load(Ordering::Relaxed);
                        found.add(&metric::SINK_ROWS, name, rows);
                    }
                }
            }
        }
        let stats = self.stream_stats();
        found.add(&metric::ACTIVE_STREAMS, "", stats.active_streams as u64);
        found.add(&metric::PAUSED_STREAMS, "", stats.paused_streams as u64);
        found.add(&metric::WORKERS, "", stats.total_workers as u64);
        let place = |it: &Metric| metric::ALL.iter().position(|of| of.name == it.of.name);
        found.0.sort_by_key(place);
        found.0
    }
}

#[derive(Default)]
struct Found(Vec<Metric>);

impl Found {
    fn add(&mut self, of: &'static MetricName, name: &str, value: u64) {
        self.add_if(of, name, Some(value as f64));
    }

    fn add_if(&mut self, of: &'static MetricName, name: &str, value: Option<f64>) {
        let name = name.to_owned();
        self.0.extend(value.map(|value| Metric { of, name, value }));
    }

    fn source(&mut self, name: &str, source: &SourceEntry) {
        let shared = &source.shared;
        self.add(&metric::SOURCE_ROWS, name, source.topic.rows());
        self.add(
            &metric::SOURCE_BAD,
            name,
            shared.bad.load(Ordering::Relaxed),
        );
        self.add(&metric::SOURCE_DROPPED, name, dropped(source));
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
