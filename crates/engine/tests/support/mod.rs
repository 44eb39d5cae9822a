//! Waiting in tests, for at most [`PATIENCE`] and then with a sentence that says what did not happen;
//! and answers in a form that can be compared.

#![allow(dead_code)] // Each test program uses some of it.

use std::time::{Duration, Instant};

use headwater::arrow::array::{AsArray, RecordBatch};
use headwater::arrow::datatypes::Int64Type;
use headwater::arrow::util::pretty::pretty_format_batches;
use headwater::{Db, Event, Record, Subscription, TypedSubscription};

/// How long a test waits for what takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that no signal reports.
#[track_caller]
pub fn until(what: &str, happened: impl Fn() -> bool) {
    let began = Instant::now();
    while !happened() {
        let waited = began.elapsed();
        assert!(waited < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the inputs of all sources have ended, and their rows are processed.
#[track_caller]
pub fn until_sources_end(db: &Db) {
    until("the sources to end", || db.sources_ended());
    db.settle().unwrap();
}

/// Waits for the next event of a subscription, which must not end before.
#[track_caller]
pub fn next_event(events: &mut Subscription) -> Event {
    let event = events.next_within(PATIENCE).unwrap();
    event.unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for an event of the subscription"))
}

/// Waits for batches until they have this number of rows together.
#[track_caller]
pub fn next_rows(events: &mut Subscription, count: usize) -> Vec<RecordBatch> {
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < count {
        match next_event(events) {
            Event::Rows(batch) => {
                rows += batch.num_rows();
                batches.push(batch);
            }
            other => panic!("{other:?} after {rows} rows, expected {count}"),
        }
    }
    batches
}

/// Waits for the next row of a typed subscription.
#[track_caller]
pub fn next_record<T: Record>(rows: &mut TypedSubscription<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(row) = rows.try_next().unwrap() {
            return row;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for a row"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The answer to a query as a table of text.
pub fn shown(db: &Db, query: &str) -> String {
    let batches = db.query(query).unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// The values of a BIGINT column.
pub fn integers(batches: &[RecordBatch], column: usize) -> Vec<i64> {
    let values = |batch: &RecordBatch| {
        let values = batch.column(column).as_primitive::<Int64Type>();
        values.values().to_vec()
    };
    batches.iter().flat_map(values).collect()
}
