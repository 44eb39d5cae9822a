//! The heartbeat of one connection: when to ping, and when to believe that the other side is dead.
//!
//! A TCP connection whose other end has vanished looks exactly like a silent one. So we ping every
//! `interval`, and when nothing at all has been heard for `timeout` after a ping, the connection
//! counts as dead. What counts as hearing is up to the owner: to the source any frame proves life,
//! for a server that is busy sending need not be dropped for a late pong; to the sink only a pong.
//!
//! This is arithmetic on instants; whoever owns the socket does the sleeping and the sending.

use std::time::Duration;

use tokio::time::Instant;

/// When the next ping is due and whether the last one was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    interval: Option<Duration>,
    timeout: Duration,
    pinged: Instant,
    /// The first ping since anything was heard.
    unanswered: Option<Instant>,
}

impl Pulse {
    /// Starts with a connection that was just made. `interval` of `None`: never ping.
    pub fn new(interval: Option<Duration>, timeout: Duration, now: Instant) -> Self {
        Self {
            interval,
            timeout,
            pinged: now,
            unanswered: None,
        }
    }

    /// The server gave a sign of life.
    pub fn heard(&mut self) {
        self.unanswered = None;
    }

    /// A ping went out.
    pub fn sent(&mut self, now: Instant) {
        self.pinged = now;
        self.unanswered.get_or_insert(now);
    }

    /// When the next ping is due.
    pub fn ping_at(&self) -> Option<Instant> {
        self.interval.map(|interval| self.pinged + interval)
    }

    /// When to give the connection up if nothing is heard until then.
    pub fn dead_at(&self) -> Option<Instant> {
        self.unanswered.map(|since| since + self.timeout)
    }
}

/// Sleeps until `at`; for ever if that is `None`.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ping_without_any_answer_is_the_end() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Some(20 * SECOND), 10 * SECOND, start);
        assert_eq!(pulse.ping_at(), Some(start + 20 * SECOND));
        assert_eq!(pulse.dead_at(), None);
        pulse.sent(start + 20 * SECOND);
        pulse.sent(start + 25 * SECOND);
        assert_eq!(
            pulse.dead_at(),
            Some(start + 30 * SECOND),
            "the first ping counts"
        );
        assert_eq!(pulse.ping_at(), Some(start + 45 * SECOND));
        pulse.heard();
        assert_eq!(pulse.dead_at(), None);
    }

    #[test]
    fn without_an_interval_no_ping_is_due() {
        assert_eq!(Pulse::new(None, SECOND, Instant::now()).ping_at(), None);
    }
}
