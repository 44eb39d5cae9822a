//! A data folder opened without running anything: what can be done, and that nothing else is lost.

use std::path::Path;

use headwater::arrow::util::pretty::pretty_format_batches;
use headwater::{Db, Outcome, Record};

#[derive(Record)]
struct Number {
    n: i64,
}

const STATEMENTS: &str = "CREATE SOURCE s (n BIGINT NOT NULL);
    CREATE SOURCE unused (n BIGINT NOT NULL);
    CREATE VIEW kept AS SELECT n % 3 AS k, COUNT(*) AS c FROM s GROUP BY n % 3;
    CREATE VIEW gone AS SELECT n FROM s WHERE n < 60;
    CREATE VIEW upon AS SELECT k, c FROM kept;
    CREATE STREAM together (n BIGINT);
    ATTACH SOURCE s TO STREAM together;
    START STREAM together;";

fn push(db: &Db, source: &str, numbers: std::ops::Range<i64>) {
    let source = db.source::<Number>(source).unwrap();
    for n in numbers {
        source.push(Number { n }).unwrap();
    }
    db.flush().unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A folder as a crash leaves it: a checkpoint, and rows behind it.
fn crashed(folder: &Path) {
    let live = folder.join("live");
    let db = Db::open(&live).unwrap();
    db.execute(STATEMENTS).unwrap();
    push(&db, "s", 0..60);
    push(&db, "unused", 0..10);
    db.checkpoint().unwrap();
    push(&db, "s", 60..100);
    copy(&live, &folder.join("data"));
}

fn stopped(folder: &Path) -> Db {
    Db::builder().stopped().open(folder).unwrap()
}

fn shown(db: &Db, sql: &str) -> String {
    let mut outcomes = db.execute(sql).unwrap();
    match outcomes.pop() {
        Some(Outcome::Rows { batches, .. }) => pretty_format_batches(&batches).unwrap().to_string(),
        _ => panic!("{sql} gives no rows"),
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_not_dropped_keeps_its_state() {
    let folder = tempfile::tempdir().unwrap();
    crashed(folder.path());
    let data = folder.path().join("data");
    let db = stopped(&data);
    db.execute(
        "DROP VIEW gone; DROP SOURCE unused; ALTER VIEW kept SET (on_error = 'dead_letter')",
    )
    .unwrap();
    db.close();
    assert_eq!(files(&data.join("log/unused")), []);
    // Once more, with nothing to do.
    stopped(&data).close();
    let db = Db::open(&data).unwrap();
    let expected =
        "+---+----+\n| k | c  |\n+---+----+\n| 0 | 34 |\n| 1 | 33 |\n| 2 | 33 |\n+---+----+";
    for view in ["kept", "upon"] {
        let rows = shown(&db, &format!("SELECT k, c FROM {view} ORDER BY k"));
        assert_eq!(rows, expected);
    }
    for name in ["gone", "unused"] {
        assert!(db.execute(&format!("DESCRIBE {name}")).is_err());
    }
    assert!(shown(&db, "DESCRIBE kept__dead").contains("error"));
    let streams = shown(
        &db,
        "SELECT state FROM system.streams WHERE name = 'together'",
    );
    assert!(streams.contains("| active |"), "{streams}");
    push(&db, "s", 100..102);
    let rows = shown(&db, "SELECT SUM(c) AS rows FROM upon");
    assert!(rows.contains("102"), "{rows}");
}

#[test]
fn who_only_looks_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    crashed(folder.path());
    let data = folder.path().join("data");
    let before = (files(&data.join("checkpoints")), files(&data.join("log/s")));
    let db = stopped(&data);
    let streams = shown(
        &db,
        "SELECT name, state, rows FROM system.streams ORDER BY name",
    );
    for row in [
        "| gone     | active |",
        "| kept     | active |",
        "| together | active |",
    ] {
        assert!(streams.contains(row), "{streams}");
    }
    let sources = shown(&db, "SHOW SOURCES");
    assert!(sources.contains(" 60 "), "{sources}");
    for sql in [
        "DESCRIBE kept",
        "EXPLAIN SELECT n FROM s",
        "EXPLAIN GUARANTEES kept",
        "SELECT 1 AS one",
    ] {
        shown(&db, sql);
    }
    for refused in [
        "SELECT * FROM kept",
        "SELECT * FROM s",
        "CREATE VIEW v AS SELECT n FROM s",
        "CREATE SOURCE x (n BIGINT)",
        "CREATE SINK o FROM s WITH (connector = 'stdout')",
        "SUBSCRIBE TO s",
        "STOP STREAM together",
        "START STREAM together",
        "DETACH SOURCE s FROM STREAM together",
        "DROP SOURCE s",
    ] {
        let error = db.execute(refused).unwrap_err();
        let state = error.sql_errors()[0].sqlstate;
        assert!(["55000", "2BP01"].contains(&state), "{refused}: {error}");
    }
    assert!(db.source::<Number>("s").is_err());
    assert!(db.subscribe_batches("kept").is_err());
    assert!(db.start_connectors().is_err());
    assert!(db.query("SELECT * FROM kept").is_err());
    db.close();
    drop(db);
    let after = (files(&data.join("checkpoints")), files(&data.join("log/s")));
    assert!(before == after, "a file has changed");
}

#[test]
fn a_folder_that_is_none_is_not_made_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("none");
    let error = Db::builder().stopped().open(&data).unwrap_err();
    assert!(error.to_string().contains("is no data folder"), "{error}");
    assert!(!data.exists());
}
