//! A source that is idle: its watermark goes on by the clock, as far as that closes a window.

mod support;

use std::sync::Arc;

use headwater::arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use headwater::{ArrowSource, Db};
use support::{integers, next_rows};

const SECOND: i64 = 1_000_000;

fn create(db: &Db, advance: &str) -> ArrowSource {
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
             WITH (idle_timeout = '20 ms'{advance});
         CREATE STREAM sums AS SELECT SUM(n) AS n FROM s GROUP BY TUMBLE(ts, INTERVAL '100 ms');
         CREATE STREAM visits AS SELECT COUNT(*) AS n FROM s GROUP BY SESSION(ts, INTERVAL '150 ms');
         CREATE VIEW late AS SELECT COUNT(*) AS n FROM sums__late"
    ))
    .unwrap();
    db.source_untyped("s").unwrap()
}

fn push(source: &ArrowSource, n: i64, ts: i64) {
    let columns: [ArrayRef; 2] = [
        Arc::new(Int64Array::from(vec![n])),
        Arc::new(TimestampMicrosecondArray::from(vec![ts])),
    ];
    let rows = RecordBatch::try_new(Arc::clone(source.schema()), columns.to_vec()).unwrap();
    source.push_arrow(rows).unwrap();
}

#[test]
fn the_clock_closes_the_last_window() {
    for workers in [1, 3] {
        let db = Db::builder().workers(workers).in_memory().unwrap();
        let source = create(&db, ", idle_advance = 'clock'");
        let mut sums = db.subscribe_batches("sums").unwrap();
        let mut visits = db.subscribe_batches("visits").unwrap();
        push(&source, 7, SECOND);
        assert_eq!(integers(&next_rows(&mut sums, 1), 0), [7]);
        assert_eq!(integers(&next_rows(&mut visits, 1), 0), [1]);
        // That window has closed: what comes for it now is late.
        push(&source, 9, SECOND + 1);
        db.settle().unwrap();
        assert_eq!(integers(&db.query("SELECT n FROM late").unwrap(), 0), [1]);
    }
}

#[test]
fn where_the_clock_has_closed_a_window_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    {
        let db = Db::open(folder.path()).unwrap();
        let source = create(&db, ", idle_advance = 'clock'");
        let mut sums = db.subscribe_batches("sums").unwrap();
        push(&source, 7, SECOND);
        assert_eq!(integers(&next_rows(&mut sums, 1), 0), [7]);
        push(&source, 9, SECOND + 1);
        db.settle().unwrap();
    }
    let db = Db::open(folder.path()).unwrap();
    let again = "CREATE STREAM again WITH (start = 'beginning') AS
                 SELECT SUM(n) AS n FROM s GROUP BY TUMBLE(ts, INTERVAL '100 ms')";
    db.execute(again).unwrap();
    db.execute("CREATE VIEW late_again AS SELECT COUNT(*) AS n FROM again__late")
        .unwrap();
    let replayed = db.execute("REPLAY SOURCE s INTO STREAM again").unwrap();
    let Some(headwater::Outcome::Replayed(mut rows)) = replayed.into_iter().next() else {
        panic!("REPLAY gives rows");
    };
    assert_eq!(integers(&next_rows(&mut rows, 1), 0), [7]);
}

#[test]
fn without_the_clock_a_window_waits_for_a_row() {
    let db = Db::in_memory().unwrap();
    let source = create(&db, "");
    let mut sums = db.subscribe_batches("sums").unwrap();
    push(&source, 7, SECOND);
    // Longer than the window and the idle timeout together.
    let nothing = sums
        .next_within(std::time::Duration::from_millis(300))
        .unwrap();
    assert!(nothing.is_none(), "{nothing:?}");
    push(&source, 9, 2 * SECOND);
    assert_eq!(integers(&next_rows(&mut sums, 1), 0), [7]);
}
