//! Rows of any size reach the log, the queries and the next start; nothing waits for ever.
//!
//! The steps of sources are bounded in bytes, not only in rows: each size fills many steps. The larger
//! sizes run with `HEADWATER_LARGE_ROWS=1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use headwater::{Db, Record, SourceError};

#[derive(Record, Debug, Clone)]
struct Document {
    n: i64,
    body: String,
}

const MIB: usize = 1 << 20;

fn runs_large() -> bool {
    std::env::var_os("HEADWATER_LARGE_ROWS").is_some()
}

/// The size of the rows, and their number.
fn ladder() -> Vec<(usize, i64)> {
    let mut ladder = vec![
        (1, 200_000),
        (1 << 10, 20_000),
        (16 << 10, 6_000),
        (MIB, 50),
    ];
    if runs_large() {
        ladder.extend([(16 << 10, 100_000), (MIB, 1_500), (64 * MIB, 12)]);
    }
    ladder
}

fn number(db: &Db, sql: &str) -> i64 {
    let batches = db.query(sql).unwrap();
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
    let column = batch.column(0).as_any().downcast_ref::<Int64Array>();
    column.unwrap().value(0)
}

const SOURCE: &str = "CREATE SOURCE documents (n BIGINT NOT NULL, body VARCHAR NOT NULL)";
const VIEW: &str =
    "CREATE VIEW sizes AS SELECT COUNT(*) AS rows, SUM(LENGTH(body)) AS bytes FROM documents";

/// Pushes the rows at full speed, with checkpoints and DDL meanwhile; the next start has them all.
#[test]
fn rows_of_all_sizes_are_in_the_log() {
    for (size, rows) in ladder() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path()).unwrap();
        db.execute(&format!("{SOURCE}; {VIEW}")).unwrap();
        let source = db.source::<Document>("documents").unwrap();
        let pushed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (source, pushed) = (source.clone(), &pushed);
            scope.spawn(move || {
                let body = "x".repeat(size);
                for n in 0..rows {
                    let body = body.clone();
                    source.push(Document { n, body }).unwrap();
                }
                pushed.store(true, Ordering::Release);
            });
            while !pushed.load(Ordering::Acquire) {
                db.checkpoint().unwrap();
                db.execute("CREATE STREAM s AS SELECT n FROM documents; DROP STREAM s")
                    .unwrap();
            }
        });
        db.flush().unwrap();
        let all = (rows, rows * size as i64);
        let sums = |db: &Db| {
            let sum = |column| number(db, &format!("SELECT {column} FROM sizes"));
            (sum("rows"), sum("bytes"))
        };
        db.settle().unwrap();
        assert_eq!(sums(&db), all, "rows of {size} bytes");
        drop((source, db));
        let db = Db::open(folder.path()).unwrap();
        assert_eq!(sums(&db), all, "rows of {size} bytes after a start");
        assert_eq!(number(&db, "SELECT COUNT(*) FROM documents"), rows);
    }
}

fn documents(rows: usize, size: usize) -> RecordBatch {
    let body = "x".repeat(size);
    let bodies: StringArray = (0..rows).map(|_| Some(body.as_str())).collect();
    let numbers = Int64Array::from_iter_values(0..rows as i64);
    let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::new(bodies)];
    RecordBatch::try_new(Document::schema(), columns).unwrap()
}

/// A batch that is larger than a record of the log may be becomes several records; a row that is larger
/// than a row may be is refused.
#[test]
fn a_batch_larger_than_a_record_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path()).unwrap();
    db.execute(&format!("{SOURCE}; {VIEW}")).unwrap();
    let source = db.source::<Document>("documents").unwrap();
    let (rows, size) = match runs_large() {
        true => (1_200, MIB),
        false => (150, MIB),
    };
    source.push_arrow(documents(rows, size)).unwrap();
    if runs_large() {
        let refused = source.push_arrow(documents(1, 513 * MIB));
        assert!(matches!(refused, Err(SourceError::TooLarge { .. })));
        let body = "x".repeat(513 * MIB);
        let refused = source.push(Document { n: 0, body });
        assert!(matches!(refused, Err(SourceError::TooLarge { .. })));
    }
    source.push_arrow(documents(1, 1)).unwrap();
    db.settle().unwrap();
    db.checkpoint().unwrap();
    assert_eq!(number(&db, "SELECT rows FROM sizes"), rows as i64 + 1);
    drop((source, db));
    let db = Db::open(folder.path()).unwrap();
    assert_eq!(
        number(&db, "SELECT COUNT(*) FROM documents"),
        rows as i64 + 1
    );
}
