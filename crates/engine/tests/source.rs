//! Typed sources through the whole engine: push, watermarks, windows, subscriptions, views.

use std::time::Duration;

use headwater::{Db, Event, Record, Symbol, Timestamp};

#[derive(Record, Debug, Clone, PartialEq)]
struct Trade {
    symbol: Symbol<8>,
    price: f64,
    qty: i64,
    #[record(event_time)]
    ts: Timestamp,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Vwap {
    symbol: String,
    vwap: f64,
    n: i64,
}

const TRADES: &str = "CREATE SOURCE trades (
    symbol VARCHAR NOT NULL, price DOUBLE NOT NULL, qty BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds');";

fn trade(symbol: &str, price: f64, qty: i64, second: f64) -> Trade {
    let ts = Timestamp::from_micros((second * 1e6) as i64);
    Trade {
        symbol: symbol.parse().unwrap(),
        price,
        qty,
        ts,
    }
}

fn db(workers: usize) -> Db {
    Db::builder().workers(workers).in_memory().unwrap()
}

#[test]
fn a_tumbling_window_closes_with_the_watermark() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(TRADES).unwrap();
        db.execute(
            "CREATE STREAM vwap AS SELECT symbol, SUM(price * qty) / SUM(qty) AS vwap, COUNT(*) AS n
             FROM trades GROUP BY TUMBLE(ts, INTERVAL '1 minute'), symbol",
        )
        .unwrap();
        let mut results = db.subscribe::<Vwap>("vwap").unwrap();
        let source = db.source::<Trade>("trades").unwrap();
        source.push(trade("A", 10.0, 1, 1.0)).unwrap();
        source.push(trade("A", 20.0, 3, 59.9)).unwrap();
        db.settle().unwrap();
        assert!(
            results.try_next().unwrap().is_none(),
            "the window is still open"
        );
        source.push(trade("A", 99.0, 1, 60.1)).unwrap();
        let closed = results.next().unwrap().unwrap();
        assert_eq!(
            closed,
            Vwap {
                symbol: "A".into(),
                vwap: 17.5,
                n: 2
            }
        );
        source.close();
        let last = results.next().unwrap().unwrap();
        assert_eq!(
            last,
            Vwap {
                symbol: "A".into(),
                vwap: 99.0,
                n: 1
            }
        );
    }
}

#[test]
fn a_view_is_current() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(TRADES).unwrap();
        db.execute("CREATE VIEW latest AS SELECT symbol, MAX(ts) AS ts, COUNT(*) AS n FROM trades GROUP BY symbol")
            .unwrap();
        let source = db.source::<Trade>("trades").unwrap();
        for second in 0..10 {
            source.push(trade("A", 1.0, 1, f64::from(second))).unwrap();
            source.push(trade("B", 1.0, 1, f64::from(second))).unwrap();
            db.settle().unwrap();
        }
        let rows = db
            .query("SELECT symbol, n FROM latest WHERE n > 5 ORDER BY symbol")
            .unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&rows)
            .unwrap()
            .to_string();
        assert!(
            text.contains("| A      | 10 |") && text.contains("| B      | 10 |"),
            "{text}"
        );
    }
}

#[test]
fn late_rows_are_a_stream() {
    let db = db(1);
    db.execute(TRADES).unwrap();
    db.execute(
        "CREATE STREAM n AS SELECT window_start, COUNT(*) AS n FROM trades
         GROUP BY TUMBLE(ts, INTERVAL '1 second')",
    )
    .unwrap();
    let mut late = db.subscribe_batches("n__late").unwrap();
    let source = db.source::<Trade>("trades").unwrap();
    source.push(trade("A", 1.0, 1, 10.0)).unwrap();
    db.settle().unwrap();
    source.push(trade("A", 1.0, 1, 5.0)).unwrap();
    let event = late.next_within(Duration::from_secs(10)).unwrap().unwrap();
    assert!(matches!(event, Event::Rows(rows) if rows.num_rows() == 1));
}
