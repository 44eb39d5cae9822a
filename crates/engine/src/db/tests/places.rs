//! How far a stream has been fed from a log, in checkpoints between any two turns.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::util::pretty::pretty_format_batches;

use crate::db::Db;
use crate::durable::WalMerge;
use crate::stream_status::StreamStatus;
use crate::worker::WorkerCommand;

fn open(folder: &Path, workers: usize) -> Db {
    Db::builder().workers(workers).open(folder).unwrap()
}

/// Pushes numbers, each in a step of its own.
fn push(db: &Db, numbers: &[i64]) {
    let source = db.source_untyped("s").unwrap();
    for number in numbers {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![*number]));
        let rows = RecordBatch::try_from_iter_with_nullable([("n", numbers, false)]);
        source.push_arrow(rows.unwrap()).unwrap();
        db.settle().unwrap();
    }
}

/// Feeds a held stream the next record of its log, as one turn does while it catches up.
fn feed_one(db: &Db, stream: &str) {
    let engine = &db.engine;
    let catalog = engine.catalog();
    let query = catalog.query(stream).unwrap();
    let place = query.lifecycle.held["s"].place.as_ref().unwrap();
    let (after, output) = (place.get().unwrap(), query.topic.id);
    let topic = catalog.topic("s").unwrap();
    drop(catalog);
    let wal_writer = engine.persistence.wal_writer("s").unwrap();
    wal_writer.catch_up().unwrap();
    let mut log = WalMerge::default();
    let schema = &topic.relation.schema;
    log.add(topic.id, schema, &wal_writer, after).unwrap();
    let parts = log.next_step().unwrap().unwrap();
    assert!(!engine.workers.feed(output, parts).unwrap());
}

#[test]
fn a_stream_goes_on_catching_up_where_a_checkpoint_found_it() {
    for workers in [1, 2] {
        for fed in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let db = open(folder.path(), workers);
            db.execute(
                "CREATE SOURCE s (n BIGINT NOT NULL);
                 CREATE VIEW sums AS SELECT SUM(n) AS n, COUNT(*) AS c FROM s",
            )
            .unwrap();
            push(&db, &[1]);
            db.execute("PAUSE STREAM sums").unwrap();
            push(&db, &[2, 3, 4]);
            // RESUME, up to some step of the log.
            let status = StreamStatus::Active;
            let lifecycle = |db: &Db| {
                let mut catalog = db.engine.catalog();
                catalog
                    .query_mut("sums")
                    .unwrap()
                    .lifecycle
                    .enter(status, 0);
            };
            lifecycle(&db);
            (0..fed).for_each(|_| feed_one(&db, "sums"));
            db.close();
            let db = open(folder.path(), 3 - workers);
            push(&db, &[5]);
            let sums = db.query("SELECT n, c FROM sums").unwrap();
            let sums = pretty_format_batches(&sums).unwrap().to_string();
            assert!(sums.contains("| 15 | 5 |"), "{fed} steps fed: {sums}");
        }
    }
}

#[test]
fn a_failed_stream_is_in_each_checkpoint_with_its_place() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path(), workers);
        db.execute(
            "CREATE SOURCE s (n BIGINT NOT NULL);
             CREATE VIEW shares AS SELECT SUM(100 / n) AS n FROM s",
        )
        .unwrap();
        push(&db, &[1, 2, 0, 4]);
        let ask = |answer| WorkerCommand::Checkpoint { answer };
        let parts = db.engine.workers.ask(ask).wait().unwrap();
        let held = parts.into_iter().filter_map(|part| {
            let streams = part.unwrap().streams.streams;
            streams.get("shares")?.held.get("s").copied()
        });
        assert_eq!(held.count(), 1, "the home worker of the source knows it");
    }
}
