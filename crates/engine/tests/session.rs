//! Sessions of many keys: they close in bulk, and still before the windows over them close.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use headwater::{ArrowSource, Db, Event};

const KEYS: i64 = 10_000;

fn push(source: &ArrowSource, rows: impl Iterator<Item = (i64, i64)> + Clone) {
    let keys: Int64Array = rows.clone().map(|row| Some(row.0)).collect();
    let times: TimestampMillisecondArray = rows.map(|row| Some(row.1)).collect();
    let columns: [(_, ArrayRef, _); 2] =
        [("k", Arc::new(keys), true), ("ts", Arc::new(times), true)];
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    source.push_arrow(rows).unwrap();
}

/// With many sessions open, not every step looks at all of them. A window over the sessions must not
/// have closed when they come.
#[test]
fn windows_over_many_sessions_miss_none() {
    for workers in [1, 2] {
        let db = Db::builder().workers(workers).in_memory().unwrap();
        db.execute(
            "CREATE SOURCE s (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);
             CREATE STREAM sessions AS SELECT k, window_end, COUNT(*) AS n FROM s
                 GROUP BY SESSION(ts, INTERVAL '16 seconds'), k;
             CREATE STREAM ends AS SELECT window_start, COUNT(*) AS n FROM sessions
                 GROUP BY TUMBLE(window_end, INTERVAL '100 milliseconds');
             CREATE VIEW total AS SELECT SUM(n) AS n FROM ends;",
        )
        .unwrap();
        let mut late = db.subscribe_batches("ends__late").unwrap();
        let source = db.source_untyped("s").unwrap();
        push(&source, (0..KEYS).map(|key| (key, key)));
        db.settle().unwrap();
        for step in 0..100 {
            push(&source, std::iter::once((-1, 16_000 + 100 * step)));
            db.settle().unwrap();
        }
        source.close();
        db.settle().unwrap();
        let lost: usize = std::iter::from_fn(|| late.try_next().unwrap())
            .map(|event| match event {
                Event::Rows(rows) => rows.num_rows(),
                Event::Missed { .. } | Event::Gap { .. } => usize::MAX,
            })
            .sum();
        assert_eq!(lost, 0, "{workers} worker(s)");
        let total = db.query("SELECT n FROM total").unwrap();
        let expected = Int64Array::from(vec![KEYS + 1]);
        assert_eq!(
            total[0].column(0).as_ref(),
            &expected as &dyn arrow::array::Array
        );
    }
}
