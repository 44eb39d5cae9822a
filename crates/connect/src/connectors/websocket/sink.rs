//! The websocket sink: one message a row, at least once, in order.
//!
//! ```text
//!   write --> encode --> queue --> link --> server
//!   flush <-- everything confirmed <-- pong
//! ```
//!
//! `write` returns when its rows are in the bounded queue, `flush` when the server has confirmed
//! them. With `overflow = 'block'` a server that is away therefore holds up the query behind the
//! sink, and nothing is lost; with the other policies it does not, and what no longer fits is
//! dropped and counted. Until a row is confirmed it counts as unsent, so that whoever keeps unsent
//! rows over a crash loses none. The connection lives in a task of its own, the link.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::Dialer;
use super::link::Link;
use super::policy::Trouble;
use super::queue::{Bounds, Broken, Queue};
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
    /// A binary message.
    Binary,
}

/// What the sink's options come to.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub dialer: Dialer,
    /// `None`: never reconnect.
    pub backoff: Option<Backoff>,
    pub message_type: MessageType,
    pub ping_interval: Option<Duration>,
    pub ping_timeout: Duration,
    pub bounds: Bounds,
}

/// Writes rows to a websocket server.
pub(super) struct WebsocketSink {
    settings: Settings,
    encoder: Box<dyn Encoder>,
    queue: Arc<Queue>,
    /// Encoded rows of one `write`; kept for its memory.
    frames: Frames,
    link: Option<Running>,
    /// How many dropped messages were told so far.
    told: u64,
}

/// A link at work. Dropping it stops the link.
struct Running {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl WebsocketSink {
    pub fn new(settings: Settings, encoder: Box<dyn Encoder>) -> Self {
        let queue = Arc::new(Queue::new(settings.bounds));
        Self {
            settings,
            encoder,
            queue,
            frames: Frames::default(),
            link: None,
            told: 0,
        }
    }

    fn messages(&self) -> Result<Vec<Message>> {
        let message = |frame: &[u8]| match self.settings.message_type {
            MessageType::Binary => Ok(Message::Binary(Bytes::copy_from_slice(frame))),
            MessageType::Text => Utf8Bytes::try_from(Bytes::copy_from_slice(frame))
                .map(Message::Text)
                .map_err(|error| Error::Encode {
                    format: "text message",
                    reason: format!("{error}; use message.type = 'binary'"),
                }),
        };
        self.frames.iter().map(message).collect()
    }

    fn broken(&self, broken: Broken) -> Error {
        let Broken(trouble) = broken;
        let waiting = self.queue.unconfirmed();
        let reason = match waiting {
            0 => trouble.reason,
            _ => format!("{}; {waiting} messages are not delivered", trouble.reason),
        };
        let retry = Retry::Fatal;
        self.settings.dialer.error(Trouble {
            reason,
            retry,
            ..trouble
        })
    }

    /// Messages that wait to be sent.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<Message> {
        std::iter::from_fn(|| self.queue.try_take())
            .map(|(_, message)| message)
            .collect()
    }

    /// Tells what the overflow policy has dropped since the last time.
    fn tell_dropped(&mut self) {
        let dropped = self.queue.dropped();
        if dropped > self.told {
            let (target, more) = (self.settings.dialer.target(), dropped - self.told);
            tracing::warn!(
                target,
                dropped,
                more,
                "the queue is full: messages were dropped"
            );
            self.told = dropped;
        }
    }
}

#[async_trait]
impl Sink for WebsocketSink {
    async fn validate(&self) -> Result<()> {
        self.settings.dialer.probe().await
    }

    async fn open(&mut self, _: Option<Receipt>) -> Result<()> {
        let Settings {
            dialer, backoff, ..
        } = &self.settings;
        let first = dialer.dial().await;
        if let Err(trouble) = &first
            && (trouble.retry == Retry::Fatal || backoff.is_none())
        {
            let retry = Retry::Fatal;
            return Err(dialer.error(Trouble {
                retry,
                ..trouble.clone()
            }));
        }
        let stop = CancellationToken::new();
        let link = Link {
            dialer: dialer.clone(),
            backoff: backoff.clone(),
            ping_interval: self.settings.ping_interval,
            ping_timeout: self.settings.ping_timeout,
            queue: self.queue.clone(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(link.run(first));
        self.link = Some(Running {
            stop: stop.drop_guard(),
            task,
        });
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.frames.clear();
        self.encoder.encode(rows, &mut self.frames)?;
        for message in self.messages()? {
            let pushed = self.queue.push(message).await;
            pushed.map_err(|broken| self.broken(broken))?;
        }
        self.tell_dropped();
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let drained = self.queue.drained(false).await;
        drained.map_err(|broken| self.broken(broken))
    }

    /// What is confirmed is safe, and there is nothing to be done for the rest but to wait.
    async fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn unsent(&self) -> u64 {
        self.queue.unsent()
    }

    fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    async fn close(&mut self) -> Result<()> {
        let Some(Running { stop, task }) = self.link.take() else {
            return Ok(());
        };
        let drained = timeout(CLOSE_WAIT, self.queue.drained(true)).await;
        let left = self.queue.unconfirmed();
        drop(stop);
        // A link that panicked has broken its queue off, which is told below.
        task.await.ok();
        self.tell_dropped();
        match drained {
            Ok(drained) => drained.map_err(|broken| self.broken(broken)),
            Err(_) => {
                let reason = format!("closed with {left} messages not delivered");
                Err(self.settings.dialer.error(Trouble::lasting(reason)))
            }
        }
    }
}
