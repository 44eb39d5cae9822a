//! The time of day, as a parameter.
//!
//! Arrival times and the times in a source's status come from a [`Clock`], so tests and replays
//! decide what time it is. It does no waiting: delays use tokio's time, which tests pause.

/// Supplies the time of day. Shared between threads.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970-01-01 UTC. May step backwards when the machine's clock is set.
    fn now_us(&self) -> i64;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_us(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }
}

impl<F: Fn() -> i64 + Send + Sync + 'static> Clock for F {
    fn now_us(&self) -> i64 {
        self()
    }
}
