//! The rows of the tables of the schema `system`: how everything is doing at one moment.
//!
//! ```text
//!   SystemTable: name, columns ──► system_rows ──► batch ──► SELECT ... FROM system.sources
//!                                                    └─────► SHOW SOURCES, some of its columns
//! ```
//!
//! The rows are made when a query names the table; nothing is kept for it. System tables are for SELECT
//! alone: a continuous query over one is refused, because it has no history.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{RecordBatch, Scalar, StringArray};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::cmp::eq;

use crate::clock::now_us;
use crate::dataflow::Watermark;
use crate::db::catalog::{Catalog, Cell, QueryEntry, SinkEntry, SourceEntry, SystemTable};
use crate::db::engine::Engine;
use crate::db::outcome::Outcome;
use crate::event_log::{ErrorEntry, EventLog, GapEntry};
use crate::sql::{Kind, Shown};

/// Why a source of a script does not run yet.
const WAITS: &str =
    "it starts with the first SELECT or SUBSCRIBE that reads it, or at the end of the script";

/// A watermark as a time; `None` before the first row and after the last.
fn time_of(watermark: Watermark) -> Option<i64> {
    Some(watermark.at_us).filter(|at| *at != i64::MIN && *at != i64::MAX)
}

/// How far a watermark is behind the clock, in seconds; below zero if it is ahead.
pub(super) fn lag(watermark: Watermark) -> Option<f64> {
    let at = time_of(watermark)?;
    Some(now_us().saturating_sub(at) as f64 / 1e6)
}

pub(super) fn system_rows(engine: &Engine, table: &SystemTable) -> RecordBatch {
    let rows = match table.name {
        "sources" => source_rows(engine),
        "streams" => stream_rows(&engine.catalog()),
        "sinks" => sink_rows(engine),
        "gaps" => gap_rows(&engine.event_log),
        "errors" => error_rows(&engine.event_log),
        _ => connector_rows(engine),
    };
    table.batch(&rows)
}

fn source_rows(engine: &Engine) -> Vec<Vec<Cell>> {
    let catalog = engine.catalog();
    catalog.sources().map(|it| source_row(engine, it)).collect()
}

fn source_row(engine: &Engine, source: &SourceEntry) -> Vec<Cell> {
    let shared = &source.shared;
    let connector = source.connector.as_ref();
    let status = connector.map(|it| it.handle.status());
    let status = status.as_ref();
    let pushed = if shared.is_closed() {
        "closed"
    } else {
        "running"
    };
    let stuck = engine.persistence.wal_writer(shared.name());
    let stuck = stuck.and_then(|wal_writer| wal_writer.problem());
    let state = match (&stuck, status) {
        // The connector may run, but the engine takes no rows from it.
        (Some(_), _) => "paused",
        (None, Some(status)) => status.state.name(),
        (None, None) => pushed,
    };
    let waits = connector.is_some_and(|it| it.waits.load(Ordering::Acquire));
    let reason = match waits {
        true => Some(WAITS.to_owned()),
        false => status.and_then(|it| it.reason.as_deref().map(str::to_owned)),
    };
    let watermark = source.topic.watermark();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        Cell::text(shared.name()),
        Cell::Text(connector.map(|it| it.spec.connector().to_owned())),
        Cell::text(state),
        Cell::Text(stuck.or(reason)),
        Cell::Time(status.map(|it| it.since_us)),
        Cell::Count(status.map_or(0, |it| it.restarts)),
        Cell::Text(engine.event_log.last_error("source", shared.name())),
        Cell::Count(source.topic.rows()),
        Cell::Count(connector.map_or(0, |it| it.tap.bytes())),
        Cell::Count(load(&shared.bad)),
        Cell::Count(source.dropped()),
        Cell::Count(load(&shared.dead_letters)),
        Cell::Count(load(&shared.gap_count)),
        Cell::Count(shared.producers() as u64),
        Cell::Time(shared.last_row_us()),
        Cell::Time(time_of(watermark)),
        Cell::Seconds(lag(watermark)),
    ]
}

fn stream_rows(catalog: &Catalog) -> Vec<Vec<Cell>> {
    let row = |(name, query): (&String, &QueryEntry)| {
        let failure = query.topic.failure();
        let state = match failure {
            Some(_) => "failed",
            None => query.lifecycle.status.name(),
        };
        let watermark = query.topic.watermark();
        vec![
            Cell::text(name),
            Cell::text(query.kind.to_string()),
            Cell::text(state),
            Cell::Text(failure.map(|failure| failure.reason)),
            Cell::Time(Some(query.lifecycle.since_us)),
            Cell::text(query.inputs.join(", ")),
            Cell::Count(query.topic.rows()),
            Cell::Count(query.late_rows()),
            Cell::Count(query.dead_letter_rows()),
            Cell::Time(time_of(watermark)),
            Cell::Seconds(lag(watermark)),
            Cell::Text(query.lifecycle.description.clone()),
            Cell::text(&query.text),
        ]
    };
    catalog.queries().map(row).collect()
}

fn sink_rows(engine: &Engine) -> Vec<Vec<Cell>> {
    let catalog = engine.catalog();
    let row = |(name, sink): (&String, &SinkEntry)| {
        let status = &sink.status;
        let state = status.get();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Cell::text(name),
            Cell::text(sink.spec.connector()),
            Cell::text(&sink.input),
            Cell::text(state.name),
            Cell::Text(state.reason),
            Cell::Text(engine.event_log.last_error("sink", name)),
            Cell::Count(load(&status.rows)),
            Cell::Count(status.dropped.total()),
            Cell::Count(load(&status.dead_letters)),
            Cell::Count(load(&status.overflowed)),
        ]
    };
    catalog.sinks().map(row).collect()
}

fn gap_rows(event_log: &EventLog) -> Vec<Vec<Cell>> {
    let gaps = event_log.gaps().into_iter();
    let row = |(source, it): (String, GapEntry)| {
        vec![
            Cell::text(source),
            Cell::text(it.gap.reason),
            Cell::Text(it.gap.from),
            Cell::Text(it.gap.to),
            Cell::Time(Some(it.at_us)),
        ]
    };
    gaps.map(row).collect()
}

fn error_rows(event_log: &EventLog) -> Vec<Vec<Cell>> {
    let errors = event_log.errors().into_iter();
    let row = |it: ErrorEntry| {
        vec![
            Cell::Time(Some(it.at_us)),
            Cell::text(it.kind),
            Cell::text(it.name),
            Cell::text(it.error),
        ]
    };
    errors.map(row).collect()
}

fn connector_rows(engine: &Engine) -> Vec<Vec<Cell>> {
    let names = engine.connectors.names();
    let found = names.filter_map(|name| engine.connectors.get(name).ok());
    let role = |there: bool| Cell::text(if there { "yes" } else { "no" });
    let row = |it: &headwater_connect::Connector| {
        vec![
            Cell::text(it.name),
            role(it.source.is_some()),
            role(it.sink.is_some()),
            Cell::text(it.summary),
        ]
    };
    found.map(row).collect()
}

/// SHOW: some columns of a system table.
pub(crate) fn show(engine: &Engine, shown: Shown) -> Outcome {
    let (table, columns) = match shown {
        Shown::Sources => (
            "sources",
            "name connector state reason rows bad dropped gaps",
        ),
        Shown::Streams | Shown::Views => ("streams", "name state reason rows late query"),
        Shown::Sinks => ("sinks", "name connector input state reason rows"),
        Shown::Connectors => ("connectors", "name source sink summary"),
    };
    let table = SystemTable::ALL.iter().find(|it| it.name == table);
    let table = table.expect("each name above is that of a system table");
    let rows = system_rows(engine, table);
    let rows = match shown {
        Shown::Streams => of_kind(&rows, Kind::Stream),
        Shown::Views => of_kind(&rows, Kind::View),
        _ => rows,
    };
    let (schema, columns) = (rows.schema(), columns.split(' '));
    let columns = columns.filter_map(|column| schema.index_of(column).ok());
    let rows = rows.project(&columns.collect::<Vec<_>>());
    Outcome::rows(rows.expect("each column is one of the table's"))
}

fn of_kind(rows: &RecordBatch, kind: Kind) -> RecordBatch {
    let kind = Scalar::new(StringArray::from_iter_values([kind.to_string()]));
    let is_of_kind = rows.column_by_name("kind").map(|column| eq(column, &kind));
    let of_kind = is_of_kind
        .and_then(Result::ok)
        .and_then(|it| filter_record_batch(rows, &it).ok());
    of_kind.expect("kind is a column of text")
}
