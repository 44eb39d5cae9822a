//! What SELECT costs on a view that changes, and what it costs the others.
//!
//! A view has `COUNT(*)` and `SUM(v)` of 1 M groups. One thread runs a query again and again: for one group by
//! its key, for the sum over all groups, and on another small view; alone, and while a second thread
//! pushes 1 M rows a second, each of any of the groups, in batches of 10,000. Then the query on the small view
//! beside a thread that sums over all groups. A line has the median, the 99th of 100 and the worst time, and
//! the rows that the view took a second. Sums are compared at the end.
//!
//! Run: `cargo bench -p headwater --bench views`; `HEADWATER_BENCH_GROUPS` (default 1,000,000),
//! `HEADWATER_BENCH_ROWS` (1,000,000 a second), `HEADWATER_BENCH_SECONDS` (10 for each line) and
//! `HEADWATER_BENCH_FOLDER` (a data folder; without one, in memory) set its size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use headwater::Db;
use headwater::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use headwater::arrow::datatypes::Int64Type;

const BATCH: usize = 10_000;

struct Sizes {
    groups: usize,
    rows: usize,
    seconds: usize,
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn batch(keys: impl Iterator<Item = usize>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys.map(|key| key as i64)));
    let ones: ArrayRef = Arc::new(Int64Array::from_value(1, keys.len()));
    RecordBatch::try_from_iter_with_nullable([("k", keys, false), ("v", ones, false)])
        .expect("columns of one length")
}

/// Batches of keys in an order that looks random: all groups once.
fn batches(groups: usize) -> Vec<RecordBatch> {
    let key = |row: usize| (row * 7_919 + row / 13) % groups;
    let starts = (0..groups).step_by(BATCH);
    starts
        .map(|start| batch((start..start + BATCH).map(key)))
        .collect()
}

/// Pushes until it is to end; returns the number of rows.
fn push(db: &Db, sizes: &Sizes, ended: &AtomicBool, pushed: &AtomicUsize) {
    let source = db.source_untyped("s").expect("a source");
    let batches = batches(sizes.groups);
    let (start, period) = (
        Instant::now(),
        Duration::from_secs(1) * BATCH as u32 / sizes.rows as u32,
    );
    for (number, batch) in (0..).zip(batches.iter().cycle()) {
        let left = (start + period * number).saturating_duration_since(Instant::now());
        std::thread::sleep(left);
        if ended.load(Ordering::Relaxed) {
            return;
        }
        source.push_arrow(batch.clone()).expect("an open source");
        pushed.fetch_add(BATCH, Ordering::Relaxed);
    }
}

fn number(db: &Db, query: &str) -> i64 {
    let rows = db.query(query).expect("an answer");
    let column = rows.first().map(|rows| rows.column(0).clone());
    let column = column.expect("a row");
    column.as_primitive::<Int64Type>().value(0)
}

const ALL: &str = "SELECT CAST(SUM(n) AS BIGINT) FROM totals";
const OTHER: &str = "SELECT n FROM other WHERE k = 3";

fn by_key(sizes: &Sizes, nth: usize) -> String {
    format!(
        "SELECT n FROM totals WHERE k = {}",
        nth * 7_919 % sizes.groups
    )
}

/// Runs a query for some time, and prints how long it took.
fn measure(
    db: &Db,
    sizes: &Sizes,
    name: &str,
    pushed: &AtomicUsize,
    query: impl Fn(usize) -> String,
) {
    let (start, before) = (Instant::now(), pushed.load(Ordering::Relaxed));
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(sizes.seconds as u64) {
        let query = query(times.len());
        let began = Instant::now();
        number(db, &query);
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let rows = (pushed.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable_by(f64::total_cmp);
    let part = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{name:<44} p50 {:>8.2} ms  p99 {:>8.2} ms  max {:>8.2} ms  {:>6} queries  {:>5.2} M rows/s",
        part(0.5),
        part(0.99),
        part(1.0),
        times.len(),
        rows / 1e6
    );
}

fn measure_all(db: &Db, sizes: &Sizes, how: &str, pushed: &AtomicUsize) {
    let line = |name: &str| format!("{name}, {how}");
    measure(db, sizes, &line("one group by its key"), pushed, |nth| {
        by_key(sizes, nth)
    });
    measure(db, sizes, &line("sum over all groups"), pushed, |_| {
        ALL.to_owned()
    });
    measure(db, sizes, &line("another view"), pushed, |_| {
        OTHER.to_owned()
    });
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                number(db, ALL);
            }
        });
        let name = line("another view beside the sum");
        measure(db, sizes, &name, pushed, |_| OTHER.to_owned());
        ended.store(true, Ordering::Relaxed);
    });
}

fn open() -> Db {
    let builder = Db::builder().workers(1);
    let db = match std::env::var("HEADWATER_BENCH_FOLDER") {
        Ok(folder) => builder.open(folder),
        Err(_) => builder.in_memory(),
    };
    db.expect("a database")
}

fn main() {
    let sizes = Sizes {
        groups: setting("HEADWATER_BENCH_GROUPS", 1_000_000),
        rows: setting("HEADWATER_BENCH_ROWS", 1_000_000),
        seconds: setting("HEADWATER_BENCH_SECONDS", 10),
    };
    let db = open();
    db.execute(
        "CREATE SOURCE s (k BIGINT NOT NULL, v BIGINT NOT NULL);
         CREATE SOURCE o (k BIGINT NOT NULL, v BIGINT NOT NULL);
         CREATE VIEW totals AS SELECT k, COUNT(*) AS n, SUM(v) AS total FROM s GROUP BY k;
         CREATE VIEW other AS SELECT k, COUNT(*) AS n FROM o GROUP BY k",
    )
    .expect("a script");
    let other = db.source_untyped("o").expect("a source");
    other
        .push_arrow(batch((0..1_000).map(|row| row % 10)))
        .expect("an open source");
    let source = db.source_untyped("s").expect("a source");
    let pushed = AtomicUsize::new(sizes.groups.next_multiple_of(BATCH));
    for batch in batches(sizes.groups) {
        source.push_arrow(batch).expect("an open source");
    }
    db.settle().expect("an open database");
    measure_all(&db, &sizes, "alone", &pushed);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| push(&db, &sizes, &ended, &pushed));
        measure_all(&db, &sizes, "while it changes", &pushed);
        ended.store(true, Ordering::Relaxed);
    });
    db.settle().expect("an open database");
    assert_eq!(number(&db, ALL), pushed.load(Ordering::Relaxed) as i64);
}
