//! The writing side of a channel: one lane per producer, and what happens when it is full or closed.
//!
//! A push: check for a close, check for room, write the slot, publish the tail, light fence, wake the consumer if it
//! sleeps, check for a close again. Everything else is off that path, in functions marked cold.
//!
//! The lane's seal decides whether a push that raced a close was accepted, so `Ok` always means that the consumer will
//! see the value, unless the consumer is dropped or the policy overwrites.

use std::fmt;

use crate::barrier;
use crate::channel::{LaneId, SharedChannel};
use crate::config::Backpressure;
use crate::error::{PushError, PushSliceError};
use crate::lane::LaneWriter;
use crate::sync::{Arc, spin, yield_now};

/// Pushes values into a lane of its own. Can be sent to another thread but not shared: clone it instead.
///
/// Cloning adds a lane of the same capacity and costs the other producers nothing. Values of one producer are read
/// in the order they were pushed; between producers there is no order.
pub struct Producer<T> {
    writer: LaneWriter<T>,
    id: LaneId,
    shared: Arc<SharedChannel<T>>,
}

impl<T> Producer<T> {
    pub(crate) fn join(shared: Arc<SharedChannel<T>>) -> Producer<T> {
        let (id, writer) = shared.add_lane();
        Producer { writer, id, shared }
    }

    /// Pushes a value. If the lane is full it waits, drops the oldest value or fails, by the channel's
    /// [`Backpressure`].
    ///
    /// # Errors
    /// [`PushError::Closed`] after a close or when the consumer was dropped; [`PushError::Full`] under
    /// [`Backpressure::Reject`]. Both give the value back.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), PushError<T>> {
        if self.shared.is_closed() {
            return Err(PushError::Closed(value));
        }
        // The value goes into no call but the write, so that it can be built in its slot.
        if !self.writer.has_room() {
            match self.make_room() {
                Ok(()) => {}
                Err(NoRoom::Closed) => return Err(PushError::Closed(value)),
                Err(NoRoom::Full) => return Err(PushError::Full(value)),
            }
        }
        self.write(value)
    }

    /// Pushes a value if there is space; never waits and never drops another value, under any policy.
    ///
    /// # Errors
    /// [`PushError::Closed`] or [`PushError::Full`]. Both give the value back.
    #[inline]
    pub fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        if self.shared.is_closed() {
            return Err(PushError::Closed(value));
        }
        if !self.writer.has_room() {
            return Err(PushError::Full(value));
        }
        self.write(value)
    }

    /// Pushes clones of all values in order, under the policy of [`push`](Self::push). One atomic store publishes all
    /// values that fit at once.
    ///
    /// # Errors
    /// As [`push`](Self::push), with the number of values pushed from the front of the slice.
    ///
    /// # Panics
    /// If a `clone` panics; the values before it are pushed.
    pub fn push_slice(&self, values: &[T]) -> Result<(), PushSliceError>
    where
        T: Clone,
    {
        let mut accepted = 0;
        while accepted < values.len() {
            if self.shared.is_closed() {
                return Err(PushSliceError::Closed { accepted });
            }
            let rest = &values[accepted..];
            match if self.writer.room(rest.len()) == 0 {
                self.make_room()
            } else {
                Ok(())
            } {
                Ok(()) => {}
                Err(NoRoom::Closed) => return Err(PushSliceError::Closed { accepted }),
                Err(NoRoom::Full) => return Err(PushSliceError::Full { accepted }),
            }
            let fits = self.writer.room(rest.len()).min(rest.len());
            self.writer.write_clones(&rest[..fits]);
            accepted += fits;
            if self.announce() {
                while self.writer.take_back().is_some() {
                    accepted -= 1;
                }
            }
        }
        Ok(())
    }

    /// Whether a push would find space now. True stays true until this producer pushes, unless the channel is closed.
    pub fn has_capacity(&self) -> bool {
        self.writer.has_room()
    }

    /// Capacity of this producer's lane, values.
    pub fn capacity(&self) -> usize {
        self.writer.capacity()
    }

    /// Identifies the lane of this producer to the consumer.
    pub fn lane(&self) -> LaneId {
        self.id
    }

    /// Number of producers not yet dropped; any thread may change it at any time.
    pub fn lanes(&self) -> usize {
        // Relaxed: a statistic; nothing depends on its order.
        self.shared
            .producers
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Number of values that [`Backpressure::DropOldest`] has dropped from this producer's lane.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }

    /// Whether the channel was closed or its consumer dropped. Once true it stays true.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Closes the channel: later pushes of all producers fail, and the consumer reads what is left.
    ///
    /// Wakes producers that wait for space. A push that runs at the same time either succeeds, and is read, or fails.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Writes a value for which there is room.
    #[inline(always)]
    fn write(&self, value: T) -> Result<(), PushError<T>> {
        self.writer.write(value);
        if self.announce() {
            self.settle()
        } else {
            Ok(())
        }
    }

    /// Wakes the consumer if it sleeps. True if the channel was closed: then `settle` must decide about the values.
    #[inline(always)]
    fn announce(&self) -> bool {
        // Orders the publishing of the tail before both loads; pairs with the heavy fences of `Bell` and of `admit`.
        barrier::light();
        self.shared.bell.ring_after_fence();
        self.shared.is_closed()
    }

    /// Decides about a value that was written while the channel was being closed.
    #[cold]
    fn settle(&self) -> Result<(), PushError<T>> {
        match self.writer.take_back() {
            Some(value) => Err(PushError::Closed(value)),
            None => Ok(()),
        }
    }

    /// Makes room in a full lane, by the channel's policy.
    #[cold]
    #[inline(never)]
    fn make_room(&self) -> Result<(), NoRoom> {
        match self.shared.config.backpressure {
            Backpressure::Reject => return Err(NoRoom::Full),
            Backpressure::DropOldest => self.drop_oldest(),
            Backpressure::Block => {
                let room = || self.writer.has_room() || self.shared.is_closed();
                self.writer
                    .lane
                    .space
                    .wait_as(self.shared.config.wait, room, None);
            }
        }
        if self.writer.has_room() {
            Ok(())
        } else {
            Err(NoRoom::Closed)
        }
    }

    /// Takes the oldest value and drops it. There is room afterwards unless the channel was closed.
    fn drop_oldest(&self) {
        let mut turns = 0u32;
        // The reader holds the slot only while it moves one value out, unless it was preempted right there.
        while !self.writer.has_room() && !self.shared.is_closed() {
            if let Some(oldest) = self.writer.take_oldest() {
                // There is room already, so a `drop` that panics leaves the lane whole.
                return drop(oldest);
            }
            turns += 1;
            if turns.is_multiple_of(64) {
                yield_now()
            } else {
                spin()
            }
        }
    }
}

/// Why there is no room for a value.
enum NoRoom {
    Closed,
    Full,
}

impl<T> Clone for Producer<T> {
    /// A producer with a lane of its own in the same channel.
    fn clone(&self) -> Self {
        Producer::join(Arc::clone(&self.shared))
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.remove_lane(&self.writer);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("lane", &self.id)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
