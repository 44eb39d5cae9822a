//! The wall clock of the engine: the one place that reads it.

use headwater_connect::{Clock, SystemClock};

/// Microseconds since 1970-01-01 UTC.
pub(crate) fn now_us() -> i64 {
    SystemClock.now_us()
}
