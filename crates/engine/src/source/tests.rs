//! A handle against a lane that the test itself reads, so that "full" is a fact and not a race.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use headwater_ring::{Backpressure, ChannelConfig, Consumer, WaitStrategy, channel};
use proptest::prelude::*;

use super::{Message, Source, SourceError, TryPushError};
use crate::record::{Record, Timestamp};
use crate::source::{LanesBytes, SourceShared};

#[derive(Record, Debug, Clone, Copy, PartialEq)]
struct Tick {
    id: i64,
    #[record(event_time)]
    ts: Timestamp,
}

fn tick(id: i64) -> Tick {
    Tick {
        id,
        ts: Timestamp::from_micros(id),
    }
}

/// A handle and the other end of its lanes, two slots each.
fn source(backpressure: Backpressure) -> (Source<Tick>, Consumer<Message<Tick>>) {
    let config = ChannelConfig {
        capacity: 2,
        backpressure,
        wait: WaitStrategy::Park,
    };
    let (producer, consumer) = channel(config).unwrap();
    let shared = SourceShared::new(
        "ticks".into(),
        Tick::schema(),
        Box::new(|| {}),
        Arc::default(),
    );
    let bytes = LanesBytes::new(backpressure, WaitStrategy::Park);
    (
        Source::new(producer, &bytes, Arc::new(shared), None),
        consumer,
    )
}

fn ids(consumer: &mut Consumer<Message<Tick>>) -> Vec<i64> {
    let mut ids = Vec::new();
    consumer.drain(usize::MAX, |message| {
        if let Message::Record(tick) = message {
            ids.push(tick.id);
        }
    });
    ids
}

#[test]
fn test_source_push_single() {
    let (source, mut lane) = source(Backpressure::Block);
    source.push(tick(1)).unwrap();
    assert_eq!(ids(&mut lane), [1]);
}

#[test]
fn test_source_try_push_when_empty() {
    let (source, mut lane) = source(Backpressure::Block);
    assert!(source.has_capacity());
    source.try_push(tick(1)).unwrap();
    assert_eq!(ids(&mut lane), [1]);
}

#[test]
fn test_source_try_push_when_full() {
    let (source, mut lane) = source(Backpressure::Block);
    source.push_batch(&[tick(1), tick(2)]).unwrap();
    assert!(!source.has_capacity());
    assert_eq!(source.try_push(tick(3)), Err(TryPushError::Full(tick(3))));
    assert_eq!(ids(&mut lane), [1, 2]);
}

#[test]
fn test_source_push_batch() {
    let (source, mut lane) = source(Backpressure::Block);
    source.push_batch(&[]).unwrap();
    source.push_batch(&[tick(1), tick(2)]).unwrap();
    assert_eq!(ids(&mut lane), [1, 2]);
}

#[test]
fn test_source_push_arrow() {
    let (source, mut lane) = source(Backpressure::Block);
    let batch = Tick::to_columns(&[tick(1), tick(2), tick(3)]).unwrap();
    source.push_arrow(batch.clone()).unwrap();
    let mut got = Vec::new();
    lane.drain(usize::MAX, |message| {
        if let Message::Arrow(batch) = message {
            got.push(*batch);
        }
    });
    assert_eq!(got, [batch]);
}

#[test]
fn test_source_watermark() {
    let (source, mut lane) = source(Backpressure::Block);
    assert_eq!(source.current_watermark(), i64::MIN);
    source.watermark(10);
    source.watermark(5);
    assert_eq!(
        source.current_watermark(),
        10,
        "a watermark never goes back"
    );
    let mut said = Vec::new();
    lane.drain(usize::MAX, |message| {
        if let Message::Watermark(at) = message {
            said.push(at);
        }
    });
    assert_eq!(said, [10]);
}

#[test]
fn test_source_clone_upgrades_to_mpsc() {
    let (source, mut lane) = source(Backpressure::Block);
    assert!(!source.is_mpsc());
    let second = source.clone();
    assert!(source.is_mpsc() && source.producer_count() == 2);
    source.push_batch(&[tick(1), tick(2)]).unwrap();
    second.push(tick(3)).unwrap();
    assert_eq!(ids(&mut lane), [1, 2, 3], "the clone has room of its own");
    drop(second);
    assert!(!source.is_mpsc());
}

#[test]
fn test_source_close() {
    let (source, mut lane) = source(Backpressure::Block);
    source.push(tick(1)).unwrap();
    let clone = source.clone();
    source.close();
    assert_eq!(source.push(tick(2)), Err(SourceError::Closed));
    assert_eq!(clone.push(tick(2)), Err(SourceError::Closed));
    assert_eq!(source.try_push(tick(2)), Err(TryPushError::Closed(tick(2))));
    assert_eq!(ids(&mut lane), [1], "what was pushed before is still read");
}

#[test]
fn test_source_schema_validation() {
    let (source, _lane) = source(Backpressure::Block);
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let error = source.push_arrow(batch).unwrap_err();
    assert!(matches!(error, SourceError::SchemaMismatch { .. }));
    assert!(error.to_string().contains("\"ts\""), "{error}");
}

#[test]
fn test_backpressure_block() {
    let (source, mut lane) = source(Backpressure::Block);
    source.push_batch(&[tick(1), tick(2)]).unwrap();
    let pushed = std::thread::spawn(move || source.push(tick(3)));
    // The third push can only return once something was read.
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(ids(&mut lane));
    }
    pushed.join().unwrap().unwrap();
    assert_eq!(got, [1, 2, 3]);
}

#[test]
fn test_backpressure_drop_oldest() {
    let (source, mut lane) = source(Backpressure::DropOldest);
    for id in 1..=5 {
        source.push(tick(id)).unwrap();
    }
    assert_eq!(source.dropped(), 3);
    assert_eq!(ids(&mut lane), [4, 5]);
}

#[test]
fn test_backpressure_reject() {
    let (source, mut lane) = source(Backpressure::Reject);
    source.push_batch(&[tick(1), tick(2)]).unwrap();
    assert_eq!(source.push(tick(3)), Err(SourceError::Full));
    assert_eq!(ids(&mut lane), [1, 2]);
}

/// A row that says of itself how much it holds.
struct Large(usize);

impl Record for Large {
    fn schema() -> arrow::datatypes::SchemaRef {
        Tick::schema()
    }

    fn to_record_batch(&self) -> RecordBatch {
        tick(0).to_record_batch()
    }

    fn heap_bytes(&self) -> usize {
        self.0
    }
}

/// A handle whose lane has 64 slots, the reading end, and what its rows hold.
fn large_source(
    backpressure: Backpressure,
) -> (Source<Large>, Consumer<Message<Large>>, Arc<LanesBytes>) {
    let config = ChannelConfig {
        capacity: 64,
        backpressure,
        wait: WaitStrategy::Park,
    };
    let (producer, consumer) = channel(config).unwrap();
    let close = Box::new(|| {});
    let shared = SourceShared::new("large".into(), Tick::schema(), close, Arc::default());
    let bytes = LanesBytes::new(backpressure, WaitStrategy::Park);
    let source = Source::new(producer, &bytes, Arc::new(shared), None);
    (source, consumer, bytes)
}

const MIB: usize = 1 << 20;

#[test]
fn a_row_above_the_limit_is_refused_and_the_handle_goes_on() {
    let (source, _lane, _) = large_source(Backpressure::Block);
    let (bytes, limit) = (513 * MIB, 512 * MIB);
    let refused = SourceError::TooLarge { bytes, limit };
    assert_eq!(source.push(Large(bytes)), Err(refused));
    assert!(matches!(
        source.try_push(Large(bytes)),
        Err(TryPushError::TooLarge(_))
    ));
    source.push(Large(limit)).unwrap();
}

#[test]
fn a_lane_is_full_of_bytes_before_it_is_full_of_rows() {
    let (source, mut lane, bytes) = large_source(Backpressure::Reject);
    source.push(Large(40 * MIB)).unwrap();
    source.push(Large(40 * MIB)).unwrap();
    assert!(!source.has_capacity());
    assert_eq!(source.push(Large(1)), Err(SourceError::Full));
    assert!(matches!(
        source.try_push(Large(1)),
        Err(TryPushError::Full(_))
    ));
    source.push(Large(0)).unwrap();
    let clone = source.clone();
    clone.push(Large(1)).unwrap();
    bytes.took(source.lane.lane().get(), 40 * MIB);
    source.push(Large(1)).unwrap();
    assert_eq!(lane.len(), 5);

    let (source, mut lane, _bytes) = large_source(Backpressure::DropOldest);
    (0..70).for_each(|_| source.push(Large(40 * MIB)).unwrap());
    assert_eq!(
        (lane.len(), source.dropped()),
        (64, 6),
        "its slots bound it"
    );
}

#[test]
fn a_push_waits_for_bytes_and_ends_with_the_source() {
    let (source, mut lane, bytes) = large_source(Backpressure::Block);
    let number = source.lane.lane().get();
    source.push(Large(64 * MIB)).unwrap();
    let (waiting, waits) = (source.clone(), source);
    let pushed = std::thread::spawn(move || {
        (
            waits.push(Large(1)),
            waits.push(Large(64 * MIB)),
            waits.push(Large(1)),
        )
    });
    bytes.took(number, 64 * MIB);
    while lane.len() < 3 {
        std::thread::yield_now();
    }
    waiting.close();
    let (first, second, third) = pushed.join().unwrap();
    assert_eq!(
        (first, second, third),
        (Ok(()), Ok(()), Err(SourceError::Closed))
    );
}

proptest! {
    /// Whatever the pattern of pushes and reads, nothing is lost, doubled or reordered.
    #[test]
    fn prop_all_pushed_records_consumed(reads in proptest::collection::vec(0usize..3, 1..200)) {
        let (source, mut lane) = source(Backpressure::Reject);
        let (mut accepted, mut got) = (Vec::new(), Vec::new());
        for (id, reads) in (0i64..).zip(reads) {
            if source.push(tick(id)).is_ok() {
                accepted.push(id);
            }
            for _ in 0..reads {
                lane.drain(1, |message| {
                    if let Message::Record(tick) = message {
                        got.push(tick.id);
                    }
                });
            }
        }
        got.extend(ids(&mut lane));
        prop_assert_eq!(got, accepted);
    }

    #[test]
    fn prop_watermarks_monotonic(said in proptest::collection::vec(any::<i64>(), 1..50)) {
        let (source, mut lane) = source(Backpressure::Block);
        let (mut last, mut read) = (i64::MIN, Vec::new());
        for at in said {
            source.watermark(at);
            prop_assert!(source.current_watermark() >= last);
            last = source.current_watermark();
            lane.drain(usize::MAX, |message| {
                if let Message::Watermark(at) = message {
                    read.push(at);
                }
            });
        }
        prop_assert!(read.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn prop_clone_preserves_data(per_clone in proptest::collection::vec(0i64..3, 1..8)) {
        let (first, mut lane) = source(Backpressure::Block);
        let mut expected = Vec::new();
        let clones: Vec<_> = per_clone.iter().map(|_| first.clone()).collect();
        for (number, (clone, count)) in (0i64..).zip(clones.iter().zip(&per_clone)) {
            for id in 0..*count {
                clone.push(tick(number * 10 + id)).unwrap();
                expected.push(number * 10 + id);
            }
        }
        let mut got = ids(&mut lane);
        got.sort_unstable();
        prop_assert_eq!(got, expected);
    }
}
