//! What the websocket connector does when the other side refuses, closes or goes away.
//!
//! Whether a failure is worth another attempt is decided here and nowhere else: by the HTTP status of
//! the handshake, by the close code. A server that asks for a wait gets it, up to a limit: else one answer
//! would park a source for years. How long the wait is otherwise, and when to give up, is the crate's
//! `Backoff`, made from `reconnect.*`.
//!
//! Talking to the server is the business of `connect`; telling people is that of source and sink.

use std::time::Duration;

use jiff::Timestamp;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::Retry;

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

/// Whether a handshake that was answered with `status` is tried again; and the wait that the answer asks
/// for, if it is longer than `wait_max`.
pub(super) fn retry_after_status(
    status: StatusCode,
    headers: &HeaderMap,
    now: Timestamp,
    wait_max: Duration,
) -> (Retry, Option<Duration>) {
    match status.as_u16() {
        401 | 403 | 407 => (Retry::Fatal, None),
        429 | 503 => match asked_wait(headers, now) {
            Some(asked) if asked > wait_max => (Retry::After(wait_max), Some(asked)),
            Some(asked) => (Retry::After(asked), None),
            None => (Retry::Backoff, None),
        },
        _ => (Retry::Backoff, None),
    }
}

/// The `Retry-After` of an answer: seconds, of any number of digits, or a date.
fn asked_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than `u64` holds is a wait as well.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
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
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().expect("a timestamp");
        let judged = |status: StatusCode, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().expect("a header value"));
            retry_after_status(status, &headers, now, HOUR)
        };
        let after = |seconds| (Retry::After(Duration::from_secs(seconds)), None);
        assert_eq!(judged(StatusCode::SERVICE_UNAVAILABLE, "7"), after(7));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(judged(StatusCode::TOO_MANY_REQUESTS, date), after(30));
        let past = "Sun, 06 Nov 1994 08:00:00 GMT";
        assert_eq!(judged(StatusCode::TOO_MANY_REQUESTS, past), after(0));
        for (value, asked) in [
            ("4294967296", 4_294_967_296),
            ("99999999999999999999999999", u64::MAX),
            ("Wed, 01 Jan 9000 00:00:00 GMT", 221_061_280_253),
        ] {
            let cut = Some(Duration::from_secs(asked));
            let judged = judged(StatusCode::SERVICE_UNAVAILABLE, value);
            assert_eq!(judged, (Retry::After(HOUR), cut), "{value}");
        }
        for value in ["soon", "", "-1", "1e9", "Fri, 31 Dec 99999 23:59:59 GMT"] {
            let judged = judged(StatusCode::TOO_MANY_REQUESTS, value);
            assert_eq!(judged, (Retry::Backoff, None), "{value}");
        }
        assert_eq!(judged(StatusCode::UNAUTHORIZED, "7"), (Retry::Fatal, None));
        assert_eq!(judged(StatusCode::NOT_FOUND, "7"), (Retry::Backoff, None));
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
