//! A channel: the lanes of its producers, whether it is closed, and the bell of its consumer.
//!
//! `SharedChannel` is read on every push and written only when a producer joins or leaves or the channel closes, so it
//! stays in every core's cache. New lanes wait in a registry under a lock; a counter beside it lets the consumer see
//! without the lock that there are some.
//!
//! The registry's lock and the seal of each lane (`lane`) order a close, a clone and a push that race each other. What
//! a push does is in `producer`, what a read does in `consumer`.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::bell::Bell;
use crate::config::{Backpressure, ChannelConfig};
use crate::consumer::Consumer;
use crate::error::ConfigError;
use crate::lane::{LaneReader, LaneWriter, SharedLane, lane};
use crate::producer::Producer;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, lock};

/// Identifies one producer's lane within its channel: numbered from 0 in the order the producers were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(u64);

impl LaneId {
    /// The lane's number, counted from 0.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A channel with one producer and a bell of its own.
///
/// # Errors
/// If the capacity is not a power of two of at least 2, or does not fit into memory.
pub fn channel<T: Send>(config: ChannelConfig) -> Result<(Producer<T>, Consumer<T>), ConfigError> {
    channel_with_bell(config, Arc::new(Bell::new()))
}

/// A channel whose producers ring `bell`, so that one thread can wait for many channels with [`Bell::wait`].
///
/// # Errors
/// If the capacity is not a power of two of at least 2, or does not fit into memory.
pub fn channel_with_bell<T: Send>(
    config: ChannelConfig,
    bell: Arc<Bell>,
) -> Result<(Producer<T>, Consumer<T>), ConfigError> {
    config.check(size_of::<T>())?;
    let shared = Arc::new(SharedChannel {
        config,
        closed: AtomicBool::new(false),
        joined: AtomicUsize::new(0),
        producers: AtomicUsize::new(0),
        bell,
        registry: Mutex::new(Registry {
            next: LaneId(0),
            joining: Vec::new(),
            open: Vec::new(),
            sealed: false,
        }),
    });
    let producer = Producer::join(Arc::clone(&shared));
    Ok((producer, Consumer::new(shared)))
}

/// The part of a channel that its producers and its consumer share.
pub(crate) struct SharedChannel<T> {
    pub(crate) config: ChannelConfig,
    /// No push that starts after this was set is accepted.
    pub(crate) closed: AtomicBool,
    /// Number of lanes ever added; grows under the registry's lock.
    pub(crate) joined: AtomicUsize,
    /// Number of producers not yet dropped.
    pub(crate) producers: AtomicUsize,
    pub(crate) bell: Arc<Bell>,
    registry: Mutex<Registry<T>>,
}

struct Registry<T> {
    next: LaneId,
    /// Reading ends that the consumer has not fetched yet.
    joining: Vec<(LaneId, LaneReader<T>)>,
    /// The lanes of producers not yet dropped: `close` wakes those that wait for space.
    open: Vec<Arc<SharedLane<T>>>,
    /// Whether the consumer has seen the close and takes no further lanes.
    sealed: bool,
}

impl<T> SharedChannel<T> {
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a push that misses a close is settled by the fences and the seal (see `lane`), and a thread that
        // learnt of the close in another way was synchronized by that way.
        self.closed.load(Ordering::Relaxed)
    }

    /// Adds a lane for a new producer.
    pub(crate) fn add_lane(&self) -> (LaneId, LaneWriter<T>) {
        let overwrites = self.config.backpressure == Backpressure::DropOldest;
        let (writer, reader) = lane(self.config.capacity, overwrites);
        let mut registry = lock(&self.registry);
        let id = registry.next;
        registry.next = LaneId(id.0 + 1);
        registry.open.push(Arc::clone(&writer.lane));
        // Relaxed: it only counts; the decrement publishes.
        self.producers.fetch_add(1, Ordering::Relaxed);
        // On a sealed channel every push fails, so the consumer does not need the lane.
        if !registry.sealed {
            registry.joining.push((id, reader));
            // Release: pairs with the consumer's Acquire load in `admit`.
            self.joined.fetch_add(1, Ordering::Release);
        }
        (id, writer)
    }

    /// Removes a producer's lane from the registry; its last values are already published.
    pub(crate) fn remove_lane(&self, writer: &LaneWriter<T>) {
        lock(&self.registry)
            .open
            .retain(|lane| !Arc::ptr_eq(lane, &writer.lane));
        writer.finish();
        // Release: pairs with the consumer's Acquire load, so that it sees all values when it sees no producer.
        self.producers.fetch_sub(1, Ordering::Release);
        self.bell.ring();
    }

    /// Takes the reading ends added since the last call.
    pub(crate) fn take_joining(&self) -> Vec<(LaneId, LaneReader<T>)> {
        std::mem::take(&mut lock(&self.registry).joining)
    }

    /// As [`take_joining`](Self::take_joining), for the last time: seals the registry.
    pub(crate) fn take_last_joining(&self) -> Vec<(LaneId, LaneReader<T>)> {
        let mut registry = lock(&self.registry);
        registry.sealed = true;
        std::mem::take(&mut registry.joining)
    }

    /// Closes the channel and wakes all threads that wait on it.
    pub(crate) fn close(&self) {
        // Release: pairs with the consumer's Acquire load, so that what the closer pushed before is read.
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
        for lane in &lock(&self.registry).open {
            lane.space.ring();
        }
    }
}
