//! What it costs to turn typed rows into columns, in nanoseconds a row.
//!
//! A trade of five fields, once with its symbol inline and once as a `String`, in batches of
//! 8,192 rows, beside Arrow's own builders filled row by row. The figure is the best of many
//! rounds. Run: `cargo bench -p headwater --bench record`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use headwater::{Record, Symbol, Timestamp};

const ROWS: usize = 8_192;
const ROUNDS: usize = 500;

#[derive(Record)]
struct Inline {
    symbol: Symbol<8>,
    price: f64,
    qty: i64,
    id: i64,
    #[record(event_time)]
    ts: Timestamp,
}

#[derive(Record)]
struct Owned {
    symbol: String,
    price: f64,
    qty: i64,
    id: i64,
    #[record(event_time)]
    ts: Timestamp,
}

fn owned(i: usize) -> Owned {
    let symbol = ["AAPL", "GOOGL", "MSFT", "NVDA", "BRK.B"][i % 5];
    Owned {
        symbol: symbol.to_owned(),
        price: i as f64 / 7.0,
        qty: i as i64 % 100,
        id: i as i64,
        ts: Timestamp::from_micros(i as i64),
    }
}

fn inline(i: usize) -> Inline {
    let Owned {
        symbol,
        price,
        qty,
        id,
        ts,
    } = owned(i);
    let symbol = symbol.parse().unwrap_or_default();
    Inline {
        symbol,
        price,
        qty,
        id,
        ts,
    }
}

/// What one would write without the derive.
fn builders(rows: &[Owned]) -> RecordBatch {
    let mut symbol = StringBuilder::with_capacity(rows.len(), rows.len() * 8);
    let mut price = Float64Builder::with_capacity(rows.len());
    let mut qty = Int64Builder::with_capacity(rows.len());
    let mut id = Int64Builder::with_capacity(rows.len());
    let mut ts = TimestampMicrosecondBuilder::with_capacity(rows.len());
    for row in rows {
        symbol.append_value(&row.symbol);
        price.append_value(row.price);
        qty.append_value(row.qty);
        id.append_value(row.id);
        ts.append_value(row.ts.as_micros());
    }
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(symbol.finish()),
        Arc::new(price.finish()),
        Arc::new(qty.finish()),
        Arc::new(id.finish()),
        Arc::new(ts.finish()),
    ];
    match RecordBatch::try_new(Owned::schema(), columns) {
        Ok(batch) => batch,
        Err(e) => panic!("{e}"),
    }
}

fn report<T>(name: &str, mut round: impl FnMut() -> T) {
    let time = |_| {
        let start = Instant::now();
        black_box(round());
        start.elapsed()
    };
    let best = (0..ROUNDS).map(time).min().unwrap_or(Duration::ZERO);
    let per_row = best.as_nanos() as f64 / ROWS as f64;
    println!("{name:<36} {per_row:>6.2} ns/row");
}

fn main() {
    let inline: Vec<_> = (0..ROWS).map(inline).collect();
    let owned: Vec<_> = (0..ROWS).map(owned).collect();
    let batch = builders(&owned);
    report("to_columns, Symbol<8>", || {
        Inline::to_columns(black_box(&inline))
    });
    report("to_columns, String", || {
        Owned::to_columns(black_box(&owned))
    });
    report("Arrow builders row by row, String", || {
        builders(black_box(&owned))
    });
    report("from_columns, Symbol<8>", || {
        Inline::from_columns(black_box(&batch))
    });
    report("from_columns, String", || {
        Owned::from_columns(black_box(&batch))
    });
}
