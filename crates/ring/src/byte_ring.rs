//! The last bytes of a source's raw output, for any number of readers, each at a position of its own.
//!
//! Bytes are counted from the first one ever written. Byte `n` lies at `n % capacity` until byte `n + capacity`
//! replaces it:
//!
//! ```text
//!   0 ─ ─ ─ ─ ─ ─ ─┬───────────┬────────────┐
//!     overwritten  │ oldest    │ a reader   │ total_written
//!                  └───────────┴────────────┘
//! ```
//!
//! A writer never waits for readers. A reader that fell behind `oldest` gets the number of bytes it missed and goes on
//! from there. One lock guards it all, held for no longer than a copy of 64 KiB: a source writes blocks, not single
//! bytes. Lines, text and storage are the reader's concern.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::bell::deadline;
use crate::error::ConfigError;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock, wait_notified};

/// Bytes copied under one hold of the lock, at most.
const COPY_MAX: usize = 64 * 1024;

/// Keeps the last `capacity` bytes written to it. Clones are handles to the same ring; thread-safe.
///
/// ```
/// use std::io::Write;
/// let mut ring = headwater_ring::ByteRing::new(8)?;
/// ring.write_all(b"headwater").unwrap();
/// assert_eq!(ring.tail(5), b"water");
/// assert_eq!(ring.total_written(), 9);
/// # Ok::<(), headwater_ring::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ByteRing {
    shared: Arc<SharedRing>,
}

struct SharedRing {
    ring: Mutex<RingBytes>,
    /// Notified after each write and by `close`.
    changed: Condvar,
}

struct RingBytes {
    /// As many bytes as the capacity of the ring.
    bytes: Box<[u8]>,
    /// Number of bytes ever written.
    written: u64,
    closed: bool,
}

impl ByteRing {
    /// An empty ring for the last `capacity` bytes.
    ///
    /// # Errors
    /// If `capacity` is 0.
    pub fn new(capacity: usize) -> Result<ByteRing, ConfigError> {
        if capacity == 0 {
            return Err(ConfigError::NoBytes);
        }
        let ring = RingBytes {
            bytes: vec![0; capacity].into_boxed_slice(),
            written: 0,
            closed: false,
        };
        Ok(ByteRing {
            shared: Arc::new(SharedRing {
                ring: Mutex::new(ring),
                changed: Condvar::new(),
            }),
        })
    }

    /// A reader that begins with the oldest byte kept.
    pub fn reader(&self) -> ByteReader {
        let next = self.shared.lock().oldest();
        ByteReader {
            shared: Arc::clone(&self.shared),
            next,
        }
    }

    /// A reader of what is written from now on.
    pub fn reader_from_now(&self) -> ByteReader {
        let next = self.shared.lock().written;
        ByteReader {
            shared: Arc::clone(&self.shared),
            next,
        }
    }

    /// The last `count` bytes, or fewer if there are fewer.
    pub fn tail(&self, count: usize) -> Vec<u8> {
        let state = self.shared.lock();
        let held = state.written - state.oldest();
        let mut tail = vec![0; held.min(count as u64) as usize];
        state.copy(state.written - tail.len() as u64, &mut tail);
        tail
    }

    /// Number of bytes ever written, including those overwritten since.
    pub fn total_written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Number of bytes it keeps.
    pub fn capacity(&self) -> usize {
        self.shared.lock().bytes.len()
    }

    /// Marks the output as complete. Readers get what is left, then [`ByteRead::Closed`]; later writes fail.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }

    /// Whether the output is complete.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

impl io::Write for ByteRing {
    /// Takes up to 64 KiB at once and never waits for a reader.
    ///
    /// # Errors
    /// `BrokenPipe` after [`close`](ByteRing::close); never otherwise.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Write for &ByteRing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(COPY_MAX)];
        let mut state = self.shared.lock();
        if state.closed {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the byte ring is closed",
            ));
        }
        state.append(taken);
        drop(state);
        self.shared.changed.notify_all();
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for ByteRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("ByteRing")
            .field("capacity", &state.bytes.len())
            .field("total_written", &state.written)
            .field("closed", &state.closed)
            .finish()
    }
}

impl SharedRing {
    fn lock(&self) -> MutexGuard<'_, RingBytes> {
        lock(&self.ring)
    }
}

impl RingBytes {
    /// Position of the oldest byte not yet overwritten.
    fn oldest(&self) -> u64 {
        self.written.saturating_sub(self.bytes.len() as u64)
    }

    /// Index in `bytes` of the byte at `position`.
    fn index(&self, position: u64) -> usize {
        (position % self.bytes.len() as u64) as usize
    }

    fn append(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.bytes.len())..];
        let start = self.index(self.written + (bytes.len() - kept.len()) as u64);
        let (front, back) = kept.split_at(kept.len().min(self.bytes.len() - start));
        self.bytes[start..start + front.len()].copy_from_slice(front);
        self.bytes[..back.len()].copy_from_slice(back);
        self.written += bytes.len() as u64;
    }

    /// Fills `into` with the bytes from `position` on. The ring must hold all of them.
    fn copy(&self, position: u64, into: &mut [u8]) {
        let start = self.index(position);
        let (front, back) = into.split_at_mut(into.len().min(self.bytes.len() - start));
        front.copy_from_slice(&self.bytes[start..start + front.len()]);
        back.copy_from_slice(&self.bytes[..back.len()]);
    }
}

/// What a read of a [`ByteReader`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ByteRead {
    /// This many bytes were put at the front of the buffer; 0 only for an empty buffer.
    Bytes(usize),
    /// The writer overtook this reader, which has lost `missed` bytes. The next read goes on behind them.
    Overtaken {
        /// Bytes between the last one read and the oldest one kept.
        missed: u64,
    },
    /// Nothing new so far.
    Empty,
    /// The output is complete, and was read to its end.
    Closed,
}

/// Reads a [`ByteRing`] from a position of its own, independent of other readers. A clone goes on from the same
/// position.
#[derive(Clone)]
pub struct ByteReader {
    shared: Arc<SharedRing>,
    /// Position of the next byte to read.
    next: u64,
}

impl ByteReader {
    /// Reads what is available, without waiting for a writer.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> ByteRead {
        let shared = Arc::clone(&self.shared);
        let state = shared.lock();
        self.read_from(&state, buffer)
    }

    /// Reads what is available. If nothing is, waits for bytes or the close, and returns [`ByteRead::Empty`] once
    /// `timeout` has passed (`None`: no limit).
    pub fn read(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> ByteRead {
        let deadline = deadline(timeout);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            let found = self.read_from(&state, buffer);
            if found != ByteRead::Empty {
                return found;
            }
            state = match wait_notified(&shared.changed, state, deadline) {
                Some(woken) => woken,
                None => return ByteRead::Empty,
            };
        }
    }

    /// Position of the next byte to read, counted from the first byte ever written.
    pub fn position(&self) -> u64 {
        self.next
    }

    fn read_from(&mut self, state: &RingBytes, buffer: &mut [u8]) -> ByteRead {
        let oldest = state.oldest();
        if self.next < oldest {
            let missed = oldest - self.next;
            self.next = oldest;
            return ByteRead::Overtaken { missed };
        }
        let left = state.written - self.next;
        if left == 0 {
            return if state.closed {
                ByteRead::Closed
            } else {
                ByteRead::Empty
            };
        }
        let count = left.min(buffer.len().min(COPY_MAX) as u64) as usize;
        state.copy(self.next, &mut buffer[..count]);
        self.next += count as u64;
        ByteRead::Bytes(count)
    }
}

impl fmt::Debug for ByteReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteReader")
            .field("position", &self.next)
            .finish_non_exhaustive()
    }
}
