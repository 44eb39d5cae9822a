//! Control of a database by its program: starting connectors by hand, draining, tapping, failures.

mod scripted;
mod support;

use std::time::Instant;

use headwater::{ByteRead, Db, Error, Event, Kind, StreamStatus};
use scripted::{Script, builder};
use support::{PATIENCE, next_event, next_rows, until};

fn create(name: &str) -> String {
    format!("CREATE SOURCE {name} WITH (connector = 'scripted', script = '{name}');")
}

#[test]
fn no_connector_runs_before_it_is_started_by_hand() {
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
    until("the source to run", || a.begun().len() == 1);
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
    next_rows(&mut rows, 100);
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
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for the end of the tap"
        );
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
fn what_has_failed_for_good_is_listed_by_name() {
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
    until("the source and the stream to fail", || {
        db.failures().len() == 2
    });
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
    assert_eq!(db.failures().len(), 1, "the query was started again");
    let mut rows = db.subscribe_batches("number").unwrap();
    let one = std::sync::Arc::new(headwater::arrow::array::StringArray::from(vec!["1"]));
    let one = headwater::arrow::array::RecordBatch::try_new(pushed.schema().clone(), vec![one]);
    pushed.push_arrow(one.unwrap()).unwrap();
    let next = next_event(&mut rows);
    assert!(matches!(next, Event::Rows(rows) if rows.num_rows() == 1));
}
