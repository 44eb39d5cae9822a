//! The logged rows of a source: SELECT over them, views that begin with them, streams that were paused,
//! and REPLAY.

mod support;
mod ticks;

use headwater::arrow::array::RecordBatch;
use headwater::{Db, Event, Outcome, Subscription};
use support::integers;
use tempfile::TempDir;
use ticks::{SOURCE, push};

const WINDOWS: &str = "SELECT window_start, COUNT(*) AS n, SUM(n) AS total FROM ticks
    GROUP BY TUMBLE(ts, INTERVAL '10 seconds')";

fn open(folder: &TempDir, workers: usize) -> Db {
    Db::builder().workers(workers).open(folder.path()).unwrap()
}

fn number(db: &Db, sql: &str) -> i64 {
    integers(&db.query(sql).unwrap(), 0)[0]
}

fn rows(subscription: Subscription) -> Vec<RecordBatch> {
    let events = subscription.map(|event| match event.unwrap() {
        Event::Rows(rows) => rows,
        other => panic!("{other:?}"),
    });
    events.collect()
}

#[test]
fn a_source_with_a_log_can_be_selected_from() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder, workers);
        db.execute(SOURCE).unwrap();
        assert_eq!(number(&db, "SELECT COUNT(*) FROM ticks"), 0);
        push(&db, 0..100);
        let between = "SELECT SUM(n) FROM ticks WHERE ts BETWEEN TIMESTAMP '1970-01-01 00:00:10' AND '1970-01-01 00:00:12'";
        assert_eq!(number(&db, between), 10 + 11 + 12);
        assert_eq!(
            number(&db, "SELECT COUNT(*) FROM ticks WHERE n % 2 = 0"),
            50
        );
        db.close();

        let db = open(&folder, workers);
        push(&db, 100..110);
        assert_eq!(
            number(&db, "SELECT SUM(n) FROM ticks"),
            (0..110).sum::<i64>()
        );
    }
}

#[test]
fn without_a_log_the_hint_names_the_data_folder() {
    let db = Db::in_memory().unwrap();
    db.execute(SOURCE).unwrap();
    let refused = db.query("SELECT * FROM ticks").unwrap_err();
    let hint = refused.sql_errors()[0].hint.clone().unwrap();
    assert!(hint.contains("data folder"), "{hint}");
}

#[test]
fn a_view_begins_with_the_first_retained_row_and_a_stream_now() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder, workers);
        db.execute(SOURCE).unwrap();
        push(&db, 0..100);
        db.execute(&format!(
            "CREATE VIEW counted AS SELECT COUNT(*) AS n, SUM(n) AS total FROM ticks;
             CREATE VIEW windows AS {WINDOWS};
             CREATE VIEW later WITH (start = 'now') AS SELECT COUNT(*) AS n FROM ticks;
             CREATE VIEW some WITH (start = '1970-01-01 00:01:30') AS SELECT COUNT(*) AS n FROM ticks;
             CREATE STREAM live AS SELECT n FROM ticks;
             CREATE STREAM again WITH (start = 'beginning') AS {WINDOWS}"
        ))
        .unwrap();
        assert_eq!(number(&db, "SELECT n FROM counted"), 100, "{workers}");
        push(&db, 100..120);
        assert_eq!(
            number(&db, "SELECT total FROM counted"),
            (0..120).sum::<i64>()
        );
        assert_eq!(number(&db, "SELECT SUM(n) FROM windows"), 110);
        assert_eq!(number(&db, "SELECT n FROM later"), 20);
        assert_eq!(number(&db, "SELECT n FROM some"), 30);
        db.close();

        let db = open(&folder, workers);
        assert_eq!(number(&db, "SELECT n FROM counted"), 120);
        assert_eq!(number(&db, "SELECT SUM(n) FROM windows"), 110);
    }
}

#[test]
fn a_view_catches_up_while_rows_come() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder, 2);
    db.execute(SOURCE).unwrap();
    push(&db, 0..1_000);
    let pushing = db.clone();
    let pusher = std::thread::spawn(move || push(&pushing, 1_000..5_000));
    for view in 0..10 {
        let sql =
            format!("CREATE VIEW v{view} AS SELECT COUNT(*) AS n, SUM(n) AS total FROM ticks");
        db.execute(&sql).unwrap();
    }
    pusher.join().unwrap();
    for view in 0..10 {
        assert_eq!(
            number(&db, &format!("SELECT n FROM v{view}")),
            5_000,
            "view {view}"
        );
        let total = number(&db, &format!("SELECT total FROM v{view}"));
        assert_eq!(total, (0..5_000).sum::<i64>());
    }
}

#[test]
fn a_paused_stream_misses_nothing_that_the_log_has() {
    for restart in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut db = open(&folder, 1);
        db.execute(&format!(
            "{SOURCE}; CREATE VIEW a AS {WINDOWS}; CREATE VIEW b AS {WINDOWS}"
        ))
        .unwrap();
        push(&db, 0..55);
        db.execute("PAUSE STREAM b").unwrap();
        push(&db, 55..95);
        assert_eq!(number(&db, "SELECT SUM(n) FROM b"), 50);
        if restart {
            db.close();
            db = open(&folder, 1);
            push(&db, 95..100);
            assert_eq!(
                number(&db, "SELECT SUM(n) FROM b"),
                50,
                "it is still paused"
            );
        } else {
            push(&db, 95..100);
        }
        db.execute("RESUME STREAM b").unwrap();
        push(&db, 100..111);
        assert_eq!(number(&db, "SELECT SUM(n) FROM a"), 110);
        assert_eq!(
            number(&db, "SELECT SUM(n) FROM b"),
            110,
            "restart: {restart}"
        );
        assert_eq!(
            number(&db, "SELECT SUM(total) FROM b"),
            (0..110).sum::<i64>()
        );
        assert_eq!(number(&db, "SELECT COUNT(*) FROM system.gaps"), 0);
    }
}

#[test]
fn logged_rows_run_through_a_query_again_without_touching_the_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder, 2);
    db.execute(&format!("{SOURCE}; CREATE VIEW w AS {WINDOWS}"))
        .unwrap();
    push(&db, 0..95);
    let before = number(&db, "SELECT SUM(n) FROM w");
    let sql =
        "REPLAY SOURCE ticks FROM '1970-01-01 00:00:20' TO '1970-01-01 00:01:00' INTO STREAM w";
    let Some(Outcome::Replayed(again)) = db.execute(sql).unwrap().pop() else {
        panic!("no rows");
    };
    assert_eq!(integers(&rows(again), 1), [10, 10, 10, 10]);
    let all = db.replay("ticks", None, None, Some(1e9), "w").unwrap();
    assert_eq!(
        integers(&rows(all), 1).iter().sum::<i64>(),
        95,
        "the last window closes too"
    );
    assert_eq!(number(&db, "SELECT SUM(n) FROM w"), before);
    push(&db, 95..101);
    assert_eq!(number(&db, "SELECT SUM(n) FROM w"), 100);
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder, 1);
    db.execute(&format!(
        "{SOURCE}; CREATE SOURCE dumb (n BIGINT) WITH (wal_mode = 'off'); CREATE VIEW w AS {WINDOWS};
         CREATE STREAM d AS SELECT n FROM dumb; CREATE STREAM ww AS SELECT total FROM w"
    ))
    .unwrap();
    for (sql, why) in [
        ("REPLAY SOURCE dumb INTO STREAM d", "has no log"),
        ("REPLAY SOURCE ticks INTO STREAM d", "reads dumb"),
        ("REPLAY SOURCE ticks INTO STREAM ww", "reads w"),
        (
            "REPLAY SOURCE ticks FROM 'yesterday' INTO STREAM w",
            "is not a time",
        ),
        ("REPLAY SOURCE nope INTO STREAM w", "nope"),
        ("REPLAY SOURCE ticks INTO STREAM nope", "nope"),
        ("REPLAY SOURCE ticks SPEED 0 INTO STREAM w", "above 0"),
        (
            "CREATE VIEW x WITH (start = 'beginning') AS SELECT n FROM dumb",
            "no past",
        ),
        (
            "CREATE VIEW x WITH (start = 'soon') AS SELECT n FROM ticks",
            "'soon'",
        ),
    ] {
        let refused = db.execute(sql).unwrap_err().to_string().replace('"', "'");
        assert!(refused.contains(why), "{sql}: {refused}");
    }
}
