//! The connection of a websocket sink, in a task of its own.
//!
//! While the sink fills the queue, the link empties it: it writes, it reads (so that pings are
//! answered, pongs confirm, and a Close is seen at once), it pings, and it reconnects. Reading and
//! writing are two futures over the two halves of one socket; the first to end takes the other with
//! it. Behind every run of messages goes a ping with the number of the last; see `queue`. So only a
//! pong proves that the server is well: one that sends other things but no pong confirms nothing.
//!
//! The link ends when it is stopped, or when reconnecting is off, pointless or was tried too often;
//! it then marks the queue as broken, and that is how the sink learns of it. A sink that is to go on
//! makes another link.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::connect::{Dialer, Socket, closed, farewell, loss, span};
use super::policy::Trouble;
use super::pulse::{Pulse, sleep_until};
use super::queue::MessageQueue;
use crate::locked::locked;
use crate::{Attempts, Backoff, Error};

/// A ping follows at the latest after this many bytes, so that a slow server is heard from often.
const RUN_BYTES: usize = 64 << 10;

/// Carries the messages of one queue to one server.
pub(super) struct ServerLink {
    pub dialer: Dialer,
    /// `None` turns reconnecting off.
    pub backoff: Option<Backoff>,
    /// Whether an attempt to reconnect that fails is the last.
    pub one_attempt: bool,
    /// Told why there is no connection.
    pub outage: watch::Sender<Option<String>>,
    pub ping_interval: Option<Duration>,
    pub ping_timeout: Duration,
    pub queue: Arc<MessageQueue>,
    /// Says that everything that shall be sent was sent.
    pub stop: CancellationToken,
}

impl ServerLink {
    /// Works until it is stopped or there is no hope. `first` is how the first attempt to
    /// connect ended.
    pub async fn run(self, first: Result<Socket, Trouble>) {
        let backoff = self.backoff.clone();
        let mut attempts = backoff.map(|backoff| Attempts::new(backoff, rand::random()));
        let mut opened = first;
        loop {
            let began = Instant::now();
            let was_last = self.one_attempt && opened.is_err();
            let trouble = match opened {
                Ok(socket) => match self.serve(socket).await {
                    Some(trouble) => trouble,
                    None => return,
                },
                Err(trouble) => trouble,
            };
            self.queue.requeue();
            report_outage(&self.outage, Some(self.dialer.error(trouble.clone())));
            let up = began.elapsed();
            let attempts = attempts.as_mut().filter(|_| !was_last);
            let Some(wait) = attempts.and_then(|it| it.next(up, trouble.retry)) else {
                return self.queue.break_off(trouble);
            };
            let (target, reason) = (self.dialer.target(), &trouble.reason);
            tracing::warn!(
                target,
                reason,
                wait_s = wait.as_secs_f64(),
                "sink reconnects"
            );
            opened = tokio::select! {
                () = self.stop.cancelled() => return,
                opened = async { sleep(wait).await; self.dialer.dial().await } => opened,
            };
        }
    }

    /// Uses one connection to its end; `None` when stopped.
    async fn serve(&self, socket: Socket) -> Option<Trouble> {
        self.queue.connected();
        report_outage(&self.outage, None);
        let (mut writer, mut reader) = socket.split();
        let beat = Beat::new(Pulse::new(
            self.ping_interval,
            self.ping_timeout,
            Instant::now(),
        ));
        let trouble = tokio::select! {
            trouble = self.read(&mut reader, &beat) => Some(trouble),
            trouble = self.write(&mut writer, &beat) => Some(trouble),
            () = self.stop.cancelled() => None,
        };
        if trouble.is_none()
            && let Ok(mut socket) = writer.reunite(reader)
        {
            farewell(&mut socket, CloseCode::Normal, "").await;
        }
        trouble
    }

    /// Reads until the connection is lost or silent for too long.
    async fn read(&self, reader: &mut SplitStream<Socket>, beat: &Beat) -> Trouble {
        loop {
            let message = tokio::select! {
                biased;
                message = reader.next() => message,
                () = sleep_until(beat.with(|pulse| pulse.dead_at())) => {
                    let timeout = span(self.ping_timeout);
                    return Trouble::passing(format!("no answer to a ping within {timeout}"));
                }
                () = beat.changed.notified() => continue,
            };
            match message {
                Some(Ok(Message::Pong(number))) => {
                    beat.with(Pulse::heard);
                    self.confirm(&number);
                }
                Some(Ok(Message::Close(frame))) => return closed(frame.as_ref()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return loss(&error).0,
                None => return loss(&WsError::ConnectionClosed).0,
            }
        }
    }

    /// A pong that is none of ours confirms nothing.
    fn confirm(&self, payload: &Bytes) {
        if let Ok(number) = <[u8; 8]>::try_from(payload.as_ref()) {
            self.queue.confirm(u64::from_be_bytes(number));
        }
    }

    async fn write(&self, writer: &mut SplitSink<Socket, Message>, beat: &Beat) -> Trouble {
        let mut number = 0;
        loop {
            let next = tokio::select! {
                biased;
                next = self.queue.take() => Some(next),
                () = sleep_until(beat.with(|pulse| pulse.ping_at())) => None,
            };
            if let Err(error) = self.write_run(writer, beat, next, &mut number).await {
                return loss(&error).0;
            }
        }
    }

    /// Writes what is waiting, up to a point, then a ping, and flushes.
    async fn write_run(
        &self,
        writer: &mut SplitSink<Socket, Message>,
        beat: &Beat,
        mut next: Option<(u64, Message)>,
        number: &mut u64,
    ) -> Result<(), WsError> {
        let mut bytes = 0;
        while let Some((taken, message)) = next {
            *number = taken;
            bytes += message.len();
            writer.feed(message).await?;
            next = if bytes < RUN_BYTES {
                self.queue.try_take()
            } else {
                None
            };
        }
        let ping = number.to_be_bytes().to_vec();
        beat.with(|pulse| pulse.sent(Instant::now()));
        beat.changed.notify_one();
        writer.send(Message::Ping(ping.into())).await
    }
}

/// Tells whether there is a connection, if that is news.
pub(super) fn report_outage(outage: &watch::Sender<Option<String>>, why: Option<Error>) {
    let why = why.map(|error| error.to_string());
    outage.send_if_modified(|reported| {
        let is_news = *reported != why;
        *reported = why;
        is_news
    });
}

/// The pulse, shared by reader and writer.
struct Beat {
    pulse: Mutex<Pulse>,
    /// Told to the reader: a ping was sent.
    changed: Notify,
}

impl Beat {
    fn new(pulse: Pulse) -> Self {
        Self {
            pulse: Mutex::new(pulse),
            changed: Notify::new(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pulse) -> T) -> T {
        act(&mut locked(&self.pulse))
    }
}

impl Drop for ServerLink {
    /// However the link ends, nobody may wait for it for ever.
    fn drop(&mut self) {
        self.queue
            .break_off(Trouble::lasting("the connection was closed by us"));
    }
}
