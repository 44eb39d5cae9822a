//! What leaves a source: deliveries of decoded rows, gaps and lifecycle events, and the [`Lane`]
//! that carries them to the engine.
//!
//! Everything a source sends is an [`Item`], in the order in which it happened. Rows travel with the
//! cursor that covers them, so that both are saved together. The engine implements its own lane; the
//! sending half of a tokio channel is one too, for tests and small programs.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A source's position in the external system, saved with the rows before it.
///
/// Opaque to everyone but the connector that wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor(pub serde_json::Value);

impl Cursor {
    pub(crate) fn of(position: &impl Serialize) -> Result<Self> {
        serde_json::to_value(position).map(Self).map_err(bad_cursor)
    }

    /// The position; fails if another connector wrote it.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.0).map_err(bad_cursor)
    }
}

fn bad_cursor(error: serde_json::Error) -> Error {
    Error::BadCursor {
        reason: error.to_string(),
    }
}

/// An undecodable frame, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Bad {
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    /// Why they could not be decoded, as a sentence.
    pub reason: String,
}

/// Rows that arrived together.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The rows, in the source's schema; may be empty.
    pub rows: RecordBatch,
    /// What could not be decoded, in arrival order.
    pub bad: Vec<Bad>,
    /// The cursor that covers everything up to and including this delivery.
    pub cursor: Option<Cursor>,
    /// Where the rows came from: a path, URL or topic.
    pub origin: Option<Arc<str>>,
    /// When they were received, in microseconds since 1970-01-01 UTC.
    pub arrival_us: i64,
}

/// An interval in which rows may have been missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// What happened, as a sentence.
    pub reason: String,
    /// The last position known to be good, in the source's own terms.
    pub from: Option<String>,
    /// The first position after the gap.
    pub to: Option<String>,
}

/// An event of a source other than its rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Lifecycle {
    /// Connected, opened or spawned.
    Connected {
        /// The URL, path or command.
        to: String,
    },
    /// Lost the connection, or the child ended; the next attempt follows after `retry_in`.
    Disconnected {
        /// Why the connection was lost, as a sentence.
        reason: String,
        /// The wait until the next attempt.
        retry_in: Duration,
    },
    /// A child process ended.
    Exited {
        /// The exit code; `None` if a signal killed it.
        code: Option<i32>,
        /// The signal that killed it, if any.
        signal: Option<i32>,
        /// The time from its start to its end.
        ran_for: Duration,
        /// The last lines it wrote to stderr.
        stderr_tail: String,
    },
    /// Something about the content that a person should know, such as a header without a column.
    Warned {
        /// The warning, as a sentence.
        what: String,
    },
    /// A file was replaced, truncated or removed, or the external system changed in a similar way.
    Changed {
        /// What changed, as a sentence.
        what: String,
    },
}

/// What a source sends, in order.
#[derive(Debug, Clone)]
pub enum Item {
    /// Decoded rows and undecodable frames.
    Rows(Delivery),
    /// Rows may be missing here.
    Gap(Gap),
    /// An event other than rows.
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
