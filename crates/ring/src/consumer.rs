//! The reading side of a channel: all lanes in turn, a run of values at a time.
//!
//! Each read is one sweep: every lane is looked at once and gives what it has, within the caller's limit. The next
//! sweep starts behind the lane that was served last, so no lane starves, and a sweep ends even if the producers
//! never stop. Before it the consumer fetches lanes that were added, and after a close fixes the end of each lane.
//! A lane whose producer is gone is let go when it is empty.
//!
//! What a run of values is used for, and a watermark per lane, is the engine's business.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::barrier;
use crate::bell::Bell;
use crate::channel::{LaneId, Shared};
use crate::config::WaitStrategy;
use crate::lane::{LaneReader, Run};
use crate::sync::{Arc, spin};

/// Reads the values of all producers of a channel. Belongs to one thread at a time. Dropping it closes the channel
/// and drops what was not read.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    lanes: Vec<(LaneId, LaneReader<T>)>,
    /// Where in `lanes` the next sweep starts; may be past the end.
    turn: usize,
    /// The value of `Shared::joined` up to which lanes were fetched.
    joined: usize,
    /// The channel was seen closed, and every lane in `lanes` is sealed.
    sealed: bool,
    /// Overwritten values of lanes that were let go.
    dropped: u64,
    /// How many values the last sweep gave; 0 once that was waited for.
    last: usize,
}

/// A sweep of fewer values than this is not worth a cache line.
const FEW: usize = 256;
/// How long to let values gather, in turns of the spin hint. None under loom, which explores no time.
const GATHER_TURNS: u32 = if cfg!(loom) { 0 } else { 32 };

impl<T> Consumer<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Consumer<T> {
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

    /// Hands out up to `max` values, in runs of one lane each; returns how many. 0 means that nothing was there.
    ///
    /// What `take` leaves of a run is dropped. Does not wait. A value is moved out of the ring only when the run's
    /// iterator yields it; the slots of a run are given back to the producer when the run ends.
    pub fn drain_runs(&mut self, max: usize, mut take: impl FnMut(LaneId, Run<'_, T>)) -> usize {
        self.sweep(max, |id, lane, count| take(id, lane.run(count)))
    }

    /// Hands out up to `max` values one by one; returns how many. 0 means that nothing was there. Does not wait.
    pub fn drain(&mut self, max: usize, mut take: impl FnMut(T)) -> usize {
        self.sweep(max, |_, lane, count| lane.run(count).for_each(&mut take))
    }

    /// Appends up to `max` values to `into`; returns how many. 0 means that nothing was there. Does not wait.
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
                self.let_go(self.turn);
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

    fn let_go(&mut self, place: usize) {
        let (_, lane) = self.lanes.remove(place);
        self.dropped += lane.dropped();
    }

    /// Whether there is nothing to read now.
    pub fn is_empty(&mut self) -> bool {
        self.admit();
        self.lanes.iter_mut().all(|(_, lane)| lane.ready(1) == 0)
    }

    /// Values that can be read now.
    pub fn len(&mut self) -> usize {
        self.admit();
        self.lanes.iter_mut().map(|(_, lane)| lane.len()).sum()
    }

    /// Whether no further value can be pushed: the channel was closed, or all producers are gone. There may be values
    /// left. Once true it stays true.
    pub fn is_closed(&self) -> bool {
        // Acquire, both: pair with the Release of `close` and of `remove_lane`, so that after this a look into the
        // lanes finds all there will ever be.
        self.shared.closed.load(Ordering::Acquire)
            || self.shared.producers.load(Ordering::Acquire) == 0
    }

    /// Whether everything was read and nothing will come. Once true it stays true.
    pub fn is_finished(&mut self) -> bool {
        self.is_closed() && self.is_empty()
    }

    /// The lanes from which values may still come: those of living producers, and of gone ones that are not yet
    /// empty. After a close, those that are not yet empty.
    pub fn lanes(&mut self) -> impl ExactSizeIterator<Item = LaneId> {
        self.admit();
        for place in (0..self.lanes.len()).rev() {
            if self.lanes[place].1.is_finished() {
                self.let_go(place);
            }
        }
        self.lanes.iter().map(|(id, _)| *id)
    }

    /// Values of all lanes, also of those that are gone, that were dropped by
    /// [`Backpressure::DropOldest`](crate::Backpressure::DropOldest).
    pub fn dropped(&mut self) -> u64 {
        self.admit();
        self.dropped
            + self
                .lanes
                .iter()
                .map(|(_, lane)| lane.dropped())
                .sum::<u64>()
    }

    /// Waits, as the strategy says, until there is something to read or nothing will come; true if there is something.
    pub fn wait(&mut self) -> bool {
        self.let_gather();
        if !self.is_empty() {
            return true;
        }
        let (bell, strategy) = (Arc::clone(&self.shared.bell), self.shared.config.wait);
        bell.wait_as(strategy, || !self.is_empty() || self.is_closed(), None);
        // A close may have come between the two looks; what was pushed before it is found by a third.
        !self.is_empty()
    }

    /// Gives the producers half a microsecond when the last read found only a few values.
    ///
    /// A reader that has caught up takes the cache line of the tail away from the writer at every value; between two
    /// cores that makes a push of 64 bytes several times as dear. `Spin` does without: it asks for the least latency.
    fn let_gather(&mut self) {
        if self.shared.config.wait != WaitStrategy::Spin && (1..FEW).contains(&self.last) {
            (0..GATHER_TURNS).for_each(|_| spin());
        }
        self.last = 0;
    }

    /// Closes the channel: later pushes fail, and what is left can be read.
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
        // Each lane drops what is left in it; the producers hold the lanes, so do it now.
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
