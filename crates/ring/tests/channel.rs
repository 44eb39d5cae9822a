//! What a channel does: order, policies, closing, lanes, and that every value is dropped once.
//!
//! One behaviour per test, mostly on one thread, so that the order of steps is fixed. Interleavings are in `loom.rs`,
//! random sequences in `model.rs`, load in `stress.rs`.
#![cfg(not(loom))]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater_ring::{
    Backpressure, Bell, ChannelConfig, ConfigError, Consumer, Producer, PushError, PushSliceError,
    WaitStrategy, channel, channel_with_bell,
};
use support::{channel_of, watch};

fn of<T: Send>(capacity: usize, backpressure: Backpressure) -> (Producer<T>, Consumer<T>) {
    channel_of(capacity, backpressure, WaitStrategy::Park)
}

fn all<T>(consumer: &mut Consumer<T>) -> Vec<T> {
    let mut values = Vec::new();
    while consumer.drain_into(&mut values, usize::MAX) > 0 {}
    values
}

#[derive(Clone)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_capacity_that_is_no_power_of_two_is_refused_with_one_that_is() {
    for (capacity, next) in [(0, 2), (1, 2), (3, 4), (1000, 1024)] {
        let error = channel::<u8>(ChannelConfig {
            capacity,
            ..ChannelConfig::default()
        })
        .unwrap_err();
        assert_eq!(error, ConfigError::Capacity { capacity });
        let message = format!(
            "capacity must be a power of two of at least 2, such as {next}, not {capacity}"
        );
        assert_eq!(error.to_string(), message);
    }
    let error = channel::<[u8; 64]>(ChannelConfig {
        capacity: 1 << 62,
        ..ChannelConfig::default()
    })
    .unwrap_err();
    assert_eq!(
        error,
        ConfigError::TooLarge {
            capacity: 1 << 62,
            value_bytes: 64
        }
    );
}

#[test]
fn the_defaults_are_65536_slots_block_and_spin_yield() {
    let config = ChannelConfig::default();
    assert_eq!(config.capacity, 65_536);
    assert_eq!(config.backpressure, Backpressure::Block);
    assert_eq!(config.wait, WaitStrategy::SpinYield(100));
}

#[test]
fn values_come_out_in_order_across_the_wrap() {
    let (producer, mut consumer) = of(4, Backpressure::Reject);
    for round in 0..10 {
        (0..3).for_each(|n| producer.push(round * 3 + n).unwrap());
        assert_eq!(
            all(&mut consumer),
            [round * 3, round * 3 + 1, round * 3 + 2]
        );
    }
}

#[test]
fn a_full_lane_rejects_and_gives_the_value_back() {
    let (producer, mut consumer) = of(2, Backpressure::Reject);
    producer.push_slice(&[1, 2]).unwrap();
    assert!(!producer.has_capacity());
    assert_eq!(producer.push(3), Err(PushError::Full(3)));
    assert_eq!(consumer.drain(1, |n| assert_eq!(n, 1)), 1);
    assert!(producer.has_capacity());
    producer.push(3).unwrap();
    assert_eq!(all(&mut consumer), [2, 3]);
}

#[test]
fn a_slice_reports_how_much_of_it_was_accepted() {
    let (producer, mut consumer) = of(4, Backpressure::Reject);
    assert_eq!(
        producer.push_slice(&[1, 2, 3, 4, 5, 6]),
        Err(PushSliceError::Full { accepted: 4 })
    );
    assert_eq!(all(&mut consumer), [1, 2, 3, 4]);
    producer.close();
    assert_eq!(
        producer.push_slice(&[7]),
        Err(PushSliceError::Closed { accepted: 0 })
    );
    assert_eq!(producer.push_slice(&[]), Ok(()));
}

#[test]
fn dropping_the_oldest_keeps_the_newest_and_counts() {
    let (producer, mut consumer) = of(4, Backpressure::DropOldest);
    (0..10).for_each(|n| producer.push(n).unwrap());
    assert_eq!((producer.dropped(), consumer.dropped()), (6, 6));
    assert_eq!(consumer.len(), 4);
    let mut values = Vec::new();
    assert_eq!(
        consumer.drain_into(&mut values, 100),
        4,
        "one sweep takes all"
    );
    assert_eq!(values, [6, 7, 8, 9]);
    producer.push_slice(&[10, 11, 12, 13, 14, 15]).unwrap();
    assert_eq!(all(&mut consumer), [12, 13, 14, 15]);
    drop(producer);
    assert_eq!(consumer.lanes().len(), 0);
    assert_eq!(consumer.dropped(), 8, "also of a lane that is gone");
}

#[test]
fn a_run_keeps_its_promise_while_values_are_overwritten() {
    let (producer, mut consumer) = of(4, Backpressure::DropOldest);
    (0..4).for_each(|n| producer.push(n).unwrap());
    let mut seen = Vec::new();
    consumer.drain_runs(3, |_, mut run| {
        seen.extend(run.next());
        (4..8).for_each(|n| producer.push(n).unwrap());
        assert_eq!(run.len(), 2);
        seen.extend(run);
    });
    assert_eq!(seen, [0, 4, 5]);
    assert_eq!(producer.dropped(), 3);
    assert_eq!(all(&mut consumer), [6, 7]);
}

#[test]
fn try_push_never_drops_another_value() {
    for policy in [
        Backpressure::Block,
        Backpressure::DropOldest,
        Backpressure::Reject,
    ] {
        let (producer, mut consumer) = of(2, policy);
        producer.try_push(1).unwrap();
        producer.try_push(2).unwrap();
        assert_eq!(producer.try_push(3), Err(PushError::Full(3)), "{policy:?}");
        assert_eq!(producer.dropped(), 0);
        assert_eq!(all(&mut consumer), [1, 2]);
        consumer.close();
        assert_eq!(
            producer.try_push(3),
            Err(PushError::Closed(3)),
            "{policy:?}"
        );
    }
}

#[test]
fn after_a_close_pushes_fail_and_what_is_left_is_read() {
    let (producer, mut consumer) = of(4, Backpressure::Block);
    let other = producer.clone();
    producer.push(1).unwrap();
    other.push(2).unwrap();
    producer.close();
    assert!(other.is_closed() && consumer.is_closed() && !consumer.is_finished());
    assert_eq!(other.push(3), Err(PushError::Closed(3)));
    assert_eq!(
        other.clone().push(4),
        Err(PushError::Closed(4)),
        "also by a clone made after the close"
    );
    assert_eq!(all(&mut consumer), [1, 2]);
    assert!(consumer.is_finished());
    assert_eq!(
        other.clone().push(4),
        Err(PushError::Closed(4)),
        "also by a clone made after the end"
    );
    assert_eq!(consumer.lanes().len(), 0);
    assert!(!consumer.wait());
}

#[test]
fn the_channel_ends_with_its_last_producer() {
    let (producer, mut consumer) = of(4, Backpressure::Block);
    let other = producer.clone();
    assert_eq!(other.lanes(), 2);
    drop(producer);
    assert_eq!(other.lanes(), 1);
    assert!(!consumer.is_closed());
    other.push(1).unwrap();
    drop(other);
    assert!(consumer.is_closed() && consumer.wait());
    assert_eq!(all(&mut consumer), [1]);
    assert!(!consumer.wait() && consumer.is_finished());
}

#[test]
fn a_lane_is_finished_when_its_producer_is_gone_and_it_is_empty() {
    let (producer, mut consumer) = of(4, Backpressure::Block);
    let other = producer.clone();
    let (first, second) = (producer.lane(), other.lane());
    assert_eq!(consumer.lanes().collect::<Vec<_>>(), [first, second]);
    producer.push(1).unwrap();
    drop(producer);
    assert_eq!(
        consumer.lanes().collect::<Vec<_>>(),
        [first, second],
        "not yet read"
    );
    consumer.drain_runs(9, |lane, run| {
        assert_eq!((lane, run.collect::<Vec<_>>()), (first, vec![1]))
    });
    assert_eq!(consumer.lanes().collect::<Vec<_>>(), [second]);
    assert_ne!(other.clone().lane(), first, "ids are not used again");
}

#[test]
fn lanes_are_served_in_turn() {
    let (producer, mut consumer) = of(8, Backpressure::Block);
    let other = producer.clone();
    let (first, second) = (producer.lane(), other.lane());
    producer.push_slice(&[0; 8]).unwrap();
    other.push_slice(&[0; 8]).unwrap();
    let mut order = Vec::new();
    for _ in 0..4 {
        consumer.drain_runs(2, |lane, run| order.push((lane, run.len())));
    }
    assert_eq!(order, [(first, 2), (second, 2), (first, 2), (second, 2)]);
}

#[test]
fn dropping_the_consumer_closes_the_channel() {
    let (producer, consumer) = of(2, Backpressure::Block);
    producer.push(1).unwrap();
    drop(consumer);
    assert!(producer.is_closed());
    assert_eq!(producer.push(2), Err(PushError::Closed(2)));
}

#[test]
fn a_blocked_producer_is_freed_by_a_read_by_a_close_and_by_the_end_of_the_consumer() {
    let _watchdog = watch("a blocked producer was not woken");
    for wait in [
        WaitStrategy::Spin,
        WaitStrategy::SpinYield(5),
        WaitStrategy::Park,
    ] {
        let blocked = |free: fn(Consumer<i32>)| {
            let (producer, consumer) = channel_of(2, Backpressure::Block, wait);
            producer.push_slice(&[1, 2]).unwrap();
            let pushing = std::thread::spawn(move || producer.push(3));
            free(consumer);
            pushing.join().unwrap()
        };
        let read = |mut consumer: Consumer<i32>| {
            let mut values = Vec::new();
            while consumer.wait() {
                consumer.drain_into(&mut values, 1);
            }
            assert_eq!(values, [1, 2, 3]);
        };
        assert_eq!(blocked(read), Ok(()));
        assert_eq!(
            blocked(|consumer| consumer.close()),
            Err(PushError::Closed(3))
        );
        assert_eq!(blocked(drop), Err(PushError::Closed(3)));
    }
}

#[test]
fn one_bell_serves_many_channels() {
    let _watchdog = watch("a push into a channel of two slots was not woken");
    let bell = Arc::new(Bell::new());
    let config = ChannelConfig {
        capacity: 2,
        ..ChannelConfig::default()
    };
    let (first, mut from_first) = channel_with_bell(config, Arc::clone(&bell)).unwrap();
    let (second, mut from_second) = channel_with_bell(config, Arc::clone(&bell)).unwrap();
    let pushing = std::thread::spawn(move || {
        (0..50).for_each(|n| first.push(n).unwrap());
        (0..50).for_each(|n| second.push(n).unwrap());
    });
    let mut read = 0;
    while !(from_first.is_finished() && from_second.is_finished()) {
        let ready = || {
            [&mut from_first, &mut from_second]
                .into_iter()
                .any(|consumer| !consumer.is_empty())
                || (from_first.is_closed() && from_second.is_closed())
        };
        assert!(
            bell.wait(ready, Some(Duration::from_secs(60))),
            "no channel rang the bell within 60 s"
        );
        read += from_first.drain(9, drop) + from_second.drain(9, drop);
    }
    pushing.join().unwrap();
    assert_eq!(read, 100);
}

#[test]
fn every_value_is_dropped_once() {
    for policy in [
        Backpressure::Block,
        Backpressure::DropOldest,
        Backpressure::Reject,
    ] {
        let drops = Arc::new(AtomicUsize::new(0));
        let value = || Counted(Arc::clone(&drops));
        let count = || drops.load(Ordering::SeqCst);
        let (producer, mut consumer) = of(4, policy);
        (0..3).for_each(|_| assert!(producer.push(value()).is_ok()));
        consumer.drain_runs(2, |_, mut run| drop(run.next()));
        assert_eq!(count(), 2, "what a run leaves is dropped");
        (0..3).for_each(|_| assert!(producer.push(value()).is_ok()));
        if policy == Backpressure::DropOldest {
            assert!(producer.push(value()).is_ok());
            assert_eq!(count(), 3, "the overwritten one");
        }
        let held = count();
        drop(consumer);
        assert_eq!(
            count(),
            held + 4,
            "the consumer drops unread values while a producer still exists"
        );
        drop(producer.push(value()));
        assert_eq!(count(), held + 5);
        drop(producer);
        assert_eq!(count(), held + 5);
    }
}

#[test]
fn values_outlive_their_producer_and_are_dropped_with_the_channel() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (producer, consumer) = of(4, Backpressure::Block);
    assert!(
        producer
            .push_slice(&[Counted(Arc::clone(&drops)), Counted(Arc::clone(&drops))])
            .is_ok()
    );
    assert_eq!(drops.load(Ordering::SeqCst), 2, "the slice's own");
    drop(producer);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
    drop(consumer);
    assert_eq!(drops.load(Ordering::SeqCst), 4);
}

#[test]
fn a_forgotten_run_gives_no_value_twice() {
    for policy in [Backpressure::Block, Backpressure::DropOldest] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (producer, mut consumer) = of(4, policy);
        (0..3).for_each(|_| assert!(producer.push(Counted(Arc::clone(&drops))).is_ok()));
        consumer.drain_runs(9, |_, mut run| {
            drop(run.next());
            std::mem::forget(run);
        });
        drop((producer, consumer));
        assert_eq!(drops.load(Ordering::SeqCst), 3, "{policy:?}");
    }
}

#[test]
fn a_panic_while_reading_drops_the_run_and_leaves_the_channel_whole() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (producer, mut consumer) = of(4, Backpressure::Reject);
    (0..4).for_each(|_| assert!(producer.push(Counted(Arc::clone(&drops))).is_ok()));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        consumer.drain(9, |_| panic!("on purpose"))
    }));
    assert!(outcome.is_err());
    assert_eq!(drops.load(Ordering::SeqCst), 4);
    assert!(producer.has_capacity() && consumer.is_empty());
}

#[test]
fn a_panic_while_cloning_pushes_what_came_before() {
    struct Fragile(u8);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(self.0 < 2, "on purpose");
            Fragile(self.0)
        }
    }
    let (producer, mut consumer) = of(4, Backpressure::Reject);
    let values = [Fragile(0), Fragile(1), Fragile(2)];
    assert!(catch_unwind(AssertUnwindSafe(|| producer.push_slice(&values))).is_err());
    assert_eq!(
        all(&mut consumer)
            .iter()
            .map(|value| value.0)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(producer.push(Fragile(1)).is_ok());
    assert_eq!(consumer.len(), 1);
}

#[test]
fn values_of_no_size_are_counted() {
    let (producer, mut consumer) = of(4, Backpressure::Reject);
    producer.push_slice(&[(); 3]).unwrap();
    assert_eq!(all(&mut consumer).len(), 3);
}
