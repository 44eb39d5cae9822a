//! The websocket sink: one message a row, at least once, in order.
//!
//! ```text
//!   write --> encode --> queue --> link --> server
//!   flush <-- everything confirmed <-- pong
//! ```
//!
//! `write` returns when its rows are in the bounded queue, `flush` when the server has confirmed
//! them. With `ack.match`, where a confirmation may take as long as the server's program does, `flush` does not wait
//! for it: `progress` tells of it. With `overflow = 'block'` a server that is away therefore holds up the query behind the
//! sink, and nothing is lost; with the other policies it does not, and what no longer fits is
//! dropped and counted. Until a row is confirmed it counts as unsent, so that whoever keeps unsent
//! rows over a crash loses none. The connection lives in a task of its own, the link.
//!
//! When the link has given up reconnecting, `write` and `flush` fail. The rows stay in the queue until
//! they are taken back, and each further `write` or `flush` tries once to connect: with success they
//! go on over a new link. When to call again, and how often, is left to the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ack::AckBy;
use super::connect::{Dialer, Socket};
use super::link::{ServerLink, report_outage};
use super::policy::Trouble;
use super::queue::{Bounds, Broken, MessageQueue, Outgoing};
use crate::formats::{Encoder, Frames};
use crate::{Backoff, Error, Receipt, Result, Retry, Sink};

/// How long `close` waits for the server to confirm what is left.
const CLOSE_WAIT: Duration = Duration::from_secs(4);

/// The kind of message a row becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// A text message; the encoded row must be UTF-8.
    #[default]
    Text,
    /// A binary message, of any bytes.
    Binary,
}

/// What the sink's options come to.
#[derive(Debug, Clone)]
pub(super) struct WebsocketSinkSettings {
    pub dialer: Dialer,
    /// `None` turns reconnecting off.
    pub backoff: Option<Backoff>,
    /// Whether an attempt to reconnect that fails is the last: then somebody else decides.
    pub one_attempt: bool,
    pub message_type: MessageType,
    pub ping_interval: Option<Duration>,
    pub ping_timeout: Duration,
    /// How the server acknowledges; `None` if pongs confirm.
    pub ack: Option<AckBy>,
    pub bounds: Bounds,
}

/// Writes rows to a websocket server.
pub(super) struct WebsocketSink {
    settings: WebsocketSinkSettings,
    encoder: Box<dyn Encoder>,
    queue: Arc<MessageQueue>,
    /// Encoded rows of one `write`; kept for its memory.
    frames: Frames,
    link: Option<RunningLink>,
    /// Why there is no connection, for those who watch.
    outage: watch::Sender<Option<String>>,
    /// The number of dropped messages reported so far.
    reported: u64,
    /// The last answer of `unsent`.
    told_unsent: AtomicU64,
}

/// A link at work. Dropping it stops the link.
struct RunningLink {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl WebsocketSink {
    pub fn new(settings: WebsocketSinkSettings, encoder: Box<dyn Encoder>) -> Self {
        let queue = Arc::new(MessageQueue::new(settings.bounds));
        Self {
            settings,
            encoder,
            queue,
            frames: Frames::default(),
            link: None,
            outage: watch::Sender::default(),
            reported: 0,
            told_unsent: AtomicU64::new(0),
        }
    }

    fn messages(&self) -> Result<Vec<Outgoing>> {
        let message = |frame: &[u8]| match self.settings.message_type {
            MessageType::Binary => Ok(Message::Binary(Bytes::copy_from_slice(frame))),
            MessageType::Text => Utf8Bytes::try_from(Bytes::copy_from_slice(frame))
                .map(Message::Text)
                .map_err(|error| Error::Encode {
                    format: "text message",
                    reason: format!("{error}; use message.type = 'binary'"),
                }),
        };
        let outgoing = |frame: &[u8]| {
            let ack = self.settings.ack.as_ref();
            let key = ack.map(|ack| ack.key_of_row(frame)).transpose()?;
            let message = message(frame)?;
            Ok(Outgoing { message, key })
        };
        self.frames.iter().map(outgoing).collect()
    }

    fn broken(&self, Broken(trouble): Broken) -> Error {
        self.settings.dialer.error(trouble)
    }

    /// Lets a link carry the queue; `first` is how the first attempt to connect ended.
    fn start_link(&mut self, first: Result<Socket, Trouble>) {
        let stop = CancellationToken::new();
        let link = ServerLink {
            dialer: self.settings.dialer.clone(),
            backoff: self.settings.backoff.clone(),
            one_attempt: self.settings.one_attempt,
            outage: self.outage.clone(),
            ping_interval: self.settings.ping_interval,
            ping_timeout: self.settings.ping_timeout,
            ack: self.settings.ack.clone(),
            queue: self.queue.clone(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(link.run(first));
        self.link = Some(RunningLink {
            stop: stop.drop_guard(),
            task,
        });
    }

    /// Connects once if the link has given up.
    async fn revive(&mut self) -> Result<()> {
        if !self.queue.is_broken() {
            return Ok(());
        }
        if let Some(RunningLink { task, .. }) = self.link.take() {
            // It is about to end, and breaks the queue off once more when it does. How is of no
            // interest any more.
            task.await.ok();
        }
        match self.settings.dialer.dial().await {
            Ok(socket) => {
                self.queue.repair(None);
                self.start_link(Ok(socket));
                Ok(())
            }
            Err(trouble) => {
                let error = || self.settings.dialer.error(trouble.clone());
                report_outage(&self.outage, Some(error()));
                self.queue.repair(Some(trouble.clone()));
                Err(error())
            }
        }
    }

    /// What is left of a close that came too late.
    fn undelivered(&self, why: Option<Trouble>) -> Error {
        let left = self.queue.unconfirmed();
        let why = why.unwrap_or_else(|| Trouble::lasting("closed"));
        let reason = format!("{}, with {left} messages not delivered", why.reason);
        self.settings.dialer.error(Trouble { reason, ..why })
    }

    /// Messages that wait to be sent.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<Message> {
        std::iter::from_fn(|| self.queue.try_take())
            .map(|(_, message)| message)
            .collect()
    }

    /// Tells what the overflow policy has dropped since the last time.
    fn report_dropped(&mut self) {
        let dropped = self.queue.dropped();
        if dropped > self.reported {
            let (target, more) = (self.settings.dialer.target(), dropped - self.reported);
            tracing::warn!(
                target,
                dropped,
                more,
                "the queue is full: messages were dropped"
            );
            self.reported = dropped;
        }
    }
}

#[async_trait]
impl Sink for WebsocketSink {
    async fn validate(&self) -> Result<()> {
        self.settings.dialer.probe().await
    }

    async fn open(&mut self, _: Option<Receipt>) -> Result<()> {
        let WebsocketSinkSettings {
            dialer, backoff, ..
        } = &self.settings;
        let goes_on = backoff.is_some() && !self.settings.one_attempt;
        let first = dialer.dial().await;
        if let Err(trouble) = &first
            && (trouble.retry == Retry::Fatal || !goes_on)
        {
            return Err(dialer.error(trouble.clone()));
        }
        self.start_link(first);
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.frames.clear();
        self.encoder.encode(rows, &mut self.frames)?;
        let messages = self.messages()?;
        self.revive().await?;
        let end = self.queue.end();
        for message in messages {
            if let Err(broken) = self.queue.push(message).await {
                // All of it will be written again, or none.
                self.queue.rewind(end);
                return Err(self.broken(broken));
            }
        }
        self.report_dropped();
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.queue.unconfirmed() > 0 {
            self.revive().await?;
        }
        if self.settings.ack.is_some() {
            return Ok(());
        }
        let drained = self.queue.drained(false).await;
        drained.map_err(|broken| self.broken(broken))
    }

    /// What is confirmed is safe, and there is nothing to be done for the rest but to wait.
    async fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn unsent(&self) -> u64 {
        let unsent = self.queue.unsent();
        self.told_unsent.store(unsent, Ordering::Relaxed);
        unsent
    }

    async fn progress(&mut self) {
        match self.told_unsent.load(Ordering::Relaxed) {
            0 => std::future::pending().await,
            unsent => self.queue.confirmed_below(unsent).await,
        }
    }

    fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn take_back(&mut self) -> Option<Vec<u64>> {
        Some(self.queue.take_back())
    }

    fn outage(&self) -> Option<watch::Receiver<Option<String>>> {
        Some(self.outage.subscribe())
    }

    async fn close(&mut self) -> Result<()> {
        // Without a link the queue is empty, or broken off.
        let drained = timeout(CLOSE_WAIT, self.queue.drained(true)).await;
        let result = match drained {
            Ok(drained) => drained.map_err(|Broken(why)| self.undelivered(Some(why))),
            Err(_) => Err(self.undelivered(None)),
        };
        if let Some(RunningLink { stop, task }) = self.link.take() {
            drop(stop);
            // A link that panicked has broken its queue off, which was reported above.
            task.await.ok();
        }
        self.report_dropped();
        result
    }
}
