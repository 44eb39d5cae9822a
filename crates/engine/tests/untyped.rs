//! Untyped sources: Arrow batches of columns that are known only when the program runs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampSecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use headwater::{Db, SourceError};

const SOURCE: &str = "CREATE SOURCE s (v BIGINT, ts TIMESTAMP(0), WATERMARK FOR ts AS ts)";

fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    let values: Int64Array = rows.iter().map(|row| Some(row.0)).collect();
    let times: TimestampSecondArray = rows.iter().map(|row| Some(row.1)).collect();
    let columns: [(_, ArrayRef, _); 2] =
        [("v", Arc::new(values), true), ("ts", Arc::new(times), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// All values of a view, as numbers, sorted.
fn numbers(db: &Db, view: &str) -> Vec<Vec<i64>> {
    let batches = db.query(&format!("SELECT * FROM {view}")).unwrap();
    let mut all = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                use arrow::array::AsArray;
                let numbers = cast(column, &DataType::Int64).unwrap();
                assert!(numbers.is_valid(row));
                numbers.as_primitive::<Int64Type>().value(row)
            });
            all.push(cells.collect());
        }
    }
    all.sort();
    all
}

#[test]
fn batches_are_pushed_as_they_are() {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(SOURCE).unwrap();
    db.execute("CREATE VIEW v AS SELECT v FROM s WHERE v > 1")
        .unwrap();
    let source = db.source_untyped("s").unwrap();
    assert_eq!((source.name(), source.schema().fields().len()), ("s", 2));
    assert!(source.has_capacity());
    source.push_arrow(rows(&[(1, 0), (2, 0), (3, 0)])).unwrap();
    db.settle().unwrap();
    assert_eq!(numbers(&db, "v"), [[2], [3]]);
    assert!(db.source_untyped("absent").is_err());
}

#[test]
fn other_columns_are_refused_and_nothing_is_pushed() {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(SOURCE).unwrap();
    db.execute("CREATE VIEW v AS SELECT v FROM s").unwrap();
    let source = db.source_untyped("s").unwrap();
    let wrong = rows(&[(1, 0)]).project(&[0]).unwrap();
    let refused = source.push_arrow(wrong).unwrap_err();
    assert!(
        matches!(refused, SourceError::SchemaMismatch { .. }),
        "{refused}"
    );
    db.settle().unwrap();
    assert!(numbers(&db, "v").is_empty());
    source.close();
    db.settle().unwrap();
    assert_eq!(source.push_arrow(rows(&[(1, 0)])), Err(SourceError::Closed));
    let closed = db.source_untyped("s").unwrap_err();
    assert_eq!(closed.to_string(), "source \"s\" is closed");
}

#[test]
fn a_watermark_closes_windows_and_never_goes_back() {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(SOURCE).unwrap();
    let count = "CREATE VIEW n AS SELECT window_start, COUNT(*) AS n FROM s GROUP BY TUMBLE(ts, INTERVAL '10 seconds')";
    db.execute(count).unwrap();
    let source = db.source_untyped("s").unwrap();
    source.push_arrow(rows(&[(1, 3), (2, 7)])).unwrap();
    source.watermark(10_000_000);
    source.watermark(5);
    assert_eq!(source.current_watermark(), 10_000_000);
    db.settle().unwrap();
    assert_eq!(numbers(&db, "n"), [[0, 2]]);
}

/// The last instant has no window after it: the engine once closed windows for ever.
#[test]
fn the_end_of_time_is_a_time() {
    for windows in [
        "TUMBLE(ts, INTERVAL '1 second')",
        "HOP(ts, INTERVAL '1 second', INTERVAL '3 seconds')",
        "SESSION(ts, INTERVAL '1 second')",
    ] {
        let db = Db::builder().workers(1).in_memory().unwrap();
        db.execute(SOURCE).unwrap();
        let view =
            format!("CREATE VIEW n AS SELECT window_end, COUNT(*) AS n FROM s GROUP BY {windows}");
        db.execute(&view).unwrap();
        let source = db.source_untyped("s").unwrap();
        source.push_arrow(rows(&[(1, i64::MAX)])).unwrap();
        source.close();
        db.settle().unwrap();
        let counted = numbers(&db, "n");
        let last = counted.iter().all(|row| row[..] == [i64::MAX, 1]);
        assert!(!counted.is_empty() && last, "{windows}: {counted:?}");
    }
}
