//! The reading end of a lane, and the [`LaneRun`] of values that it hands out.
//!
//! The end keeps how far it has read in a plain field, so values are moved out one by one and their slots are given
//! back with one store when the run ends. A run that is forgotten keeps its slots until the next one; no value is
//! ever read twice.
//!
//! **A run keeps its promise in a lane that overwrites.** It promises at most `capacity - 1` values. The writer
//! takes a value only when `capacity` are unread, which leaves `capacity - 1`; so the promised number is always
//! there, even if not the same values that were there when the run began.

use std::sync::atomic::Ordering;

use super::SharedLane;
use crate::barrier;
use crate::sync::Arc;

pub(crate) struct LaneReader<T> {
    pub(super) lane: Arc<SharedLane<T>>,
    /// The next index to read. In a lane that overwrites, the last known `claim`.
    next: usize,
    /// The last `tail` seen, or the seal once there is one.
    end: usize,
    sealed: bool,
    /// In a lane that overwrites, values handed out, in wrapping arithmetic; what was claimed beyond them was dropped.
    taken: usize,
}

impl<T> LaneReader<T> {
    pub(super) fn new(lane: Arc<SharedLane<T>>) -> LaneReader<T> {
        LaneReader {
            lane,
            next: 0,
            end: 0,
            sealed: false,
            taken: 0,
        }
    }

    /// Number of values, up to `wanted`, that a run can promise now.
    #[inline]
    pub(crate) fn ready(&mut self, wanted: usize) -> usize {
        if self.lane.overwrites {
            // Acquire: pairs with the writer's claim, so that the `tail` loaded below is not behind it.
            self.next = self.lane.claim.load(Ordering::Acquire);
        } else if self.known() >= wanted {
            return wanted;
        }
        if !self.sealed {
            // Acquire: pairs with the writer's Release store, so that the slots below are seen written.
            self.end = self.lane.writer.tail.load(Ordering::Acquire);
        }
        self.known().min(wanted).min(self.longest_run())
    }

    /// The largest number of values that one run can promise.
    pub(crate) fn longest_run(&self) -> usize {
        self.lane.slots.capacity() - usize::from(self.lane.overwrites)
    }

    /// Number of values that can be read now; the writer may add and overwrite some meanwhile.
    pub(crate) fn len(&mut self) -> usize {
        self.ready(usize::MAX);
        self.known().min(self.lane.slots.capacity())
    }

    /// The next `count` values, which [`ready`](Self::ready) has promised.
    pub(crate) fn run(&mut self, count: usize) -> LaneRun<'_, T> {
        assert!(
            self.lane.overwrites || count <= self.known(),
            "a lane was read beyond its end"
        );
        LaneRun {
            left: count,
            reader: self,
        }
    }

    /// Moves the next `count` values, which [`ready`](Self::ready) has promised, to the end of `into`.
    pub(crate) fn read_into(&mut self, count: usize, into: &mut Vec<T>) {
        if self.lane.overwrites {
            into.extend(self.run(count));
            return;
        }
        assert!(count <= self.known(), "a lane was read beyond its end");
        // SAFETY: the values lie between what was read and the tail that was acquired; only this end reads.
        unsafe { self.lane.slots.read_into(self.next, count, into) };
        self.skip(count);
        self.release();
    }

    /// Counts the next `count` values as taken without touching them. Not for a lane that overwrites.
    fn skip(&mut self, count: usize) {
        self.next = self.next.wrapping_add(count);
    }

    /// Number of values between the last one read and the last `tail` seen.
    #[inline(always)]
    fn known(&self) -> usize {
        self.end.wrapping_sub(self.next)
    }

    /// Takes the next value, of which at least one must be promised.
    #[inline(always)]
    fn take(&mut self) -> T {
        if self.lane.overwrites {
            self.take_claimed()
        } else {
            self.take_next()
        }
    }

    #[inline(always)]
    fn take_next(&mut self) -> T {
        let index = self.next;
        self.next = index.wrapping_add(1);
        // SAFETY: the value was promised: it was written before the `tail` that was acquired, and is not taken yet.
        unsafe { self.lane.slots.read(index) }
    }

    /// Takes a value of a lane that overwrites, and gives its slot back at once.
    #[inline]
    fn take_claimed(&mut self) -> T {
        self.claim();
        self.taken = self.taken.wrapping_add(1);
        let value = self.take_next();
        self.give_back();
        value
    }

    /// Claims the oldest unread value, and makes it the next.
    fn claim(&mut self) {
        // Relaxed on success: that the value is visible was acquired with `tail`, or with the failure before.
        // Acquire on failure: pairs with the writer's claim, which comes after the `tail` that replaces the value.
        while let Err(claimed) = self.lane.claim.compare_exchange(
            self.next,
            self.next.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Acquire,
        ) {
            self.next = claimed;
        }
    }

    #[inline(always)]
    fn give_back(&self) {
        // Release: pairs with the writer's Acquire load, so that our reads of the slots come before its writes.
        self.lane.head.store(self.next, Ordering::Release);
    }

    /// Gives the slots of the values read back, and wakes a writer that waits for them.
    #[inline]
    fn release(&self) {
        self.give_back();
        barrier::light();
        self.lane.space.ring_after_fence();
    }

    /// Fixes the end of the lane. The caller has seen the channel closed and has run the heavy fence since.
    pub(crate) fn seal(&mut self) {
        self.end = self.lane.seal();
        self.sealed = true;
    }

    /// Whether the lane is empty and can get no further value.
    pub(crate) fn is_finished(&mut self) -> bool {
        // Acquire: pairs with the writer's Release store, so that the `tail` read afterwards is its last.
        let ended = self.sealed || self.lane.writer.gone.load(Ordering::Acquire);
        ended && self.ready(1) == 0
    }

    /// Number of overwritten values of this lane; counts each before the writer's push returns.
    pub(crate) fn dropped(&self) -> u64 {
        if !self.lane.overwrites {
            return 0;
        }
        // Acquire: pairs with the writer's claim, so that a caller that knows of a drop in another way sees it here.
        let claimed = self.lane.claim.load(Ordering::Acquire);
        claimed.wrapping_sub(self.taken) as u64
    }
}

impl<T> Drop for LaneReader<T> {
    /// Publishes how far a forgotten run has read, so that the lane does not drop those values again.
    fn drop(&mut self) {
        if !self.lane.overwrites {
            self.give_back();
        }
    }
}

/// The next values of one lane, in the order they were pushed. Dropping it drops those that were not taken.
///
/// Until it is dropped, the slots of its values are not free for the producer, except under
/// [`DropOldest`](crate::Backpressure::DropOldest).
pub struct LaneRun<'a, T> {
    reader: &'a mut LaneReader<T>,
    left: usize,
}

impl<T> Iterator for LaneRun<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        Some(self.reader.take())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }

    /// Used by `for_each` and the like: checks once, not per value, which kind of lane it is.
    #[inline]
    fn fold<B, F: FnMut(B, T) -> B>(mut self, mut folded: B, mut fold: F) -> B {
        if self.reader.lane.overwrites {
            for value in self.by_ref() {
                folded = fold(folded, value);
            }
        } else {
            while self.left > 0 {
                self.left -= 1;
                folded = fold(folded, self.reader.take_next());
            }
        }
        folded
    }
}

impl<T> ExactSizeIterator for LaneRun<'_, T> {}
impl<T> std::iter::FusedIterator for LaneRun<'_, T> {}

impl<T> std::fmt::Debug for LaneRun<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneRun").field("len", &self.left).finish()
    }
}

impl<T> Drop for LaneRun<'_, T> {
    fn drop(&mut self) {
        let rest = GiveBack(self);
        let overwrites = rest.0.reader.lane.overwrites;
        if overwrites || std::mem::needs_drop::<T>() {
            rest.0.by_ref().for_each(drop);
        } else {
            rest.0.reader.skip(rest.0.left);
        }
    }
}

/// Gives the slots of a run back, also when dropping one of its values panics.
struct GiveBack<'r, 'a, T>(&'r mut LaneRun<'a, T>);

impl<T> Drop for GiveBack<'_, '_, T> {
    fn drop(&mut self) {
        self.0.reader.release();
    }
}
