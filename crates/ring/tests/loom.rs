//! Every interleaving of small scenes: push and read, overwriting, closing, sleeping and waking, added and dropped
//! lanes.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p headwater-ring --test loom`. Loom plays each scene in every
//! order that the memory model allows, within a bound on forced thread switches (`LOOM_MAX_PREEMPTIONS`, 3 here),
//! and fails on a data race, a deadlock (which is what a lost wake-up is), a leak or a wrong answer.
//!
//! The scenes use the public API with the smallest lanes. Values are tracked by loom's `Arc`, so a value that is lost
//! or dropped twice is seen. The asymmetric fence appears as two `SeqCst` fences.
#![cfg(loom)]

use headwater_ring::{
    Backpressure, Bell, ChannelConfig, Consumer, Producer, PushError, PushSliceError, WaitStrategy,
    channel,
};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

fn explore(scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(scene);
}

fn of(backpressure: Backpressure) -> (Producer<Arc<usize>>, Consumer<Arc<usize>>) {
    channel(ChannelConfig {
        capacity: 2,
        backpressure,
        wait: WaitStrategy::Park,
    })
    .unwrap()
}

fn take(consumer: &mut Consumer<Arc<usize>>, into: &mut Vec<usize>) -> usize {
    consumer.drain(usize::MAX, |value| into.push(*value))
}

/// Reads to the end, sleeping when there is nothing.
fn take_all(consumer: &mut Consumer<Arc<usize>>) -> Vec<usize> {
    let mut values = Vec::new();
    while consumer.wait() {
        assert!(
            take(consumer, &mut values) > 0,
            "a wait ended with nothing to read"
        );
    }
    assert!(consumer.is_finished());
    values
}

#[test]
fn values_arrive_in_order_and_the_consumer_is_woken() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let pushing =
            thread::spawn(move || (0..2).for_each(|n| producer.push(Arc::new(n)).unwrap()));
        assert_eq!(take_all(&mut consumer), [0, 1]);
        pushing.join().unwrap();
    });
}

#[test]
fn a_full_lane_blocks_and_the_producer_is_woken() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let pushing =
            thread::spawn(move || (0..3).for_each(|n| producer.push(Arc::new(n)).unwrap()));
        assert_eq!(take_all(&mut consumer), [0, 1, 2]);
        pushing.join().unwrap();
    });
}

#[test]
fn a_slice_arrives_as_a_run() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Reject);
        let pushing = thread::spawn(move || {
            producer
                .push_slice(&[Arc::new(0), Arc::new(1), Arc::new(2)])
                .map_or_else(|error| error.accepted(), |()| 3)
        });
        let mut values = Vec::new();
        consumer.drain_into(&mut values, 1);
        consumer.drain_into(&mut values, 2);
        let accepted = pushing.join().unwrap();
        while consumer.drain_into(&mut values, 2) > 0 {}
        assert_eq!(
            values.iter().map(|value| **value).collect::<Vec<_>>(),
            (0..accepted).collect::<Vec<_>>()
        );
        assert!(accepted >= 2);
    });
}

#[test]
fn a_rejected_value_comes_back_and_the_slot_is_used_again() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Reject);
        let pushing = thread::spawn(move || {
            let accepted = |n: &usize| match producer.push(Arc::new(*n)) {
                Ok(()) => true,
                Err(PushError::Full(value)) => {
                    assert_eq!(*value, *n);
                    false
                }
                Err(PushError::Closed(_)) => panic!("nobody closed it"),
            };
            (0..4).filter(accepted).collect::<Vec<_>>()
        });
        let mut values = Vec::new();
        take(&mut consumer, &mut values);
        let accepted = pushing.join().unwrap();
        take(&mut consumer, &mut values);
        assert_eq!(values, accepted);
    });
}

/// Overwriting against a reader that takes one value at a time, a run at a time, or leaves in the middle of one.
fn overwrite(pushes: usize, mut read: impl FnMut(&mut Consumer<Arc<usize>>, &mut Vec<usize>)) {
    let (producer, mut consumer) = of(Backpressure::DropOldest);
    let pushing = thread::spawn(move || {
        (0..pushes).for_each(|n| producer.push(Arc::new(n)).unwrap());
        producer.dropped()
    });
    let mut values = Vec::new();
    read(&mut consumer, &mut values);
    let dropped = pushing.join().unwrap();
    while take(&mut consumer, &mut values) > 0 {}
    assert!(values.is_sorted_by(|a, b| a < b), "{values:?}");
    assert_eq!(
        values.last(),
        Some(&(pushes - 1)),
        "the newest value is never the one that is dropped"
    );
    assert_eq!(values.len() as u64 + dropped, pushes as u64);
    assert_eq!(consumer.dropped(), dropped);
}

#[test]
fn overwriting_races_a_read() {
    explore(|| {
        overwrite(4, |consumer, values| {
            take(consumer, values);
        });
    });
}

#[test]
fn overwriting_races_single_reads() {
    explore(|| {
        overwrite(3, |consumer, values| {
            consumer.drain(1, |value| values.push(*value));
            consumer.drain(1, |value| values.push(*value));
        });
    });
}

#[test]
fn overwriting_in_a_larger_lane_keeps_the_promise_of_a_run() {
    explore(|| {
        let config = ChannelConfig {
            capacity: 4,
            backpressure: Backpressure::DropOldest,
            wait: WaitStrategy::Park,
        };
        let (producer, mut consumer) = channel(config).unwrap();
        (0..4).for_each(|n| producer.push(Arc::new(n)).unwrap());
        let pushing = thread::spawn(move || {
            (4..6).for_each(|n| producer.push(Arc::new(n)).unwrap());
            producer.dropped()
        });
        let mut values = Vec::new();
        consumer.drain_runs(3, |_, run| {
            let promised = run.len();
            values.extend(run.map(|value| *value));
            assert_eq!(values.len(), promised);
        });
        let dropped = pushing.join().unwrap();
        while take(&mut consumer, &mut values) > 0 {}
        assert!(
            values.is_sorted_by(|a, b| a < b) && values.last() == Some(&5),
            "{values:?}"
        );
        assert_eq!(values.len() as u64 + dropped, 6);
    });
}

/// The consumer reads exactly what was accepted, wherever the close falls.
fn close_races(policy: Backpressure, pushes: usize) {
    explore(move || {
        let (producer, mut consumer) = of(policy);
        let closer = producer.clone();
        let pushing = thread::spawn(move || {
            let accepted = (0..pushes)
                .take_while(|n| producer.push(Arc::new(*n)).is_ok())
                .count();
            (accepted as u64, producer.dropped())
        });
        let closing = thread::spawn(move || closer.close());
        let read = take_all(&mut consumer).len() as u64;
        let (accepted, dropped) = pushing.join().unwrap();
        closing.join().unwrap();
        assert_eq!(read + dropped, accepted);
        assert_eq!(consumer.dropped(), dropped);
    });
}

#[test]
fn a_close_races_a_push() {
    close_races(Backpressure::Reject, 2);
}

#[test]
fn a_close_races_a_blocked_push() {
    explore(|| {
        let (producer, consumer) = of(Backpressure::Block);
        producer.push_slice(&[Arc::new(0), Arc::new(1)]).unwrap();
        let pushing = thread::spawn(move || {
            producer
                .push(Arc::new(2))
                .map_err(|error| *error.into_inner())
        });
        consumer.close();
        assert_eq!(pushing.join().unwrap(), Err(2));
        drop(consumer);
    });
}

#[test]
fn a_close_races_overwriting() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::DropOldest);
        producer.push_slice(&[Arc::new(0), Arc::new(1)]).unwrap();
        let pushing = thread::spawn(move || {
            let accepted = (2..4)
                .take_while(|n| producer.push(Arc::new(*n)).is_ok())
                .count();
            (accepted as u64 + 2, producer.dropped())
        });
        consumer.close();
        let read = take_all(&mut consumer).len() as u64;
        let (accepted, dropped) = pushing.join().unwrap();
        assert_eq!(read + dropped, accepted);
    });
}

#[test]
fn a_close_races_a_slice() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let pushing = thread::spawn(move || {
            match producer.push_slice(&[Arc::new(0), Arc::new(1), Arc::new(2)]) {
                Ok(()) => 3,
                Err(PushSliceError::Closed { accepted }) => accepted,
                Err(PushSliceError::Full { .. }) => panic!("a lane that blocks was full"),
            }
        });
        let mut values = Vec::new();
        take(&mut consumer, &mut values);
        consumer.close();
        values.extend(take_all(&mut consumer));
        let accepted = pushing.join().unwrap();
        assert_eq!(values, (0..accepted).collect::<Vec<_>>());
    });
}

#[test]
fn the_consumer_leaves_while_a_producer_pushes() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let pushing = thread::spawn(move || {
            (0..4)
                .take_while(|n| producer.push(Arc::new(*n)).is_ok())
                .count()
        });
        let mut values = Vec::new();
        take(&mut consumer, &mut values);
        drop(consumer);
        assert!(pushing.join().unwrap() >= values.len());
    });
}

#[test]
fn a_clone_adds_a_lane_that_the_consumer_finds() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let pushing = thread::spawn(move || {
            let clone = producer.clone();
            drop(producer);
            clone.push(Arc::new(7)).unwrap();
        });
        assert_eq!(take_all(&mut consumer), [7]);
        assert_eq!(consumer.lanes().len(), 0);
        pushing.join().unwrap();
    });
}

#[test]
fn two_producers_share_one_sleeping_consumer() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let other = producer.clone();
        let pushing = [(producer, 1), (other, 2)]
            .map(|(producer, n)| thread::spawn(move || producer.push(Arc::new(n)).unwrap()));
        let mut values = take_all(&mut consumer);
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
        pushing
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_clone_races_a_close() {
    explore(|| {
        let (producer, mut consumer) = of(Backpressure::Block);
        let pushing =
            thread::spawn(move || usize::from(producer.clone().push(Arc::new(1)).is_ok()));
        consumer.close();
        let read = take_all(&mut consumer).len();
        assert_eq!(pushing.join().unwrap(), read);
    });
}

#[test]
fn a_bell_wakes_a_waiter() {
    explore(|| {
        let shared = Arc::new((Bell::new(), AtomicUsize::new(0)));
        let ringing = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                // Relaxed: only the bell makes the waiter see it in time.
                shared.1.fetch_add(1, Ordering::Relaxed);
                shared.0.ring();
            })
        });
        assert!(
            shared
                .0
                .wait(|| shared.1.load(Ordering::Relaxed) == 2, None)
        );
        ringing
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_bell_wakes_two_waiters() {
    explore(|| {
        let shared = Arc::new((Bell::new(), AtomicUsize::new(0)));
        let waiting = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared
                    .0
                    .wait(|| shared.1.load(Ordering::Relaxed) == 1, None)
            })
        });
        shared.1.store(1, Ordering::Relaxed);
        shared.0.ring();
        waiting
            .into_iter()
            .for_each(|thread| assert!(thread.join().unwrap()));
    });
}
