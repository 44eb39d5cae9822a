//! A bounded queue between one writer and one reader, without a lock or a compare-and-swap on its path.
//!
//! Three indices run upwards and wrap with `usize`; a value's slot is its index modulo the capacity:
//!
//! ```text
//!        head          claim              tail
//!   ──────┼──────────────┼─────────────────┼──────►   tail - claim <= capacity
//!   free  │ being taken  │ written, unread │ free
//! ```
//!
//! - `tail` is stored by the writer only, after the slot is written.
//! - `head` is stored by the reader only, after the values below it were taken out: their slots are free.
//! - `claim` exists for a lane that overwrites. There the writer may take the oldest value too, so both sides claim
//!   a value by compare-and-swap before they touch its slot. Index `i` is claimed by the writer only while it
//!   writes index `i + capacity`; if the reader was first, the writer waits until `head` passes `i`, which is one
//!   move of a value away. In the other lanes `head` is the claim.
//!
//! **Closing.** A push that runs into a close must be either read or given back. The writer publishes, then looks
//! whether the channel was closed; the reader sees the close, runs the heavy fence, then *seals* the lane at the
//! tail it finds. If the writer saw no close, the reader sees its value. If it did, the seal decides, which the first
//! of the two sides takes under a lock: the writer takes back what lies above it.
//!
//! What a closed channel is, and who waits for what, is in `channel`.

mod reader;
mod writer;

pub(crate) use reader::LaneReader;
pub use reader::LaneRun;
pub(crate) use writer::LaneWriter;

use std::sync::atomic::Ordering;

use crate::bell::Bell;
use crate::slots::Slots;
use crate::sync::{Arc, AtomicBool, AtomicUsize, CachePadded, Mutex, lock};

/// The part of a lane that its two ends share.
pub(crate) struct SharedLane<T> {
    slots: Slots<T>,
    /// Whether the writer may take the oldest value to make room.
    overwrites: bool,
    writer: CachePadded<WriterSide>,
    /// Everything below was taken out of its slot. Stored by the reader.
    head: CachePadded<AtomicUsize>,
    /// Everything below was taken, or is being taken, by one of the two sides. Only in a lane that overwrites.
    claim: CachePadded<AtomicUsize>,
    /// The index where the lane ends for good; set by the first side that calls `seal` after the channel was closed.
    seal: Mutex<Option<usize>>,
    /// The reader rings it when `head` moves.
    pub(crate) space: Bell,
}

struct WriterSide {
    /// Everything below was written. Stored by the writer.
    tail: AtomicUsize,
    /// Whether the writer was dropped: `tail` will not move again.
    gone: AtomicBool,
}

// SAFETY: a slot is touched by one thread at a time, handed over with Release stores and Acquire loads of the indices
// (see the head of the file; loom checks it); so sharing the lane moves values of `T` between threads and no more.
unsafe impl<T: Send> Sync for SharedLane<T> {}
// SAFETY: the lane owns its values, and its slots are plain memory.
unsafe impl<T: Send> Send for SharedLane<T> {}

/// A lane of `capacity` values and its two ends; each end belongs to one thread at a time.
pub(crate) fn lane<T>(capacity: usize, overwrites: bool) -> (LaneWriter<T>, LaneReader<T>) {
    let lane = Arc::new(SharedLane {
        slots: Slots::new(capacity),
        overwrites,
        writer: CachePadded(WriterSide {
            tail: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
        }),
        head: CachePadded(AtomicUsize::new(0)),
        claim: CachePadded(AtomicUsize::new(0)),
        seal: Mutex::new(None),
        space: Bell::new(),
    });
    (LaneWriter::new(Arc::clone(&lane)), LaneReader::new(lane))
}

impl<T> SharedLane<T> {
    /// The index where the lane ends for good; the first call, after the channel was closed, decides it.
    fn seal(&self) -> usize {
        // Acquire: pairs with the writer's Release store of `tail`, so what is below the seal can be read.
        *lock(&self.seal).get_or_insert_with(|| self.writer.tail.load(Ordering::Acquire))
    }
}

impl<T> Drop for SharedLane<T> {
    fn drop(&mut self) {
        // Relaxed: both ends are gone, and dropping the last `Arc` has put all they did before this.
        let tail = self.writer.tail.load(Ordering::Relaxed);
        let taken = if self.overwrites {
            &self.claim
        } else {
            &self.head
        };
        let mut index = taken.load(Ordering::Relaxed);
        while index != tail {
            // SAFETY: what lies between the taken and the tail was written and not taken, and nobody else is left.
            drop(unsafe { self.slots.read(index) });
            index = index.wrapping_add(1);
        }
    }
}
