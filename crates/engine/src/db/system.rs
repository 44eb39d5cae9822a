//! The tables of the schema `system`: how everything is doing, as rows, at one moment.
//!
//! ```text
//!   TABLES: name, columns ──► rows(table) ──► batch ──► SELECT ... FROM system.sources
//!                                                  └──► SHOW SOURCES, some of its columns
//! ```
//!
//! A table is read off when a query names it; nothing is kept for it. They are for SELECT alone: a
//! continuous query over them is refused, for they have no history.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::Inner;
use super::catalog::{Entry, Kind, QueryEntry, SinkEntry, SourceEntry};
use super::statements::{Outcome, dropped};
use crate::clock::now_us;
use crate::dataflow::Watermark;
use crate::sql::Shown;

/// The schema that the tables are in.
pub(super) const SCHEMA: &str = "system";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Text,
    Count,
    Seconds,
    Time,
}

/// A value; of a column of the same kind.
enum Cell {
    Text(Option<String>),
    Count(u64),
    Seconds(Option<f64>),
    Time(Option<i64>),
}

/// One table: its name, and its columns in order.
pub(super) struct SystemTable {
    name: &'static str,
    columns: &'static [(&'static str, Of)],
}

/// All of them.
pub(super) const TABLES: &[SystemTable] = &[
    SystemTable {
        name: "sources",
        columns: &[
            ("name", Of::Text),
            ("connector", Of::Text),
            ("state", Of::Text),
            ("reason", Of::Text),
            ("since", Of::Time),
            ("restarts", Of::Count),
            ("last_error", Of::Text),
            ("rows", Of::Count),
            ("bytes", Of::Count),
            ("bad", Of::Count),
            ("dropped", Of::Count),
            ("dead_letters", Of::Count),
            ("gaps", Of::Count),
            ("producers", Of::Count),
            ("last_row_at", Of::Time),
            ("watermark", Of::Time),
            ("lag_seconds", Of::Seconds),
        ],
    },
    SystemTable {
        name: "streams",
        columns: &[
            ("name", Of::Text),
            ("kind", Of::Text),
            ("state", Of::Text),
            ("reason", Of::Text),
            ("since", Of::Time),
            ("inputs", Of::Text),
            ("rows", Of::Count),
            ("late", Of::Count),
            ("watermark", Of::Time),
            ("lag_seconds", Of::Seconds),
            ("description", Of::Text),
            ("query", Of::Text),
        ],
    },
    SystemTable {
        name: "sinks",
        columns: &[
            ("name", Of::Text),
            ("connector", Of::Text),
            ("input", Of::Text),
            ("state", Of::Text),
            ("reason", Of::Text),
            ("last_error", Of::Text),
            ("rows", Of::Count),
            ("dropped", Of::Count),
            ("dead_letters", Of::Count),
            ("overflowed", Of::Count),
        ],
    },
    SystemTable {
        name: "gaps",
        columns: &[
            ("source", Of::Text),
            ("reason", Of::Text),
            ("from", Of::Text),
            ("to", Of::Text),
            ("at", Of::Time),
        ],
    },
    SystemTable {
        name: "errors",
        columns: &[
            ("at", Of::Time),
            ("kind", Of::Text),
            ("name", Of::Text),
            ("error", Of::Text),
        ],
    },
    SystemTable {
        name: "connectors",
        columns: &[
            ("name", Of::Text),
            ("source", Of::Text),
            ("sink", Of::Text),
            ("summary", Of::Text),
        ],
    },
];

impl SystemTable {
    /// The table of this name, with its schema in front: `system.sources`.
    pub fn find(name: &str) -> Option<&'static Self> {
        let (schema, name) = name.split_once('.')?;
        let found = TABLES.iter().find(|table| table.name == name);
        found.filter(|_| schema == SCHEMA)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name with the schema in front.
    pub fn full_name(&self) -> String {
        format!("{SCHEMA}.{}", self.name)
    }

    pub fn column_names(&self) -> Vec<String> {
        let names = self.columns.iter().map(|(name, _)| (*name).to_owned());
        names.collect()
    }

    fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|(name, of)| match of {
            Of::Text => Field::new(*name, DataType::Utf8, true),
            Of::Count => Field::new(*name, DataType::Int64, false),
            Of::Seconds => Field::new(*name, DataType::Float64, true),
            Of::Time => Field::new(
                *name,
                DataType::Timestamp(TimeUnit::Microsecond, None),
                true,
            ),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn batch(&self, rows: &[Vec<Cell>]) -> RecordBatch {
        let columns = self.columns.iter().enumerate();
        let columns = columns.map(|(number, (_, of))| column(*of, rows, number));
        RecordBatch::try_new(self.schema(), columns.collect())
            .expect("each row has one value for each column")
    }
}

fn column(of: Of, rows: &[Vec<Cell>], number: usize) -> ArrayRef {
    let cells = rows.iter().map(|row| &row[number]);
    match of {
        Of::Text => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
            Cell::Text(text) => text.as_deref(),
            _ => None,
        }))),
        Of::Count => Arc::new(Int64Array::from_iter_values(cells.map(|cell| match cell {
            Cell::Count(count) => i64::try_from(*count).unwrap_or(i64::MAX),
            _ => 0,
        }))),
        Of::Seconds => Arc::new(Float64Array::from_iter(cells.map(|cell| match cell {
            Cell::Seconds(seconds) => *seconds,
            _ => None,
        }))),
        Of::Time => Arc::new(TimestampMicrosecondArray::from_iter(cells.map(
            |cell| match cell {
                Cell::Time(us) => *us,
                _ => None,
            },
        ))),
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(Some(text.into()))
}

/// A watermark as a time, once it is one.
fn time_of(watermark: Watermark) -> Option<i64> {
    Some(watermark.at_us).filter(|at| *at != i64::MIN && *at != i64::MAX)
}

/// How far a watermark is behind the clock, in seconds; below zero if it is ahead.
pub(super) fn lag(watermark: Watermark) -> Option<f64> {
    let at = time_of(watermark)?;
    Some(now_us().saturating_sub(at) as f64 / 1e6)
}

impl Inner {
    /// What a table holds now.
    pub(super) fn system_rows(&self, table: &SystemTable) -> RecordBatch {
        let rows = match table.name {
            "sources" => self.source_rows(),
            "streams" => self.stream_rows(),
            "sinks" => self.sink_rows(),
            "gaps" => self.gap_rows(),
            "errors" => self.error_rows(),
            _ => self.connector_rows(),
        };
        table.batch(&rows)
    }

    fn source_rows(&self) -> Vec<Vec<Cell>> {
        let catalog = self.catalog();
        catalog.sources().map(|it| self.source_row(it)).collect()
    }

    fn source_row(&self, source: &SourceEntry) -> Vec<Cell> {
        let shared = &source.shared;
        let connector = source.connector.as_ref();
        let status = connector.map(|it| it.handle.status());
        let status = status.as_ref();
        let pushed = if shared.is_closed() {
            "closed"
        } else {
            "running"
        };
        let stuck = self.wal_writer_of(shared.name());
        let stuck = stuck.and_then(|wal_writer| wal_writer.problem());
        let state = match (&stuck, status) {
            // It may run outside, but nothing is taken from it.
            (Some(_), _) => "paused",
            (None, Some(status)) => status.state.name(),
            (None, None) => pushed,
        };
        let reason = status.and_then(|it| it.reason.as_deref().map(str::to_owned));
        let watermark = source.topic.watermark();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            text(shared.name()),
            Cell::Text(connector.map(|it| it.spec.connector().to_owned())),
            text(state),
            Cell::Text(stuck.or(reason)),
            Cell::Time(status.map(|it| it.since_us)),
            Cell::Count(status.map_or(0, |it| it.restarts)),
            Cell::Text(self.event_log.last_error("source", shared.name())),
            Cell::Count(source.topic.rows()),
            Cell::Count(connector.map_or(0, |it| it.tap.bytes())),
            Cell::Count(load(&shared.bad)),
            Cell::Count(dropped(source)),
            Cell::Count(load(&shared.dead_letters)),
            Cell::Count(load(&shared.gap_count)),
            Cell::Count(shared.producers() as u64),
            Cell::Time(shared.last_row_us()),
            Cell::Time(time_of(watermark)),
            Cell::Seconds(lag(watermark)),
        ]
    }

    fn stream_rows(&self) -> Vec<Vec<Cell>> {
        let catalog = self.catalog();
        let row = |(name, query): (&String, &QueryEntry)| {
            let failure = query.topic.failure();
            let state = match failure {
                Some(_) => "failed",
                None => query.life.status.name(),
            };
            let watermark = query.topic.watermark();
            vec![
                text(name),
                text(query.kind.to_string()),
                text(state),
                Cell::Text(failure),
                Cell::Time(Some(query.life.since_us)),
                text(query.inputs.join(", ")),
                Cell::Count(query.topic.rows()),
                Cell::Count(query.late.iter().map(|late| late.rows()).sum()),
                Cell::Time(time_of(watermark)),
                Cell::Seconds(lag(watermark)),
                Cell::Text(query.life.description.clone()),
                text(&query.text),
            ]
        };
        catalog.queries().map(row).collect()
    }

    fn sink_rows(&self) -> Vec<Vec<Cell>> {
        let catalog = self.catalog();
        let sinks = catalog.entries.iter();
        let sinks = sinks.filter_map(|(name, entry)| match entry {
            Entry::Sink(sink) => Some((name, sink)),
            _ => None,
        });
        let row = |(name, sink): (&String, &SinkEntry)| {
            let status = &sink.status;
            let state = status.get();
            let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            vec![
                text(name),
                text(sink.spec.connector()),
                text(&sink.input),
                text(state.name),
                Cell::Text(state.reason),
                Cell::Text(self.event_log.last_error("sink", name)),
                Cell::Count(load(&status.rows)),
                Cell::Count(status.dropped.total()),
                Cell::Count(load(&status.dead_letters)),
                Cell::Count(load(&status.overflowed)),
            ]
        };
        sinks.map(row).collect()
    }

    fn gap_rows(&self) -> Vec<Vec<Cell>> {
        let gaps = self.event_log.gaps().into_iter();
        let row = |it: crate::event_log::GapEntry| {
            vec![
                text(it.source),
                text(it.gap.reason),
                Cell::Text(it.gap.from),
                Cell::Text(it.gap.to),
                Cell::Time(Some(it.at_us)),
            ]
        };
        gaps.map(row).collect()
    }

    fn error_rows(&self) -> Vec<Vec<Cell>> {
        let errors = self.event_log.errors().into_iter();
        let row = |it: crate::event_log::ErrorEntry| {
            vec![
                Cell::Time(Some(it.at_us)),
                text(it.kind),
                text(it.name),
                text(it.error),
            ]
        };
        errors.map(row).collect()
    }

    fn connector_rows(&self) -> Vec<Vec<Cell>> {
        let names = self.connectors.names();
        let found = names.filter_map(|name| self.connectors.get(name).ok());
        let role = |there: bool| text(if there { "yes" } else { "no" });
        let row = |it: &headwater_connect::Connector| {
            vec![
                text(it.name),
                role(it.source.is_some()),
                role(it.sink.is_some()),
                text(it.summary),
            ]
        };
        found.map(row).collect()
    }

    /// Some columns of a system table.
    pub(super) fn show(&self, shown: Shown) -> Outcome {
        let (table, columns): (_, &[&str]) = match shown {
            Shown::Sources => (
                "sources",
                &[
                    "name",
                    "connector",
                    "state",
                    "reason",
                    "rows",
                    "bad",
                    "dropped",
                    "gaps",
                ],
            ),
            Shown::Streams | Shown::Views => (
                "streams",
                &["name", "state", "reason", "rows", "late", "query"],
            ),
            Shown::Sinks => (
                "sinks",
                &["name", "connector", "input", "state", "reason", "rows"],
            ),
            Shown::Connectors => ("connectors", &["name", "source", "sink", "summary"]),
        };
        let table = TABLES.iter().find(|it| it.name == table);
        let table = table.expect("each name above is one of TABLES");
        let mut rows = self.system_rows(table);
        if let Some(kind) = match shown {
            Shown::Streams => Some(Kind::Stream),
            Shown::Views => Some(Kind::View),
            _ => None,
        } {
            rows = only(&rows, kind);
        }
        let numbers = columns
            .iter()
            .filter_map(|column| rows.schema().index_of(column).ok());
        let rows = rows.project(&numbers.collect::<Vec<_>>());
        let rows = rows.expect("each column is one of the table's");
        Outcome::Rows {
            schema: rows.schema(),
            batches: vec![rows],
        }
    }
}

/// The rows of streams or of views.
fn only(rows: &RecordBatch, kind: Kind) -> RecordBatch {
    let kinds = StringArray::from_iter_values([kind.to_string()]);
    let kept = rows
        .column_by_name("kind")
        .map(|column| arrow::compute::kernels::cmp::eq(column, &arrow::array::Scalar::new(kinds)))
        .and_then(Result::ok)
        .and_then(|kept| arrow::compute::filter_record_batch(rows, &kept).ok());
    kept.expect("kind is a column of text")
}
