//! Slow subscribers: each queue does what its configuration says, and reports what was missed.

mod support;

use headwater::{Db, Error, Event, QueueConfig, Record, Source, Subscription, WhenFull};
use support::next_rows;

#[derive(Record, Debug, Clone, PartialEq)]
struct Number {
    n: i64,
}

fn db() -> (Db, Source<Number>) {
    let db = Db::builder().workers(1).in_memory().unwrap();
    db.execute(
        "CREATE SOURCE numbers (n BIGINT NOT NULL);
         CREATE STREAM twice AS SELECT 2 * n AS n FROM numbers;",
    )
    .unwrap();
    let source = db.source::<Number>("numbers").unwrap();
    (db, source)
}

/// Pushes each number as a step of its own.
fn push(db: &Db, source: &Source<Number>, numbers: std::ops::Range<i64>) {
    for n in numbers {
        source.push(Number { n }).unwrap();
        db.settle().unwrap();
    }
}

fn config(rows: usize, when_full: WhenFull) -> QueueConfig {
    QueueConfig {
        rows,
        when_full,
        ..QueueConfig::default()
    }
}

/// The events that are there now: numbers, `-` with the number of missed rows, `!` with an error.
fn taken(rows: &mut Subscription) -> String {
    let mut taken = Vec::new();
    loop {
        match rows.try_next() {
            Ok(Some(Event::Rows(batch))) => {
                let numbers = Number::from_columns(&batch).unwrap();
                taken.extend(numbers.iter().map(|number| number.n.to_string()));
            }
            Ok(Some(Event::Missed { rows })) => taken.push(format!("-{rows}")),
            Ok(Some(Event::Gap { reason, .. })) => taken.push(reason),
            Ok(None) => return taken.join(" "),
            Err(error) => {
                taken.push(format!("!{error}"));
                return taken.join(" ");
            }
        }
    }
}

#[test]
fn the_oldest_are_dropped_and_reported_at_their_position() {
    let (db, source) = db();
    let mut slow = db
        .subscribe_with("source:numbers", config(2, WhenFull::DropOldest))
        .unwrap();
    let mut other = db.subscribe::<Number>("numbers").unwrap();
    push(&db, &source, 0..5);
    assert_eq!(taken(&mut slow), "-3 3 4");
    push(&db, &source, 5..6);
    assert_eq!(taken(&mut slow), "5");
    assert_eq!(
        other.by_ref().take(6).count(),
        6,
        "each has a queue of its own"
    );
}

#[test]
fn the_newest_are_dropped_and_reported_at_their_position() {
    let (db, source) = db();
    let mut slow = db
        .subscribe_with("stream:twice", config(2, WhenFull::DropNewest))
        .unwrap();
    push(&db, &source, 0..5);
    assert_eq!(taken(&mut slow), "0 2 -3");
    push(&db, &source, 5..6);
    assert_eq!(taken(&mut slow), "10");
}

#[test]
fn a_subscriber_can_ask_to_be_disconnected() {
    let (db, source) = db();
    let mut slow = db
        .subscribe_with("numbers", config(2, WhenFull::Disconnect))
        .unwrap();
    push(&db, &source, 0..5);
    let end = "0 1 !the subscriber was disconnected: more than 2 rows were waiting for it";
    assert_eq!(taken(&mut slow), end);
    assert!(slow.is_ended());
    push(&db, &source, 5..6);
    assert_eq!(taken(&mut slow), "", "no event after the end");
}

#[test]
fn a_subscriber_that_must_see_everything_holds_back_the_sources() {
    let (db, source) = db();
    let mut all = db
        .subscribe_with("twice", config(10, WhenFull::Wait))
        .unwrap();
    let pushed = std::thread::spawn(move || {
        for n in 0..1_000 {
            source.push(Number { n }).unwrap();
        }
    });
    next_rows(&mut all, 1_000);
    pushed.join().unwrap();
}

#[test]
fn a_topic_is_a_kind_and_a_name() {
    let (db, _source) = db();
    assert!(db.subscribe_batches("stream:twice").is_ok());
    assert!(db.subscribe_batches("source:numbers").is_ok());
    for wrong in ["stream:numbers", "source:twice", "view:twice", "stream:"] {
        let error = db.subscribe_batches(wrong).expect_err(wrong);
        assert!(matches!(error, Error::NotFound { .. }), "{wrong}: {error}");
    }
    assert!(
        db.subscribe_with("twice", config(0, WhenFull::Wait))
            .is_err()
    );
}

/// Every row is 8 bytes and a share for its batch, 776 in all.
#[test]
fn a_queue_is_full_of_bytes_before_it_is_full_of_rows() {
    let (db, source) = db();
    let bytes = |when_full| QueueConfig {
        bytes: 2_000,
        when_full,
        ..QueueConfig::default()
    };
    let mut oldest = db
        .subscribe_with("source:numbers", bytes(WhenFull::DropOldest))
        .unwrap();
    let mut newest = db
        .subscribe_with("source:numbers", bytes(WhenFull::DropNewest))
        .unwrap();
    push(&db, &source, 0..5);
    assert_eq!(taken(&mut oldest), "-3 3 4");
    assert_eq!(taken(&mut newest), "0 1 -3");
}
