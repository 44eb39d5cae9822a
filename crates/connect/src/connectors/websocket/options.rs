//! The options of the websocket source and sink, and what they come to.
//!
//! Names and defaults are those that users of such connectors know (`websocket.url`,
//! `reconnect.delay.ms`, `headers.*`, ...). Each option is declared once, here: its doc comment is
//! its documentation, its type and default are its check. Source and sink share those of the
//! connection, which one macro puts into both structs. What a type cannot check (a URL, the name of
//! a header, two options that contradict each other) is an objection.

use std::path::PathBuf;
use std::time;

use arrow::datatypes::Schema as ArrowSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::ack::AckBy;
use super::connect::{Dialer, header, parse_url, subprotocol};
use super::payload::Compression;
use super::queue::{Bounds, Overflow};
use super::sink::MessageType;
use super::tls::Tls;
use super::{sink, source};
use crate::options::{
    ByteSize, Duration, Objection, Options, Secret, count, mebibytes, seconds, yes,
};
use crate::{Backoff, Error, Result};

/// Declares a struct of options that begins with those of the connection.
macro_rules! with_connection {
    ($(#[$meta:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Where to connect to: `ws://...` or `wss://...`.
            url: String,
            /// Connect again when the connection is lost. If not, its loss is the end of a source,
            /// and for a sink what `error.strategy` is about.
            #[serde(default = "yes")]
            reconnect: bool,
            /// The wait before the first attempt to reconnect, in milliseconds. It doubles with each
            /// further attempt, and is made up to a fifth longer or shorter at random.
            #[serde(rename = "reconnect.delay.ms", default = "count::<1_000>")]
            reconnect_delay_ms: u64,
            /// The longest wait between attempts to reconnect, in milliseconds. A server that
            /// asks for more (`Retry-After`) gets it, up to `reconnect.max.retry_after`.
            #[serde(rename = "reconnect.max.delay.ms", default = "count::<30_000>")]
            reconnect_max_delay_ms: u64,
            /// The longest wait that a server may ask for with `Retry-After`. What it asks beyond that is in
            /// the reason of the outage.
            #[serde(rename = "reconnect.max.retry_after", default = "seconds::<3_600>")]
            reconnect_max_retry_after: Duration,
            /// How many attempts to reconnect may fail in a row; -1 for any number, or for one if a
            /// sink has an `error.strategy`, which says what is done then.
            #[serde(rename = "reconnect.max.attempts", default = "unlimited")]
            #[schemars(range(min = -1, max = 4_294_967_295_i64))]
            reconnect_max_attempts: i64,
            /// How long a connection must stay up before earlier failures are forgotten.
            #[serde(rename = "reconnect.healthy_after", default = "seconds::<60>")]
            reconnect_healthy_after: Duration,
            /// Headers of the handshake, such as `headers.Authorization`.
            #[serde(default)]
            headers: BTreeMap<String, Secret>,
            /// The subprotocol to ask for, or several, separated by commas. The server must agree
            /// to one of them.
            subprotocol: Option<String>,
            /// How long TCP, TLS and the handshake may take together.
            #[serde(default = "seconds::<10>")]
            connect_timeout: Duration,
            /// How often to ping the server; `'0 s'` for never.
            #[serde(default = "seconds::<20>")]
            ping_interval: Duration,
            /// Reconnect when nothing is heard for this long after a ping.
            #[serde(default = "seconds::<20>")]
            ping_timeout: Duration,
            /// PEM file with the certificates to trust, instead of those of the machine.
            #[serde(rename = "tls.ca_file")]
            tls_ca_file: Option<PathBuf>,
            /// PEM file with the certificate that shows the server who we are.
            #[serde(rename = "tls.cert_file")]
            tls_cert_file: Option<PathBuf>,
            /// PEM file with the key of `tls.cert_file`.
            #[serde(rename = "tls.key_file")]
            tls_key_file: Option<PathBuf>,
            $($own)*
        }

        impl $name {
            fn connection(&self) -> ConnectionOptions<'_> {
                ConnectionOptions {
                    url: &self.url,
                    reconnect: self.reconnect,
                    delay_ms: self.reconnect_delay_ms,
                    max_delay_ms: self.reconnect_max_delay_ms,
                    max_retry_after: self.reconnect_max_retry_after.0,
                    max_attempts: self.reconnect_max_attempts,
                    healthy_after: self.reconnect_healthy_after.0,
                    headers: &self.headers,
                    subprotocol: self.subprotocol.as_deref(),
                    connect_timeout: self.connect_timeout.0,
                    ping_interval: self.ping_interval.0,
                    ping_timeout: self.ping_timeout.0,
                    ca_file: self.tls_ca_file.as_ref(),
                    cert_file: self.tls_cert_file.as_ref(),
                    key_file: self.tls_key_file.as_ref(),
                }
            }
        }

        impl Options for $name {
            fn objections(&self) -> Vec<Objection> {
                let mut objections = self.connection().objections();
                objections.extend(self.own_objection());
                objections
            }
        }
    };
}

with_connection! {
    /// What can be said about a websocket source.
    pub struct WebsocketSourceOptions {
        /// What to send after every connect: one message, or several in order, as a list or as a
        /// JSON array of strings and objects. A message that is itself an array stands in another.
        #[serde(rename = "subscribe.message", default)]
        subscribe_message: SubscribeMessages,
        /// How the server compresses the payload of each binary message. Text messages are taken as
        /// they are. A payload that inflates to more than `max_frame` is a bad row.
        compression: Option<Compression>,
        /// Reconnect when no message comes for this long, even if pings are answered.
        data_timeout: Option<Duration>,
    }
}

with_connection! {
    /// What can be said about a websocket sink.
    pub struct WebsocketSinkOptions {
        /// The kind of message that each row becomes.
        #[serde(rename = "message.type", default)]
        message_type: MessageType,
        /// How many messages may wait to be sent.
        #[serde(rename = "queue.rows", default = "queue_rows")]
        #[schemars(range(min = 1))]
        queue_rows: usize,
        /// How many bytes of messages may wait to be sent. A single message may be larger.
        #[serde(rename = "queue.bytes", default = "mebibytes::<64>")]
        queue_bytes: ByteSize,
        /// What to do with a message when the queue is full.
        #[serde(default)]
        overflow: Overflow,
        /// The column by which the server's program confirms rows: it sends a JSON object in which the field of
        /// this name has the value of the last row that it has processed, such as `{"id": 7}`. That confirms this
        /// row and all sent before it, so rows are acknowledged in order, at the latest when no further
        /// one comes. The column is an integer or a text, is not NULL, and should differ from row to row; the
        /// format is json. Rows that are not confirmed when a connection is lost are sent again on the next, in
        /// order: the program may see them twice. Other messages are ignored, and so is a value that no
        /// unconfirmed row has. Without this option the pong of the server's library confirms, which it may send
        /// before its program has read the rows: those are then lost with the connection.
        #[serde(rename = "ack.match")]
        ack_match: Option<String>,
        /// Reconnect, and send what is not confirmed again, when rows wait this long for the next
        /// acknowledgement. Default: 30 s.
        #[serde(rename = "ack.timeout")]
        ack_timeout: Option<Duration>,
    }
}

/// The wait for an acknowledgement, unless `ack.timeout` says otherwise.
const ACK_TIMEOUT: time::Duration = time::Duration::from_secs(30);

fn unlimited() -> i64 {
    -1
}

fn queue_rows() -> usize {
    10_000
}

/// Subscription messages, in order.
#[derive(Debug, Clone, Default)]
struct SubscribeMessages(Vec<Secret>);

impl<'de> Deserialize<'de> for SubscribeMessages {
    /// From texts. A text that stands alone and is a JSON array is several messages: its strings as
    /// they are, everything else as it is written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let items = match texts.as_slice() {
            [one] => serde_json::from_str::<Vec<Box<RawValue>>>(one).ok(),
            _ => None,
        };
        let text = |item: Box<RawValue>| {
            serde_json::from_str(item.get()).unwrap_or_else(|_| item.get().to_owned())
        };
        let texts = items.map_or(texts, |items| items.into_iter().map(text).collect());
        Ok(Self(
            texts
                .iter()
                .map(|text| Secret::from(text.as_str()))
                .collect(),
        ))
    }
}

impl JsonSchema for SubscribeMessages {
    fn schema_name() -> Cow<'static, str> {
        "Messages".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Secret>::json_schema(generator)
    }
}

/// The options of the connection, of whichever struct.
struct ConnectionOptions<'a> {
    url: &'a str,
    reconnect: bool,
    delay_ms: u64,
    max_delay_ms: u64,
    max_retry_after: time::Duration,
    max_attempts: i64,
    healthy_after: time::Duration,
    headers: &'a BTreeMap<String, Secret>,
    subprotocol: Option<&'a str>,
    connect_timeout: time::Duration,
    ping_interval: time::Duration,
    ping_timeout: time::Duration,
    ca_file: Option<&'a PathBuf>,
    cert_file: Option<&'a PathBuf>,
    key_file: Option<&'a PathBuf>,
}

impl ConnectionOptions<'_> {
    fn objections(&self) -> Vec<Objection> {
        let mut all = Vec::new();
        if let Err(error) = parse_url(self.url) {
            all.push(Objection::new(&["url"], error.to_string()));
        }
        for (name, value) in self.headers {
            let header = header(name, value.expose());
            all.extend(
                header
                    .err()
                    .map(|why| Objection::new(&["headers"], format!("{name}: {why}"))),
            );
        }
        if let Some(Err(why)) = self.subprotocol.map(subprotocol) {
            all.push(Objection::new(&["subprotocol"], why));
        }
        if self.delay_ms > self.max_delay_ms {
            let why = format!(
                "{} ms is more than the longest, {} ms",
                self.delay_ms, self.max_delay_ms
            );
            all.push(Objection::new(
                &["reconnect.delay.ms", "reconnect.max.delay.ms"],
                why,
            ));
        }
        match (self.cert_file, self.key_file) {
            (Some(_), None) => {
                all.push(Objection::new(&["tls.cert_file"], "it needs tls.key_file"))
            }
            (None, Some(_)) => {
                all.push(Objection::new(&["tls.key_file"], "it needs tls.cert_file"))
            }
            _ => {}
        }
        all
    }

    fn dialer(&self) -> Result<Dialer> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| header(name, value.expose()));
        let headers = headers.chain(self.subprotocol.map(subprotocol));
        let headers: Vec<_> = headers.collect::<Result<_, _>>().map_err(Error::Options)?;
        let tls = Tls {
            ca_file: self.ca_file.cloned(),
            identity: self.cert_file.cloned().zip(self.key_file.cloned()),
        };
        let dialer = Dialer::new(self.url, tls, self.connect_timeout)?;
        Ok(dialer.headers(headers).asked_wait_max(self.max_retry_after))
    }

    /// `None` turns reconnecting off.
    fn backoff(&self) -> Option<Backoff> {
        self.reconnect.then(|| Backoff {
            base: time::Duration::from_millis(self.delay_ms),
            cap: time::Duration::from_millis(self.max_delay_ms),
            healthy: self.healthy_after,
            asked_max: self.max_retry_after,
            attempts_max: u32::try_from(self.max_attempts).ok(),
            restarts_max: u32::MAX,
            ..Backoff::default()
        })
    }

    fn ping_interval(&self) -> Option<time::Duration> {
        Some(self.ping_interval).filter(|interval| !interval.is_zero())
    }
}

impl WebsocketSourceOptions {
    fn own_objection(&self) -> Option<Objection> {
        None
    }

    /// What these options come to.
    pub(super) fn settings(&self) -> Result<source::WebsocketSourceSettings> {
        let connection = self.connection();
        Ok(source::WebsocketSourceSettings {
            dialer: connection.dialer()?,
            backoff: connection.backoff(),
            subscribe: self.subscribe_message.0.clone(),
            connect_timeout: connection.connect_timeout,
            ping_interval: connection.ping_interval(),
            ping_timeout: connection.ping_timeout,
            data_timeout: self.data_timeout.map(|timeout| timeout.0),
            compression: self.compression,
        })
    }
}

impl WebsocketSinkOptions {
    fn own_objection(&self) -> Option<Objection> {
        match (&self.ack_match, self.ack_timeout) {
            (None, Some(_)) => Some(Objection::new(&["ack.timeout"], "it needs ack.match")),
            (_, Some(timeout)) if timeout.0.is_zero() => {
                Some(Objection::new(&["ack.timeout"], "it must be longer than 0"))
            }
            _ => None,
        }
    }

    /// Whether the server's program confirms rows, not its library.
    pub(super) fn acknowledged(&self) -> bool {
        self.ack_match.is_some()
    }

    /// How the server acknowledges; fails if these columns cannot be acknowledged.
    pub(super) fn ack(&self, schema: &ArrowSchema, format: Option<&str>) -> Result<Option<AckBy>> {
        let timeout = self.ack_timeout.map_or(ACK_TIMEOUT, |timeout| timeout.0);
        let by = |field: &String| AckBy::new(field, timeout, schema, format);
        self.ack_match.as_ref().map(by).transpose()
    }

    /// Whether no row is ever dropped.
    pub(super) fn blocks(&self) -> bool {
        self.overflow == Overflow::Block
    }

    /// What these options come to; `has_strategy` if something is to be done with rows that cannot
    /// be written but to wait.
    pub(super) fn settings(&self, has_strategy: bool) -> Result<sink::WebsocketSinkSettings> {
        let connection = self.connection();
        let backoff = connection.backoff();
        let without_end = backoff.as_ref().is_some_and(|it| it.attempts_max.is_none());
        Ok(sink::WebsocketSinkSettings {
            dialer: connection.dialer()?,
            backoff,
            one_attempt: has_strategy && without_end,
            message_type: self.message_type,
            ping_interval: connection.ping_interval(),
            ping_timeout: connection.ping_timeout,
            ack: None,
            bounds: Bounds {
                rows: self.queue_rows,
                bytes: self.queue_bytes.as_usize(),
                overflow: self.overflow,
            },
        })
    }
}
