//! A lossless subscriber that is too slow slows the source, by the source's own policy: memory stays
//! bounded, dropped rows are counted, and no other query loses a row that was accepted.

mod support;

use headwater::arrow::array::AsArray;
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Event, Record, Source, SourceError, Subscription};
use support::{integers, until};

#[derive(Debug, Clone, PartialEq, Record)]
struct Row {
    n: i64,
}

/// More than a queue for sinks and all buffers together hold.
const MANY: i64 = 400_000;

fn stalled(policy: &str) -> (Db, Source<Row>, Subscription) {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL) WITH (buffer_size = 1024, backpressure = '{policy}');
         CREATE VIEW all_rows AS SELECT COUNT(*) AS n, SUM(n) AS total FROM s;
         CREATE STREAM slow AS SELECT n FROM s"
    ))
    .unwrap();
    let rows = db.subscribe_lossless("slow").unwrap();
    let source = db.source::<Row>("s").unwrap();
    (db, source, rows)
}

fn received(rows: Subscription) -> Vec<i64> {
    let mut numbers = Vec::new();
    for event in rows {
        match event.unwrap() {
            Event::Rows(batch) => {
                numbers.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
            other => panic!("{other:?}"),
        }
    }
    numbers
}

fn count_and_total(db: &Db) -> (i64, i64) {
    let batches = db.query("SELECT n, total FROM all_rows").unwrap();
    (integers(&batches, 0)[0], integers(&batches, 1)[0])
}

/// Lets the slow subscriber read all rows, and returns them. The other query has seen the same rows.
fn drain(db: &Db, source: &Source<Row>, rows: Subscription) -> Vec<i64> {
    source.close();
    let reader = std::thread::spawn(move || received(rows));
    // Closing delivers the rows that wait.
    let view = db.subscribe_batches("all_rows").unwrap();
    db.close();
    let seen = reader.join().unwrap();
    let mut last = (0, 0);
    for event in view {
        let Event::Rows(batch) = event.unwrap() else {
            panic!("the view misses nothing")
        };
        let number = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        let diff = batch
            .column(2)
            .as_primitive::<headwater::arrow::datatypes::Int8Type>();
        for row in (0..batch.num_rows()).filter(|row| diff.value(*row) > 0) {
            last = (number(0).value(row), number(1).value(row));
        }
    }
    assert_eq!(last, (seen.len() as i64, seen.iter().sum()));
    seen
}

#[test]
fn reject_refuses_what_finds_no_room() {
    let (db, source, rows) = stalled("reject");
    let mut accepted = Vec::new();
    let mut refused = 0;
    for n in 0..MANY {
        match source.push(Row { n }) {
            Ok(()) => accepted.push(n),
            Err(SourceError::Full) => {
                refused += 1;
                std::thread::yield_now();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "all were taken, so nothing held them back");
    let seen = drain(&db, &source, rows);
    assert_eq!(seen, accepted);
}

#[test]
fn drop_oldest_counts_what_it_drops() {
    let (db, source, rows) = stalled("drop_oldest");
    for n in 0..MANY {
        source.push(Row { n }).unwrap();
    }
    let dropped = source.dropped();
    let seen = drain(&db, &source, rows);
    assert_eq!(seen.len() as u64 + dropped, MANY as u64);
    assert!(seen.is_sorted(), "in the order in which they were pushed");
    assert_eq!(seen.last(), Some(&(MANY - 1)));
}

/// Pushes rows until there is no room; returns their number.
fn fill(source: &Source<Row>) -> i64 {
    let (mut waited, mut next) = (0_u64, 0);
    while next < MANY {
        match source.try_push(Row { n: next }) {
            Ok(()) => (next, waited) = (next + 1, 0),
            Err(_) if waited == 10_000 => return next,
            Err(_) => {
                waited += 1;
                std::thread::yield_now();
            }
        }
    }
    panic!("memory is not bounded");
}

#[test]
fn block_waits_and_loses_nothing() {
    let (db, source, rows) = stalled("block");
    let next = fill(&source);
    let reader = std::thread::spawn(move || received(rows));
    for n in next..MANY {
        source.push(Row { n }).unwrap();
    }
    source.close();
    until("all rows to be counted", || count_and_total(&db).0 == MANY);
    assert_eq!(count_and_total(&db), (MANY, (0..MANY).sum()));
    db.close();
    assert_eq!(reader.join().unwrap(), (0..MANY).collect::<Vec<_>>());
}

#[test]
fn draining_does_not_wait_for_a_subscriber_that_reads_nothing() {
    let (db, source, rows) = stalled("reject");
    let accepted = fill(&source);
    db.drain().unwrap();
    let seen = drain(&db, &source, rows);
    let all: Vec<i64> = (0..accepted).collect();
    assert_eq!(seen, all, "what was held back is still there");
}
