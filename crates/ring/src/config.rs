//! The settings of a channel: the slots of a lane, what happens when they are full, and how a thread waits.
//!
//! These are the `buffer_size`, `backpressure` and `wait_strategy` of `CREATE SOURCE`; the engine parses them,
//! this module defines their meaning and their defaults. `channel` checks a [`ChannelConfig`] once; a cloned producer
//! gets a lane of the same config.

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
    /// Never sleeps and never lets values gather: the least latency, at the price of a whole core.
    Spin,
    /// Spins for this many checks, yields to other threads for a tenth as many, then sleeps as `Park` does. Reacts fast
    /// while values flow and uses no CPU while they do not. It yields that seldom because on a busy machine each yield
    /// may cost a whole time slice, where a sleeping thread is woken at once.
    SpinYield(u32),
    /// Sleeps at once; the other side wakes it with a system call.
    Park,
}

impl Default for WaitStrategy {
    /// `SpinYield(100)`: about ten microseconds before the first sleep.
    fn default() -> Self {
        WaitStrategy::SpinYield(100)
    }
}

/// The settings of a channel and of each of its lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Capacity of a lane, values: a power of two, at least 2. Default: 65,536.
    pub capacity: usize,
    /// What `push` does when a lane is full. Default: `Block`.
    pub backpressure: Backpressure,
    /// How a consumer waits for values and a producer for space. Default: `SpinYield(100)`.
    pub wait: WaitStrategy,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        ChannelConfig {
            capacity: 65_536,
            backpressure: Backpressure::default(),
            wait: WaitStrategy::default(),
        }
    }
}

impl ChannelConfig {
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
