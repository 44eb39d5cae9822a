//! How long a row takes from `push` to the subscriber, through a filter and a projection.
//!
//! 10,000 rows a second, one by one, for `HEADWATER_BENCH_SECONDS` (default 5); each row carries
//! the moment it was pushed. Once with `Spin` (the worker spins, the subscriber asks with
//! `try_next`), once with the default settings (the worker sleeps, the subscriber is a blocking
//! iterator on a thread of its own). p50, p99 and the greatest, in microseconds.
//!
//! The rival is the least that any such engine must do: the same record through two bounded
//! `std::sync::mpsc` channels with a thread between them that filters. Spinning takes a core for the
//! worker and one for the program, so on two cores push and `try_next` share a thread.
//! Run: `cargo bench -p headwater --bench latency`.

mod trades;

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use headwater::{Db, Record, Symbol, Timestamp, WaitStrategy};
use trades::{TRADES, Trade, setting};

const PERIOD: Duration = Duration::from_micros(100);
const SLOTS: usize = 65_536;

/// What the query leaves of a trade.
#[derive(Record)]
struct Passed {
    #[allow(dead_code)] // The projection has a string too.
    symbol: Symbol<8>,
    #[allow(dead_code)]
    worth: f64,
    id: i64,
}

const QUERY: &str =
    "CREATE STREAM passed AS SELECT symbol, price * qty AS worth, id FROM trades WHERE qty > 0";

fn trade(id: i64) -> Trade {
    Trade {
        symbol: "BTCUSDT".parse().expect("a short symbol"),
        price: 50_000.5,
        qty: 3,
        id,
        ts: Timestamp::from_micros(id),
    }
}

/// The clock that rows carry as their id.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now_ns(self) -> i64 {
        self.0.elapsed().as_nanos() as i64
    }

    fn since_us(self, id: i64) -> f64 {
        (self.now_ns() - id) as f64 / 1e3
    }

    /// When row number `row` is due.
    fn due(self, row: usize) -> Instant {
        self.0 + PERIOD * row as u32
    }
}

fn open(wait: WaitStrategy) -> Db {
    let db = Db::builder().workers(1).wait_strategy(wait);
    let db = db.in_memory().expect("one thread");
    db.execute(TRADES).expect("a source");
    db.execute(QUERY).expect("a query");
    db
}

/// Pushes and asks in turn, on one thread.
fn spinning(
    rows: usize,
    mut push: impl FnMut(Trade),
    mut ask: impl FnMut() -> Option<i64>,
) -> Vec<f64> {
    let clock = Clock(Instant::now());
    let mut latencies = Vec::with_capacity(rows);
    for row in 0..rows {
        while Instant::now() < clock.due(row) {
            std::hint::spin_loop();
        }
        push(trade(clock.now_ns()));
        let id = loop {
            match ask() {
                Some(id) => break id,
                None => std::hint::spin_loop(),
            }
        };
        latencies.push(clock.since_us(id));
    }
    latencies
}

/// Pushes here, while a thread of its own takes what comes.
fn waiting(
    rows: usize,
    mut push: impl FnMut(Trade),
    mut next: impl FnMut() -> i64 + Send + 'static,
) -> Vec<f64> {
    let clock = Clock(Instant::now());
    let taking = std::thread::spawn(move || {
        let taken = (0..rows).map(|_| clock.since_us(next()));
        taken.collect()
    });
    for row in 0..rows {
        let left = clock.due(row).saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        push(trade(clock.now_ns()));
    }
    taking.join().expect("a subscriber that ends")
}

fn ours_spinning(rows: usize) -> Vec<f64> {
    let db = open(WaitStrategy::Spin);
    let mut results = db.subscribe::<Passed>("passed").expect("results");
    let source = db
        .source::<Trade>("trades")
        .expect("the columns of a trade");
    let push = |trade| source.push(trade).expect("an open source");
    spinning(rows, push, || {
        let row = results.try_next().expect("results");
        row.map(|row| row.id)
    })
}

fn ours_waiting(rows: usize) -> Vec<f64> {
    let db = open(WaitStrategy::default());
    let mut results = db.subscribe::<Passed>("passed").expect("results");
    let source = db
        .source::<Trade>("trades")
        .expect("the columns of a trade");
    let push = |trade| source.push(trade).expect("an open source");
    waiting(rows, push, move || {
        let row = results.next().expect("no end").expect("results");
        row.id
    })
}

type Ends = (SyncSender<Trade>, Receiver<Passed>);

/// Two channels and a thread between them that filters and projects.
fn channels(spin: bool) -> Ends {
    let (sender, trades) = sync_channel::<Trade>(SLOTS);
    let (passing, passed) = sync_channel(SLOTS);
    std::thread::spawn(move || {
        let next = || match spin {
            true => loop {
                match trades.try_recv() {
                    Ok(trade) => break Some(trade),
                    Err(TryRecvError::Empty) => std::hint::spin_loop(),
                    Err(TryRecvError::Disconnected) => break None,
                }
            },
            false => trades.recv().ok(),
        };
        let wanted = std::iter::from_fn(next).filter(|trade| trade.qty > 0);
        for trade in wanted {
            let (symbol, worth) = (trade.symbol, trade.price * trade.qty as f64);
            let row = Passed {
                symbol,
                worth,
                id: trade.id,
            };
            if passing.send(row).is_err() {
                break;
            }
        }
    });
    (sender, passed)
}

fn theirs_spinning(rows: usize) -> Vec<f64> {
    let (sender, passed) = channels(true);
    let push = |trade| sender.send(trade).expect("a reader");
    spinning(rows, push, || passed.try_recv().ok().map(|row| row.id))
}

fn theirs_waiting(rows: usize) -> Vec<f64> {
    let (sender, passed) = channels(false);
    let push = |trade| sender.send(trade).expect("a reader");
    waiting(rows, push, move || passed.recv().expect("no end").id)
}

/// p50, p99 and the greatest.
fn report(name: &str, mut latencies: Vec<f64>) -> f64 {
    // The first rows find cold caches, and threads that are just starting.
    latencies.drain(..latencies.len() / 10);
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    println!("  {name:<28} p50 {p50:>8.1}   p99 {p99:>8.1}   max {max:>9.1}");
    p50
}

fn main() {
    let seconds = setting("HEADWATER_BENCH_SECONDS", 5);
    let rows = seconds * 10_000;
    println!("{rows} rows, 10,000 a second, from push to the subscriber, µs");
    println!("spinning (goal: p50 under 10)");
    let ours = report("headwater", ours_spinning(rows));
    let theirs = report("std channels and a thread", theirs_spinning(rows));
    println!("  ratio of p50 {:.2}", ours / theirs);
    println!("default wait (goal: p99 under 1,000)");
    let ours = report("headwater", ours_waiting(rows));
    let theirs = report("std channels and a thread", theirs_waiting(rows));
    println!("  ratio of p50 {:.2}", ours / theirs);
}
