//! What a sink is: it writes results to an external system, with a delivery guarantee.
//!
//! ```text
//!   write --> [ the sink's own buffer ] --> the external system
//!                 ^ unsent() rows            ^ receipt(), durable after sync()
//! ```
//!
//! A sink that can return to an earlier position gives receipts ([`Sink::receipt`]): the engine saves the
//! receipt together with the rows that it does not cover, opens the sink with it after a crash, and the
//! external system looks as if nothing had happened. Any other sink reports with [`Sink::unsent`] how many
//! rows it still holds: the engine keeps those and writes them again, and nothing is lost, though a row may
//! arrive twice. Which of the two a connector can do is its [`Guarantee`], known before anything runs.
//!
//! The engine keeps receipts and rows, and it retries. So a sink with a buffer hands it over when asked with
//! [`Sink::take_back`], for the engine to drop the rows or send them elsewhere.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::Result;

/// A sink's position in the external system, saved with the rows that it does not cover.
///
/// Opaque to everyone but the connector that wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt(pub serde_json::Value);

/// How often a row reaches the external system when the process crashes and restarts. From weak to strong,
/// so that the weakest link of a chain is its minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    /// A row may be dropped, and is never written twice.
    AtMostOnce,
    /// No row is lost, but one may be written twice.
    AtLeastOnce,
    /// No row is lost, and none is written twice.
    ExactlyOnce,
}

impl Guarantee {
    /// The name in SQL and docs, such as `exactly-once`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

impl std::fmt::Display for Guarantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Writes result rows to an external system.
///
/// One task drives a sink: `open`, then `write`, `flush` and `sync` any number of times, then `close`.
/// A failed `write` may be called again with the same batch; rows of it that were written before the
/// failure may then arrive twice, and none is lost. A sink that gives receipts takes all of a batch or
/// nothing.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Checks that the external system can be reached with these options. Writes nothing.
    async fn validate(&self) -> Result<()>;

    /// Connects or opens; called once before the first `write`. With a receipt the sink first restores the
    /// external system to the position of the receipt: what was written after it is removed. A sink that
    /// gives no receipts is never opened with one.
    ///
    /// Fails if the receipt does not match the external system; then nothing was changed.
    async fn open(&mut self, from: Option<Receipt>) -> Result<()>;

    /// Writes the rows. Returns when they are handed to the external system or safely queued.
    async fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Writes what is buffered; called when no further batch is waiting.
    async fn flush(&mut self) -> Result<()>;

    /// The position behind all rows but the [`unsent`](Self::unsent) ones; `None` if this sink cannot return
    /// to it. Cheap: called after every `write`. It holds at once if the process crashes, and after the next
    /// [`sync`](Self::sync) if the machine does.
    fn receipt(&self) -> Option<Receipt> {
        None
    }

    /// Makes everything up to the latest receipt survive a crash of the machine.
    async fn sync(&mut self) -> Result<()> {
        self.flush().await
    }

    /// How many of the rows written last the sink itself still holds, and would be lost with the process.
    /// May be too many, never too few; exact for a sink that gives receipts.
    fn unsent(&self) -> u64 {
        0
    }

    /// Waits until [`unsent`](Self::unsent) may have become smaller, or the next `flush` must report a failure.
    /// Only for a sink whose `flush` does not wait until the external system has confirmed its rows. Dropping this
    /// future loses nothing.
    async fn progress(&mut self) {
        std::future::pending().await
    }

    /// Whether the sink can never be used as it is, for reasons on this machine. Asked when it is created; looks
    /// at no network and changes nothing.
    fn refusal(&self) -> Result<()> {
        Ok(())
    }

    /// Drop counter: rows that the sink's own policy has dropped since it was made. Only grows.
    fn dropped(&self) -> u64 {
        0
    }

    /// Forgets all rows that the sink itself still holds, and returns for each, oldest first, how many rows
    /// were written after it. Called after a failed `write` or `flush`, when its rows are given up. `None` if
    /// the sink holds none that it could forget.
    fn take_back(&mut self) -> Option<Vec<u64>> {
        None
    }

    /// Watches whether the external system can be reached: the reason why not, or `None` while it can. Only
    /// for a sink that connects by itself; errors of `write` and `flush` need not be repeated here.
    fn outage(&self) -> Option<watch::Receiver<Option<String>>> {
        None
    }

    /// Flushes and closes. Called once; the sink is dropped after it.
    async fn close(&mut self) -> Result<()>;
}
