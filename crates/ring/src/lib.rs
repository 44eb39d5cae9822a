//! The fastest way into Headwater: bounded channels made of single-producer lanes, and a ring of bytes.
//!
//! A channel starts with one [`Producer`] and one [`Consumer`]. Cloning the producer adds a *lane* of its own, so
//! producers never touch each other's cache lines and no push ever needs a compare-and-swap:
//!
//! ```text
//!   Producer ──► lane 0 ▕▓▓▓▓░░░░▏ ──┐
//!   clone    ──► lane 1 ▕▓░░░░░░░▏ ──┼──► Consumer, which serves the lanes in turn, a run of values at a time
//!   clone    ──► lane 2 ▕░░░░░░░░▏ ──┘
//!                    └── rings the Bell, which costs about a nanosecond unless the consumer sleeps
//! ```
//!
//! One [`Bell`] may serve many channels, so one thread can sleep until any of its sources has something.
//! [`ByteRing`] keeps the last bytes of a source's raw output for any number of readers.
//!
//! What a value means, how it becomes a column and how an async task waits for space is the engine's concern.
//! This is the only crate with `unsafe`: in `slots`, in `lane` and for the one system call in `barrier`.
//! `tests/loom.rs` runs every interleaving of it.
//!
//! ```
//! let (producer, mut consumer) = headwater_ring::channel(headwater_ring::ChannelConfig::default())?;
//! std::thread::spawn(move || (0..1000).for_each(|n| producer.push(n).unwrap()));
//! let mut values = Vec::new();
//! while consumer.wait() {
//!     consumer.drain_into(&mut values, usize::MAX);
//! }
//! assert_eq!(values, (0..1000).collect::<Vec<_>>());
//! # Ok::<(), headwater_ring::ConfigError>(())
//! ```

mod barrier;
mod bell;
mod byte_ring;
mod channel;
mod config;
mod consumer;
mod error;
mod lane;
mod producer;
mod slots;
mod sync;

pub use bell::Bell;
pub use byte_ring::{ByteRead, ByteReader, ByteRing};
pub use channel::{LaneId, channel, channel_with_bell};
pub use config::{Backpressure, ChannelConfig, WaitStrategy};
pub use consumer::Consumer;
pub use error::{ConfigError, PushError, PushSliceError};
pub use lane::LaneRun;
pub use producer::Producer;
