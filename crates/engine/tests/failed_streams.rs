//! Streams whose expressions fail: what START goes on from, and what becomes of the rows that fail.

mod killed;
mod support;

use std::path::Path;

use headwater::{Db, Record, Timestamp};
use killed::crash;
use support::shown;

#[derive(Debug, Clone, PartialEq, Record)]
struct Sale {
    k: String,
    amount: String,
    n: i64,
    ts: Timestamp,
}

const SOURCE: &str =
    "CREATE SOURCE sales (k VARCHAR NOT NULL, amount VARCHAR NOT NULL, n BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
        WATERMARK FOR ts AS ts)";

/// Fail before they change their state: a total, windows, and what reads them.
const EARLY: &str =
    "CREATE VIEW totals AS SELECT k, SUM(CAST(amount AS BIGINT)) AS total FROM sales GROUP BY k;
    CREATE STREAM windows AS SELECT k, window_start, SUM(CAST(amount AS BIGINT)) AS total FROM sales
        GROUP BY TUMBLE(ts, INTERVAL '1 minute'), k;
    CREATE VIEW kept AS SELECT k, total FROM windows";

/// Fails when its state has changed: the result of a group.
const LATE: &str = "CREATE VIEW shares AS SELECT k, 100 / SUM(n) AS share FROM sales GROUP BY k";

fn push(db: &Db, sales: &[(&str, &str, i64, i64)]) {
    let source = db.source::<Sale>("sales").unwrap();
    for (k, amount, n, second) in sales {
        let sale = Sale {
            k: (*k).to_owned(),
            amount: (*amount).to_owned(),
            n: *n,
            ts: Timestamp::from_micros(second * 1_000_000),
        };
        source.push(sale).unwrap();
    }
    db.settle().unwrap();
}

fn open(folder: &Path, workers: usize) -> Db {
    Db::builder().workers(workers).open(folder).unwrap()
}

fn all(db: &Db, view: &str) -> String {
    shown(db, &format!("SELECT * FROM {view} ORDER BY k, 2"))
}

fn states(db: &Db) -> String {
    shown(
        db,
        "SELECT name, state, reason, dead_letters FROM system.streams ORDER BY name",
    )
}

fn table(head: &str, rows: &[&str]) -> String {
    let columns: Vec<&str> = head.split(' ').collect();
    let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split(' ').collect()).collect();
    let width = |column: usize| {
        let longest = cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
        longest.max(columns[column].len())
    };
    let line = |cells: &[&str]| {
        let padded = cells.iter().enumerate();
        let padded = padded.map(|(column, cell)| format!(" {cell:<0$} ", width(column)));
        format!("|{}|", padded.collect::<Vec<_>>().join("|"))
    };
    let rule = (0..columns.len()).map(|column| "-".repeat(width(column) + 2));
    let rule = format!("+{}+", rule.collect::<Vec<_>>().join("+"));
    let mut lines = vec![rule.clone(), line(&columns), rule.clone()];
    lines.extend(cells.iter().map(|row| line(row)));
    lines.push(rule);
    lines.join("\n")
}

const DEAD_LETTER: &str = "SET (on_error = 'dead_letter')";

/// Rows before the failure, the rows that fail with others beside them, rows after it.
fn push_and_fail(db: &Db) {
    push(db, &[("a", "1", 1, 1), ("b", "2", 2, 2)]);
    push(
        db,
        &[("a", "10", 1, 3), ("a", "x", -2, 4), ("b", "20", 2, 5)],
    );
    push(db, &[("a", "100", 1, 6), ("c", "200", 5, 7)]);
}

fn restart(db: &Db, stream: &str, kind: &str) {
    let again = db.execute(&format!("START STREAM {stream}")).unwrap_err();
    assert!(again.to_string().contains("invalid input"), "{again}");
    db.execute(&format!("ALTER {kind} {stream} {DEAD_LETTER}"))
        .unwrap();
    db.execute(&format!("START STREAM {stream}")).unwrap();
}

fn assert_nothing_is_missing(db: &Db) {
    let totals = table("k total", &["a 111", "b 22", "c 200"]);
    assert_eq!(all(db, "totals"), totals);
    db.close_source("sales").unwrap();
    db.settle().unwrap();
    assert_eq!(all(db, "kept"), totals);
    let gaps = shown(db, "SELECT COUNT(*) AS n FROM system.gaps");
    assert_eq!(gaps, table("n", &["0"]));
    let letters =
        "SELECT name, dead_letters AS d FROM system.streams WHERE name <> 'kept' ORDER BY 1";
    assert_eq!(
        shown(db, letters),
        table("name d", &["totals 1", "windows 1"])
    );
}

#[test]
fn with_a_log_a_start_misses_nothing() {
    for workers in [1, 2, 3] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&format!("{SOURCE};{EARLY}")).unwrap();
        push_and_fail(&db);
        let failed = states(&db);
        assert_eq!(failed.matches("failed").count(), 4, "{failed}");
        restart(&db, "totals", "VIEW");
        restart(&db, "windows", "STREAM");
        // The view that has failed with its stream goes on with it.
        assert_eq!(states(&db).matches("failed").count(), 0);
        assert_nothing_is_missing(&db);
    }
}

#[test]
fn a_failed_stream_survives_a_restart_with_its_state() {
    for workers in [1, 2] {
        for checkpoint in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let db = open(folder.path(), workers);
            db.execute(&format!("{SOURCE};{EARLY}")).unwrap();
            push_and_fail(&db);
            if checkpoint {
                db.checkpoint().unwrap();
            }
            db.flush().unwrap();
            let folder = crash(folder.path());
            let db = open(folder.path(), 3 - workers);
            let failed = states(&db);
            assert_eq!(failed.matches("failed").count(), 4, "{failed}");
            restart(&db, "totals", "VIEW");
            restart(&db, "windows", "STREAM");
            db.checkpoint().unwrap();
            let folder = crash(folder.path());
            let db = open(folder.path(), workers);
            assert_nothing_is_missing(&db);
        }
    }
}

#[test]
fn without_a_log_the_state_is_kept_and_what_is_missed_is_counted() {
    for workers in [1, 2] {
        let db = Db::builder().workers(workers).in_memory().unwrap();
        db.execute(&format!("{SOURCE};{EARLY}")).unwrap();
        push_and_fail(&db);
        db.execute("START STREAM totals; START STREAM windows")
            .unwrap();
        push(&db, &[("a", "1000", 1, 8)]);
        let totals = table("k total", &["a 1001", "b 2"]);
        assert_eq!(all(&db, "totals"), totals);
        db.close_source("sales").unwrap();
        db.settle().unwrap();
        assert_eq!(all(&db, "kept"), totals);
        let gaps = "SELECT source, reason FROM system.gaps WHERE \"from\" > '2026' ORDER BY reason";
        let gaps = shown(&db, gaps);
        for stream in ["totals", "windows"] {
            // Of the step that failed: which rows share a step with it is not certain here.
            let some = format!("stream \"{stream}\" had failed: ");
            assert!(gaps.contains(&some), "{gaps}");
        }
    }
}

#[test]
fn a_view_that_has_lost_its_state_reads_the_log_again() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&format!("{SOURCE};{LATE}")).unwrap();
        push(&db, &[("a", "", 2, 1), ("b", "", 4, 2)]);
        // The sum of a is 0.
        push(&db, &[("a", "", -2, 3), ("b", "", 1, 4)]);
        push(&db, &[("a", "", 10, 5)]);
        assert!(states(&db).contains("division by zero"));
        db.execute(&format!(
            "ALTER VIEW shares {DEAD_LETTER}; START STREAM shares"
        ))
        .unwrap();
        assert_eq!(all(&db, "shares"), table("k share", &["a 10", "b 20"]));
        push(&db, &[("b", "", 5, 6)]);
        assert_eq!(all(&db, "shares"), table("k share", &["a 10", "b 10"]));
        db.flush().unwrap();
        let folder = crash(folder.path());
        let db = open(folder.path(), workers);
        assert_eq!(all(&db, "shares"), table("k share", &["a 10", "b 10"]));
    }
}

#[test]
fn dead_letters_are_those_of_the_rows_after_a_crash_too() {
    let sql = format!(
        "{SOURCE};
        CREATE VIEW totals WITH (on_error = 'dead_letter') AS
            SELECT k, SUM(CAST(amount AS BIGINT)) AS total FROM sales GROUP BY k;
        CREATE VIEW letters AS SELECT stream_name AS k, error_type, COUNT(*) AS n FROM totals__dead
            GROUP BY stream_name, error_type"
    );
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&sql).unwrap();
        push_and_fail(&db);
        db.checkpoint().unwrap();
        push(&db, &[("a", "y", 1, 8), ("d", "5", 1, 9)]);
        db.flush().unwrap();
        let folder = crash(folder.path());
        let db = open(folder.path(), 3 - workers);
        let totals = ["a 111", "b 22", "c 200", "d 5"];
        assert_eq!(all(&db, "totals"), table("k total", &totals));
        let letters = table("k error_type n", &["totals 22P02 2"]);
        assert_eq!(all(&db, "letters"), letters);
        let counted = "SELECT dead_letters AS d FROM system.streams WHERE name = 'totals'";
        assert_eq!(shown(&db, counted), table("d", &["2"]));
    }
}

#[test]
fn an_altered_stream_is_still_altered_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 1);
    db.execute(&format!("{SOURCE};{EARLY}")).unwrap();
    db.execute(&format!("ALTER VIEW totals {DEAD_LETTER}"))
        .unwrap();
    db.execute("CREATE VIEW letters AS SELECT stream_name AS k, COUNT(*) AS n FROM totals__dead GROUP BY stream_name")
        .unwrap();
    db.close();
    let db = open(folder.path(), 1);
    push(&db, &[("a", "x", 1, 1), ("a", "1", 1, 2)]);
    assert_eq!(all(&db, "totals"), table("k total", &["a 1"]));
    assert_eq!(all(&db, "letters"), table("k n", &["totals 1"]));
    db.execute("DROP VIEW letters; ALTER VIEW totals SET (on_error = 'fail')")
        .unwrap();
    db.close();
    let db = open(folder.path(), 1);
    assert!(db.subscribe_batches("totals__dead").is_err());
    push(&db, &[("a", "x", 1, 3)]);
    assert!(states(&db).contains("invalid input"));
    for (statement, error) in [
        (
            "ALTER STREAM totals SET (on_error = 'fail')",
            "is a view, not a stream",
        ),
        (
            "ALTER VIEW totals SET (start = 'now')",
            "changing the option \"start\"",
        ),
        (
            "ALTER VIEW nothing SET (on_error = 'fail')",
            "there is no \"nothing\"",
        ),
        (
            "ALTER VIEW totals SET (on_error = 'x')",
            "neither 'fail' nor",
        ),
    ] {
        let refused = db.execute(statement).unwrap_err().to_string();
        assert!(refused.contains(error), "{refused}");
    }
}
