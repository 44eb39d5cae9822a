//! TIMESTAMPTZ from end to end: out of files and into them, in the log, in checkpoints and in replays.

mod support;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use headwater::{Db, Outcome};
use support::{integers, shown, until, until_sources_end};
use tempfile::TempDir;

fn pipeline(folder: &Path, format: &str, input: &str) -> String {
    let (from, to) = (folder.join("in"), folder.join("out"));
    std::fs::write(&from, input).unwrap();
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(&format!(
        "CREATE SOURCE s (at TIMESTAMPTZ NOT NULL, n BIGINT)
             WITH (connector = 'file', path = '{}', follow = false, format = '{format}');
         CREATE SINK out FROM (SELECT at, at AT TIME ZONE 'Europe/Berlin' AS berlin, n FROM s)
             WITH (connector = 'file', path = '{}', format = '{format}');",
        from.display(),
        to.display()
    ))
    .unwrap();
    until_sources_end(&db);
    let written = || std::fs::read_to_string(&to).unwrap_or_default();
    until("two rows in the file", || {
        written().lines().count() >= input.lines().count()
    });
    written()
}

#[test]
fn files_have_instants_in_iso_8601() {
    let folder = tempfile::tempdir().unwrap();
    let json = "{\"at\":\"2024-03-31T02:30:00.5+02:00\",\"n\":1}\n{\"at\":1711845000000,\"n\":2}\n";
    assert_eq!(
        pipeline(folder.path(), "json", json),
        "{\"at\":\"2024-03-31T00:30:00.500Z\",\"berlin\":\"2024-03-31T01:30:00.500Z\",\"n\":1}\n\
         {\"at\":\"2024-03-31T00:30:00Z\",\"berlin\":\"2024-03-31T01:30:00Z\",\"n\":2}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let csv = "2024-03-31 03:30:00+0200,1\n2024-03-31 01:30:00,2\n";
    assert_eq!(
        pipeline(folder.path(), "csv", csv),
        "2024-03-31T01:30:00Z,2024-03-31T03:30:00Z,1\n2024-03-31T01:30:00Z,2024-03-31T03:30:00Z,2\n"
    );
}

const SOURCE: &str = "CREATE SOURCE calls (n BIGINT, at TIMESTAMPTZ, WATERMARK FOR at AS at)";
const HOURS: &str = "SELECT window_start, window_end, COUNT(*) AS n, MAX(at) AS last FROM calls
     GROUP BY TUMBLE(at, INTERVAL '1 hour')";

fn open(folder: &TempDir) -> Db {
    Db::builder().workers(2).open(folder.path()).unwrap()
}

/// One row for each minute since 1970.
fn push(db: &Db, minutes: std::ops::Range<i64>) {
    let times = minutes.clone().map(|minute| minute * 60_000_000);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("+00:00");
    let numbers = Int64Array::from_iter_values(minutes);
    let columns: [(_, ArrayRef, _); 2] = [
        ("n", Arc::new(numbers), true),
        ("at", Arc::new(times), true),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let source = db.source_untyped("calls").unwrap();
    source.push_arrow(rows).unwrap();
    db.settle().unwrap();
}

#[test]
fn the_log_and_checkpoints_keep_instants() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    db.execute(&format!("{SOURCE}; CREATE VIEW hours AS {HOURS}"))
        .unwrap();
    push(&db, 0..90);
    db.close();

    let db = open(&folder);
    push(&db, 90..200);
    assert_eq!(
        integers(
            &db.query("SELECT n FROM hours ORDER BY window_start")
                .unwrap(),
            0
        ),
        [60; 3]
    );
    let bounds = shown(
        &db,
        "SELECT window_end, last FROM hours ORDER BY window_start LIMIT 1",
    );
    assert!(
        bounds.contains("| 1970-01-01T01:00:00Z | 1970-01-01T00:59:00Z |"),
        "{bounds}"
    );
    for condition in [
        "at >= TIMESTAMPTZ '1970-01-01 03:00:00+02' AND at < '1970-01-01 04:00:00+02'",
        "at >= TIMESTAMP '1970-01-01 01:00:00' AND at < TIMESTAMP '1970-01-01 02:00:00'",
        "at AT TIME ZONE 'Asia/Kathmandu' >= TIMESTAMP '1970-01-01 06:30:00' AND n < 120",
    ] {
        let counted = db.query(&format!("SELECT COUNT(*) FROM calls WHERE {condition}"));
        assert_eq!(integers(&counted.unwrap(), 0), [60], "{condition}");
    }
    db.execute(&format!(
        "CREATE VIEW since WITH (start = '1970-01-01 01:00:00') AS {HOURS}"
    ))
    .unwrap();
    assert_eq!(
        integers(&db.query("SELECT n FROM since").unwrap(), 0),
        [60; 2]
    );
    db.execute(&format!("CREATE STREAM live AS {HOURS}"))
        .unwrap();
    let replay =
        "REPLAY SOURCE calls FROM '1970-01-01 01:00:00' TO '1970-01-01 01:30:00' INTO STREAM live";
    let Some(Outcome::Replayed(replayed)) = db.execute(replay).unwrap().pop() else {
        panic!("no results of a replay");
    };
    let counts: Vec<_> = replayed
        .map(|event| format!("{:?}", event.unwrap()))
        .collect();
    assert_eq!(counts.len(), 1, "{counts:?}");
}
