//! Views: what reads them by key, and what happens when one cannot be kept.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::util::pretty::pretty_format_batches;

use crate::dataflow::{StreamElement, disappearing};
use crate::db::Db;

fn push(db: &Db, keys: &[i64]) {
    let source = db.source_untyped("s").unwrap();
    let keys: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let rows = RecordBatch::try_from_iter_with_nullable([("k", keys, false)]);
    source.push_arrow(rows.unwrap()).unwrap();
    db.settle().unwrap();
}

fn shown(db: &Db, query: &str) -> String {
    pretty_format_batches(&db.query(query).unwrap())
        .unwrap()
        .to_string()
}

#[test]
fn a_view_that_cannot_be_kept_says_so_and_ends_its_query() {
    for workers in [1, 2] {
        let db = Db::builder().workers(workers).in_memory().unwrap();
        db.execute(
            "CREATE SOURCE s (k BIGINT NOT NULL);
             CREATE VIEW v AS SELECT k, COUNT(*) AS n FROM s GROUP BY k HAVING COUNT(*) < 3;
             CREATE VIEW w AS SELECT k, n FROM v",
        )
        .unwrap();
        push(&db, &[1, 1, 2]);
        let mut changes = db.subscribe_batches("v").unwrap();
        // The view loses its rows, which no query does: the next change is of a row that is not there.
        let topic = db.engine.catalog().topic("v").unwrap();
        for rows in topic.version().published().unwrap() {
            let gone = StreamElement::rows(disappearing(rows));
            topic.publish(&[gone]).unwrap();
        }
        push(&db, &[1]);
        let failed =
            "its rows cannot be kept: Execution error: a key that has 0 rows changes by -1";
        let error = db.query("SELECT * FROM v WHERE k = 2").unwrap_err();
        assert!(error.to_string().contains(failed), "{error}");
        let error = db.query("SELECT 1 FROM v WHERE false").unwrap_err();
        assert!(error.to_string().contains(failed), "{error}");
        let events = shown(&db, "SELECT error FROM system.errors");
        assert_eq!(events.matches(failed).count(), 1, "{events}");
        let error = changes.find_map(Result::err).unwrap();
        assert!(error.to_string().contains(failed), "{error}");
        // The query has ended, and what reads it with it: nothing goes on with half of the rows.
        push(&db, &[3]);
        let error = db.query("SELECT * FROM w").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"v\", which it reads, has failed"),
            "{error}"
        );
        let states = shown(&db, "SELECT state FROM system.streams ORDER BY name");
        assert_eq!(states.matches("failed").count(), 2, "{states}");
        db.execute("START STREAM v").unwrap();
        push(&db, &[4]);
        assert!(shown(&db, "SELECT * FROM v").contains("| 4 | 1 |"));
    }
}

#[test]
fn views_of_one_statement_are_read_at_one_moment() {
    let db = Db::builder().workers(2).in_memory().unwrap();
    db.execute(
        "CREATE SOURCE s (k BIGINT NOT NULL);
         CREATE VIEW a AS SELECT k, COUNT(*) AS n FROM s GROUP BY k;
         CREATE VIEW b AS SELECT COUNT(*) AS n FROM s",
    )
    .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|step| push(&db, &[1, 2, 3, step % 7])));
        for _ in 0..100 {
            let both = shown(
                &db,
                "SELECT (SELECT SUM(n) FROM a) = (SELECT n FROM b) AS same",
            );
            assert!(!both.contains("false"), "{both}");
        }
    });
    assert!(shown(&db, "SELECT n FROM b").contains("800"));
}
