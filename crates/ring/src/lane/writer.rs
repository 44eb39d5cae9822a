//! The writing end of a lane.
//!
//! It keeps its own `tail`, and the last `head` it saw, in plain cells: as long as the lane was not full when it
//! last looked, a write reads nothing that the reader writes. `Producer` makes room and wakes the reader.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use super::SharedLane;
use crate::sync::Arc;

pub(crate) struct LaneWriter<T> {
    pub(crate) lane: Arc<SharedLane<T>>,
    /// The shared `tail`, which only this end stores.
    tail: Cell<usize>,
    /// Slots of indices below this are free: the last `head` seen, or past the last value that this end took.
    freed: Cell<usize>,
    dropped: Cell<u64>,
}

impl<T> LaneWriter<T> {
    pub(super) fn new(lane: Arc<SharedLane<T>>) -> LaneWriter<T> {
        LaneWriter {
            lane,
            tail: Cell::new(0),
            freed: Cell::new(0),
            dropped: Cell::new(0),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.lane.slots.capacity()
    }

    /// Whether a value can be written now. True stays true until this end writes.
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.known_room() > 0 || self.look_for_room() > 0
    }

    /// Number of values that can be written now; loads the reader's `head` only if fewer than `wanted` are known of.
    pub(crate) fn room(&self, wanted: usize) -> usize {
        let known = self.known_room();
        if known < wanted {
            self.look_for_room()
        } else {
            known
        }
    }

    #[inline(always)]
    fn known_room(&self) -> usize {
        self.capacity() - self.tail.get().wrapping_sub(self.freed.get())
    }

    fn look_for_room(&self) -> usize {
        // Acquire: pairs with the reader's Release store, so that its reads of the slots come before our writes.
        let head = self.lane.head.load(Ordering::Acquire);
        // `head` lies behind `freed` when this end took values that the reader never saw.
        let tail = self.tail.get();
        if tail.wrapping_sub(head) < tail.wrapping_sub(self.freed.get()) {
            self.freed.set(head);
        }
        self.known_room()
    }

    /// Writes a value and publishes it. There must be room.
    #[inline(always)]
    pub(crate) fn write(&self, value: T) {
        assert_room(self.known_room() > 0);
        let tail = self.tail.get();
        // SAFETY: there is room, so the slot's last value was taken before; only this end writes.
        unsafe { self.lane.slots.write(tail, value) };
        self.publish(tail.wrapping_add(1));
    }

    /// Writes clones of `values` and publishes them at once. There must be room for all.
    ///
    /// If a `clone` panics, the values before it are published.
    pub(crate) fn write_clones(&self, values: &[T])
    where
        T: Clone,
    {
        assert_room(values.len() <= self.known_room());
        let start = self.tail.get();
        let mut run = Unpublished {
            writer: self,
            tail: start,
        };
        // SAFETY: there is room for all of them, so their slots' last values were taken; only this end writes.
        unsafe {
            self.lane
                .slots
                .write_clones(start, values, || run.tail = run.tail.wrapping_add(1))
        };
    }

    #[inline(always)]
    fn publish(&self, tail: usize) {
        self.tail.set(tail);
        // Release: pairs with the reader's Acquire load, so that it sees the slots written.
        self.lane.writer.tail.store(tail, Ordering::Release);
    }

    /// Takes the oldest unread value to make room in a full lane that overwrites.
    ///
    /// `None` if the reader was first: there is room as soon as it has moved that value out.
    pub(crate) fn take_oldest(&self) -> Option<T> {
        debug_assert!(self.lane.overwrites && self.known_room() == 0);
        let oldest = self.tail.get().wrapping_sub(self.capacity());
        let next = oldest.wrapping_add(1);
        // Release: pairs with the reader's Acquire load of `claim`, so that a reader which finds its value claimed
        // sees everything up to our `tail`. Relaxed on failure: `look_for_room` acquires what the reader did.
        self.lane
            .claim
            .compare_exchange(oldest, next, Ordering::Release, Ordering::Relaxed)
            .ok()?;
        self.freed.set(next);
        self.dropped.set(self.dropped.get() + 1);
        // SAFETY: the claim is ours, so the reader will not touch the slot, and this end wrote the value itself.
        Some(unsafe { self.lane.slots.read(oldest) })
    }

    /// Takes back the last value written if it lies above the seal, so that the reader will never see it.
    ///
    /// Call it only after the channel was seen closed, and only for values that were not yet accepted.
    pub(crate) fn take_back(&self) -> Option<T> {
        if self.lane.seal() == self.tail.get() {
            return None;
        }
        let last = self.tail.get().wrapping_sub(1);
        self.publish(last);
        // SAFETY: this end wrote the value, and the reader, which sealed the lane below it, never reads it.
        Some(unsafe { self.lane.slots.read(last) })
    }

    /// Number of values that [`take_oldest`](Self::take_oldest) has taken.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Marks the lane as complete: nothing more will be written.
    pub(crate) fn finish(&self) {
        // Release: pairs with the reader's Acquire load, so that it sees the last `tail`.
        self.lane.writer.gone.store(true, Ordering::Release);
    }
}

/// The soundness of a write depends on this, so every build checks it; the optimizer removes most of the checks.
#[inline(always)]
fn assert_room(there: bool) {
    assert!(there, "a lane was written to without room");
}

/// Publishes on drop what was written so far, also while unwinding.
struct Unpublished<'a, T> {
    writer: &'a LaneWriter<T>,
    tail: usize,
}

impl<T> Drop for Unpublished<'_, T> {
    fn drop(&mut self) {
        self.writer.publish(self.tail);
    }
}
