//! What the websocket connector does when the other side refuses, closes or goes away.
//!
//! Whether a failure is worth another attempt is decided here and nowhere else: by the HTTP status of
//! the handshake, by the close code. A server that asks for a wait gets it, up to an hour. How long
//! the wait is otherwise, and when to give up, is the crate's `Backoff`, made from `reconnect.*`.
//!
//! Talking to the server is the business of `connect`; telling people is that of source and sink.

use std::time::Duration;

use jiff::Timestamp;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::Retry;

/// A server that asks for a longer wait than this is asked again after it all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Why there is no connection, or no longer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// A sentence for a person.
    pub reason: String,
    /// Whether another attempt can help.
    pub retry: Retry,
    /// Whether the other side said anything at all: then it can be reached.
    pub answered: bool,
}

impl Trouble {
    /// Nothing, or nothing sensible, came back; worth another attempt.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry: Retry::Backoff,
            answered: false,
        }
    }

    /// The same would happen again.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self {
            retry: Retry::Fatal,
            ..Self::passing(reason)
        }
    }

    /// The other side spoke, though not the way it should.
    pub fn answered(mut self) -> Self {
        self.answered = true;
        self
    }
}

/// Whether a handshake that was answered with `status` is tried again.
pub(super) fn retry_after_status(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Retry {
    match status.as_u16() {
        401 | 403 | 407 => Retry::Fatal,
        429 | 503 => asked_wait(headers, now).map_or(Retry::Backoff, Retry::After),
        _ => Retry::Backoff,
    }
}

/// The `Retry-After` of an answer: seconds, or a date.
fn asked_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(value)
                .ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Whether a connection that the server closed with `code` is opened again.
///
/// Fatal are the codes that say "not you, not ever": 1008 (policy), 1010 (an extension we lack),
/// 3000 (unauthorized) and 3003 (forbidden). Everything else, 1000 included, is an outage.
pub(super) fn retry_after_close(code: CloseCode) -> Retry {
    match u16::from(code) {
        1008 | 1010 | 3000 | 3003 => Retry::Fatal,
        _ => Retry::Backoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().expect("a timestamp");
        let retry = |status: StatusCode, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().expect("a header value"));
            retry_after_status(status, &headers, now)
        };
        let after = |seconds| Retry::After(Duration::from_secs(seconds));
        assert_eq!(retry(StatusCode::SERVICE_UNAVAILABLE, "7"), after(7));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry(StatusCode::TOO_MANY_REQUESTS, date), after(30));
        let past = "Sun, 06 Nov 1994 08:00:00 GMT";
        assert_eq!(retry(StatusCode::TOO_MANY_REQUESTS, past), after(0));
        assert_eq!(
            retry(StatusCode::TOO_MANY_REQUESTS, "99999999999"),
            after(3600)
        );
        assert_eq!(retry(StatusCode::TOO_MANY_REQUESTS, "soon"), Retry::Backoff);
        assert_eq!(retry(StatusCode::UNAUTHORIZED, "7"), Retry::Fatal);
        assert_eq!(retry(StatusCode::NOT_FOUND, "7"), Retry::Backoff);
    }

    #[test]
    fn close_codes_sort_into_fatal_and_not() {
        for code in [1008, 1010, 3000, 3003] {
            assert_eq!(retry_after_close(code.into()), Retry::Fatal, "{code}");
        }
        for code in [
            1000, 1001, 1002, 1003, 1006, 1007, 1009, 1011, 1012, 1013, 4000,
        ] {
            assert_eq!(retry_after_close(code.into()), Retry::Backoff, "{code}");
        }
    }
}
