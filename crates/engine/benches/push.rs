//! What `Source::push` costs, and that every pushed row is seen.
//!
//! A record of five fields with a short string goes through to the engine, where a view counts.
//! First bursts that fit the lane, one thread: nanoseconds a push. Then full speed for
//! `HEADWATER_BENCH_SECONDS` (default 10) from one and from two threads: rows a second, rows
//! accepted, rows the view has counted, and their difference, which must be 0.
//!
//! The rival is a bounded `std::sync::mpsc` channel of as many slots, whose reader only counts; the
//! engine converts the rows to columns and runs the query meanwhile. That the path
//! allocates nothing is a test: `tests/allocations.rs`. Run: `cargo bench -p headwater --bench push`.

mod trades;

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use headwater::arrow::array::cast::AsArray;
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Record, Source, Timestamp};
use trades::{TRADES, Trade, median, median_ratio, setting};

const SLOTS: usize = 65_536;
const BURST: usize = 50_000;
const BURSTS: usize = 101;
/// Pushes between two looks at the clock.
const STRETCH: usize = 1_000;

fn trade(row: usize) -> Trade {
    const SYMBOLS: [&str; 5] = ["AAPL", "GOOGL", "MSFT", "NVDA", "BRK.B"];
    Trade {
        symbol: SYMBOLS[row % 5].parse().expect("a short symbol"),
        price: row as f64 / 7.0,
        qty: row as i64 % 100,
        id: row as i64,
        ts: Timestamp::from_micros(row as i64),
    }
}

fn counting() -> (Db, Source<Trade>) {
    let db = Db::builder().workers(1).in_memory().expect("one thread");
    db.execute(TRADES).expect("a source");
    db.execute("CREATE VIEW counted AS SELECT COUNT(*) AS n FROM trades")
        .expect("a view");
    let source = db.source("trades").expect("the columns of a trade");
    (db, source)
}

fn counted(db: &Db) -> i64 {
    db.settle().expect("an open database");
    let rows = db.query("SELECT n FROM counted").expect("an answer");
    rows[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// Nanoseconds a push in each burst; between bursts everything is read.
fn bursts(mut push: impl FnMut(Trade), mut rest: impl FnMut()) -> Vec<f64> {
    let trades: Vec<Trade> = (0..BURST).map(trade).collect();
    let mut costs = Vec::with_capacity(BURSTS);
    for _ in 0..BURSTS {
        let start = Instant::now();
        trades.iter().for_each(|trade| push(*trade));
        costs.push(start.elapsed().as_nanos() as f64 / BURST as f64);
        rest();
    }
    costs
}

fn single_pushes() {
    let (db, source) = counting();
    let ours = bursts(
        |trade| source.push(trade).expect("an open source"),
        || db.settle().expect("an open database"),
    );
    let (sender, receiver) = sync_channel::<Trade>(SLOTS);
    let reader = std::thread::spawn(move || receiver.iter().count());
    let theirs = bursts(
        |trade| sender.send(trade).expect("a reader"),
        || std::thread::sleep(Duration::from_millis(5)),
    );
    drop(sender);
    assert_eq!(reader.join().expect("a reader that ends"), BURST * BURSTS);
    let (mine, other) = (median(&ours), median(&theirs));
    println!("push, bursts of {BURST} into a lane with room, 1 thread, ns a push:");
    println!("  headwater          {mine:>8.1}");
    println!(
        "  std sync_channel   {other:>8.1}  ratio {:.2}",
        median_ratio(&theirs, &ours)
    );
}

/// What pushing a batch of 1,000 rows costs the pusher, clone of the batch included.
fn batch_pushes() {
    const BATCHES: usize = 64;
    let (db, source) = counting();
    let trades: Vec<Trade> = (0..1_000).map(trade).collect();
    let batch = Trade::to_columns(&trades).expect("columns of trades");
    let mut costs = Vec::with_capacity(BURSTS);
    for _ in 0..BURSTS {
        let start = Instant::now();
        for _ in 0..BATCHES {
            source.push_arrow(batch.clone()).expect("an open source");
        }
        costs.push(start.elapsed().as_nanos() as f64 / BATCHES as f64);
        db.settle().expect("an open database");
    }
    let cost = median(&costs);
    println!("push_arrow of 1,000 rows, ns a batch:");
    println!("  headwater          {cost:>8.1}  (the requirement: 1,000)");
}

/// Calls `push` from `threads` threads for `time`; how often it was called, and for how long.
fn full_speed<P: FnMut(Trade) + Send + 'static>(
    time: Duration,
    pushers: Vec<P>,
) -> (u64, Duration) {
    let start = Instant::now();
    let pushing = pushers.into_iter().map(|mut push| {
        std::thread::spawn(move || {
            let trades: Vec<Trade> = (0..STRETCH).map(trade).collect();
            let mut pushed = 0;
            while start.elapsed() < time {
                trades.iter().for_each(|trade| push(*trade));
                pushed += STRETCH as u64;
            }
            pushed
        })
    });
    let pushing: Vec<_> = pushing.collect();
    let pushed = pushing
        .into_iter()
        .map(|it| it.join().expect("a pusher that ends"));
    (pushed.sum(), start.elapsed())
}

fn ours_at_full_speed(time: Duration, threads: usize) -> f64 {
    let (db, source) = counting();
    let pushers = (0..threads).map(|_| {
        let source = source.clone();
        move |trade| source.push(trade).expect("an open source")
    });
    let start = Instant::now();
    let (accepted, _) = full_speed(time, pushers.collect());
    let seen = counted(&db);
    let speed = accepted as f64 / 1e6 / start.elapsed().as_secs_f64();
    let difference = i128::from(accepted) - i128::from(seen);
    println!(
        "  headwater          {speed:>8.1}  accepted {accepted}, seen {seen}, difference {difference}"
    );
    assert_eq!(
        difference, 0,
        "an accepted row was not seen, or one was seen twice"
    );
    speed
}

fn theirs_at_full_speed(time: Duration, threads: usize) -> f64 {
    let (sender, receiver) = sync_channel::<Trade>(SLOTS);
    let reader = std::thread::spawn(move || receiver.iter().count() as u64);
    let pushers = (0..threads).map(|_| {
        let sender = sender.clone();
        move |trade| sender.send(trade).expect("a reader")
    });
    let pushers = pushers.collect();
    drop(sender);
    let start = Instant::now();
    let (accepted, _) = full_speed(time, pushers);
    assert_eq!(reader.join().expect("a reader that ends"), accepted);
    accepted as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn main() {
    single_pushes();
    batch_pushes();
    let seconds = setting("HEADWATER_BENCH_SECONDS", 10);
    let time = Duration::from_secs(seconds as u64);
    for threads in [1, 2] {
        println!(
            "full speed from {threads} thread(s) for {seconds} s, M rows/s to the end of the query:"
        );
        let ours = ours_at_full_speed(time, threads);
        let theirs = theirs_at_full_speed(time, threads);
        println!(
            "  std sync_channel   {theirs:>8.1}  ratio {:.2}",
            ours / theirs
        );
    }
}
