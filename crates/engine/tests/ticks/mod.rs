//! A source of numbers, a second apart, pushed in several steps.

use headwater::{Db, Record, Timestamp};

#[derive(Debug, Clone, PartialEq, Record)]
pub struct Tick {
    pub n: i64,
    pub ts: Timestamp,
}

pub const SOURCE: &str = "CREATE SOURCE ticks (n BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '0 seconds')";

/// Pushes these numbers, number n at second n, and waits until they are processed.
pub fn push(db: &Db, numbers: std::ops::Range<i64>) {
    let source = db.source::<Tick>("ticks").unwrap();
    for n in numbers {
        let ts = Timestamp::from_micros(n * 1_000_000);
        source.push(Tick { n, ts }).unwrap();
        if n % 7 == 0 {
            db.settle().unwrap();
        }
    }
    db.settle().unwrap();
}
