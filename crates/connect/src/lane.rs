//! What leaves a source: deliveries of decoded rows, gaps and lifecycle events, and the [`Lane`]
//! that carries them to the engine.
//!
//! Everything a source sends is an [`Item`], in the order in which it happened. Rows travel with the
//! cursor that covers them, so that whoever saves one saves the other. The engine gives its own
//! lane; the sending half of a tokio channel is one too, for tests and small programs.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A source's place in the outside system, saved with the data it follows.
///
/// Opaque to everyone but the connector that wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor(pub serde_json::Value);

/// A frame, or a part of one, that could not become a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Bad {
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    /// Why they are no row: a sentence for a person.
    pub reason: String,
}

/// Rows that arrived together.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The rows, in the source's schema; may be empty.
    pub rows: RecordBatch,
    /// What could not be decoded, in arrival order.
    pub bad: Vec<Bad>,
    /// The place in the outside system that covers everything up to and including this delivery.
    pub cursor: Option<Cursor>,
    /// Where the rows came from: a path, URL or topic.
    pub origin: Option<Arc<str>>,
    /// When they were received, in microseconds since 1970-01-01 UTC.
    pub arrival_us: i64,
}

/// An interval in which rows may have been missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// What happened, for a person.
    pub reason: String,
    /// The last place known to be good, in the source's own terms.
    pub from: Option<String>,
    /// The first place after the gap.
    pub to: Option<String>,
}

/// Something that happened to a source besides its rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Lifecycle {
    /// Connected, opened or spawned.
    Connected {
        /// To what: a URL, a path, a command.
        to: String,
    },
    /// Lost the connection, or the child ended, and will try again after `retry_in`.
    Disconnected {
        /// Why.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// A child process ended.
    Exited {
        /// Its exit code, if it exited.
        code: Option<i32>,
        /// The signal that killed it, if one did.
        signal: Option<i32>,
        /// How long it ran.
        ran_for: Duration,
        /// Its last lines on stderr.
        stderr_tail: String,
    },
    /// A file was replaced, truncated or removed, or a similar change of the outside system.
    Changed {
        /// What changed, for a person.
        what: String,
    },
}

/// What a source sends, in order.
#[derive(Debug, Clone)]
pub enum Item {
    /// Decoded rows.
    Rows(Delivery),
    /// Rows may be missing here.
    Gap(Gap),
    /// Something happened.
    Lifecycle(Lifecycle),
}

/// The receiver has gone: the source was dropped or the engine is closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver of this source's rows has gone")]
pub struct LaneClosed;

/// Carries items to the engine. Waiting in `send` is the backpressure.
#[async_trait]
pub trait Lane: Send {
    /// Hands over one item; waits while the lane is full.
    async fn send(&mut self, item: Item) -> Result<(), LaneClosed>;
}

#[async_trait]
impl Lane for tokio::sync::mpsc::Sender<Item> {
    async fn send(&mut self, item: Item) -> Result<(), LaneClosed> {
        tokio::sync::mpsc::Sender::send(self, item)
            .await
            .map_err(|_| LaneClosed)
    }
}
