//! The channel under load, on several threads: nothing lost, nothing doubled, nothing out of order, no thread stuck.
//!
//! Made for memory checkers as well as for load: values are boxed, so each is an allocation that must be freed once,
//! and `HEADWATER_STRESS_ITEMS` is the number of values that each producer pushes (default 100,000). Valgrind's
//! memcheck must find nothing. Its race checkers (drd, helgrind) know neither atomics nor the standard library's futex
//! locks and report every hand-over, so `loom.rs` looks for races.
#![cfg(not(loom))]

mod support;

use std::collections::BTreeMap;
use std::thread;

use headwater_ring::{Backpressure, Consumer, LaneId, Producer, PushError, WaitStrategy};
use support::{channel_of, watch};

type Value = Box<u64>;

const WAITS: [WaitStrategy; 2] = [WaitStrategy::SpinYield(100), WaitStrategy::Park];

fn items() -> u64 {
    let default = if cfg!(miri) { 200 } else { 100_000 };
    std::env::var("HEADWATER_STRESS_ITEMS").map_or(default, |items| items.parse().unwrap())
}

/// Pushes 0, 1, 2... one by one and in slices; returns how many were accepted.
fn produce(producer: &Producer<Value>, items: u64) -> u64 {
    let mut next = 0;
    while next < items {
        let slice: Vec<Value> = (next..items)
            .take((next % 37) as usize)
            .map(Box::new)
            .collect();
        match producer.push_slice(&slice) {
            Ok(()) => next += slice.len() as u64,
            Err(error) => next += error.accepted() as u64,
        }
        if next == items {
            break;
        }
        match producer.push(next.into()) {
            Ok(()) => next += 1,
            Err(PushError::Full(_)) => thread::yield_now(),
            Err(PushError::Closed(_)) => return next,
        }
    }
    next
}

/// Reads to the end and checks the order; returns for each lane the number of values read and the last one plus 1.
fn consume(consumer: &mut Consumer<Value>, gaps: bool) -> BTreeMap<LaneId, (u64, u64)> {
    let mut lanes: BTreeMap<LaneId, (u64, u64)> = BTreeMap::new();
    let mut max = 1;
    while consumer.wait() {
        max = max % 100 + 7;
        consumer.drain_runs(max, |lane, run| {
            let (count, next) = lanes.entry(lane).or_default();
            for value in run {
                assert!(
                    *value == *next || (gaps && *value > *next),
                    "{value} of lane {lane} after {next}"
                );
                (*count, *next) = (*count + 1, *value + 1);
            }
        });
    }
    lanes
}

#[test]
fn producers_that_block_lose_nothing() {
    let _watchdog = watch("a producer that blocks or the consumer was not woken");
    for wait in WAITS {
        let (producer, mut consumer) = channel_of(64, Backpressure::Block, wait);
        let other = producer.clone();
        let pushing =
            [producer, other].map(|producer| thread::spawn(move || produce(&producer, items())));
        let lanes = consume(&mut consumer, false);
        let accepted: Vec<u64> = pushing
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert!(lanes.values().map(|(count, _)| *count).eq(accepted));
    }
}

#[test]
fn producers_that_overwrite_lose_only_what_is_counted() {
    let _watchdog = watch("a producer that overwrites had not pushed all values");
    for wait in WAITS {
        let (producer, mut consumer) = channel_of(8, Backpressure::DropOldest, wait);
        let other = producer.clone();
        let pushing = [producer, other].map(|producer| {
            thread::spawn(move || {
                assert_eq!(produce(&producer, items()), items());
                producer.dropped()
            })
        });
        let lanes = consume(&mut consumer, true);
        let dropped: Vec<u64> = pushing
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(consumer.dropped(), dropped.iter().sum::<u64>());
        // The last value of a lane is never overwritten, so each lane was read to its end.
        assert!(lanes.values().all(|(_, next)| *next == items()));
        assert!(
            lanes
                .values()
                .zip(dropped)
                .all(|((count, _), dropped)| count + dropped == items())
        );
    }
}

#[test]
fn a_close_in_the_middle_keeps_exactly_what_was_accepted() {
    let _watchdog = watch("the close had not ended all pushes and the reading");
    for round in 0..items().min(2000) / 20 {
        let policy = [Backpressure::Block, Backpressure::Reject][round as usize % 2];
        let wait = WAITS[round as usize / 2 % 2];
        let (producer, mut consumer) = channel_of(16, policy, wait);
        let (other, closer) = (producer.clone(), producer.clone());
        let pushing =
            [producer, other].map(|producer| thread::spawn(move || produce(&producer, u64::MAX)));
        let closing = thread::spawn(move || {
            (0..round % 50).for_each(|_| thread::yield_now());
            closer.close();
        });
        let lanes = consume(&mut consumer, false);
        closing.join().unwrap();
        let accepted: u64 = pushing
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert_eq!(
            lanes.values().map(|(count, _)| count).sum::<u64>(),
            accepted
        );
    }
}

#[test]
fn clones_that_come_and_go_lose_nothing() {
    let _watchdog = watch("the consumer had not read the values of all clones");
    const EACH: u64 = 50;
    let clones = items().min(20_000) / EACH;
    let (producer, mut consumer) = channel_of(16, Backpressure::Block, WaitStrategy::default());
    let pushing = thread::spawn(move || {
        for _ in 0..clones {
            let clone = producer.clone();
            assert_eq!(produce(&clone, EACH), EACH);
        }
    });
    let lanes = consume(&mut consumer, false);
    pushing.join().unwrap();
    assert_eq!(lanes.len() as u64, clones);
    assert!(lanes.values().all(|(count, _)| *count == EACH));
    assert_eq!(consumer.lanes().len(), 0);
}

#[test]
fn a_dropped_consumer_wakes_all_blocked_producers() {
    let _watchdog = watch("a blocked producer was not woken by the end of the consumer");
    for wait in WAITS {
        let (producer, mut consumer) = channel_of(16, Backpressure::Block, wait);
        let other = producer.clone();
        let pushing =
            [producer, other].map(|producer| thread::spawn(move || produce(&producer, u64::MAX)));
        let mut read = 0;
        while read < items() / 10 {
            assert!(consumer.wait());
            read += consumer.drain(10, drop) as u64;
        }
        drop(consumer);
        let accepted: u64 = pushing
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert!(accepted >= read);
    }
}
