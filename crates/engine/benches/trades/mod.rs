//! What the benches of the engine share: trades, made once in memory, and how rounds are summed up.
//!
//! Event time runs at 100,000 rows a second with a jitter of 20 ms, so rows come a little out of
//! order. Keys are drawn evenly, or in **bursts**: each second another tenth of the keys is active,
//! which is what makes sessions. The same seed makes the same trades on every machine.
//!
//! A figure is the median of several rounds in which the rivals take turns, so that whatever else
//! the machine does meets all of them alike.

// Each bench is a crate of its own and uses some of this.
#![allow(dead_code)]

use std::sync::Arc;

use headwater::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use headwater::{Record, Symbol, Timestamp};

/// Event time between two rows, in microseconds.
pub const SPACING_US: i64 = 10;
/// How far rows come out of order at most, in microseconds.
pub const JITTER_US: u64 = 20_000;

/// CREATE SOURCE for [`Trade`].
pub const TRADES: &str = "CREATE SOURCE trades (
    symbol VARCHAR NOT NULL, price DOUBLE NOT NULL, qty BIGINT NOT NULL, id BIGINT NOT NULL,
    ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts - INTERVAL '20 milliseconds')";

/// A record of five fields with a short string.
#[derive(Record, Debug, Clone, Copy, PartialEq)]
pub struct Trade {
    pub symbol: Symbol<8>,
    pub price: f64,
    pub qty: i64,
    pub id: i64,
    #[record(event_time)]
    pub ts: Timestamp,
}

/// Which keys come when.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// Any of this many, at any time.
    Even(u64),
    /// Any of this many; each second another tenth of them.
    Bursts(u64),
}

/// A number from the environment, or the default.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Numbers that look random and are the same each time (xorshift64*).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let rolled = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(rolled) * u128::from(sides)) >> 64) as u64
    }
}

impl Keys {
    fn key(self, row: u64, dice: &mut Dice) -> u64 {
        match self {
            Self::Even(keys) => dice.roll(keys),
            Self::Bursts(keys) => {
                let second = row * SPACING_US as u64 / 1_000_000;
                second % 10 * (keys / 10) + dice.roll(keys / 10)
            }
        }
    }
}

/// One trade as plain values: symbol number, price, quantity, event time.
pub fn trade(row: u64, keys: Keys, dice: &mut Dice) -> (u64, f64, i64, i64) {
    let key = keys.key(row, dice);
    let price = 50_000.5 + dice.roll(1_000) as f64 / 2.0;
    let qty = 1 + dice.roll(100) as i64;
    let ts = 1_700_000_000_000_000 + row as i64 * SPACING_US + dice.roll(JITTER_US) as i64;
    (key, price, qty, ts)
}

/// `rows` trades in batches of `size`.
pub fn batches(rows: usize, size: usize, keys: Keys) -> Vec<RecordBatch> {
    let mut dice = Dice(42);
    let starts = (0..rows).step_by(size);
    starts
        .map(|start| batch(start..rows.min(start + size), keys, &mut dice))
        .collect()
}

fn batch(rows: std::ops::Range<usize>, keys: Keys, dice: &mut Dice) -> RecordBatch {
    let trades: Vec<_> = rows
        .clone()
        .map(|row| trade(row as u64, keys, dice))
        .collect();
    let symbols = trades.iter().map(|trade| format!("S{:06}", trade.0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(symbols)),
        Arc::new(Float64Array::from_iter_values(trades.iter().map(|it| it.1))),
        Arc::new(Int64Array::from_iter_values(trades.iter().map(|it| it.2))),
        Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            trades.iter().map(|it| it.3),
        )),
    ];
    RecordBatch::try_new(Trade::schema(), columns).expect("the columns of a trade")
}

/// The middle one of the values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median of what each round of one was, divided by what the same round of the other was.
pub fn median_ratio(ones: &[f64], others: &[f64]) -> f64 {
    let ratios: Vec<f64> = ones
        .iter()
        .zip(others)
        .map(|(one, other)| one / other)
        .collect();
    median(&ratios)
}
