//! Rows that cannot be read or written are dropped, retried, become dead letters, or fail the sink.
//!
//! The sources are files. The sink is `moody`: it fails its first writes, or refuses certain rows.
//! A crash is a copy of the data folder, see `killed`.

#[path = "../killed/mod.rs"]
mod killed;
mod repair;
#[path = "../support/mod.rs"]
mod support;
mod websocket;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use async_trait::async_trait;
use headwater::arrow::array::{AsArray, RecordBatch};
use headwater::arrow::datatypes::Int64Type;
use headwater::connect::options::{Checked, OptionSet, Options};
use headwater::connect::{
    self, Connector, Connectors, Guarantee, Receipt, Retry, Sink, SinkArgs, SinkKind,
};
use headwater::{Db, Outcome, Record};
use killed::crash;
use support::{integers, shown, until, until_sources_end};

#[derive(Default)]
struct ExternalSystem {
    /// The number of writes that fail next.
    failures: u32,
    /// Rows that every write refuses.
    poison: Vec<i64>,
    received: Vec<i64>,
}

static EXTERNAL: LazyLock<Mutex<HashMap<String, ExternalSystem>>> = LazyLock::new(Mutex::default);

/// Prepares the external system of the sink with `script = '<name>'`.
fn prepare(name: &str, failures: u32, poison: &[i64]) {
    let external = ExternalSystem {
        failures,
        poison: poison.to_vec(),
        received: Vec::new(),
    };
    EXTERNAL.lock().unwrap().insert(name.to_owned(), external);
}

fn received(name: &str) -> Vec<i64> {
    EXTERNAL.lock().unwrap()[name].received.clone()
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct MoodyOptions {
    /// The name of the external system.
    script: String,
}

impl Options for MoodyOptions {}

const MOODY: Connector = Connector {
    name: "moody",
    summary: "a sink that refuses the rows that the test lists",
    source: None,
    sink: Some(SinkKind {
        options: OptionSet::of::<MoodyOptions>(),
        formats: &[],
        guarantee: |_: &Checked| Guarantee::AtLeastOnce,
        reaches: SinkKind::the_system,
        create: |args: SinkArgs<'_>| {
            let options: MoodyOptions = args.options.get()?;
            Ok(Box::new(Moody(options.script)))
        },
    }),
};

struct Moody(String);

#[async_trait]
impl Sink for Moody {
    async fn validate(&self) -> connect::Result<()> {
        Ok(())
    }

    async fn open(&mut self, _: Option<Receipt>) -> connect::Result<()> {
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> connect::Result<()> {
        let mut all = EXTERNAL.lock().unwrap();
        let external = all.get_mut(&self.0).expect("the test has prepared it");
        if external.failures > 0 {
            external.failures -= 1;
            return Err(connect::Error::Unreachable {
                target: "the external system".to_owned(),
                reason: "it is down".to_owned(),
                retry: Retry::Backoff,
            });
        }
        let numbers = rows.column(0).as_primitive::<Int64Type>().values();
        if let Some(number) = numbers.iter().find(|it| external.poison.contains(it)) {
            return Err(connect::Error::Encode {
                format: "moody",
                reason: format!("{number} is poison"),
            });
        }
        external.received.extend(numbers);
        Ok(())
    }

    async fn flush(&mut self) -> connect::Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> connect::Result<()> {
        Ok(())
    }
}

fn builder() -> headwater::Builder {
    let mut connectors = Connectors::builtin();
    connectors.register(MOODY).unwrap();
    Db::builder().connectors(connectors)
}

fn in_memory(workers: usize) -> Db {
    builder().workers(workers).in_memory().unwrap()
}

fn open(folder: &Path) -> Db {
    builder().workers(1).open(folder).unwrap()
}

/// The integers of a query of one column.
fn numbers(db: &Db, query: &str) -> Vec<i64> {
    integers(&db.query(query).unwrap(), 0)
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Row {
    n: i64,
}

fn push(db: &Db, numbers: impl IntoIterator<Item = i64>) {
    let rows: Vec<Row> = numbers.into_iter().map(|n| Row { n }).collect();
    db.source::<Row>("s").unwrap().push_batch(&rows).unwrap();
    db.settle().unwrap();
}

/// A file of JSON lines, the second of which is bad, and a source that reads it with `options`.
fn bad_second_line(db: &Db, folder: &Path, options: &str) {
    let path = folder.join("in");
    std::fs::write(&path, "{\"n\": 1}\n{\"n\": \"x\"}\n{\"n\": 3}\n").unwrap();
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL)
             WITH (connector = 'file', path = '{}', format = 'json', follow = false, {options});
         CREATE VIEW v AS SELECT n, COUNT(*) AS c FROM s GROUP BY n",
        path.display()
    ))
    .unwrap();
    until_sources_end(db);
}

const DLQ: &str = "error.strategy = 'dlq', error.dlq.stream = 'dead'";

// Sources.

#[test]
fn bad_rows_of_a_source_become_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    for workers in [1, 2] {
        let db = in_memory(workers);
        db.execute(
            "CREATE SOURCE first (n BIGINT) WITH (connector = 'generate', rows = 1,
                 error.strategy = 'dlq', error.dlq.stream = 'dead');
             CREATE VIEW letters AS SELECT CAST(original_event AS VARCHAR) AS event, error_type,
                 attempt_count, stream_name, COUNT(*) AS c FROM dead
                 GROUP BY CAST(original_event AS VARCHAR), error_type, attempt_count, stream_name",
        )
        .unwrap();
        bad_second_line(&db, folder.path(), DLQ);
        assert_eq!(numbers(&db, "SELECT n FROM v ORDER BY n"), [1, 3]);
        let letters = shown(&db, "SELECT * FROM letters");
        let expected = r#"| {"n": "x"} | bad_row    | 1             | s           | 1 |"#;
        assert!(letters.contains(expected), "{letters}");
        let counters =
            "SELECT bad * 100 + dead_letters * 10 + dropped FROM system.sources WHERE name = 's'";
        assert_eq!(numbers(&db, counters), [110]);
        assert_eq!(
            numbers(&db, "SELECT rows FROM system.sources WHERE name = 'dead'"),
            [1]
        );
    }
}

#[test]
fn a_source_drops_what_is_bad_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = in_memory(1);
    bad_second_line(&db, folder.path(), "error.strategy = 'drop'");
    assert_eq!(numbers(&db, "SELECT n FROM v ORDER BY n"), [1, 3]);
    let counters = "SELECT bad * 100 + dead_letters * 10 + dropped FROM system.sources";
    assert_eq!(numbers(&db, counters), [1]);
}

#[test]
fn a_source_that_retries_keeps_bad_rows_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = in_memory(1);
    let retry = "error.strategy = 'retry', error.retry.max-attempts = 2";
    bad_second_line(&db, folder.path(), retry);
    assert_eq!(numbers(&db, "SELECT n FROM v ORDER BY n"), [1, 3]);
    assert_eq!(numbers(&db, "SELECT bad FROM system.sources"), [1]);
}

#[test]
fn dead_letters_that_their_stream_does_not_take_are_bad_rows() {
    let folder = tempfile::tempdir().unwrap();
    let db = in_memory(1);
    db.execute(
        "CREATE SOURCE dead (original_event BYTES, error_message STRING, error_type STRING,
             \"timestamp\" TIMESTAMP, attempt_count INT, stream_name STRING)",
    )
    .unwrap();
    db.close_source("dead").unwrap();
    bad_second_line(&db, folder.path(), DLQ);
    let counters = "SELECT bad * 10 + dead_letters FROM system.sources WHERE name = 's'";
    assert_eq!(numbers(&db, counters), [10], "it is in s__bad");
    let errors = shown(&db, "SELECT error FROM system.errors WHERE name = 's'");
    assert!(
        errors.contains("1 dead letters were not delivered, and are in s__bad"),
        "{errors}"
    );
}

#[test]
fn dead_letters_survive() {
    let folder = tempfile::tempdir().unwrap();
    let input = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    bad_second_line(&db, input.path(), DLQ);
    // A crash before the source's own record is in its log brings the dead letter once more.
    db.flush().unwrap();
    let left = crash(folder.path());
    for folder in [left.path(), folder.path()] {
        db.close();
        let db = open(folder);
        let history = shown(&db, "SELECT error_message, stream_name FROM dead");
        assert_eq!(history.matches("| s           |").count(), 1, "{history}");
    }
}

// Sinks.

fn sink(db: &Db, name: &str, options: &str) {
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL);
         CREATE SINK k FROM s WITH (connector = 'moody', script = '{name}', {options})"
    ))
    .unwrap();
}

const COUNTERS: &str =
    "SELECT rows * 1000 + dropped * 100 + dead_letters * 10 + overflowed FROM system.sinks";

#[test]
fn rows_that_a_sink_cannot_write_become_dead_letters_and_the_others_go_on() {
    for workers in [1, 2] {
        prepare("poisoned", 0, &[3, 5]);
        let db = in_memory(workers);
        sink(&db, "poisoned", DLQ);
        db.execute("CREATE VIEW letters AS SELECT CAST(original_event AS VARCHAR) AS event, MAX(error_message) AS why FROM dead GROUP BY CAST(original_event AS VARCHAR)").unwrap();
        push(&db, 1..=6);
        until("the sink to handle all rows", || {
            numbers(&db, COUNTERS) == [4_020]
        });
        db.settle().unwrap();
        assert_eq!(received("poisoned"), [1, 2, 4, 6]);
        let letters = shown(&db, "SELECT event, why FROM letters ORDER BY event");
        assert!(
            letters.contains(r#"| {"n":3} |"#) && letters.contains(r#"| {"n":5} |"#),
            "{letters}"
        );
        assert!(letters.contains("5 is poison"), "{letters}");
        assert!(shown(&db, "SELECT state FROM system.sinks").contains("degraded"));
    }
}

#[test]
fn dead_letters_of_a_sink_survive() {
    prepare("lasting", 0, &[2]);
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    sink(&db, "lasting", DLQ);
    push(&db, 1..=3);
    until("the sink to handle all rows", || {
        numbers(&db, COUNTERS) == [2_010]
    });
    let left = crash(folder.path());
    drop(db);
    let db = open(left.path());
    // It may be written again and given up again; it is never missing.
    let letters = shown(&db, "SELECT CAST(original_event AS VARCHAR) FROM dead");
    assert!(letters.contains(r#"{"n":2}"#), "{letters}");
}

#[test]
fn what_a_sink_gives_up_while_the_database_closes_is_a_dead_letter_too() {
    for name in ["last words", "last logged words"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters");
        let db = match name {
            "last words" => in_memory(1),
            _ => open(&folder.path().join("data")),
        };
        // The first writes fail, so that the rows are given up while the database closes.
        prepare(name, 20, &[2]);
        let patient = "error.retry.max-attempts = 30, error.retry.initial-delay = '10 ms', \
            error.retry.backoff = 'fixed'";
        sink(&db, name, &format!("{DLQ}, {patient}"));
        db.execute(&format!(
            "CREATE SINK letters FROM (SELECT CAST(original_event AS VARCHAR) AS event FROM dead)
                 WITH (connector = 'file', path = '{}')",
            path.display()
        ))
        .unwrap();
        push(&db, 1..=3);
        db.close();
        assert_eq!(received(name), [1, 3]);
        let letters = std::fs::read_to_string(&path).unwrap();
        assert_eq!(letters, "{\"event\":\"{\\\"n\\\":2}\"}\n", "{name}");
    }
}

#[test]
fn draining_waits_for_dead_letters() {
    prepare("drained", 20, &[2]);
    let db = in_memory(1);
    let patient = "error.retry.max-attempts = 30, error.retry.initial-delay = '10 ms', \
        error.retry.backoff = 'fixed'";
    sink(&db, "drained", &format!("{DLQ}, {patient}"));
    db.execute("CREATE VIEW letters AS SELECT COUNT(*) AS n FROM dead")
        .unwrap();
    push(&db, 1..=3);
    db.drain().unwrap();
    assert_eq!(numbers(&db, "SELECT n FROM letters"), [1]);
}

#[test]
fn what_a_sink_gives_up_while_the_log_is_fed_again_is_a_dead_letter() {
    prepare("restarted", u32::MAX, &[]);
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    sink(
        &db,
        "restarted",
        &format!("{DLQ}, error.retry.max-attempts = 1000"),
    );
    push(&db, 1..=3);
    db.checkpoint().unwrap();
    push(&db, 4..=6);
    db.flush().unwrap();
    let left = crash(folder.path());
    prepare("restarted", 0, &[2, 5]);
    let again = open(left.path());
    until("the sink to handle all rows", || {
        numbers(&again, COUNTERS) == [4_020]
    });
    again.close();
    for _ in 0..2 {
        let again = open(left.path());
        let letters = "SELECT CAST(json_n AS BIGINT) FROM (SELECT
            REPLACE(REPLACE(CAST(original_event AS VARCHAR), '{\"n\":', ''), '}', '') AS json_n
            FROM dead) letters ORDER BY 1";
        assert_eq!(numbers(&again, letters), [2, 5]);
        again.close();
    }
}

#[test]
fn a_sink_tries_again_and_then_goes_on() {
    prepare("shaky", 2, &[]);
    let db = in_memory(1);
    let retry = "error.strategy = 'retry', error.retry.max-attempts = 3,
        error.retry.initial-delay = '10 ms', error.retry.backoff = 'fixed'";
    sink(&db, "shaky", retry);
    push(&db, 1..=3);
    until("the sink to handle all rows", || {
        numbers(&db, COUNTERS) == [3_000]
    });
    assert_eq!(received("shaky"), [1, 2, 3]);
    assert_eq!(
        shown(&db, "SELECT state FROM system.sinks")
            .matches("running")
            .count(),
        1
    );
}

#[test]
fn a_sink_without_attempts_left_fails_with_the_reason() {
    prepare("broken", 9, &[]);
    let db = in_memory(1);
    let retry = "error.strategy = 'retry', error.retry.max-attempts = 2,
        error.retry.initial-delay = '10 ms', error.retry.backoff = 'fixed'";
    sink(&db, "broken", retry);
    push(&db, 1..=3);
    until("the sink to fail", || !db.failures().is_empty());
    assert!(db.failures()[0].2.contains("it is down"));
    assert_eq!(received("broken"), [] as [i64; 0]);
}

#[test]
fn a_sink_drops_what_it_cannot_write_and_counts_it() {
    prepare("forgetful", 0, &[1]);
    let db = in_memory(1);
    sink(&db, "forgetful", "error.strategy = 'drop'");
    push(&db, 1..=3);
    until("the sink to handle all rows", || {
        numbers(&db, COUNTERS) == [2_100]
    });
    assert_eq!(received("forgetful"), [2, 3]);
}

#[test]
fn a_sink_that_must_not_fail_does_at_once() {
    prepare("strict", 1, &[]);
    let db = in_memory(1);
    sink(&db, "strict", "error.strategy = 'fail'");
    push(&db, 1..=3);
    until("the sink to fail", || !db.failures().is_empty());
    assert_eq!(received("strict"), [] as [i64; 0]);
    let errors = shown(&db, "SELECT name, error FROM system.errors");
    assert!(errors.contains("it is down"), "{errors}");
}

#[test]
fn a_sink_that_failed_has_its_rows_when_it_is_started_again() {
    prepare("revived", 1, &[]);
    for workers in [1, 2] {
        prepare("revived", 1, &[]);
        let db = in_memory(workers);
        sink(&db, "revived", "error.strategy = 'fail'");
        push(&db, 1..=3);
        until("the sink to fail", || !db.failures().is_empty());
        push(&db, 4..=6);
        db.settle().unwrap();
        let started = db.execute("START SINK K").unwrap();
        assert!(matches!(&started[..], [Outcome::Started { name }] if name == "k"));
        assert_eq!(db.failures(), []);
        until("all rows", || received("revived").len() == 6);
        push(&db, 7..=7);
        until("the next row", || received("revived").len() == 7);
        assert_eq!(received("revived"), (1..=7).collect::<Vec<_>>());
        assert_eq!(numbers(&db, COUNTERS), [7_000]);
        let again = db.execute("START SINK k").unwrap();
        assert!(matches!(&again[..], [Outcome::Unchanged { .. }]));
    }
}

#[test]
fn a_sink_that_failed_has_its_rows_after_a_restart() {
    prepare("reborn", 1, &[]);
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    sink(&db, "reborn", "error.strategy = 'fail'");
    push(&db, 1..=3);
    until("the sink to fail", || !db.failures().is_empty());
    db.checkpoint().unwrap();
    push(&db, 4..=6);
    db.checkpoint().unwrap();
    db.close();
    let db = open(folder.path());
    push(&db, 7..=7);
    until("all rows", || received("reborn").len() == 7);
    assert_eq!(received("reborn"), (1..=7).collect::<Vec<_>>());
}

#[test]
fn only_a_sink_can_be_started_as_one() {
    prepare("none", 0, &[]);
    let db = in_memory(1);
    sink(&db, "none", "error.strategy = 'fail'");
    for (statement, message) in [
        ("START SINK s", "\"s\" is a source, not a sink"),
        ("START SINK x", "\"x\""),
        ("PAUSE SINK k", "STREAM"),
    ] {
        let error = db.execute(statement).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

// The dead-letter stream.

#[test]
fn what_cannot_be_a_stream_of_dead_letters_is_refused_where_it_is_named() {
    let db = in_memory(1);
    prepare("unused", 0, &[]);
    db.execute(
        "CREATE SOURCE s (n BIGINT NOT NULL);
         CREATE VIEW v AS SELECT COUNT(*) AS n FROM s;
         CREATE SOURCE g (n BIGINT) WITH (connector = 'generate', rows = 1);",
    )
    .unwrap();
    let cases = [
        (
            "s",
            "s",
            "\"s\" takes no dead letters: its columns are not original_event, ",
        ),
        ("s", "v", "\"v\" takes no dead letters: it is a view"),
        ("s", "g", "\"g\" takes no dead letters: it has a connector"),
        ("s", "k", "\"k\" cannot take its own dead letters"),
        ("s", "x__bad", "ends with \"__bad\""),
    ];
    let create = |input: &str, dlq: &str| {
        format!(
            "CREATE SINK k FROM {input} WITH (connector = 'moody', script = 'unused',
                 error.strategy = 'dlq', error.dlq.stream = '{dlq}')"
        )
    };
    for (input, dlq, message) in cases {
        let sql = create(input, dlq);
        let error = db.execute(&sql).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        let place = error.sql_errors()[0].position.clone().unwrap();
        assert_eq!(&sql[place], format!("error.dlq.stream = '{dlq}'"));
    }
    db.execute(&create("s", "dead").replace("SINK k", "SINK a"))
        .unwrap();
    let error = db.execute(&create("dead", "DEAD")).unwrap_err();
    assert!(
        error.to_string().contains("would come back to it"),
        "{error}"
    );
    db.execute(&create("dead", "dead2").replace("SINK k", "SINK b"))
        .unwrap();
    let error = db
        .execute(&create("(SELECT attempt_count FROM dead2)", "dead"))
        .unwrap_err();
    assert!(
        error.to_string().contains("would come back to it"),
        "{error}"
    );
}

#[test]
fn a_stream_of_dead_letters_stays_while_something_names_it() {
    let db = in_memory(1);
    prepare("unused", 0, &[]);
    sink(&db, "unused", DLQ);
    let error = db.execute("DROP SOURCE dead").unwrap_err();
    assert!(
        error.to_string().contains("\"dead\" is needed by k"),
        "{error}"
    );
    let Ok(Outcome::Dropped { names }) = db
        .execute("DROP SOURCE dead CASCADE")
        .map(|mut it| it.remove(0))
    else {
        panic!("it can be dropped with all that needs it");
    };
    assert_eq!(names, ["k", "dead"]);
}

// A query that has failed.

#[derive(Record, Debug, Clone, PartialEq)]
struct Line {
    text: String,
}

#[test]
fn a_failed_query_has_its_reason_and_starts_again() {
    for workers in [1, 2] {
        let db = in_memory(workers);
        db.execute(
            "CREATE SOURCE lines (text VARCHAR NOT NULL);
             CREATE STREAM numbers AS SELECT CAST(text AS BIGINT) AS n FROM lines;
             CREATE VIEW sums AS SELECT SUM(n) AS n FROM numbers;",
        )
        .unwrap();
        let source = db.source::<Line>("lines").unwrap();
        let push = |text: &str| {
            let text = text.to_owned();
            source.push(Line { text }).unwrap();
            db.settle().unwrap();
        };
        push("1");
        push("one");
        let failed = db.failures();
        let failed = failed.iter().find(|(_, name, _)| name == "numbers");
        assert!(failed.is_some_and(|(_, _, why)| why.contains("one")));
        let errors = shown(&db, "SELECT kind, name, error FROM system.errors");
        assert!(
            errors.contains("numbers") && errors.contains("one"),
            "{errors}"
        );
        let streams = shown(
            &db,
            "SELECT name, state FROM system.streams WHERE state = 'failed'",
        );
        assert!(streams.contains("| numbers |"), "{streams}");

        // What reads it starts with it.
        db.execute("START STREAM numbers").unwrap();
        assert!(db.failures().is_empty(), "{:?}", db.failures());
        push("5");
        assert_eq!(
            numbers(&db, "SELECT n FROM sums"),
            [6],
            "started again: the row that failed is not counted"
        );
    }
}
