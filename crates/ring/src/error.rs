//! What can go wrong: a wrong capacity, a lane that is full, a channel that is closed.
//!
//! A push that fails gives its value back. The errors are written by hand rather than derived because this crate has no
//! dependencies.

use std::error::Error;
use std::fmt;

/// A [`ChannelConfig`](crate::ChannelConfig) or byte ring size with which nothing can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A channel's capacity is not a power of two of at least 2.
    Capacity {
        /// The capacity that was asked for.
        capacity: usize,
    },
    /// A lane of this capacity would not fit into the address space.
    TooLarge {
        /// The capacity that was asked for.
        capacity: usize,
        /// Size of one value, bytes.
        value_bytes: usize,
    },
    /// A byte ring of 0 bytes.
    NoBytes,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Capacity { capacity } => {
                match capacity.max(&2).checked_next_power_of_two() {
                    Some(next) => write!(
                        f,
                        "capacity must be a power of two of at least 2, such as {next}, not {capacity}"
                    ),
                    None => write!(
                        f,
                        "capacity must be a power of two of at least 2, not {capacity}"
                    ),
                }
            }
            ConfigError::TooLarge {
                capacity,
                value_bytes,
            } => {
                write!(
                    f,
                    "{capacity} slots of {value_bytes} bytes do not fit into memory"
                )
            }
            ConfigError::NoBytes => write!(f, "a byte ring must hold at least 1 byte, not 0"),
        }
    }
}

impl Error for ConfigError {}

/// Why a push failed, with the value that was not pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError<T> {
    /// The channel was closed, or its consumer dropped. No later push will succeed.
    Closed(T),
    /// The lane is full. A later push may succeed.
    Full(T),
}

impl<T> PushError<T> {
    /// Returns the value that was not pushed.
    pub fn into_inner(self) -> T {
        match self {
            PushError::Closed(value) | PushError::Full(value) => value,
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Closed(_) => f.write_str("the channel is closed"),
            PushError::Full(_) => f.write_str("the lane is full"),
        }
    }
}

impl<T: fmt::Debug> Error for PushError<T> {}

/// Why only the first `accepted` values of a slice were pushed. The consumer will read those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushSliceError {
    /// The channel was closed, or its consumer dropped.
    Closed {
        /// Number of values pushed, from the front of the slice.
        accepted: usize,
    },
    /// The lane is full and the policy is [`Reject`](crate::Backpressure::Reject).
    Full {
        /// Number of values pushed, from the front of the slice.
        accepted: usize,
    },
}

impl PushSliceError {
    /// Number of values pushed, from the front of the slice.
    pub fn accepted(&self) -> usize {
        match *self {
            PushSliceError::Closed { accepted } | PushSliceError::Full { accepted } => accepted,
        }
    }
}

impl fmt::Display for PushSliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushSliceError::Closed { accepted } => {
                write!(f, "the channel was closed after {accepted} values")
            }
            PushSliceError::Full { accepted } => {
                write!(f, "the lane was full after {accepted} values")
            }
        }
    }
}

impl Error for PushSliceError {}
