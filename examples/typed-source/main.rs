//! Rust structs as the rows of streaming SQL.
//!
//! `#[derive(Record)]` defines the columns, `push` writes the struct into a ring, and results come back
//! as structs too. A clone of the handle is a second producer, for another thread, without any setting.

use std::error::Error;
use std::io::Write;

use headwater::{Db, Record, SourceConfig, Symbol, Timestamp};

#[derive(Record, Clone)]
struct Trade {
    symbol: Symbol<8>,
    price: f64,
    qty: i64,
    #[record(event_time)]
    ts: Timestamp,
}

#[derive(Record, Debug)]
struct Volume {
    symbol: String,
    window_start: Timestamp,
    qty: i64,
    vwap: f64,
}

#[allow(dead_code)] // Also a module of the tests.
fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

fn trade(symbol: &str, price: f64, qty: i64, second: i64) -> Result<Trade, Box<dyn Error>> {
    Ok(Trade {
        symbol: Symbol::new(symbol)?,
        price,
        qty,
        ts: Timestamp::from_micros(second * 1_000_000),
    })
}

/// Runs the example and prints into `out`.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let db = Db::in_memory()?;
    db.execute(
        "CREATE SOURCE trades (
             symbol VARCHAR NOT NULL,
             price DOUBLE NOT NULL,
             qty BIGINT NOT NULL,
             ts TIMESTAMP NOT NULL,
             WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds'
         ) WITH (
             buffer_size = 131072,
             backpressure = 'block',
             wait_strategy = 'spin_yield'
         );
         CREATE STREAM volumes AS
         SELECT symbol, window_start, SUM(qty) AS qty, SUM(price * qty) / SUM(qty) AS vwap
         FROM trades GROUP BY TUMBLE(ts, INTERVAL '1 minute'), symbol;",
    )?;
    let volumes = db.subscribe::<Volume>("volumes")?;

    let source = db.source::<Trade>("trades")?;
    source.push(trade("BTC", 50_000.0, 2, 0)?)?;
    let another = source.clone();
    writeln!(
        out,
        "{} producers, mpsc: {}",
        source.producer_count(),
        source.is_mpsc()
    )?;
    let pushed = std::thread::spawn(move || {
        // An error crosses the thread as text.
        let trade = |qty, second| trade("BTC", 53_000.0, qty, second).map_err(|it| it.to_string());
        another.push(trade(1, 30)?).map_err(|it| it.to_string())?;
        another.push(trade(5, 61)?).map_err(|it| it.to_string())
    });
    pushed.join().map_err(|_| "the other thread panicked")??;
    source.push_batch(&[trade("ETH", 3_000.0, 4, 59)?, trade("ETH", 3_100.0, 4, 62)?])?;
    // No earlier row will come: this closes the window of the first minute.
    source.watermark(60_100_000);
    source.close();

    let mut volumes = volumes.take(4).collect::<Result<Vec<Volume>, _>>()?;
    // The rows of a window come in no particular order.
    volumes.sort_by_key(|volume| (volume.window_start.as_micros(), volume.symbol.clone()));
    for volume in volumes {
        writeln!(
            out,
            "{} minute {}: {} for {:.1} on average",
            volume.symbol,
            volume.window_start.as_micros() / 60_000_000,
            volume.qty,
            volume.vwap
        )?;
    }
    let closed = source.push(trade("BTC", 1.0, 1, 63)?);
    writeln!(out, "a push after the close: {}", result_text(closed))?;
    let absent = db.source_with_config::<Trade>("quotes", SourceConfig::default());
    writeln!(out, "another source: {}", result_text(absent.map(|_| ())))?;
    Ok(())
}

fn result_text<E: std::fmt::Display>(result: Result<(), E>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}
