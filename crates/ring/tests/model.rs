//! The channel against a model made of `VecDeque`s, and two properties: every value arrives, and in order per lane.
//!
//! A random sequence of pushes, slices, reads, clones, drops and a close is played on one thread to both; every answer
//! must be the same. The seeds are fixed, so a failure is reproducible; `PROPTEST_CASES` sets the number of cases.
#![cfg(not(loom))]

mod support;

use std::collections::{BTreeMap, VecDeque};

use headwater_ring::{
    Backpressure, Consumer, LaneId, Producer, PushError, PushSliceError, WaitStrategy,
};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, RngSeed};
use support::{channel_of, watch};

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    TryPush(usize),
    Slice(usize, usize),
    Drain(usize),
    DrainInto(usize),
    Clone(usize),
    Drop(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<usize>().prop_map(Step::Push),
        2 => any::<usize>().prop_map(Step::TryPush),
        3 => (any::<usize>(), 0usize..20).prop_map(|(at, len)| Step::Slice(at, len)),
        3 => (0usize..12).prop_map(Step::Drain),
        3 => (0usize..12).prop_map(Step::DrainInto),
        1 => any::<usize>().prop_map(Step::Clone),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => proptest::bool::weighted(0.1).prop_map(|close| if close { Step::Close } else { Step::Drain(1) }),
    ]
}

fn seeded() -> ProptestConfig {
    ProptestConfig {
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(0x4ead),
        failure_persistence: None,
        cases: if cfg!(miri) {
            10
        } else {
            ProptestConfig::default().cases
        },
        ..ProptestConfig::default()
    }
}

/// The real channel beside what it should hold. Values are boxed, so that memory checkers see each of them.
struct Pair {
    producers: Vec<Producer<Box<u64>>>,
    consumer: Consumer<Box<u64>>,
    lanes: BTreeMap<LaneId, VecDeque<u64>>,
    capacity: usize,
    policy: Backpressure,
    closed: bool,
    dropped: u64,
    next: u64,
}

impl Pair {
    fn new(capacity: usize, policy: Backpressure) -> Pair {
        let (producer, consumer) = channel_of(capacity, policy, WaitStrategy::Park);
        let lanes = BTreeMap::from([(producer.lane(), VecDeque::new())]);
        Pair {
            producers: vec![producer],
            consumer,
            lanes,
            capacity,
            policy,
            closed: false,
            dropped: 0,
            next: 0,
        }
    }

    fn producer(&self, at: usize) -> Option<&Producer<Box<u64>>> {
        (!self.producers.is_empty()).then(|| &self.producers[at % self.producers.len()])
    }

    /// What the model does with a value; false when its lane is full.
    fn model_push(&mut self, lane: LaneId, value: u64, policy: Backpressure) -> bool {
        let held = self.lanes.get_mut(&lane).unwrap();
        if held.len() == self.capacity {
            if policy != Backpressure::DropOldest {
                return false;
            }
            held.pop_front();
            self.dropped += 1;
        }
        held.push_back(value);
        true
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Push(at) => self.push(at, self.policy),
            Step::TryPush(at) => self.push(at, Backpressure::Reject),
            Step::Slice(at, len) => self.slice(at, len),
            Step::Drain(max) => self.drain(max),
            Step::DrainInto(max) => self.drain_into(max),
            Step::Clone(at) => self.clone_producer(at),
            Step::Drop(at) if !self.producers.is_empty() => {
                drop(self.producers.remove(at % self.producers.len()))
            }
            Step::Drop(_) => {}
            Step::Close => {
                self.consumer.close();
                self.closed = true;
            }
        }
        self.compare();
    }

    fn push(&mut self, at: usize, policy: Backpressure) {
        let value = self.next;
        self.next += 1;
        let Some(producer) = self.producer(at) else {
            return;
        };
        let lane = producer.lane();
        let got = if policy == self.policy {
            producer.push(value.into())
        } else {
            producer.try_push(value.into())
        };
        let expected = if self.closed {
            Err(PushError::Closed(value.into()))
        } else if self.model_push(lane, value, policy) {
            Ok(())
        } else {
            Err(PushError::Full(value.into()))
        };
        assert_eq!(got, expected);
    }

    fn slice(&mut self, at: usize, len: usize) {
        let values: Vec<u64> = (self.next..).take(len).collect();
        self.next += len as u64;
        let Some(producer) = self.producer(at) else {
            return;
        };
        let lane = producer.lane();
        let boxed: Vec<Box<u64>> = values.iter().copied().map(Box::new).collect();
        let got = producer.push_slice(&boxed);
        let policy = self.policy;
        let expected = match self.closed {
            _ if len == 0 => Ok(()),
            true => Err(PushSliceError::Closed { accepted: 0 }),
            false => match values
                .into_iter()
                .position(|value| !self.model_push(lane, value, policy))
            {
                None => Ok(()),
                Some(accepted) => Err(PushSliceError::Full { accepted }),
            },
        };
        assert_eq!(got, expected);
    }

    fn drain(&mut self, max: usize) {
        let lanes = &mut self.lanes;
        let there: usize = lanes.values().map(VecDeque::len).sum();
        let taken = self.consumer.drain_runs(max, |lane, run| {
            let held = lanes.get_mut(&lane).unwrap();
            run.for_each(|value| assert_eq!(held.pop_front(), Some(*value)));
        });
        assert_eq!(taken, there.min(max));
    }

    fn drain_into(&mut self, max: usize) {
        let there: usize = self.lanes.values().map(VecDeque::len).sum();
        let mut values = Vec::new();
        assert_eq!(self.consumer.drain_into(&mut values, max), there.min(max));
        for value in values {
            let held = self
                .lanes
                .values_mut()
                .find(|held| held.front() == Some(&*value));
            held.expect("a value that is the oldest of some lane")
                .pop_front();
        }
    }

    fn clone_producer(&mut self, at: usize) {
        let Some(producer) = self
            .producer(at)
            .filter(|_| self.producers.len() < 4)
            .cloned()
        else {
            return;
        };
        self.lanes.insert(producer.lane(), VecDeque::new());
        self.producers.push(producer);
    }

    fn compare(&mut self) {
        let there: usize = self.lanes.values().map(VecDeque::len).sum();
        assert_eq!(self.consumer.len(), there);
        assert_eq!(self.consumer.is_empty(), there == 0);
        assert_eq!(self.consumer.dropped(), self.dropped);
        assert_eq!(
            self.consumer.is_closed(),
            self.closed || self.producers.is_empty()
        );
        let live: Vec<LaneId> = self
            .producers
            .iter()
            .filter(|_| !self.closed)
            .map(Producer::lane)
            .collect();
        let expected = self
            .lanes
            .iter()
            .filter(|(lane, held)| live.contains(lane) || !held.is_empty());
        let expected: Vec<LaneId> = expected.map(|(lane, _)| *lane).collect();
        assert_eq!(self.consumer.lanes().collect::<Vec<_>>(), expected);
        for producer in &self.producers {
            assert_eq!(
                producer.has_capacity(),
                self.lanes[&producer.lane()].len() < self.capacity
            );
        }
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn the_channel_does_what_the_model_does(
        exponent in 1u32..5,
        overwrites: bool,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let policy = if overwrites { Backpressure::DropOldest } else { Backpressure::Reject };
        let mut pair = Pair::new(1 << exponent, policy);
        steps.into_iter().for_each(|step| pair.play(step));
    }

    #[test]
    fn prop_all_pushed_records_consumed(
        exponent in 1u32..8,
        cuts in proptest::collection::vec(0usize..50, 1..30),
        max in 1usize..100,
    ) {
        let _watchdog = watch("the consumer had not read all values");
        let (producer, mut consumer) = channel_of(1 << exponent, Backpressure::Block, WaitStrategy::default());
        let total: usize = cuts.iter().sum();
        let pushing = std::thread::spawn(move || {
            let values: Vec<usize> = (0..total).collect();
            let mut rest = &values[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut);
                if cut % 2 == 0 { producer.push_slice(now).unwrap() } else { now.iter().for_each(|n| producer.push(*n).unwrap()) }
                rest = later;
            }
        });
        let mut values = Vec::new();
        while consumer.wait() {
            consumer.drain_into(&mut values, max);
        }
        pushing.join().unwrap();
        prop_assert_eq!(values, (0..total).collect::<Vec<_>>());
    }

    #[test]
    fn prop_clone_preserves_data(producers in 1usize..5, each in 0usize..200, exponent in 1u32..6) {
        let _watchdog = watch("the consumer had not read the values of all clones");
        let (first, mut consumer) = channel_of(1 << exponent, Backpressure::Block, WaitStrategy::default());
        let mut all: Vec<_> = (1..producers).map(|_| first.clone()).collect();
        all.push(first);
        let pushing: Vec<_> = all.into_iter().map(|producer| std::thread::spawn(move || {
            (0..each).for_each(|n| producer.push((producer.lane(), n)).unwrap());
        })).collect();
        let mut next: BTreeMap<LaneId, usize> = BTreeMap::new();
        while consumer.wait() {
            consumer.drain_runs(usize::MAX, |lane, run| for (from, n) in run {
                assert_eq!(from, lane);
                let expected = next.entry(lane).or_default();
                assert_eq!(n, *expected);
                *expected += 1;
            });
        }
        pushing.into_iter().for_each(|thread| thread.join().unwrap());
        prop_assert_eq!(next.values().sum::<usize>(), producers * each);
    }
}
