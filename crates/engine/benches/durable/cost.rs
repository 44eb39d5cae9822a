//! Rows a second of a tumbling query with each `wal_mode`, in turn, and what the disk can do alone.
//!
//! With `sync` several threads push, each waiting for its batch to be on disk, so that one fsync serves
//! all that wait. The time runs from the first push until the last result; the next
//! column is how much later the last row is on disk.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater::arrow::array::RecordBatch;
use headwater::arrow::array::cast::AsArray;
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Event};

use super::{Counting, folder, source};
use crate::Sizes;
use crate::trades::{Keys, Trade, batches, median, median_ratio};

const BATCH: usize = 8_192;
/// Threads that push with `sync`; with the others one does.
const SYNC_PUSHERS: usize = 8;

const QUERY: &str =
    "CREATE STREAM answer AS SELECT symbol, SUM(price * qty) AS total, COUNT(*) AS n
    FROM trades GROUP BY TUMBLE(ts, INTERVAL '10 seconds'), symbol";

/// What one round gave.
struct Round {
    took: Duration,
    on_disk: Duration,
    syncs: u64,
}

fn round(mode: &str, pushers: usize, batches: &[RecordBatch]) -> Round {
    let (folder, disk) = (folder(), Counting::default());
    let builder = Db::builder().workers(1);
    let db = builder.open_on(Arc::new(disk.clone()), folder.path());
    let db = db.expect("a database");
    db.execute(&source(&format!("wal_mode = '{mode}'")))
        .expect("a source");
    db.execute(QUERY).expect("a query");
    let results = db.subscribe_batches("answer").expect("its results");
    let handles: Vec<_> = (0..pushers)
        .map(|_| db.source::<Trade>("trades").expect("its columns"))
        .collect();
    let (start, before) = (Instant::now(), disk.syncs());
    let counted = std::thread::spawn(move || count(results, start));
    std::thread::scope(|scope| {
        for (number, handle) in handles.into_iter().enumerate() {
            scope.spawn(move || {
                for batch in batches.iter().skip(number).step_by(pushers) {
                    handle.push_arrow(batch.clone()).expect("an open source");
                }
            });
        }
    });
    db.close_source("trades").expect("an open source");
    db.flush().expect("a disk with room");
    let (on_disk, syncs) = (start.elapsed(), disk.syncs() - before);
    db.close();
    let (took, n) = counted.join().expect("results");
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(n, rows as i64, "wal_mode {mode}");
    Round {
        took,
        on_disk,
        syncs,
    }
}

/// When the last result came, and the sum of their counts.
fn count(results: headwater::Subscription, start: Instant) -> (Duration, i64) {
    let (mut took, mut n) = (Duration::ZERO, 0);
    for event in results {
        match event.expect("results") {
            Event::Rows(rows) => {
                n += rows
                    .column(2)
                    .as_primitive::<Int64Type>()
                    .values()
                    .iter()
                    .sum::<i64>();
                took = start.elapsed();
            }
            Event::Gap { reason, .. } => panic!("{reason}"),
            Event::Missed { rows } => panic!("the subscriber missed {rows} rows"),
        }
    }
    (took, n)
}

/// How often a second this disk syncs a file to which `bytes` were added.
fn plain_syncs(bytes: usize) -> f64 {
    let folder = folder();
    let mut file = File::create(folder.path().join("plain")).expect("a file");
    let block = vec![7_u8; bytes];
    let (start, mut syncs) = (Instant::now(), 0);
    while syncs < 1_000 && start.elapsed() < Duration::from_secs(2) {
        file.write_all(&block).expect("room");
        file.sync_data().expect("a disk");
        syncs += 1;
    }
    f64::from(syncs) / start.elapsed().as_secs_f64()
}

pub(crate) fn measure(sizes: &Sizes) {
    let batches = batches(sizes.rows, BATCH, Keys::Even(100));
    let rate = |took: Duration| sizes.rows as f64 / 1e6 / took.as_secs_f64();
    let modes = [("off", 1), ("async", 1), ("sync", SYNC_PUSHERS)];
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut on_disk: [Vec<f64>; 3] = Default::default();
    let mut syncs = Vec::new();
    for _ in 0..sizes.rounds {
        for (number, (mode, pushers)) in modes.into_iter().enumerate() {
            let round = round(mode, pushers, &batches);
            rates[number].push(rate(round.took));
            on_disk[number].push(rate(round.on_disk));
            if mode == "sync" {
                syncs.push(round.syncs as f64 / round.on_disk.as_secs_f64());
            }
        }
    }
    println!(
        "tumbling query, {} rows, batches of {BATCH}, M rows/s",
        sizes.rows
    );
    for (number, (mode, _)) in modes.into_iter().enumerate() {
        let slower = median_ratio(&rates[0], &rates[number]);
        let goal = if mode == "async" {
            "  (goal: within 1.30)"
        } else {
            ""
        };
        let (rate, on_disk) = (median(&rates[number]), median(&on_disk[number]));
        println!(
            "  {mode:<6} {rate:>7.2}, on disk {on_disk:>7.2}   off is {slower:.2} times as fast{goal}"
        );
    }
    let (syncs, rows) = (median(&syncs), median(&on_disk[2]) * 1e6);
    let per_sync = rows / syncs;
    println!("  sync: {SYNC_PUSHERS} pushers, {syncs:.0} fsyncs/s, {per_sync:.0} rows for each");
    let bytes = batches[0].get_array_memory_size() * (per_sync / BATCH as f64).ceil() as usize;
    let plain = plain_syncs(bytes);
    println!("  plain write of as many bytes and fsync: {plain:.0} fsyncs/s (goal: as many)");
}
