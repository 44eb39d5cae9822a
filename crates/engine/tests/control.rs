//! Holding the reins from outside: starting by hand, draining, tapping, and what is left when
//! something fails.

mod scripted;

use std::time::{Duration, Instant};

use headwater::{ByteRead, Db, Error, Event, Kind, StreamStatus};
use scripted::{Script, builder};

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

fn create(name: &str) -> String {
    format!("CREATE SOURCE {name} WITH (connector = 'scripted', script = '{name}');")
}

#[test]
fn nothing_outside_is_touched_before_it_is_started_by_hand() {
    let a = Script::new("hand_a");
    let db = builder().start_connectors(false).in_memory().unwrap();
    db.execute(&create("hand_a")).unwrap();
    db.execute("CREATE STREAM live; ATTACH SOURCE hand_a TO STREAM live; START STREAM live;")
        .unwrap();
    db.streams().start("live").unwrap();
    assert_eq!(db.streams().status("live"), StreamStatus::Active);
    assert_eq!(db.streams().stats().total_workers, 0);
    assert_eq!(a.begun(), [], "it was not run");
    db.start_connectors().unwrap();
    until("running", || a.begun().len() == 1);
    assert_eq!(db.streams().stats().total_workers, 1);
}

#[test]
fn draining_takes_everything_that_has_arrived() {
    let a = Script::new("drain_a");
    let db = builder().in_memory().unwrap();
    db.execute(&create("drain_a")).unwrap();
    db.execute("CREATE VIEW all_of_it AS SELECT n FROM drain_a")
        .unwrap();
    let mut rows = db.subscribe_lossless("drain_a").unwrap();
    for n in 0..100 {
        a.row(n);
    }
    let mut seen = 0;
    while seen < 100 {
        match rows.next_within(PATIENCE).unwrap() {
            Some(Event::Rows(batch)) => seen += batch.num_rows(),
            other => panic!("{other:?} after {seen}"),
        }
    }
    db.drain().unwrap();
    assert!(db.sources_ended());
    let held = db.query("SELECT n FROM all_of_it").unwrap();
    assert_eq!(
        held.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        100
    );
    db.close();
    assert!(matches!(
        db.streams().start("all_of_it"),
        Err(Error::Closed)
    ));
}

#[test]
fn a_tap_shows_what_comes_and_counts_it() {
    let db = Db::builder().start_connectors(false).in_memory().unwrap();
    db.execute(
        "CREATE SOURCE hello (text VARCHAR NOT NULL) WITH (connector = 'process', format = 'text',
             mode = 'once', command = '[\"echo\", \"hello\"]')",
    )
    .unwrap();
    let mut tap = db.tap("hello").unwrap();
    db.start_connectors().unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 64]);
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "the tap never closes");
        match tap.try_read(&mut buffer) {
            ByteRead::Bytes(count) => bytes.extend_from_slice(&buffer[..count]),
            ByteRead::Closed => break,
            _ => std::thread::yield_now(),
        }
    }
    assert_eq!(String::from_utf8_lossy(&bytes), "hello\n");
    let metrics = db.metrics();
    let counted = metrics
        .iter()
        .find(|it| it.of.name == "headwater_source_bytes_total");
    assert_eq!(counted.map(|it| it.value), Some(5.0));
}

#[test]
fn what_has_failed_for_good_is_told_by_name() {
    let a = Script::new("fails_a");
    let db = builder().in_memory().unwrap();
    db.execute(&create("fails_a")).unwrap();
    db.execute(
        "CREATE SOURCE pushed (text VARCHAR NOT NULL);
         CREATE STREAM number AS SELECT CAST(text AS INT) AS n FROM pushed;",
    )
    .unwrap();
    assert_eq!(db.failures(), []);
    a.give_up();
    let pushed = db.source_untyped("pushed").unwrap();
    let rows = std::sync::Arc::new(headwater::arrow::array::StringArray::from(vec!["x"]));
    let rows = headwater::arrow::array::RecordBatch::try_new(pushed.schema().clone(), vec![rows]);
    pushed.push_arrow(rows.unwrap()).unwrap();
    until("both", || db.failures().len() == 2);
    let failed = db.failures();
    assert_eq!(
        (failed[0].0, failed[0].1.as_str()),
        (Kind::Source, "fails_a")
    );
    assert_eq!(
        (failed[1].0, failed[1].1.as_str()),
        (Kind::Stream, "number")
    );
    assert!(failed[0].2.contains("the test gives up"), "{}", failed[0].2);

    db.streams().start("number").unwrap();
    assert_eq!(db.failures().len(), 1, "the query was begun anew");
    let mut rows = db.subscribe_batches("number").unwrap();
    let one = std::sync::Arc::new(headwater::arrow::array::StringArray::from(vec!["1"]));
    let one = headwater::arrow::array::RecordBatch::try_new(pushed.schema().clone(), vec![one]);
    pushed.push_arrow(one.unwrap()).unwrap();
    let next = rows.next_within(PATIENCE).unwrap();
    assert!(matches!(next, Some(Event::Rows(rows)) if rows.num_rows() == 1));
}
