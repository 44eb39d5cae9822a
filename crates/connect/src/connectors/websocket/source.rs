//! The websocket source: stays connected, and makes a frame of every message.
//!
//! ```text
//!   dial --> subscribe --> (gap of the outage before) --> read ... --> lost --> wait --> dial
//! ```
//!
//! Reconnecting happens here, inside one `run`, because only here it is known from when to when
//! nothing was heard: that interval is the [`Gap`] of the outage. `run` therefore returns only when
//! it was stopped, when the server said that another attempt is pointless, or when `reconnect`
//! and `reconnect.max.attempts` say so; its error is then fatal, and the lifecycle wrapper, which
//! has a backoff of its own, does not try again.
//!
//! While the engine does not keep up we do not read, so the server feels it through TCP. That time
//! does not count as silence of the server: before a connection is given up as dead, everything
//! that lies in the socket is read.

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::connect::{Dialer, Socket, closed, farewell, loss, send, span};
use super::payload::{Compression, Inflater};
use super::policy::Trouble;
use super::pulse::Pulse;
use super::wire::next_message;
use crate::options::Secret;
use crate::{Attempts, Backoff, Bad, End, Gap, Lifecycle, Output, Result, Retry, Source, overlong};

/// What the source's options come to.
#[derive(Debug, Clone)]
pub(super) struct WebsocketSourceSettings {
    pub dialer: Dialer,
    /// `None` turns reconnecting off.
    pub backoff: Option<Backoff>,
    pub subscribe: Vec<Secret>,
    pub connect_timeout: Duration,
    pub ping_interval: Option<Duration>,
    pub ping_timeout: Duration,
    pub data_timeout: Option<Duration>,
    pub compression: Option<Compression>,
}

/// Reads messages from a websocket server.
#[derive(Debug)]
pub(super) struct WebsocketSource {
    settings: WebsocketSourceSettings,
    inflater: Option<Inflater>,
}

/// How a connection, or the attempt at one, ended.
enum SessionEnd {
    Stopped,
    Lost(Loss),
}

/// A connection that is no more, or never was.
struct Loss {
    trouble: Trouble,
    /// The server said that it has nothing more (close code 1000).
    finished: bool,
    /// How long it was up.
    up: Duration,
    /// When the server was heard last; `None` if there was no connection.
    heard: Option<Timestamp>,
}

/// The time since which messages may have been missed.
struct Outage {
    since: Timestamp,
    reason: String,
}

impl WebsocketSource {
    pub fn new(settings: WebsocketSourceSettings) -> Self {
        let inflater = settings.compression.map(Inflater::new);
        Self { settings, inflater }
    }

    /// One connection from dialling to its end.
    async fn session(
        &mut self,
        dialer: &Dialer,
        outage: &mut Option<Outage>,
        out: &mut Output,
        stop: &CancellationToken,
    ) -> Result<SessionEnd> {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(SessionEnd::Stopped),
            opened = self.open(dialer) => opened,
        };
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(trouble) => return Ok(SessionEnd::Lost(Loss::before_it_began(trouble))),
        };
        if let Some(outage) = outage.take() {
            out.gap(outage.until(Some(Timestamp::now()))).await?;
        }
        let to = dialer.target().to_owned();
        out.lifecycle(Lifecycle::Connected { to }).await?;
        SocketReader::new(&mut socket, &self.settings, self.inflater.as_mut())
            .run(out, stop)
            .await
    }

    async fn open(&self, dialer: &Dialer) -> Result<Socket, Trouble> {
        let mut socket = dialer.dial().await?;
        let subscribe = async {
            for message in &self.settings.subscribe {
                send(&mut socket, Message::text(message.expose())).await?;
            }
            Ok(())
        };
        match timeout(self.settings.connect_timeout, subscribe).await {
            Ok(Ok(())) => Ok(socket),
            Ok(Err(error)) => Err(loss(&error).0),
            Err(_) => Err(Trouble::passing(format!(
                "the server did not take the subscription within {}",
                span(self.settings.connect_timeout)
            ))),
        }
    }

    /// The end of `run` when no further attempt is made.
    fn give_up(&self, loss: Loss, failures: u32) -> Result<End> {
        if self.settings.backoff.is_none() && loss.finished {
            return Ok(End::Finished);
        }
        let mut trouble = loss.trouble;
        if trouble.retry != Retry::Fatal && self.settings.backoff.is_some() {
            trouble.reason = format!("{}; given up after {failures} failures", trouble.reason);
        }
        trouble.retry = Retry::Fatal;
        Err(self.settings.dialer.error(trouble))
    }
}

#[async_trait]
impl Source for WebsocketSource {
    async fn validate(&self) -> Result<()> {
        self.settings.dialer.probe().await
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End> {
        let dialer = self.settings.dialer.clone().max_message(out.max_frame());
        out.origin(Some(dialer.target().into())).await?;
        let backoff = self.settings.backoff.clone();
        let mut attempts = backoff.map(|backoff| Attempts::new(backoff, rand::random()));
        let mut outage = None;
        loop {
            let loss = match self.session(&dialer, &mut outage, out, &stop).await? {
                SessionEnd::Stopped => break,
                SessionEnd::Lost(loss) => loss,
            };
            let next = attempts
                .as_mut()
                .and_then(|a| a.next(loss.up, loss.trouble.retry));
            let Some(retry_in) = next else {
                report_outage(outage, out).await?;
                return self.give_up(loss, attempts.map_or(1, |a| a.failures()));
            };
            if let (None, Some(since)) = (&outage, loss.heard) {
                let reason = loss.trouble.reason.clone();
                outage = Some(Outage { since, reason });
            }
            let reason = loss.trouble.reason;
            out.lifecycle(Lifecycle::Disconnected { reason, retry_in })
                .await?;
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(retry_in) => {}
            }
        }
        report_outage(outage, out).await?;
        Ok(End::Stopped)
    }
}

/// Tells an outage whose end we do not see. Of a connection that was up until `run` failed, the
/// lifecycle wrapper tells.
async fn report_outage(outage: Option<Outage>, out: &mut Output) -> Result<()> {
    match outage {
        Some(outage) => out.gap(outage.until(None)).await,
        None => Ok(()),
    }
}

impl Outage {
    fn until(self, end: Option<Timestamp>) -> Gap {
        Gap {
            reason: self.reason,
            from: Some(self.since.to_string()),
            to: end.map(|end| end.to_string()),
        }
    }
}

impl Loss {
    fn before_it_began(trouble: Trouble) -> Self {
        Self {
            trouble,
            finished: false,
            up: Duration::ZERO,
            heard: None,
        }
    }
}

/// What woke the reader up.
enum SocketEvent {
    Stop,
    Alarm,
    Message(Option<Result<Message, WsError>>),
}

/// One open connection being read.
struct SocketReader<'a> {
    socket: &'a mut Socket,
    settings: &'a WebsocketSourceSettings,
    inflater: Option<&'a mut Inflater>,
    owes_pong: bool,
    pulse: Pulse,
    opened: Instant,
    /// When any frame came last.
    heard: Instant,
    /// When a text or binary message came last.
    data: Instant,
}

impl<'a> SocketReader<'a> {
    fn new(
        socket: &'a mut Socket,
        settings: &'a WebsocketSourceSettings,
        inflater: Option<&'a mut Inflater>,
    ) -> Self {
        let now = Instant::now();
        Self {
            pulse: Pulse::new(settings.ping_interval, settings.ping_timeout, now),
            socket,
            settings,
            inflater,
            owes_pong: false,
            opened: now,
            heard: now,
            data: now,
        }
    }

    /// Reads until the connection is lost or `stop` is cancelled; says goodbye where it is due.
    async fn run(mut self, out: &mut Output, stop: &CancellationToken) -> Result<SessionEnd> {
        let mut stopped = pin!(stop.cancelled());
        let mut alarm = pin!(tokio::time::sleep_until(self.alarm_at()));
        loop {
            out.ready().await?;
            let event = tokio::select! {
                biased;
                () = &mut stopped => SocketEvent::Stop,
                () = &mut alarm => SocketEvent::Alarm,
                message = next_message(self.socket, &mut self.owes_pong) => SocketEvent::Message(message),
            };
            let lost = match event {
                SocketEvent::Stop => {
                    farewell(self.socket, CloseCode::Normal, "").await;
                    return Ok(SessionEnd::Stopped);
                }
                SocketEvent::Message(message) => self.message(message, out).await?,
                SocketEvent::Alarm => {
                    let lost = self.alarm(out, stop).await?;
                    alarm.as_mut().reset(self.alarm_at());
                    lost
                }
            };
            if let Some(loss) = lost {
                return Ok(SessionEnd::Lost(loss));
            }
        }
    }

    /// The next moment at which something may be due. It may turn out that nothing is: hearing from
    /// the server moves the deadlines, not the alarm.
    fn alarm_at(&self) -> Instant {
        let far = || Instant::now() + Duration::from_secs(24 * 60 * 60);
        let due = [self.pulse.ping_at(), self.pulse.dead_at(), self.silent_at()];
        due.into_iter().flatten().min().unwrap_or_else(far)
    }

    /// When the absence of data becomes too long.
    fn silent_at(&self) -> Option<Instant> {
        self.settings
            .data_timeout
            .map(|timeout| self.data + timeout)
    }

    async fn alarm(&mut self, out: &mut Output, stop: &CancellationToken) -> Result<Option<Loss>> {
        let now = Instant::now();
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.pulse.dead_at()) || passed(self.silent_at()) {
            return self.accuse(now, out).await;
        }
        if passed(self.pulse.ping_at()) {
            return Ok(self.ping(now, stop).await);
        }
        Ok(None)
    }

    /// A deadline has passed. But perhaps it was us who did not read.
    async fn accuse(&mut self, now: Instant, out: &mut Output) -> Result<Option<Loss>> {
        if let Some(message) = self.socket.next().now_or_never() {
            return self.message(message, out).await;
        }
        if self.pulse.dead_at().is_some_and(|at| at <= now) {
            let timeout = span(self.settings.ping_timeout);
            let silence = format!("no answer to a ping within {timeout}");
            return Ok(Some(self.lost(Trouble::passing(silence))));
        }
        let timeout = span(self.settings.data_timeout.unwrap_or_default());
        let silence = format!("no message within {timeout}");
        farewell(self.socket, CloseCode::Away, &silence).await;
        Ok(Some(self.lost(Trouble::passing(silence))))
    }

    async fn ping(&mut self, now: Instant, stop: &CancellationToken) -> Option<Loss> {
        self.pulse.sent(now);
        let ping = self.socket.send(Message::Ping(Bytes::new()));
        let sent = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            sent = timeout(self.settings.ping_timeout, ping) => sent,
        };
        let trouble = match sent {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => loss(&error).0,
            Err(_) => Trouble::passing("the server takes nothing, not even a ping"),
        };
        Some(self.lost(trouble))
    }

    /// Takes what the socket gave. `None` is the end of the stream.
    async fn message(
        &mut self,
        message: Option<Result<Message, WsError>>,
        out: &mut Output,
    ) -> Result<Option<Loss>> {
        if let Some(Ok(_)) = message {
            self.heard = Instant::now();
            self.pulse.heard();
        }
        match message {
            Some(Ok(Message::Text(text))) => self.text(&text, out).await?,
            Some(Ok(Message::Binary(bytes))) => self.binary(&bytes, out).await?,
            Some(Ok(Message::Close(frame))) => {
                let finished = frame
                    .as_ref()
                    .is_some_and(|frame| frame.code == CloseCode::Normal);
                let trouble = closed(frame.as_ref());
                let loss = Loss {
                    finished,
                    ..self.lost(trouble)
                };
                // Our answer to the Close leaves with the flush.
                timeout(self.settings.ping_timeout, self.socket.flush())
                    .await
                    .ok();
                return Ok(Some(loss));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return self.broken(&error, out).await.map(Some),
            None => return Ok(Some(self.lost(loss(&WsError::ConnectionClosed).0))),
        }
        Ok(None)
    }

    async fn text(&mut self, text: &Utf8Bytes, out: &mut Output) -> Result<()> {
        self.data = self.heard;
        out.frame(text.as_bytes()).await
    }

    async fn binary(&mut self, bytes: &Bytes, out: &mut Output) -> Result<()> {
        self.data = self.heard;
        let Some(inflater) = &mut self.inflater else {
            return out.frame(bytes).await;
        };
        match inflater.inflate(bytes, out.max_frame()) {
            Ok(plain) => out.frame(plain).await,
            Err(reason) => {
                out.bad(Bad {
                    bytes: bytes.to_vec(),
                    reason,
                })
                .await
            }
        }
    }

    /// The connection cannot be read any further. A message that broke it is reported as a bad frame,
    /// without its bytes: those were never read, or are not handed out.
    async fn broken(&mut self, error: &WsError, out: &mut Output) -> Result<Loss> {
        use tokio_tungstenite::tungstenite::error::CapacityError::MessageTooLong;
        let (trouble, goodbye) = loss(error);
        match error {
            WsError::Capacity(MessageTooLong { size, max_size }) => {
                out.bad(overlong(&[], *size, *max_size)).await?;
            }
            WsError::Utf8(_) => {
                out.bad(Bad {
                    bytes: Vec::new(),
                    reason: trouble.reason.clone(),
                })
                .await?;
            }
            _ => {}
        }
        if let Some(code) = goodbye {
            farewell(self.socket, code, "").await;
        }
        Ok(self.lost(trouble))
    }

    fn lost(&self, trouble: Trouble) -> Loss {
        let heard = Timestamp::now()
            .checked_sub(jiff::SignedDuration::try_from(self.heard.elapsed()).unwrap_or_default());
        Loss {
            trouble,
            finished: false,
            up: self.opened.elapsed(),
            heard: heard.ok(),
        }
    }
}
