//! A push allocates nothing: what it costs is a move into the lane.
//!
//! Allocations are counted on the pushing thread alone, so what the engine does on its own threads
//! with the rows does not matter here. The lane is larger than what is pushed: a push that waits
//! for space may sleep, and that is not what is counted.

use headwater::{Db, Record, Source, Symbol, Timestamp};

#[derive(Record, Clone)]
struct Trade {
    symbol: Symbol<8>,
    price: f64,
    qty: i64,
    id: i64,
    #[record(event_time)]
    ts: Timestamp,
}

fn trade(id: i64) -> Trade {
    Trade {
        symbol: "BTCUSDT".parse().unwrap(),
        price: 50_000.5,
        qty: 3,
        id,
        ts: Timestamp::from_micros(id),
    }
}

fn source(db: &Db) -> Source<Trade> {
    db.execute(
        "CREATE SOURCE trades (symbol VARCHAR NOT NULL, price DOUBLE NOT NULL, qty BIGINT NOT NULL,
             id BIGINT NOT NULL, ts TIMESTAMP NOT NULL, WATERMARK FOR ts AS ts);
         CREATE VIEW n AS SELECT COUNT(*) AS n FROM trades",
    )
    .unwrap();
    db.source("trades").unwrap()
}

fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_push_allocates_nothing() {
    let db = Db::builder().workers(1).in_memory().unwrap();
    let source = source(&db);
    let batch: Vec<Trade> = (0..1_000).map(trade).collect();
    let counted = allocations(|| {
        for id in 0..30_000 {
            source.push(trade(id)).unwrap();
            assert!(source.try_push(trade(id)).is_ok());
        }
        source.push_batch(&batch).unwrap();
        source.watermark(7);
        assert!(source.has_capacity());
    });
    assert_eq!(counted, 0, "allocations in 61,000 pushes");
}
