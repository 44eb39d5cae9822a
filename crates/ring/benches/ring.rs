//! Nanoseconds per push of 64-byte values from one thread to another, beside rtrb, crossbeam, kanal and flume.
//!
//! Run with `cargo bench -p headwater-ring`; `HEADWATER_BENCH_ITEMS` (default 2,000,000) and `HEADWATER_BENCH_ROUNDS`
//! (default 9) set its size, an argument after `--` selects the races whose title contains it, and
//! `HEADWATER_NO_MEMBARRIER=1` replaces the asymmetric fence by a full one.
//!
//! A round moves all values once through each contender, every one with 65,536 slots and the fastest way to wait that
//! it offers; the time runs from the first push until the last value was read, divided by the values. Rounds of all
//! contenders alternate, so a busy machine meets all alike, and the median counts. A lone push is one thread filling
//! a lane that nobody reads.

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::Instant;

use headwater_ring::{Backpressure, ChannelConfig, Producer, WaitStrategy, channel};

type Value = [u64; 8];

const CAPACITY: usize = 65_536;
const BATCH: usize = 1000;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn value(n: usize) -> Value {
    [n as u64; 8]
}

/// Runs the pushing sides on threads of their own and the reading side here; returns the nanoseconds per value.
fn time(
    items: usize,
    pushing: Vec<Box<dyn FnOnce(usize) + Send>>,
    read: impl FnOnce(usize),
) -> f64 {
    let each = items / pushing.len();
    let total = each * pushing.len();
    let start = Instant::now();
    let threads: Vec<_> = pushing
        .into_iter()
        .map(|push| thread::spawn(move || push(each)))
        .collect();
    read(total);
    let elapsed = start.elapsed();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    elapsed.as_nanos() as f64 / total as f64
}

/// Tries until it works, as a user of a queue without a blocking push would.
fn insist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut turns = 0;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        turns += 1;
        if turns < 100 {
            spin_loop()
        } else {
            thread::yield_now()
        }
    }
}

fn headwater(items: usize, producers: usize, push: fn(&Producer<Value>, usize)) -> f64 {
    let (first, mut consumer) = channel(ChannelConfig {
        capacity: CAPACITY,
        ..ChannelConfig::default()
    })
    .unwrap();
    let mut all: Vec<_> = (1..producers).map(|_| first.clone()).collect();
    all.push(first);
    let pushing = all
        .into_iter()
        .map(|producer| Box::new(move |each| push(&producer, each)) as _)
        .collect();
    time(items, pushing, |total| {
        let mut read = 0;
        while consumer.wait() {
            read += consumer.drain(usize::MAX, |value| {
                black_box(value);
            });
        }
        assert_eq!(read, total);
    })
}

fn headwater_push(items: usize, producers: usize) -> f64 {
    headwater(items, producers, |producer, each| {
        (0..each).for_each(|n| producer.push(value(n)).unwrap())
    })
}

fn headwater_slice(items: usize, producers: usize) -> f64 {
    headwater(items, producers, |producer, each| {
        let batch: Vec<Value> = (0..BATCH).map(value).collect();
        (0..each / BATCH).for_each(|_| producer.push_slice(&batch).unwrap());
    })
}

fn rtrb_push(items: usize, _: usize) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Value>::new(CAPACITY);
    let push = move |each| (0..each).for_each(|n| insist(|| producer.push(value(n)).ok()));
    time(items, vec![Box::new(push)], |total| {
        (0..total).for_each(|_| {
            black_box(insist(|| consumer.pop().ok()));
        });
    })
}

fn rtrb_slice(items: usize, _: usize) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Value>::new(CAPACITY);
    let push = move |each| {
        let batch: Vec<Value> = (0..BATCH).map(value).collect();
        for _ in 0..each / BATCH {
            insist(|| producer.push_entire_slice(&batch).ok());
        }
    };
    time(items, vec![Box::new(push)], |total| {
        let mut read = 0;
        while read < total {
            let slots = insist(|| Some(consumer.slots()).filter(|slots| *slots > 0));
            for value in consumer
                .read_chunk(slots)
                .expect("there were as many values")
            {
                black_box(value);
            }
            read += slots;
        }
    })
}

fn array_queue(items: usize, producers: usize) -> f64 {
    let queue = std::sync::Arc::new(crossbeam_queue::ArrayQueue::<Value>::new(CAPACITY));
    let pushing = (0..producers)
        .map(|_| {
            let queue = queue.clone();
            Box::new(move |each| (0..each).for_each(|n| insist(|| queue.push(value(n)).ok()))) as _
        })
        .collect();
    time(items, pushing, |total| {
        (0..total).for_each(|_| {
            black_box(insist(|| queue.pop()));
        });
    })
}

macro_rules! channel_of {
    ($name:ident, $bounded:path) => {
        fn $name(items: usize, producers: usize) -> f64 {
            let (sender, receiver) = $bounded(CAPACITY);
            let pushing = (0..producers)
                .map(|_| {
                    let sender = sender.clone();
                    Box::new(move |each| (0..each).for_each(|n| sender.send(value(n)).unwrap()))
                        as _
                })
                .collect();
            time(items, pushing, |total| {
                (0..total).for_each(|_| {
                    black_box::<Value>(receiver.recv().unwrap());
                });
            })
        }
    };
}

channel_of!(crossbeam, crossbeam_channel::bounded);
channel_of!(kanal_channel, kanal::bounded);
channel_of!(flume_channel, flume::bounded);

/// One thread, nobody reads meanwhile: what a push itself costs.
fn headwater_lone(items: usize, _: usize) -> f64 {
    let config = ChannelConfig {
        capacity: CAPACITY,
        backpressure: Backpressure::Block,
        wait: WaitStrategy::Spin,
    };
    let (producer, mut consumer) = channel(config).unwrap();
    lone(
        items,
        |n| producer.push(value(n)).unwrap(),
        || {
            consumer.drain(usize::MAX, |value| {
                black_box(value);
            })
        },
    )
}

fn headwater_overwrite(items: usize, _: usize) -> f64 {
    let config = ChannelConfig {
        capacity: 1024,
        backpressure: Backpressure::DropOldest,
        wait: WaitStrategy::Spin,
    };
    let (producer, _consumer) = channel(config).unwrap();
    lone(items, |n| producer.push(value(n)).unwrap(), || 0)
}

fn rtrb_lone(items: usize, _: usize) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Value>::new(CAPACITY);
    lone(
        items,
        |n| producer.push(value(n)).unwrap(),
        || {
            let slots = consumer.slots();
            consumer
                .read_chunk(slots)
                .unwrap()
                .into_iter()
                .for_each(|value| {
                    black_box(value);
                });
            slots
        },
    )
}

/// Times the pushes of full rings only, not the reading in between; the first ring warms up.
fn lone(items: usize, mut push: impl FnMut(usize), mut read: impl FnMut() -> usize) -> f64 {
    let mut nanos = 0;
    let rings = (items / CAPACITY).max(2);
    for ring in 0..rings {
        let start = Instant::now();
        (0..CAPACITY).for_each(&mut push);
        nanos += if ring == 0 {
            0
        } else {
            start.elapsed().as_nanos()
        };
        read();
    }
    nanos as f64 / ((rings - 1) * CAPACITY) as f64
}

struct Contender {
    name: &'static str,
    ours: bool,
    run: fn(usize, usize) -> f64,
}

const fn ours(name: &'static str, run: fn(usize, usize) -> f64) -> Contender {
    Contender {
        name,
        ours: true,
        run,
    }
}

const fn rival(name: &'static str, run: fn(usize, usize) -> f64) -> Contender {
    Contender {
        name,
        ours: false,
        run,
    }
}

struct Race {
    title: &'static str,
    producers: usize,
    /// The requirement's own limit, in ns per value.
    target: Option<f64>,
    contenders: &'static [Contender],
}

const RACES: [Race; 5] = [
    Race {
        title: "lone push",
        producers: 1,
        target: Some(100.0),
        contenders: &[
            ours("headwater", headwater_lone),
            ours("headwater, overwriting", headwater_overwrite),
            rival("rtrb", rtrb_lone),
        ],
    },
    Race {
        title: "push, 1 producer",
        producers: 1,
        target: Some(100.0),
        contenders: &[
            ours("headwater", headwater_push),
            rival("rtrb", rtrb_push),
            rival("crossbeam ArrayQueue", array_queue),
            rival("crossbeam channel", crossbeam),
            rival("kanal", kanal_channel),
            rival("flume", flume_channel),
        ],
    },
    Race {
        title: "push_slice(1000), 1 producer",
        producers: 1,
        target: Some(10.0),
        contenders: &[
            ours("headwater", headwater_slice),
            rival("rtrb push_entire_slice", rtrb_slice),
        ],
    },
    Race {
        title: "push, 2 producers",
        producers: 2,
        target: Some(200.0),
        contenders: &[
            ours("headwater", headwater_push),
            rival("crossbeam ArrayQueue", array_queue),
            rival("crossbeam channel", crossbeam),
            rival("kanal", kanal_channel),
            rival("flume", flume_channel),
        ],
    },
    Race {
        title: "push_slice(1000), 2 producers",
        producers: 2,
        target: None,
        contenders: &[ours("headwater", headwater_slice)],
    },
];

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn print(race: &Race, times: &mut [Vec<f64>]) -> f64 {
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    let best_rival = race
        .contenders
        .iter()
        .zip(&medians)
        .filter(|(contender, _)| !contender.ours)
        .map(|(_, ns)| *ns)
        .reduce(f64::min);
    println!("\n{}", race.title);
    for ((contender, ns), times) in race.contenders.iter().zip(&medians).zip(times) {
        print!(
            "  {:<24} {ns:>8.2} ns   (best {:.2}, worst {:.2})",
            contender.name,
            times[0],
            times[times.len() - 1]
        );
        match (contender.ours, best_rival, race.target) {
            (true, Some(rival), Some(target)) => println!(
                "   {:.2} x the best rival, 1/{:.0} of the target {target} ns",
                ns / rival,
                target / ns
            ),
            (true, None, Some(target)) => {
                println!("   1/{:.0} of the target {target} ns", target / ns)
            }
            _ => println!(),
        }
    }
    medians[0]
}

fn main() {
    let items = setting("HEADWATER_BENCH_ITEMS", 2_000_000);
    let rounds = setting("HEADWATER_BENCH_ROUNDS", 9);
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let races: Vec<&Race> = RACES
        .iter()
        .filter(|race| race.title.contains(&wanted))
        .collect();
    let mut times: Vec<Vec<Vec<f64>>> = races
        .iter()
        .map(|race| vec![Vec::new(); race.contenders.len()])
        .collect();
    for _ in 0..rounds {
        for (race, times) in races.iter().zip(&mut times) {
            for (contender, times) in race.contenders.iter().zip(times) {
                times.push((contender.run)(items, race.producers));
            }
        }
    }
    println!("64-byte values, {CAPACITY} slots, {items} values a round, median of {rounds} rounds");
    let medians: Vec<f64> = races
        .iter()
        .zip(&mut times)
        .map(|(race, times)| print(race, times))
        .collect();
    let of = |title| {
        races
            .iter()
            .position(|race| race.title == title)
            .map(|race| medians[race])
    };
    if let (Some(one), Some(two)) = (of("push, 1 producer"), of("push, 2 producers")) {
        println!("\n2 producers against 1: {:.2} x per push", two / one);
    }
}
