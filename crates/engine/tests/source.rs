//! Typed sources through the whole engine: push, watermarks, windows, subscriptions, views.

mod support;

use std::time::{Duration, Instant};

use headwater::{Db, Event, Record, Symbol, Timestamp};
use support::{PATIENCE, next_event, next_record, shown};

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
        let closed = next_record(&mut results);
        assert_eq!(
            closed,
            Vwap {
                symbol: "A".into(),
                vwap: 17.5,
                n: 2
            }
        );
        source.close();
        let last = next_record(&mut results);
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
        let text = shown(
            &db,
            "SELECT symbol, n FROM latest WHERE n > 5 ORDER BY symbol",
        );
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
    let event = next_event(&mut late);
    assert!(matches!(event, Event::Rows(rows) if rows.num_rows() == 1));
}

#[test]
fn a_multi_producer_stress_loses_nothing() {
    let db = db(2);
    db.execute(TRADES).unwrap();
    db.execute("CREATE VIEW total AS SELECT COUNT(*) AS n, SUM(qty) AS qty FROM trades")
        .unwrap();
    let source = db.source::<Trade>("trades").unwrap();
    let pushers: Vec<_> = (0..4)
        .map(|_| {
            let source = source.clone();
            std::thread::spawn(move || {
                for qty in 0..25_000 {
                    source.push(trade("A", 1.0, qty, 0.0)).unwrap();
                }
            })
        })
        .collect();
    pushers
        .into_iter()
        .for_each(|pusher| pusher.join().unwrap());
    db.settle().unwrap();
    let text = shown(&db, "SELECT n, qty FROM total");
    assert!(text.contains("| 100000 | 1249950000 |"), "{text}");
}

#[test]
fn a_watermark_set_by_the_program_closes_windows() {
    let db = db(1);
    db.execute(TRADES).unwrap();
    db.execute("CREATE STREAM n AS SELECT COUNT(*) AS n FROM trades GROUP BY TUMBLE(ts, INTERVAL '1 second')")
        .unwrap();
    let mut results = db.subscribe_batches("n").unwrap();
    let source = db.source::<Trade>("trades").unwrap();
    source.push(trade("A", 1.0, 1, 0.5)).unwrap();
    source.watermark(999_999);
    db.settle().unwrap();
    assert!(results.try_next().unwrap().is_none());
    source.watermark(1_000_000);
    let event = next_event(&mut results);
    assert!(matches!(event, Event::Rows(rows) if rows.num_rows() == 1));
}

#[test]
fn a_source_that_does_not_exist_or_differs_is_refused() {
    let db = db(1);
    db.execute(TRADES).unwrap();
    let error = db.source::<Trade>("nowhere").unwrap_err().to_string();
    assert!(error.contains("CREATE SOURCE"), "{error}");
    let error = db.source::<Vwap>("trades").unwrap_err().to_string();
    assert!(error.contains("vwap"), "{error}");
}

#[test]
fn a_total_has_a_row_before_anything_came() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(TRADES).unwrap();
        db.execute("CREATE VIEW total AS SELECT COUNT(*) AS n, SUM(qty) AS qty FROM trades")
            .unwrap();
        let text = shown(&db, "SELECT n, qty FROM total");
        assert!(text.contains("| 0 |     |"), "{workers} workers: {text}");
    }
}

#[test]
fn sessions_close_after_the_gap_and_hops_overlap() {
    for workers in [1, 2] {
        let db = db(workers);
        db.execute(TRADES).unwrap();
        db.execute(
            "CREATE VIEW s AS SELECT symbol, window_start, window_end, COUNT(*) AS n FROM trades
                 GROUP BY SESSION(ts, INTERVAL '5 seconds'), symbol;
             CREATE VIEW h AS SELECT window_end, SUM(qty) AS qty FROM trades
                 GROUP BY HOP(ts, INTERVAL '1 second', INTERVAL '2 seconds');",
        )
        .unwrap();
        let source = db.source::<Trade>("trades").unwrap();
        for second in [0.0, 3.0, 7.0, 20.0, 24.0] {
            source.push(trade("A", 1.0, 1, second)).unwrap();
        }
        source.close();
        db.settle().unwrap();
        let text = shown(&db, "SELECT COUNT(*) AS sessions, MAX(n) AS longest FROM s");
        assert!(text.contains("| 2        | 3       |"), "{text}");
        let text = shown(&db, "SELECT COUNT(*) AS windows, SUM(qty) AS qty FROM h");
        assert!(text.contains("| 10      | 10  |"), "{text}");
    }
}

#[test]
fn a_silent_producer_holds_the_watermark_back_only_until_it_is_idle() {
    let db = db(1);
    db.execute(
        "CREATE SOURCE trades (
             symbol VARCHAR NOT NULL, price DOUBLE NOT NULL, qty BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
             WATERMARK FOR ts AS ts) WITH (idle_timeout = '200 milliseconds');
         CREATE STREAM n AS SELECT COUNT(*) AS n FROM trades GROUP BY TUMBLE(ts, INTERVAL '1 second');",
    )
    .unwrap();
    let mut results = db.subscribe_batches("n").unwrap();
    let source = db.source::<Trade>("trades").unwrap();
    let silent = source.clone();
    source.push(trade("A", 1.0, 1, 0.0)).unwrap();
    source.push(trade("A", 1.0, 1, 5.0)).unwrap();
    db.settle().unwrap();
    assert!(
        results.try_next().unwrap().is_none(),
        "the silent producer may still have old rows"
    );
    // Nothing is pushed any more: the clock alone lets the windows close, once both are idle or
    // the active one goes on.
    let began = Instant::now();
    let closed = loop {
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain for a window to close"
        );
        source.push(trade("A", 1.0, 1, 6.0)).unwrap();
        if let Some(event) = results.next_within(Duration::from_millis(20)).unwrap() {
            break event;
        }
    };
    assert!(matches!(closed, Event::Rows(_)));
    drop(silent);
}
