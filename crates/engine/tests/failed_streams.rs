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

fn failed_count(db: &Db) -> usize {
    states(db).matches("| failed").count()
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
    assert_eq!(again.sql_errors()[0].sqlstate, "22P02");
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
        assert_eq!(failed_count(&db), 0);
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

/// A view whose result changes, and readers of it.
const READERS: &str = "CREATE VIEW big AS SELECT k, total FROM totals WHERE total > 2;
    CREATE VIEW bigger AS SELECT k, total FROM big WHERE total > 100";

#[test]
fn readers_of_a_changing_view_have_each_row_once_after_its_failure() {
    for workers in [1, 2] {
        for killed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut db = open(folder.path(), workers);
            db.execute(&format!("{SOURCE};{EARLY};{READERS}")).unwrap();
            push(&db, &[("a", "3", 1, 1), ("b", "4", 1, 1)]);
            push_and_fail(&db);
            let copy;
            if killed {
                db.checkpoint().unwrap();
                copy = crash(folder.path());
                db = open(copy.path(), 3 - workers);
            }
            restart(&db, "totals", "VIEW");
            assert_eq!(failed_count(&db), 2, "the windows");
            let totals = ["a 114", "b 26", "c 200"];
            assert_eq!(all(&db, "totals"), table("k total", &totals));
            assert_eq!(all(&db, "big"), table("k total", &totals));
            let bigger = table("k total", &["a 114", "c 200"]);
            assert_eq!(all(&db, "bigger"), bigger);
        }
    }
}

#[test]
fn readers_go_on_with_a_view_that_reads_the_log_again() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        let reader = "CREATE VIEW halves AS SELECT k, share * 2 AS share FROM shares";
        db.execute(&format!("{SOURCE};{LATE};{reader}")).unwrap();
        push(&db, &[("a", "", 2, 1), ("b", "", 4, 2), ("c", "", 1, 2)]);
        push(&db, &[("a", "", -2, 3), ("b", "", 1, 4)]);
        push(&db, &[("a", "", 10, 5)]);
        db.execute(&format!(
            "ALTER VIEW shares {DEAD_LETTER}; START STREAM shares"
        ))
        .unwrap();
        let shares = table("k share", &["a 10", "b 20", "c 100"]);
        assert_eq!(all(&db, "shares"), shares);
        let halves = table("k share", &["a 20", "b 40", "c 200"]);
        assert_eq!(all(&db, "halves"), halves);
    }
}

/// Two streams that fail at other rows, and a view that reads both.
const TWO: &str = "CREATE STREAM one AS SELECT k, CAST(amount AS BIGINT) AS v FROM sales;
    CREATE STREAM two AS SELECT k, 10 / n AS v FROM sales;
    CREATE VIEW both AS SELECT k, COUNT(*) AS c, SUM(v) AS v
        FROM (SELECT k, v FROM one UNION ALL SELECT k, v FROM two) GROUP BY k;
    CREATE VIEW above AS SELECT k, v FROM both";

#[test]
fn a_stream_waits_with_its_state_until_all_that_it_reads_goes_on() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&format!("{SOURCE};{TWO}")).unwrap();
        push(&db, &[("a", "1", 1, 1)]);
        push(&db, &[("a", "x", 0, 2), ("b", "2", 2, 3)]);
        assert_eq!(failed_count(&db), 4);
        for stream in ["both", "above"] {
            let refused = db.execute(&format!("START STREAM {stream}")).unwrap_err();
            let shown = refused.to_string();
            assert!(shown.contains("which it reads, has failed"), "{shown}");
        }
        db.execute(&format!("ALTER STREAM one {DEAD_LETTER}; START STREAM one"))
            .unwrap();
        assert_eq!(failed_count(&db), 3);
        db.checkpoint().unwrap();
        let folder = crash(folder.path());
        let db = open(folder.path(), workers);
        assert_eq!(failed_count(&db), 3);
        db.execute(&format!("ALTER STREAM two {DEAD_LETTER}; START STREAM two"))
            .unwrap();
        assert_eq!(failed_count(&db), 0, "{}", states(&db));
        push(&db, &[("b", "3", 5, 4)]);
        // What `one` gave while `both` still waited for `two`, it has missed.
        assert_eq!(all(&db, "both"), table("k c v", &["a 2 11", "b 3 10"]));
        assert_eq!(all(&db, "above"), table("k v", &["a 11", "b 10"]));
    }
}

#[test]
fn a_view_that_fails_while_it_catches_up_reads_each_row_of_the_log_once() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&format!("{SOURCE};{LATE}")).unwrap();
        push(&db, &[("a", "", 2, 1), ("b", "", 4, 2)]);
        db.execute("PAUSE STREAM shares").unwrap();
        push(&db, &[("a", "", -2, 3), ("b", "", 1, 4)]);
        push(&db, &[("c", "", 10, 5)]);
        db.execute("RESUME STREAM shares").unwrap();
        assert!(states(&db).contains("division by zero"));
        push(&db, &[("a", "", 10, 6), ("d", "", 5, 7)]);
        db.execute(&format!(
            "ALTER VIEW shares {DEAD_LETTER}; START STREAM shares"
        ))
        .unwrap();
        let shares = ["a 10", "b 20", "c 10", "d 20"];
        assert_eq!(all(&db, "shares"), table("k share", &shares));
        push(&db, &[("d", "", 5, 7)]);
        let shares = ["a 10", "b 20", "c 10", "d 10"];
        assert_eq!(all(&db, "shares"), table("k share", &shares));
    }
}

#[test]
fn late_rows_have_readers_again_after_a_start_without_state() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(&format!(
            "{SOURCE}; CREATE STREAM rates AS SELECT k, window_start, 100 / SUM(n) AS rate FROM sales
                GROUP BY TUMBLE(ts, INTERVAL '1 minute'), k"
        ))
        .unwrap();
        push(&db, &[("a", "", 0, 1)]);
        push(&db, &[("a", "", 1, 100)]);
        assert!(states(&db).contains("division by zero"));
        db.execute("START STREAM rates").unwrap();
        db.execute("CREATE VIEW lates AS SELECT k, n AS total FROM rates__late")
            .unwrap();
        push(&db, &[("a", "", 1, 200)]);
        push(&db, &[("b", "", 7, 2)]);
        assert_eq!(failed_count(&db), 0);
        assert_eq!(all(&db, "lates"), table("k total", &["b 7"]));
        db.checkpoint().unwrap();
        let folder = crash(folder.path());
        let db = open(folder.path(), workers);
        assert_eq!(failed_count(&db), 0);
        push(&db, &[("c", "", 8, 2)]);
        assert_eq!(all(&db, "lates"), table("k total", &["b 7", "c 8"]));
    }
}

#[test]
fn a_failed_backfill_is_not_fed_and_begins_again() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(SOURCE).unwrap();
        push(&db, &[("a", "", 2, 1), ("b", "", 4, 2)]);
        push(&db, &[("a", "", -2, 3)]);
        push(&db, &[("a", "", 5, 4)]);
        db.execute(LATE).unwrap();
        assert!(states(&db).contains("division by zero"));
        push(&db, &[("c", "", 10, 5)]);
        db.execute(&format!(
            "ALTER VIEW shares {DEAD_LETTER}; START STREAM shares"
        ))
        .unwrap();
        push(&db, &[("b", "", 6, 6)]);
        let shares = ["a 20", "b 10", "c 10"];
        assert_eq!(all(&db, "shares"), table("k share", &shares));
    }
}

#[test]
fn dead_letters_have_their_name_to_themselves() {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(&format!("{SOURCE};{EARLY}")).unwrap();
    db.execute("ALTER VIEW totals SET (on_error = 'fail')")
        .unwrap();
    let reserved = db.execute("CREATE STREAM totals__dead AS SELECT k FROM sales");
    let reserved = reserved.unwrap_err().to_string();
    assert!(reserved.contains("which the engine reserves"), "{reserved}");
}

#[test]
fn a_held_reader_of_a_changing_view_misses_nothing_across_a_restart() {
    let sql = "CREATE VIEW totals AS SELECT k, SUM(n) AS total FROM sales GROUP BY k;
        CREATE VIEW from_nothing AS SELECT k, total FROM totals;
        CREATE VIEW paused AS SELECT k, total FROM totals;
        CREATE VIEW failing AS SELECT k, 100 / total AS total FROM totals";
    for workers in [1, 2] {
        for last in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let db = open(folder.path(), workers);
            db.execute(&format!("{SOURCE};{sql}")).unwrap();
            db.execute("PAUSE STREAM from_nothing").unwrap();
            push(&db, &[("a", "", 1, 1), ("b", "", 2, 1), ("c", "", 4, 1)]);
            db.execute("PAUSE STREAM paused").unwrap();
            push(&db, &[("a", "", 4, 2), ("b", "", -2, 2)]);
            push(&db, &[("b", "", 10, 3), ("d", "", 50, 3)]);
            db.checkpoint().unwrap();
            push(&db, &[("c", "", 1, 4)]);
            if last {
                db.checkpoint().unwrap();
            }
            db.flush().unwrap();
            let folder = crash(folder.path());
            let db = open(folder.path(), 3 - workers);
            push(&db, &[("d", "", -25, 5)]);
            db.execute("RESUME STREAM from_nothing; RESUME STREAM paused; START STREAM failing")
                .unwrap();
            let totals = table("k total", &["a 5", "b 10", "c 5", "d 25"]);
            assert_eq!(all(&db, "totals"), totals);
            assert_eq!(all(&db, "paused"), totals);
            assert_eq!(all(&db, "from_nothing"), totals);
            let shares = table("k total", &["a 20", "b 10", "c 20", "d 4"]);
            assert_eq!(all(&db, "failing"), shares);
        }
    }
}
