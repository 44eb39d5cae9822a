//! How long to wait before trying again.
//!
//! Exponential with a cap and jitter. The number of attempts is forgotten only after a healthy period:
//! a server that accepts every connection and closes it at once must still be backed off from. What
//! fails too often within a window is given up.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::Retry;

/// How much longer or shorter each wait may be, as a part of it, where nothing else is said.
pub(crate) const JITTER: f64 = 0.2;

/// When to try again, and when to give up.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// Each wait is this many times the one before; at least 1.
    pub factor: f64,
    /// The longest wait, before jitter.
    pub cap: Duration,
    /// The longest wait that the other side may ask for.
    pub asked_max: Duration,
    /// Each wait is made longer or shorter by up to this part of it, in 0 ..= 1.
    pub jitter: f64,
    /// After running this long the next failure counts as the first.
    pub healthy: Duration,
    /// The largest number of restarts within `window`; after the next failure it gives up.
    pub restarts_max: u32,
    /// The sliding window in which restarts are counted: with waits that are long enough it never gives up.
    pub window: Duration,
    /// The largest number of failures in a row without a healthy period; `None` is no limit.
    pub attempts_max: Option<u32>,
}

impl Default for Backoff {
    /// 1 s, doubling up to 30 s, or up to 1 hour if the other side asks for it, each 20 % longer or shorter;
    /// healthy after 60 s; given up after more than 10 restarts in 60 s.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(30),
            asked_max: Duration::from_secs(60 * 60),
            jitter: JITTER,
            healthy: Duration::from_secs(60),
            restarts_max: 10,
            window: Duration::from_secs(60),
            attempts_max: None,
        }
    }
}

/// The limit at which a backoff gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The largest number of failures in a row.
    InARow(u32),
    /// The largest number of restarts within a window.
    Within(u32, Duration),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(failures) => write!(f, "at most {failures} in a row"),
            Self::Within(restarts, window) => {
                write!(
                    f,
                    "at most {restarts} restarts in {} s",
                    window.as_secs_f64()
                )
            }
        }
    }
}

/// Counts the attempts at one connection, source or write.
#[derive(Debug)]
pub struct Attempts {
    policy: Backoff,
    rng: StdRng,
    /// Failures since the last healthy period.
    failures: u32,
    /// The times of the restarts within the window.
    restarts: VecDeque<Instant>,
    exceeded: Option<Limit>,
}

impl Attempts {
    /// No attempts yet. `seed` decides the jitter.
    pub fn new(policy: Backoff, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            policy,
            rng,
            failures: 0,
            restarts: VecDeque::new(),
            exceeded: None,
        }
    }

    /// The wait after a failure that came after running for `ran_for`, and whose error answers `retry`.
    /// `None`: do not retry.
    pub fn next(&mut self, ran_for: Duration, retry: Retry) -> Option<Duration> {
        if ran_for >= self.policy.healthy {
            self.failures = 0;
        }
        self.failures += 1;
        let asked = match retry {
            Retry::Fatal => return None,
            Retry::Backoff => Duration::ZERO,
            Retry::After(at_least) => at_least.min(self.policy.asked_max),
        };
        self.exceeded = self.too_many().or_else(|| self.too_often());
        match self.exceeded {
            Some(_) => None,
            None => Some(self.delay().max(asked)),
        }
    }

    /// The limit that made [`next`](Self::next) give up; `None` if the error did.
    pub fn passed(&self) -> Option<Limit> {
        self.exceeded
    }

    /// Failures since the last healthy period.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn too_many(&self) -> Option<Limit> {
        let max = self.policy.attempts_max;
        max.filter(|max| self.failures > *max).map(Limit::InARow)
    }

    fn too_often(&mut self) -> Option<Limit> {
        let now = Instant::now();
        let window = self.policy.window;
        let is_old = |then: &Instant| now - *then >= window;
        while self.restarts.front().is_some_and(is_old) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.policy.restarts_max as usize {
            return Some(Limit::Within(self.policy.restarts_max, window));
        }
        self.restarts.push_back(now);
        None
    }

    fn delay(&mut self) -> Duration {
        let exponent = self.failures.min(1_000) as i32 - 1;
        let growth = self.policy.factor.max(1.0).powi(exponent);
        let cap = self.policy.cap.as_secs_f64();
        let seconds = (self.policy.base.as_secs_f64() * growth).min(cap);
        let jitter = self.policy.jitter.clamp(0.0, 1.0);
        let factor = 1.0 + jitter * self.rng.random_range(-1.0..=1.0);
        Duration::try_from_secs_f64(seconds * factor).unwrap_or(self.policy.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn exact() -> Backoff {
        Backoff {
            jitter: 0.0,
            ..Backoff::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn doubles_up_to_the_cap() {
        let mut attempts = Attempts::new(exact(), 0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let wait = attempts.next(Duration::ZERO, Retry::Backoff).unwrap();
            tokio::time::advance(wait).await;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_healthy_period_resets_the_count() {
        let mut attempts = Attempts::new(exact(), 0);
        attempts.next(Duration::ZERO, Retry::Backoff);
        assert_eq!(attempts.next(59 * SECOND, Retry::Backoff), Some(2 * SECOND));
        assert_eq!(attempts.next(60 * SECOND, Retry::Backoff), Some(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn follows_what_the_server_asks() {
        let mut attempts = Attempts::new(exact(), 0);
        assert_eq!(
            attempts.next(SECOND, Retry::After(9 * SECOND)),
            Some(9 * SECOND)
        );
        assert_eq!(
            attempts.next(SECOND, Retry::After(SECOND / 9)),
            Some(2 * SECOND)
        );
        let years = Duration::from_secs(1 << 32);
        let wait = attempts.next(SECOND, Retry::After(years));
        assert_eq!(
            wait,
            Some(3_600 * SECOND),
            "one answer does not park it for ever"
        );
        assert_eq!(attempts.next(SECOND, Retry::Fatal), None);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_when_it_fails_too_often() {
        let quick = Backoff {
            cap: SECOND,
            ..exact()
        };
        let mut attempts = Attempts::new(quick, 0);
        let mut restarts = 0;
        while let Some(wait) = attempts.next(Duration::ZERO, Retry::Backoff) {
            tokio::time::advance(wait).await;
            restarts += 1;
        }
        assert_eq!(restarts, 10);
        tokio::time::advance(60 * SECOND).await;
        assert!(attempts.next(Duration::ZERO, Retry::Backoff).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_stays_in_its_range_and_follows_the_seed() {
        let waits = |seed| {
            let policy = Backoff {
                restarts_max: 1_000,
                ..Backoff::default()
            };
            let mut attempts = Attempts::new(policy, seed);
            (0..100)
                .map(|_| attempts.next(SECOND * 60, Retry::Backoff).unwrap())
                .collect::<Vec<_>>()
        };
        assert!(
            waits(1)
                .iter()
                .all(|wait| (0.8..=1.2).contains(&wait.as_secs_f64()))
        );
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
