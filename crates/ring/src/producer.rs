//! The writing side of a channel: one lane per producer, and what happens when it is full or closed.
//!
//! A push is: is it closed, is there room, write the slot, publish the tail, light fence, was it closed meanwhile,
//! does the consumer sleep. Everything else is off that path, in functions marked cold.
//!
//! Whether a value that met a close was accepted is decided by the lane's seal, so `Ok` always means that the
//! consumer will see the value, unless it is dropped or the policy overwrites.

use std::fmt;

use crate::barrier;
use crate::channel::{LaneId, Shared};
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
    shared: Arc<Shared<T>>,
}

impl<T> Producer<T> {
    pub(crate) fn join(shared: Arc<Shared<T>>) -> Producer<T> {
        let (id, writer) = shared.add_lane();
        Producer { writer, id, shared }
    }

    /// Pushes a value. When the lane is full it waits, drops the oldest value or fails, as the policy says.
    ///
    /// # Errors
    /// [`PushError::Closed`] after a close or when the consumer is gone; [`PushError::Full`] under
    /// [`Backpressure::Reject`]. Both give the value back.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), PushError<T>> {
        if self.shared.is_closed() {
            return Err(PushError::Closed(value));
        }
        if self.writer.has_room() {
            self.write(value)
        } else {
            self.push_into_full(value)
        }
    }

    /// Pushes a value if there is space; never waits and never drops another value, whatever the policy.
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

    /// Pushes clones of all values in order, under the policy of [`push`](Self::push). The consumer sees those that
    /// fit at the same moment, by one atomic store.
    ///
    /// # Errors
    /// As [`push`](Self::push); the error says how many values from the front were accepted.
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
            let room = self.writer.room(rest.len()).min(rest.len());
            let _oldest = match (room, self.shared.config.backpressure) {
                (1.., _) => None,
                (0, Backpressure::Reject) => return Err(PushSliceError::Full { accepted }),
                (0, _) => self.make_room(),
            };
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

    /// Values that this producer's lane holds.
    pub fn capacity(&self) -> usize {
        self.writer.capacity()
    }

    /// This producer's lane.
    pub fn lane(&self) -> LaneId {
        self.id
    }

    /// How many producers live; any thread may change it at any time.
    pub fn lanes(&self) -> usize {
        // Relaxed: a number for people.
        self.shared
            .producers
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Values of this producer's lane that were dropped by [`Backpressure::DropOldest`].
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

    /// Wakes the consumer if it sleeps; true if the channel was closed, so that what was written must be settled.
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

    #[cold]
    fn push_into_full(&self, value: T) -> Result<(), PushError<T>> {
        if self.shared.config.backpressure == Backpressure::Reject {
            return Err(PushError::Full(value));
        }
        let _oldest = self.make_room();
        if self.writer.has_room() {
            self.write(value)
        } else {
            Err(PushError::Closed(value))
        }
    }

    /// Waits for space, or takes the oldest value; there is room afterwards unless the channel was closed.
    ///
    /// The value is returned so that it is dropped after the push: its `drop` is not our code.
    fn make_room(&self) -> Option<T> {
        if self.shared.config.backpressure == Backpressure::DropOldest {
            return self.drop_oldest();
        }
        let room = || self.writer.has_room() || self.shared.is_closed();
        self.writer
            .lane
            .space
            .wait_as(self.shared.config.wait, room, None);
        None
    }

    fn drop_oldest(&self) -> Option<T> {
        let mut turns = 0u32;
        // The reader is in the way only while it moves one value out, unless it was put to sleep right there.
        while !self.writer.has_room() && !self.shared.is_closed() {
            if let Some(oldest) = self.writer.take_oldest() {
                return Some(oldest);
            }
            turns += 1;
            if turns % 64 == 0 { yield_now() } else { spin() }
        }
        None
    }
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
