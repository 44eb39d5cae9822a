//! Opening and closing websocket connections: the request, TCP, TLS, the handshake, the farewell.
//!
//! The request is built from the URL, so that everything a handshake needs is in it, and then the
//! user's headers and subprotocol are added. One deadline covers all of dialling. What went wrong
//! becomes a [`Trouble`], which says whether another attempt can help.
//!
//! A URL or an error shown to people never holds the query or the user part: those carry tokens.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Error as WsError, Message, error::CapacityError};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::policy::{Trouble, retry_after_close, retry_after_status};
use super::tls::{self, Tls};
use super::wire::{bounds, parts};
use crate::shown::{excerpt, without_url_secrets};
use crate::{Error, Result};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long to wait for the other side to answer our Close.
const FAREWELL: Duration = Duration::from_secs(1);
/// Who we say we are, unless the user says otherwise: some servers refuse the nameless.
const USER_AGENT: &str = concat!("headwater/", env!("CARGO_PKG_VERSION"));
/// How much is shown of each text that a server sends, bytes.
const SHOWN_MAX: usize = 200;
/// The largest message that is read where the user does not say, bytes: what is read by a sink only confirms.
const MESSAGE_MAX: usize = 16 << 20;

/// Everything needed to open a connection, again and again.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    url: Uri,
    /// The URL without what may be secret.
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Tls,
    connect_timeout: Duration,
    /// The longest wait that a refusal may ask for.
    asked_wait_max: Duration,
    /// The largest message that is read, bytes.
    max_message: usize,
}

impl Dialer {
    /// Checks the URL; opens nothing.
    pub fn new(url: &str, tls: Tls, connect_timeout: Duration) -> Result<Self> {
        let url = parse_url(url)?;
        Ok(Self {
            target: without_secrets(&url),
            url,
            headers: Vec::new(),
            tls,
            connect_timeout,
            asked_wait_max: Duration::MAX,
            max_message: MESSAGE_MAX,
        })
    }

    /// Adds headers to the handshake. Their names and values were checked by [`header`].
    pub fn headers(mut self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The largest message that is read, in bytes.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// The longest wait that a server may ask for (`Retry-After`).
    pub fn asked_wait_max(mut self, wait: Duration) -> Self {
        self.asked_wait_max = wait;
        self
    }

    /// The URL as people may see it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Opens a connection, within the connect timeout.
    pub async fn dial(&self) -> Result<Socket, Trouble> {
        match timeout(self.connect_timeout, self.handshake()).await {
            Ok(done) => done,
            Err(_) => Err(Trouble::passing(format!(
                "no connection within {}",
                span(self.connect_timeout)
            ))),
        }
    }

    /// Whether the other side can be reached: any answer proves it, also a refusal.
    pub async fn probe(&self) -> Result<()> {
        match self.dial().await {
            Ok(mut socket) => {
                farewell(&mut socket, CloseCode::Normal, "").await;
                Ok(())
            }
            Err(trouble) if trouble.answered => {
                tracing::warn!(
                    target = self.target,
                    reason = trouble.reason,
                    "answered, but refused"
                );
                Ok(())
            }
            Err(trouble) => Err(self.error(trouble)),
        }
    }

    /// The trouble as an error about this connection.
    pub fn error(&self, trouble: Trouble) -> Error {
        let Trouble {
            reason,
            retry,
            answered,
        } = trouble;
        let target = self.target.clone();
        if answered {
            Error::Refused {
                target,
                reason,
                retry,
            }
        } else {
            Error::Unreachable {
                target,
                reason,
                retry,
            }
        }
    }

    async fn handshake(&self) -> Result<Socket, Trouble> {
        let request = self.request()?;
        let connector = self.connector().await?;
        let stream = self.tcp().await?;
        tokio_tungstenite::client_async_tls_with_config(
            request,
            stream,
            Some(bounds(self.max_message)),
            Some(connector),
        )
        .await
        .map(|(socket, _)| socket)
        .map_err(|error| refusal(error, self.asked_wait_max))
    }

    fn request(&self) -> Result<Request, Trouble> {
        let mut request = (&self.url)
            .into_client_request()
            .map_err(|error| Trouble::lasting(error.to_string()))?;
        let headers = self.headers.iter().cloned();
        let all = request.headers_mut();
        all.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.for_each(|(name, value)| drop(all.insert(name, value)));
        Ok(request)
    }

    async fn connector(&self) -> Result<Connector, Trouble> {
        if self.url.scheme_str() == Some("ws") {
            return Ok(Connector::Plain);
        }
        let tls = self.tls.clone();
        let read = tokio::task::spawn_blocking(move || tls.client_config()).await;
        let config = read.map_err(|error| Trouble::passing(error.to_string()))??;
        Ok(Connector::Rustls(config))
    }

    async fn tcp(&self) -> Result<TcpStream, Trouble> {
        let host = self.url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port(&self.url)))
            .await
            .map_err(|error| Trouble::passing(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| Trouble::passing(error.to_string()))?;
        Ok(stream)
    }
}

/// Checks one header of the user. The error names neither the header nor its value: the caller
/// knows the first, and the second may be secret.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed =
        HeaderName::try_from(name).map_err(|_| "this is not a valid header name".to_owned())?;
    let taken = [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_PROTOCOL,
    ];
    let ours = name.to_ascii_lowercase().starts_with("sec-websocket-") || taken.contains(&parsed);
    if ours {
        return Err("the handshake sets this header itself".to_owned());
    }
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| "the value holds a character that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// The header that asks for a subprotocol, or for one of several separated by commas.
pub(super) fn subprotocol(name: &str) -> Result<(HeaderName, HeaderValue), String> {
    let token = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b))
    };
    if !name.split(',').map(str::trim).all(token) {
        return Err(format!("{name:?} is not a subprotocol name"));
    }
    let value =
        HeaderValue::try_from(name).map_err(|_| format!("{name:?} is not a header value"))?;
    Ok((header::SEC_WEBSOCKET_PROTOCOL, value))
}

/// Checks a URL without looking anything up.
pub(super) fn parse_url(url: &str) -> Result<Uri> {
    let refuse = |reason: &str| Error::InvalidUrl {
        url: without_url_secrets(url).into_owned(),
        reason: reason.to_owned(),
    };
    if url.contains('#') {
        return Err(refuse("a websocket URL has no fragment (#)"));
    }
    let uri: Uri = url.parse().map_err(|error| refuse(&format!("{error}")))?;
    if !matches!(uri.scheme_str(), Some("ws" | "wss")) {
        return Err(refuse("it must begin with ws:// or wss://"));
    }
    let Some(authority) = uri.authority() else {
        return Err(refuse("it names no host"));
    };
    if authority.as_str().contains('@') {
        return Err(refuse("put user and password into headers.Authorization"));
    }
    if authority.host().is_empty() {
        return Err(refuse("it names no host"));
    }
    if uri.port_u16().is_none() && authority.as_str() != authority.host() {
        return Err(refuse("the port must be a number from 0 to 65535"));
    }
    Ok(uri)
}

fn port(url: &Uri) -> u16 {
    let default = if url.scheme_str() == Some("wss") {
        443
    } else {
        80
    };
    url.port_u16().unwrap_or(default)
}

/// Scheme, host, port and path.
fn without_secrets(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}{}", url.path())
}

/// Sends a data message and waits until it is written.
pub(super) async fn send(socket: &mut Socket, message: Message) -> Result<(), WsError> {
    for part in parts(message) {
        socket.send(part).await?;
    }
    Ok(())
}

/// What a failed handshake means; it may ask for a wait of at most `wait_max`.
fn refusal(error: WsError, wait_max: Duration) -> Trouble {
    match error {
        WsError::Http(response) => {
            let (status, headers) = (response.status(), response.headers());
            let (retry, cut) = retry_after_status(status, headers, Timestamp::now(), wait_max);
            let mut reason = describe(&response);
            if let Some(asked) = cut {
                reason.push_str(&too_long_a_wait(asked, wait_max));
            }
            Trouble {
                reason,
                retry,
                answered: true,
            }
        }
        WsError::Protocol(tungstenite::error::ProtocolError::SecWebSocketSubProtocolError(
            error,
        )) => Trouble::lasting(format!("subprotocol: {}", lower(&error.to_string()))).answered(),
        WsError::Io(error) => {
            tls::trouble(&error).unwrap_or_else(|| Trouble::passing(error.to_string()))
        }
        WsError::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => {
            Trouble::passing("closed during the handshake").answered()
        }
        error => Trouble::passing(lower(&error.to_string())).answered(),
    }
}

fn too_long_a_wait(asked: Duration, max: Duration) -> String {
    let (asked, max) = (span(asked), span(max));
    format!("; it asks for a wait of {asked}, reconnect.max.retry_after allows {max}")
}

/// Status, where it points to, and the beginning of what it says.
fn describe(response: &Response) -> String {
    let mut text = format!("HTTP {}", response.status());
    if let Some(to) = response.headers().get(header::LOCATION) {
        let to = excerpt(to.as_bytes(), SHOWN_MAX);
        text.push_str(&format!(", it points to {to}"));
    }
    let body = response.body().as_deref().unwrap_or_default();
    let words = body
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let body = words.collect::<Vec<_>>().join(&b' ');
    if !body.is_empty() {
        let body = excerpt(&body, SHOWN_MAX);
        text.push_str(&format!(": {body}"));
    }
    text
}

/// What the end of an open connection means, and the code to say goodbye with, if any is due.
pub(super) fn loss(error: &WsError) -> (Trouble, Option<CloseCode>) {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => (
            Trouble::passing(format!(
                "the server sent a message of {size} bytes, the largest taken has {max_size}"
            )),
            Some(CloseCode::Size),
        ),
        WsError::Utf8(_) => (
            Trouble::passing("the server sent a text message that is not UTF-8"),
            Some(CloseCode::Invalid),
        ),
        WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            (Trouble::passing("the connection broke off"), None)
        }
        WsError::Protocol(error) => (
            Trouble::passing(lower(&error.to_string())),
            Some(CloseCode::Protocol),
        ),
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            (Trouble::passing("the connection was closed"), None)
        }
        WsError::WriteBufferFull(_) => (Trouble::passing(READS_NOTHING), None),
        error => (Trouble::passing(lower(&error.to_string())), None),
    }
}

/// The reason when the server leaves unread what it is sent.
pub(super) const READS_NOTHING: &str = "the server reads nothing of what it is sent";

/// What a Close frame of the server means.
pub(super) fn closed(frame: Option<&CloseFrame>) -> Trouble {
    let Some(frame) = frame else {
        return Trouble::passing("the server closed the connection").answered();
    };
    let code = u16::from(frame.code);
    let mut reason = format!("the server closed the connection with code {code}");
    if !frame.reason.is_empty() {
        let said = excerpt(frame.reason.as_bytes(), SHOWN_MAX);
        reason.push_str(&format!(": {said}"));
    }
    Trouble {
        reason,
        retry: retry_after_close(frame.code),
        answered: true,
    }
}

/// Says goodbye and waits a moment for the answer, so that what we wrote is not cut off.
pub(super) async fn farewell(socket: &mut Socket, code: CloseCode, reason: &str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let polite = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A server that does not answer in time has been told enough.
    timeout(FAREWELL, polite).await.ok();
}

/// A duration as people write it.
pub(super) fn span(duration: Duration) -> String {
    format!(
        "{:#}",
        jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
    )
}

/// The message of another crate, which may quote the server, in our style.
fn lower(message: &str) -> String {
    let message = excerpt(message.as_bytes(), SHOWN_MAX);
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_websocket_url_parsing() {
        for url in [
            "ws://localhost:9001/feed",
            "wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@trade",
            "ws://localhost",
            "ws://[::1]:9001",
            "wss://example.com?token=x",
        ] {
            parse_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for (url, reason) in [
            ("", "empty"),
            ("localhost:9001", "ws:// or wss://"),
            ("http://localhost/", "ws:// or wss://"),
            ("ws:///path", "invalid"),
            ("ws://:9001/", "no host"),
            ("ws://host:99999/", "port"),
            ("ws://host:/", "port"),
            ("ws://user:secret@host/", "headers.Authorization"),
            ("ws://host/#part", "fragment"),
            ("ws://host name/", "invalid"),
        ] {
            let error = parse_url(url).expect_err(url).to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let dialer = Dialer::new("wss://h:1/p/q?token=secret", Tls::default(), FAREWELL);
        assert_eq!(dialer.expect("a fine URL").target(), "wss://h:1/p/q");
        let error = parse_url("http://h/?token=secret")
            .expect_err("http")
            .to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn the_default_port_is_that_of_the_scheme() {
        let port_of = |url| port(&parse_url(url).expect("a fine URL"));
        assert_eq!(port_of("ws://h/"), 80);
        assert_eq!(port_of("wss://h/"), 443);
        assert_eq!(port_of("wss://h:8/"), 8);
    }

    #[test]
    fn headers_of_the_handshake_are_not_the_users() {
        header("Authorization", "Bearer x").expect("a fine header");
        header("Origin", "https://example.com").expect("a fine header");
        for (name, value) in [
            ("Upgrade", "h2c"),
            ("sec-websocket-key", "x"),
            ("Sec-WebSocket-Protocol", "x"),
            ("bad name", "x"),
            ("X", "two\nlines"),
        ] {
            header(name, value).expect_err(name);
        }
        subprotocol("graphql-ws, mqtt").expect("two subprotocols");
        for name in ["", "a b", "a,,b", "ä"] {
            subprotocol(name).expect_err(name);
        }
    }
}
