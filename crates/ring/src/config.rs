//! How a channel is made: the slots of a lane, what happens when they are full, and how a thread waits.
//!
//! These are the `buffer_size`, `backpressure` and `wait_strategy` of `CREATE SOURCE`; the engine parses them,
//! this module holds their meaning and their defaults. A [`Config`] is checked once, when the channel is made;
//! a clone of a producer gets a lane after the same config.

use crate::error::ConfigError;

/// What `push` does when the producer's lane is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backpressure {
    /// Waits until there is space or the channel is closed.
    #[default]
    Block,
    /// Drops the oldest value of the lane that was not yet read, and counts it.
    DropOldest,
    /// Gives the new value back as [`PushError::Full`](crate::PushError::Full).
    Reject,
}

/// How a thread waits, both a consumer with nothing to read and a producer without space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitStrategy {
    /// Never sleeps and never lets values gather: the least latency, and a whole core.
    Spin,
    /// Looks this many times, then a tenth as often while giving way to other threads, then sleeps as `Park` does.
    /// So it answers fast when values flow and uses no CPU when they do not. It gives way so seldom because on a busy
    /// machine each time may cost a whole time slice, where a sleeper is woken at once.
    SpinYield(u32),
    /// Sleeps at once; the other side wakes it with a system call.
    Park,
}

impl Default for WaitStrategy {
    /// `SpinYield(100)`.
    fn default() -> Self {
        WaitStrategy::SpinYield(100)
    }
}

/// How a channel is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Values that a lane holds: a power of two, at least 2. 65,536 unless said otherwise.
    pub capacity: usize,
    /// What `push` does when a lane is full.
    pub backpressure: Backpressure,
    /// How both sides wait.
    pub wait: WaitStrategy,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            capacity: 65_536,
            backpressure: Backpressure::default(),
            wait: WaitStrategy::default(),
        }
    }
}

impl Config {
    /// Checks the capacity for values of `value_bytes` each.
    pub(crate) fn check(&self, value_bytes: usize) -> Result<(), ConfigError> {
        let capacity = self.capacity;
        if !capacity.is_power_of_two() || capacity < 2 {
            return Err(ConfigError::Capacity { capacity });
        }
        // The memory of one lane, with the room that its alignment may take, must be addressable by an isize.
        match capacity.checked_mul(value_bytes) {
            Some(bytes) if bytes < isize::MAX as usize / 2 => Ok(()),
            _ => Err(ConfigError::TooLarge {
                capacity,
                value_bytes,
            }),
        }
    }
}
