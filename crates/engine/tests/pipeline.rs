//! Whole pipelines: source connectors, SQL and sinks; and what happens when one of them fails.

mod support;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use headwater::{Db, Error, Event, Outcome, Record};
use support::{PATIENCE, next_event, next_rows, shown, until, until_sources_end};

#[derive(Record, Debug, Clone, PartialEq)]
struct Line {
    text: String,
}

fn db(workers: usize) -> Db {
    Db::builder().workers(workers).in_memory().unwrap()
}

fn line(text: &str) -> Line {
    Line { text: text.into() }
}

#[test]
fn a_finite_source_ends_and_its_windows_close() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(
            "CREATE SOURCE g (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts)
                 WITH (connector = 'generate', rows = 1000, rows_per_second = 0);
             CREATE STREAM per_10_ms AS SELECT window_start, window_end, COUNT(*) AS n FROM g
                 GROUP BY TUMBLE(ts, INTERVAL '10 milliseconds');
             CREATE VIEW total AS SELECT COUNT(*) AS windows, SUM(n) AS n FROM per_10_ms
                 GROUP BY TUMBLE(window_end, INTERVAL '1 day');",
        )
        .unwrap();
        until_sources_end(&db);
        assert!(
            shown(&db, "SELECT n FROM total").contains("| 1000 |"),
            "{}",
            shown(&db, "SELECT * FROM total")
        );
    }
}

#[test]
fn a_library_call_answers_at_once_and_says_what_is_still_read() {
    let answer = |outcomes: Vec<Outcome>| match outcomes.into_iter().next_back() {
        Some(Outcome::Rows { reading, .. }) => reading,
        other => panic!("{other:?}"),
    };
    let db = db(1);
    let sql = "CREATE SOURCE slow (n BIGINT) WITH (connector = 'generate', rows = 100000, rows_per_second = 1);
        CREATE SOURCE endless (n BIGINT) WITH (connector = 'generate', rows_per_second = 1);
        CREATE SOURCE quick (n BIGINT) WITH (connector = 'generate', rows = 10, rows_per_second = 0);
        CREATE VIEW v AS SELECT n FROM slow UNION ALL SELECT n FROM endless UNION ALL SELECT n FROM quick;
        SELECT COUNT(*) FROM v";
    let reading = answer(db.execute(sql).unwrap());
    assert!(reading.contains(&"slow".to_owned()) && !reading.contains(&"endless".to_owned()));
    until("the end of quick", || {
        answer(db.execute("SELECT n FROM v").unwrap()) == ["slow"]
    });
    assert_eq!(answer(db.execute("SELECT 1").unwrap()), [""; 0]);
    let rows = db.query("SELECT n FROM v").unwrap();
    assert!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() >= 10);
}

#[test]
fn a_failed_query_fails_its_subscribers_and_no_other_query() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(
            "CREATE SOURCE lines (text VARCHAR NOT NULL);
             CREATE STREAM numbers AS SELECT CAST(text AS INT) AS n FROM lines;
             CREATE VIEW all_lines AS SELECT COUNT(*) AS n FROM lines;",
        )
        .unwrap();
        let mut numbers = db.subscribe_batches("numbers").unwrap();
        let source = db.source::<Line>("lines").unwrap();
        source.push(line("1")).unwrap();
        assert!(matches!(next_event(&mut numbers), Event::Rows(_)));
        source.push(line("one")).unwrap();
        let error = numbers.next_within(PATIENCE).unwrap_err();
        assert!(
            matches!(&error, Error::QueryFailed { reason } if reason.contains("one")),
            "{error}"
        );
        source.push(line("2")).unwrap();
        db.settle().unwrap();
        assert!(shown(&db, "SELECT n FROM all_lines").contains("| 3 |"));
        let Ok(Outcome::Rows { batches, .. }) =
            db.execute("SHOW STREAMS").map(|mut it| it.remove(0))
        else {
            panic!("SHOW STREAMS gives rows");
        };
        assert!(
            pretty_format_batches(&batches)
                .unwrap()
                .to_string()
                .contains("failed")
        );
    }
}

#[test]
fn all_problems_with_options_are_reported_at_once() {
    let db = db(1);
    let error = db
        .execute(
            "CREATE SOURCE g (id BIGINT) WITH (connector = 'generate', rws = 10, seed = 'x',
                 buffer_size = 1000)",
        )
        .unwrap_err();
    let errors = error.sql_errors();
    assert_eq!(errors.len(), 3, "{error}");
    assert!(errors.iter().all(|error| error.position.is_some()));
    let hint = errors[0].hint.as_deref().unwrap_or_default();
    assert!(hint.contains("rows"), "the nearest name: {hint}");
    assert!(
        error.to_string().contains("1024"),
        "the next power of two is there: {error}"
    );
}

#[test]
fn a_changing_result_has_retractions_and_insertions() {
    let db = db(1);
    db.execute(
        "CREATE SOURCE lines (text VARCHAR NOT NULL);
         CREATE STREAM counts AS SELECT text, COUNT(*) AS n FROM lines GROUP BY text HAVING COUNT(*) < 3;",
    )
    .unwrap();
    let mut counts = db.subscribe_batches("counts").unwrap();
    let source = db.source::<Line>("lines").unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        source.push(line("a")).unwrap();
        let rows = next_rows(&mut counts, 1);
        seen.push(pretty_format_batches(&rows).unwrap().to_string());
    }
    assert!(seen[0].contains("| a    | 1 | 1     |"), "{}", seen[0]);
    assert!(seen[1].contains("| a    | 1 | -1    |") && seen[1].contains("| a    | 2 | 1     |"));
    assert!(seen[2].contains("| a    | 2 | -1    |") && !seen[2].contains("| 3 "));
}

#[test]
fn what_others_read_is_dropped_only_with_them() {
    let db = db(1);
    db.execute(
        "CREATE SOURCE lines (text VARCHAR NOT NULL);
         CREATE STREAM a AS SELECT text FROM lines;
         CREATE VIEW b AS SELECT COUNT(*) AS n FROM a;",
    )
    .unwrap();
    let error = db.execute("DROP SOURCE lines").unwrap_err();
    assert!(error.to_string().contains("is read by a"), "{error}");
    let dropped = db.execute("DROP SOURCE lines CASCADE").unwrap().remove(0);
    assert!(matches!(dropped, Outcome::Dropped { names } if names == ["b", "a", "lines"]));
    assert!(db.query("SELECT * FROM b").is_err());
}

#[test]
fn closing_ends_everything() {
    let db = db(2);
    db.execute("CREATE SOURCE lines (text VARCHAR NOT NULL)")
        .unwrap();
    let mut lines = db.subscribe_batches("lines").unwrap();
    let source = db.source::<Line>("lines").unwrap();
    source.push(line("last")).unwrap();
    db.close();
    assert!(
        matches!(lines.next(), Some(Ok(Event::Rows(_)))),
        "what was pushed is delivered"
    );
    assert!(lines.next().is_none());
    assert!(source.push(line("later")).is_err());
    assert!(matches!(db.execute("SHOW SOURCES"), Err(Error::Closed)));
}

#[test]
fn closing_delivers_what_waits_behind_a_slow_subscriber() {
    let db = db(1);
    db.execute("CREATE SOURCE lines (text VARCHAR NOT NULL) WITH (buffer_size = 524288)")
        .unwrap();
    let lines = db.subscribe_lossless("lines").unwrap();
    let source = db.source::<Line>("lines").unwrap();
    let rows = 400_000;
    (0..rows).for_each(|_| source.push(line("x")).unwrap());
    // Nobody has read yet, so the queue is full and rows wait in the lane.
    let closing = {
        let db = db.clone();
        std::thread::spawn(move || db.close())
    };
    let count = |event: Result<Event, Error>| match event.unwrap() {
        Event::Rows(rows) => rows.num_rows(),
        Event::Missed { .. } | Event::Gap { .. } => 0,
    };
    assert_eq!(lines.map(count).sum::<usize>(), rows);
    closing.join().unwrap();
}

#[test]
fn a_sink_with_its_own_query_has_its_first_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    let db = db(2);
    db.execute(&format!(
        "CREATE SOURCE lines (text VARCHAR NOT NULL);
         CREATE SINK out FROM (SELECT COUNT(*) AS n FROM lines)
             WITH (connector = 'file', path = '{}');",
        path.display()
    ))
    .unwrap();
    db.source::<Line>("lines").unwrap().push(line("x")).unwrap();
    db.settle().unwrap();
    db.close();
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    let expected = [
        r#"{"n":0,"_diff":1}"#,
        r#"{"n":0,"_diff":-1}"#,
        r#"{"n":1,"_diff":1}"#,
    ];
    assert_eq!(lines, expected);
}

/// Waits until a sink has this state; returns it with its reason.
fn sink_state(db: &Db, name: &str, wanted: &str) -> String {
    let query = format!("SELECT state, reason FROM system.sinks WHERE name = '{name}'");
    until(&format!("sink {name} to be {wanted}"), || {
        shown(db, &query).contains(wanted)
    });
    shown(db, &query)
}

#[test]
fn a_file_has_one_sink_and_is_free_when_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    let db = db(1);
    let with = format!("WITH (connector = 'file', path = '{}')", path.display());
    let execute = |sql: &str| db.execute(sql).unwrap();
    execute("CREATE SOURCE lines (text VARCHAR NOT NULL);");
    execute(&format!("CREATE SINK a FROM lines {with};"));
    sink_state(&db, "a", "running");
    execute(&format!("CREATE SINK b FROM lines {with};"));
    let state = sink_state(&db, "b", "failed");
    let reason = "another sink or program is writing it; give each sink a file of its own";
    assert!(state.contains(reason), "{state}");
    execute("DROP SINK a; START SINK b;");
    sink_state(&db, "b", "running");
    for _ in 0..10 {
        execute(&format!("DROP SINK b; CREATE SINK b FROM lines {with};"));
        sink_state(&db, "b", "running");
    }
}

#[test]
fn the_windows_of_a_union_close_once_with_the_slower_source() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(
            "CREATE SOURCE a (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts)
                 WITH (connector = 'generate', rows = 5000, rows_per_second = 0);
             CREATE SOURCE b (id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts)
                 WITH (connector = 'generate', rows = 9000, rows_per_second = 0, seed = 7);
             CREATE VIEW n AS SELECT window_start, COUNT(*) AS n
                 FROM (SELECT ts FROM a UNION ALL SELECT ts FROM b) u
                 GROUP BY TUMBLE(ts, INTERVAL '10 milliseconds');",
        )
        .unwrap();
        until_sources_end(&db);
        let answer = shown(
            &db,
            "SELECT COUNT(*) AS windows, COUNT(DISTINCT window_start) AS starts, SUM(n) AS n FROM n",
        );
        assert!(
            answer.contains("| 90      | 90     | 14000 |"),
            "{workers} workers:\n{answer}"
        );
    }
}

#[test]
fn reserved_suffixes_of_names_are_refused() {
    let db = db(1);
    for name in ["a__bad", "a__late", "a__late_2", "a__query"] {
        let error = db
            .execute(&format!("CREATE SOURCE {name} (x BIGINT)"))
            .unwrap_err();
        assert!(error.to_string().contains("ends with"), "{error}");
    }
    db.execute("CREATE SOURCE a__bads (x BIGINT)").unwrap();
}

/// Two lines of which the second is no row, read with `options`.
fn bad_second_line(db: &Db, folder: &std::path::Path, options: &str) -> Result<(), Error> {
    let path = folder.join("in");
    std::fs::write(&path, "{\"n\": 1}\n{\"n\": \"x\"}\n").unwrap();
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL)
             WITH (connector = 'file', path = '{}', format = 'json', follow = false, {options});
         CREATE VIEW v AS SELECT COUNT(*) AS n FROM s",
        path.display()
    ))
    .map(drop)
}

#[test]
fn a_source_drops_bad_rows_or_fails_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let dropping = db(1);
    bad_second_line(&dropping, folder.path(), "\"error.strategy\" = 'drop'").unwrap();
    until_sources_end(&dropping);
    assert!(shown(&dropping, "SELECT n FROM v").contains("| 1 |"));
    assert!(dropping.failures().is_empty());

    let failing = db(1);
    bad_second_line(&failing, folder.path(), "\"error.strategy\" = 'fail'").unwrap();
    until("the source to fail", || !failing.failures().is_empty());
    let (_, name, reason) = failing.failures().remove(0);
    assert_eq!(name, "s");
    assert!(
        reason.starts_with("a row is bad, and error.strategy is 'fail': "),
        "{reason}"
    );
}

#[test]
fn what_an_error_strategy_cannot_do_is_refused() {
    let with_source = db(1);
    with_source.execute("CREATE SOURCE s (n BIGINT)").unwrap();
    let sink = |options: &str| {
        let sink = format!("CREATE SINK k FROM s WITH (connector = 'stdout', {options})");
        with_source.execute(&sink).unwrap_err()
    };
    let error = sink("\"error.retry.max-attempts\" = 3, \"stdout.error.strategy\" = 'fail', x = 1")
        .to_string();
    assert!(
        error.contains("contradicts \"stdout.error.strategy\""),
        "{error}"
    );
    assert!(error.contains("\"x\" is unknown"), "{error}");
}
