//! The reading side of a channel: all lanes in turn, a run of values at a time.
//!
//! Each read is one sweep: it visits every lane once and takes what is there, within the caller's limit. The next
//! sweep starts behind the lane that was served last, so no lane starves, and a sweep ends even if the producers
//! never stop. Before a sweep the consumer fetches lanes that were added, and after a close it fixes the end of each
//! lane. It removes an empty lane whose producer is gone.
//!
//! What the values are used for, and a watermark per lane, is the engine's concern.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::barrier;
use crate::bell::Bell;
use crate::channel::{LaneId, SharedChannel};
use crate::config::WaitStrategy;
use crate::lane::{LaneReader, LaneRun};
use crate::sync::{Arc, spin};

/// Reads the values of all producers of a channel. Belongs to one thread at a time. Dropping it closes the channel
/// and drops what was not read.
pub struct Consumer<T> {
    shared: Arc<SharedChannel<T>>,
    lanes: Vec<(LaneId, LaneReader<T>)>,
    /// Index in `lanes` at which the next sweep starts; may be past the end.
    turn: usize,
    /// The value of `SharedChannel::joined` up to which lanes were fetched.
    joined: usize,
    /// Whether the channel was seen closed and every lane in `lanes` is sealed.
    sealed: bool,
    /// Overwritten values of removed lanes.
    dropped: u64,
    /// Number of values the last sweep took; 0 once `wait` has let more gather.
    last: usize,
}

/// A sweep of fewer values than this is not worth taking the cache line from the writer.
const FEW: usize = 256;
/// How long `wait` lets values gather, in turns of the spin hint. 0 under loom, which does not model time.
const GATHER_TURNS: u32 = if cfg!(loom) { 0 } else { 32 };

impl<T> Consumer<T> {
    pub(crate) fn new(shared: Arc<SharedChannel<T>>) -> Consumer<T> {
        Consumer {
            shared,
            lanes: Vec::new(),
            turn: 0,
            joined: 0,
            sealed: false,
            dropped: 0,
            last: 0,
        }
    }

    /// Hands out up to `max` values, in runs of one lane each; returns how many. 0 means that the channel was empty.
    ///
    /// Drops the values of a run that `take` does not consume. Does not wait. A value is moved out of the ring only
    /// when the run's iterator yields it; the end of a run gives its slots back to the producer.
    pub fn drain_runs(
        &mut self,
        max: usize,
        mut take: impl FnMut(LaneId, LaneRun<'_, T>),
    ) -> usize {
        self.sweep(max, |id, lane, count| take(id, lane.run(count)))
    }

    /// Hands out up to `max` values one by one; returns how many. 0 means that the channel was empty. Does not wait.
    pub fn drain(&mut self, max: usize, mut take: impl FnMut(T)) -> usize {
        self.sweep(max, |_, lane, count| lane.run(count).for_each(&mut take))
    }

    /// Appends up to `max` values to `into`; returns how many. 0 means that the channel was empty. Does not wait.
    pub fn drain_into(&mut self, into: &mut Vec<T>, max: usize) -> usize {
        self.sweep(max, |_, lane, count| lane.read_into(count, into))
    }

    /// Serves each lane once, within `max` values in all.
    fn sweep(
        &mut self,
        max: usize,
        mut serve: impl FnMut(LaneId, &mut LaneReader<T>, usize),
    ) -> usize {
        self.admit();
        let mut left = max;
        for _ in 0..self.lanes.len() {
            if left == 0 {
                break;
            }
            if self.turn >= self.lanes.len() {
                self.turn = 0;
            }
            let (id, lane) = &mut self.lanes[self.turn];
            let mut count = lane.ready(left);
            if count == 0 && lane.is_finished() {
                self.remove_lane(self.turn);
                continue;
            }
            self.turn += 1;
            // A lane that overwrites may hold one value more than a run can promise.
            for _ in 0..2 {
                if count == 0 {
                    break;
                }
                left -= count;
                let longest = count == lane.longest_run();
                serve(*id, lane, count);
                count = if longest { lane.ready(left.min(1)) } else { 0 };
            }
        }
        self.last = max - left;
        self.last
    }

    /// Fetches new lanes, and seals all once the channel is closed.
    #[inline]
    fn admit(&mut self) {
        // Acquire: pairs with the Release of `add_lane`.
        let joined = self.shared.joined.load(Ordering::Acquire);
        if joined != self.joined {
            self.joined = joined;
            self.lanes.extend(self.shared.take_joining());
        }
        // Acquire: pairs with the Release of `close`.
        if !self.sealed && self.shared.closed.load(Ordering::Acquire) {
            self.seal();
        }
    }

    #[cold]
    fn seal(&mut self) {
        // Pairs with the light fence of a push: one that did not see the close has published before this.
        barrier::heavy();
        self.lanes.extend(self.shared.take_last_joining());
        self.lanes.iter_mut().for_each(|(_, lane)| lane.seal());
        self.sealed = true;
    }

    fn remove_lane(&mut self, at: usize) {
        let (_, lane) = self.lanes.remove(at);
        self.dropped += lane.dropped();
    }

    /// Whether no value can be read now.
    pub fn is_empty(&mut self) -> bool {
        self.admit();
        self.lanes.iter_mut().all(|(_, lane)| lane.ready(1) == 0)
    }

    /// Number of values that can be read now.
    pub fn len(&mut self) -> usize {
        self.admit();
        self.lanes.iter_mut().map(|(_, lane)| lane.len()).sum()
    }

    /// Whether no further value can be pushed: the channel was closed, or all producers are gone. Unread values may be
    /// left. Once true it stays true.
    pub fn is_closed(&self) -> bool {
        // Acquire, both: pair with the Release of `close` and of `remove_lane`, so that a read of
        // the lanes after this finds all values there will ever be.
        self.shared.closed.load(Ordering::Acquire)
            || self.shared.producers.load(Ordering::Acquire) == 0
    }

    /// Whether everything was read and nothing will come. Once true it stays true.
    pub fn is_finished(&mut self) -> bool {
        self.is_closed() && self.is_empty()
    }

    /// The lanes from which values may still come: those whose producer exists, and those not yet empty. After a close,
    /// only those not yet empty.
    pub fn lanes(&mut self) -> impl ExactSizeIterator<Item = LaneId> {
        self.admit();
        for at in (0..self.lanes.len()).rev() {
            if self.lanes[at].1.is_finished() {
                self.remove_lane(at);
            }
        }
        self.lanes.iter().map(|(id, _)| *id)
    }

    /// Number of values that [`Backpressure::DropOldest`](crate::Backpressure::DropOldest) has dropped, in all lanes
    /// and including lanes that are gone.
    pub fn dropped(&mut self) -> u64 {
        self.admit();
        self.dropped
            + self
                .lanes
                .iter()
                .map(|(_, lane)| lane.dropped())
                .sum::<u64>()
    }

    /// Waits, by the channel's [`WaitStrategy`], until there is a value to read (true) or none will ever come (false).
    pub fn wait(&mut self) -> bool {
        self.let_gather();
        if !self.is_empty() {
            return true;
        }
        let (bell, strategy) = (Arc::clone(&self.shared.bell), self.shared.config.wait);
        bell.wait_as(strategy, || !self.is_empty() || self.is_closed(), None);
        // A close may have come between the two checks; a third finds what was pushed before it.
        !self.is_empty()
    }

    /// Gives the producers half a microsecond when the last read found only a few values.
    ///
    /// A reader that has caught up takes the cache line of the tail away from the writer at every value; between two
    /// cores that makes a push of 64 bytes several times as expensive. `Spin` does without, for the least latency.
    fn let_gather(&mut self) {
        if self.shared.config.wait != WaitStrategy::Spin && (1..FEW).contains(&self.last) {
            (0..GATHER_TURNS).for_each(|_| spin());
        }
        self.last = 0;
    }

    /// Closes the channel: later pushes fail, and unread values can still be read.
    pub fn close(&self) {
        self.shared.close();
    }

    /// The bell that the producers ring.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.shared.bell
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.close();
        self.admit();
        // The producers keep the lanes allocated, so the unread values are dropped here.
        while self.drain(usize::MAX, drop) > 0 {}
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
