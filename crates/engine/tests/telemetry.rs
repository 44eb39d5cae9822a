//! What the engine reports about itself: `tracing` events, metrics, system tables.
//!
//! The events come from several threads, so the program as a whole has one subscriber; hence one test
//! for them.

mod scripted;
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::util::pretty::pretty_format_batches;
use headwater::{Db, Event, StreamStatus, telemetry};
use scripted::{Script, builder};
use support::{next_event, until};
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};
use tracing_core::span::Current;

static SEEN: Mutex<Vec<BTreeMap<String, String>>> = Mutex::new(Vec::new());

/// All spans, each with its name and the field `name`; their ids are their places, from 1.
static SPANS: Mutex<Vec<(String, &Metadata<'static>)>> = Mutex::new(Vec::new());

/// The spans that were entered, each time.
static ENTERED: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// The spans that this thread is in.
    static WITHIN: RefCell<Vec<span::Id>> = const { RefCell::new(Vec::new()) };
}

/// Keeps every event of the telemetry, and of warnings the span in which they were logged.
struct Capture;

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == telemetry::TARGET || *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, of: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields::default();
        of.record(&mut fields);
        let name = fields.0.get("name").cloned().unwrap_or_default();
        let mut spans = SPANS.lock().unwrap();
        let metadata = of.metadata();
        spans.push((format!("{} {name}", metadata.name()), metadata));
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if event.metadata().target() != telemetry::TARGET {
            let span = WITHIN.with_borrow(|within| within.last().map(name_of));
            fields.0 = BTreeMap::from([
                ("event".to_owned(), "warning".to_owned()),
                ("within".to_owned(), span.unwrap_or_default()),
            ]);
        }
        SEEN.lock().unwrap().push(fields.0);
    }

    fn enter(&self, span: &span::Id) {
        ENTERED.lock().unwrap().push(name_of(span));
        WITHIN.with_borrow_mut(|within| within.push(span.clone()));
    }

    fn current_span(&self) -> Current {
        let Some(span) = WITHIN.with_borrow(|within| within.last().cloned()) else {
            return Current::none();
        };
        let metadata = SPANS.lock().unwrap()[span.into_u64() as usize - 1].1;
        Current::new(span, metadata)
    }

    fn exit(&self, _: &span::Id) {
        WITHIN.with_borrow_mut(|within| within.pop());
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

fn name_of(span: &span::Id) -> String {
    SPANS.lock().unwrap()[span.into_u64() as usize - 1]
        .0
        .clone()
}

fn entered(span: &str) -> usize {
    let entered = ENTERED.lock().unwrap();
    entered.iter().filter(|it| *it == span).count()
}

/// The fields of the events of this name, each as `key=value`, the name left out.
fn seen(event: &str) -> Vec<String> {
    let seen = SEEN.lock().unwrap();
    let of = seen.iter().filter(|fields| fields["event"] == event);
    let shown = of.map(|fields| {
        let fields = fields.iter().filter(|(key, _)| *key != "event");
        let fields: Vec<String> = fields
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        fields.join(" ")
    });
    shown.collect()
}

fn shown(db: &Db, query: &str) -> Vec<String> {
    let answer = pretty_format_batches(&db.query(query).unwrap()).unwrap();
    let lines = answer.to_string();
    let rows = lines.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        cells.join(" ")
    });
    cells.collect()
}

#[test]
fn what_happens_is_logged_counted_and_can_be_selected() {
    tracing::subscriber::set_global_default(Capture).unwrap();
    let script = Script::new("tel");
    let db = builder().workers(1).in_memory().unwrap();
    db.execute(
        "CREATE SOURCE tel WITH (connector = 'scripted', script = 'tel');
         CREATE SOURCE pushed (n BIGINT NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts);
         CREATE STREAM live WITH (description = 'all of it');
         ATTACH SOURCE tel TO STREAM live;
         CREATE VIEW numbers AS SELECT n FROM live;
         CREATE STREAM broken AS SELECT 1 / (n - n) AS n FROM tel;
         CREATE SINK out FROM live WITH (connector = 'file', path = '/nowhere/at/all');
         START STREAM live;",
    )
    .unwrap();
    let mut rows = db.subscribe_batches("live").unwrap();
    script.row(7);
    let next = next_event(&mut rows);
    assert!(matches!(next, Event::Rows(rows) if rows.num_rows() == 1));
    script.gap();
    script.fail();
    until("the source to restart", || {
        db.streams().stats().restarts == 1
    });
    db.execute("PAUSE STREAM live; STOP STREAM live;").unwrap();
    assert_eq!(db.streams().status("live"), StreamStatus::Stopped);

    // The sink's folder is not there.
    until("the sink's warning", || {
        seen("warning").contains(&"within=sink out".to_owned())
    });
    // Once by who starts it, then by what runs.
    assert!(entered("source tel") > 1);

    assert_eq!(seen("source_attached"), ["source=tel stream=live"]);
    assert_eq!(seen("stream_started"), ["stream=live worker_count=1"]);
    assert_eq!(seen("worker_started"), ["source=tel"]);
    assert_eq!(seen("stream_paused"), ["stream=live"]);
    assert_eq!(seen("stream_stopped"), ["stream=live"]);
    assert_eq!(seen("events_created"), ["count=1 source=tel"]);
    let died = "given_up=false reason=cannot reach the test: it says no source=tel";
    assert_eq!(seen("worker_died"), [died]);
    let pushed = db.source_untyped("pushed").unwrap();
    let rows = headwater::arrow::array::RecordBatch::try_new(
        pushed.schema().clone(),
        vec![
            std::sync::Arc::new(headwater::arrow::array::Int64Array::from(vec![1, 2])),
            std::sync::Arc::new(headwater::arrow::array::TimestampMicrosecondArray::from(
                vec![0, 1_000_000],
            )),
        ],
    );
    pushed.push_arrow(rows.unwrap()).unwrap();
    db.settle().unwrap();
    assert_eq!(seen("events_batch_created"), ["count=2 source=pushed"]);

    let metrics = db.metrics();
    let value = |name: &str, of: &str| {
        let found = metrics
            .iter()
            .find(|it| it.of.name == name && it.name == of);
        found.unwrap_or_else(|| panic!("{name} of {of:?}")).value
    };
    assert_eq!(value("headwater_source_rows_total", "tel"), 1.0);
    assert_eq!(value("headwater_source_rows_total", "pushed"), 2.0);
    assert_eq!(value("headwater_source_restarts_total", "tel"), 1.0);
    assert_eq!(
        value("headwater_source_running", "tel"),
        1.0,
        "broken reads it"
    );
    assert_eq!(value("headwater_stream_rows_total", "live"), 1.0);
    assert_eq!(value("headwater_active_streams", ""), 2.0);
    assert!(
        value("headwater_source_lag_seconds", "pushed") > 1e9,
        "since 1970"
    );

    let sources = "SELECT name, connector, state, restarts, last_error, rows, watermark
        FROM system.sources WHERE state = 'running' ORDER BY name";
    assert_eq!(
        shown(&db, sources),
        [
            "pushed  running 0  2 1970-01-01T00:00:01",
            "tel scripted running 1 cannot reach the test: it says no 1 ",
        ]
    );
    assert_eq!(
        shown(
            &db,
            "SELECT name, kind, state, inputs, rows, description FROM System.Streams ORDER BY name"
        ),
        [
            "broken stream failed tel 0 ",
            "live stream stopped tel 1 all of it",
            "numbers view active live 1 ",
        ]
    );
    let errors = "SELECT s.connector, e.kind, e.error FROM system.errors e
        JOIN system.sources s ON s.name = e.name";
    assert_eq!(
        shown(&db, errors),
        ["scripted source cannot reach the test: it says no"]
    );
    let broken = "SELECT COUNT(*) FROM system.errors WHERE kind = 'stream' AND name = 'broken'";
    assert_eq!(shown(&db, broken), ["1"]);
    let sink = || {
        shown(
            &db,
            "SELECT COUNT(*) > 0 FROM system.errors WHERE kind = 'sink' AND name = 'out'",
        )
    };
    until("the sink's error", || sink() == ["true"]);
    let joined = "SELECT n, name FROM numbers JOIN system.streams ON kind = 'view'";
    assert_eq!(shown(&db, joined), ["7 numbers"]);
    let connectors = "SELECT source, sink FROM system.connectors WHERE name = 'scripted'";
    assert_eq!(shown(&db, connectors), ["yes no"]);

    let gaps =
        r#"SELECT source, reason, "from", "to", at > TIMESTAMP '2020-01-01' FROM system.gaps"#;
    assert_eq!(shown(&db, gaps), ["tel the test looked away 1  true"]);

    let error = db
        .execute("CREATE VIEW v AS SELECT name FROM system.sources")
        .unwrap_err();
    assert_eq!(error.sql_errors()[0].sqlstate, "0A000");
    assert!(db.query("SELECT * FROM system.nothing").is_err());
}
