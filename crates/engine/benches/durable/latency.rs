//! How long a row takes through a filter while another query holds many groups that keep changing, with
//! and without a checkpoint of them every second.
//!
//! 10,000 rows a second, one by one, each with the moment at which it was pushed. Beside it a thread
//! pushes 100 batches of 1,000 rows a second into another source, each row of any of the groups.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headwater::{Db, Record, Source, Symbol, Timestamp};

use super::{folder, source};
use crate::Sizes;
use crate::trades::{Keys, Trade, batches};

const PERIOD: Duration = Duration::from_micros(100);
const BUSY_PERIOD: Duration = Duration::from_millis(10);

#[derive(Record)]
struct Passed {
    #[allow(dead_code)] // The projection has a string too.
    symbol: Symbol<8>,
    id: i64,
}

/// p50, p99 and the greatest, in microseconds.
#[derive(Clone, Copy)]
struct Latency([f64; 3]);

fn open(folder: &std::path::Path, interval: &str) -> Db {
    let db = Db::builder().workers(1).open(folder).expect("a database");
    let options = format!("checkpoint_interval = '{interval}'");
    let busy = source(&options).replacen("trades", "busy", 1);
    let script = format!(
        "{}; {busy};
         CREATE VIEW groups AS SELECT symbol, COUNT(*) AS n, SUM(price * qty) AS total FROM busy GROUP BY symbol;
         CREATE STREAM passed AS SELECT symbol, id FROM trades WHERE qty > 0",
        source(&options)
    );
    db.execute(&script).expect("a script");
    db
}

/// Sleeps until `number` periods after `start`.
fn wait_for(start: Instant, period: Duration, number: u32) {
    let left = (start + period * number).saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

fn keep_busy(busy: &Source<Trade>, groups: usize, ended: &AtomicBool) {
    let batches = batches(groups, 1_000, Keys::Even(groups as u64));
    let start = Instant::now();
    for (number, batch) in (0..).zip(batches.iter().cycle()) {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        wait_for(start, BUSY_PERIOD, number);
        busy.push_arrow(batch.clone()).expect("an open source");
    }
}

fn latencies(db: &Db, rows: usize) -> Vec<f64> {
    let mut results = db.subscribe::<Passed>("passed").expect("results");
    let source = db.source::<Trade>("trades").expect("its columns");
    let start = Instant::now();
    let taking = std::thread::spawn(move || {
        let next = |_| {
            let row = results.next().expect("no end").expect("results");
            (start.elapsed().as_nanos() as i64 - row.id) as f64 / 1e3
        };
        (0..rows).map(next).collect()
    });
    for row in 0..rows {
        wait_for(start, PERIOD, row as u32);
        let id = start.elapsed().as_nanos() as i64;
        let trade = Trade {
            symbol: "BTCUSDT".parse().expect("a short symbol"),
            price: 50_000.5,
            qty: 3,
            id,
            ts: Timestamp::from_micros(id / 1_000),
        };
        source.push(trade).expect("an open source");
    }
    taking.join().expect("a subscriber that ends")
}

fn run(sizes: &Sizes, interval: &str) -> Latency {
    let folder = folder();
    let db = open(folder.path(), interval);
    let busy = db.source::<Trade>("busy").expect("its columns");
    // All groups are there before it begins.
    for batch in batches(sizes.groups * 4, 8_192, Keys::Even(sizes.groups as u64)) {
        busy.push_arrow(batch).expect("an open source");
    }
    db.flush().expect("a disk with room");
    let ended = &AtomicBool::new(false);
    let mut latencies: Vec<f64> = std::thread::scope(|scope| {
        scope.spawn(move || keep_busy(&busy, sizes.groups, ended));
        let latencies = latencies(&db, sizes.seconds * 10_000);
        ended.store(true, Ordering::Relaxed);
        latencies
    });
    // The first rows find threads that are just starting.
    latencies.drain(..latencies.len() / 10);
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    Latency([at(0.5), at(0.99), at(1.0)])
}

pub(crate) fn measure(sizes: &Sizes) {
    let Sizes {
        groups, seconds, ..
    } = sizes;
    println!("latency of a filter at 10,000 rows/s for {seconds} s, beside {groups} groups, µs");
    let cases = [
        ("no checkpoints", "1 hour"),
        ("one every second", "1 second"),
    ];
    let measured = cases.map(|(name, interval)| {
        let Latency([p50, p99, max]) = run(sizes, interval);
        println!("  {name:<17} p50 {p50:>8.1}   p99 {p99:>8.1}   max {max:>9.1}");
        p99
    });
    let apart = (measured[1] - measured[0]) / 1e3;
    println!("  p99 is {apart:.2} ms more with checkpoints (goal: within 2 ms)");
}
