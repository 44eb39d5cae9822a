//! The connection of a websocket sink, in a task of its own.
//!
//! While the sink fills the queue, the link empties it: it writes, it reads (so that pings are
//! answered, pongs or acknowledgements confirm, and a Close is seen at once), it pings, and it reconnects.
//! Reading and writing are two futures over one socket; the first to end takes the other with
//! it. Behind every run of messages goes a ping with the number of the last; see `queue`. So only a
//! pong proves that the server is well: one that sends other things but no pong confirms nothing. With
//! `ack.match` the pong proves only that, and messages of the server confirm; see `ack`.
//!
//! A server that takes nothing, answers no ping or acknowledges nothing for too long is left: what it has
//! not confirmed goes to the next connection.
//!
//! The link ends when it is stopped, or when reconnecting is off, pointless or was tried too often;
//! it then marks the queue as broken, and that is how the sink learns of it. A sink that is to go on
//! makes another link.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::ack::AckBy;
use super::connect::{Dialer, READS_NOTHING, Socket, closed, farewell, loss, span};
use super::policy::Trouble;
use super::pulse::{Pulse, sleep_until};
use super::queue::MessageQueue;
use super::wire::{SharedSocket, parts};
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
    /// How the server acknowledges; `None` if pongs confirm.
    pub ack: Option<AckBy>,
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
        let socket = SharedSocket::new(socket);
        let beat = Beat::new(self);
        let trouble = tokio::select! {
            trouble = self.read(&socket, &beat) => Some(trouble),
            trouble = self.write(&socket, &beat) => Some(trouble),
            () = self.stop.cancelled() => None,
        };
        if trouble.is_none() {
            farewell(&mut socket.into_inner(), CloseCode::Normal, "").await;
        }
        trouble
    }

    /// Reads until the connection is lost or silent for too long.
    async fn read(&self, socket: &SharedSocket, beat: &Beat) -> Trouble {
        let mut wrong_acks = 0;
        loop {
            let message = tokio::select! {
                biased;
                message = socket.next() => message,
                () = sleep_until(beat.pong_due()) => {
                    let timeout = span(self.ping_timeout);
                    return Trouble::passing(format!("no answer to a ping within {timeout}"));
                }
                () = sleep_until(beat.ack_due()) => return self.acknowledges_nothing(wrong_acks),
                () = beat.changed.notified() => continue,
            };
            match message {
                Some(Ok(Message::Pong(number))) => {
                    locked(&beat.pulse).heard();
                    self.confirm(&number);
                }
                Some(Ok(Message::Text(text))) => {
                    self.acknowledge(text.as_bytes(), beat, &mut wrong_acks);
                }
                Some(Ok(Message::Binary(bytes))) => {
                    self.acknowledge(&bytes, beat, &mut wrong_acks);
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
        if let (None, Ok(number)) = (&self.ack, <[u8; 8]>::try_from(payload.as_ref())) {
            self.queue.confirm(u64::from_be_bytes(number));
        }
    }

    /// A message without the field is none of ours; a value that no row has which was sent confirms nothing.
    fn acknowledge(&self, message: &[u8], beat: &Beat, wrong_acks: &mut u64) {
        let Some(key) = self.ack.as_ref().and_then(|ack| ack.find(message)) else {
            return;
        };
        if self.queue.confirm_key(key) {
            beat.acked(self.queue.awaits());
            return;
        }
        *wrong_acks += 1;
        if *wrong_acks == 1 {
            let target = self.dialer.target();
            tracing::warn!(
                target,
                "an acknowledgement matches no row that waits for one"
            );
        }
    }

    fn acknowledges_nothing(&self, wrong_acks: u64) -> Trouble {
        let timeout = self.ack.as_ref().map(|ack| span(ack.timeout));
        let timeout = timeout.unwrap_or_default();
        let mut reason = format!("no acknowledgement within {timeout}");
        if wrong_acks > 0 {
            reason.push_str(&format!(", but {wrong_acks} that match no row"));
        }
        Trouble::passing(reason)
    }

    async fn write(&self, socket: &SharedSocket, beat: &Beat) -> Trouble {
        let mut number = 0;
        loop {
            let next = tokio::select! {
                biased;
                next = self.queue.take() => Some(next),
                () = sleep_until(beat.ping_due()) => None,
            };
            if let Err(trouble) = self.write_run(socket, beat, next, &mut number).await {
                return trouble;
            }
        }
    }

    /// Writes what is waiting, up to a point, then a ping, and flushes.
    async fn write_run(
        &self,
        socket: &SharedSocket,
        beat: &Beat,
        mut next: Option<(u64, Message)>,
        number: &mut u64,
    ) -> Result<(), Trouble> {
        let mut bytes = 0;
        while let Some((taken, message)) = next {
            *number = taken;
            bytes += message.len();
            for part in parts(message) {
                match timeout(self.ping_timeout, socket.put(part)).await {
                    Ok(put) => put.map_err(|error| loss(&error).0)?,
                    Err(_) => return Err(Trouble::passing(READS_NOTHING)),
                }
            }
            next = if bytes < RUN_BYTES {
                self.queue.try_take()
            } else {
                None
            };
        }
        beat.sent(self.queue.awaits());
        let ping = Message::Ping(number.to_be_bytes().to_vec().into());
        let written = async {
            socket.put(ping).await?;
            socket.flush().await
        };
        written.await.map_err(|error| loss(&error).0)
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

/// What is expected of the server and until when, shared by reader and writer.
struct Beat {
    pulse: Mutex<Pulse>,
    /// Unanswered while rows wait for their acknowledgement; `None` without `ack.match`.
    acks: Option<Mutex<Pulse>>,
    /// Told to the reader: a ping was sent.
    changed: Notify,
}

impl Beat {
    fn new(link: &ServerLink) -> Self {
        let now = Instant::now();
        let ack = |ack: &AckBy| Mutex::new(Pulse::new(None, ack.timeout, now));
        Self {
            pulse: Mutex::new(Pulse::new(link.ping_interval, link.ping_timeout, now)),
            acks: link.ack.as_ref().map(ack),
            changed: Notify::new(),
        }
    }

    fn ping_due(&self) -> Option<Instant> {
        locked(&self.pulse).ping_at()
    }

    fn pong_due(&self) -> Option<Instant> {
        locked(&self.pulse).dead_at()
    }

    fn ack_due(&self) -> Option<Instant> {
        self.acks.as_ref().and_then(|acks| locked(acks).dead_at())
    }

    /// A ping follows; `awaits` if rows before it wait for their acknowledgement.
    fn sent(&self, awaits: bool) {
        let now = Instant::now();
        locked(&self.pulse).sent(now);
        if let Some(acks) = self.acks.as_ref().filter(|_| awaits) {
            locked(acks).sent(now);
        }
        self.changed.notify_one();
    }

    /// Rows were acknowledged; `awaits` if others were not.
    fn acked(&self, awaits: bool) {
        if let Some(acks) = &self.acks {
            let mut acks = locked(acks);
            acks.heard();
            if awaits {
                acks.sent(Instant::now());
            }
        }
    }
}

impl Drop for ServerLink {
    /// However the link ends, nobody may wait for it for ever.
    fn drop(&mut self) {
        self.queue
            .break_off(Trouble::lasting("the connection was closed by us"));
    }
}
