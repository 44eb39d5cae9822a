//! What a sink is: somewhere results go, and how sure one can be that each arrives once.
//!
//! ```text
//!   write --> [ the sink's own buffer ] --> the outside
//!                 ^ unsent() rows            ^ receipt(), durable after sync()
//! ```
//!
//! A sink that can go back to a place it was at answers [`Sink::receipt`]: whoever saves the receipt
//! together with the rows that it does not cover, and opens the sink with it after a crash, gets an
//! outside as if nothing had happened. A sink that cannot says with [`Sink::unsent`] how many rows it
//! still holds itself: whoever keeps those and writes them again loses nothing, though a row may
//! arrive twice. Which of the two a connector can do is its [`Guarantee`], known before anything runs.
//!
//! Keeping receipts and rows is the engine's business; trying again is, too. So a sink with a buffer
//! lets go of it when asked with [`Sink::take_back`], for what is given up to be dropped or sent
//! elsewhere.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::Result;

/// A sink's place in the outside system, saved with the rows that it does not cover.
///
/// Opaque to everyone but the connector that wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt(pub serde_json::Value);

/// How often a row reaches the outside when the process crashes and is started again. From weak to
/// strong, so that the weakest link of a chain is its minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    /// Perhaps not at all: rows may be dropped.
    AtMostOnce,
    /// Once or more.
    AtLeastOnce,
    /// Once.
    ExactlyOnce,
}

impl Guarantee {
    /// As it is written: `exactly-once`.
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

/// Writes result rows to an outside system.
///
/// One task drives a sink: `open`, then `write`, `flush` and `sync` any number of times, then `close`.
/// A failed `write` may be called again with the same batch; what was written of it before the
/// failure may then arrive twice, never not at all. A sink that gives receipts takes all of a batch
/// or nothing.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Checks that the outside system can be reached with these options. Writes nothing.
    async fn validate(&self) -> Result<()>;

    /// Connects or opens; called once before the first `write`. With a receipt the outside is first
    /// put back to where it was when the receipt was given: what was written after it goes. A sink
    /// that gives no receipts is never opened with one.
    ///
    /// Fails if the outside is no longer what the receipt speaks of; then nothing was changed.
    async fn open(&mut self, from: Option<Receipt>) -> Result<()>;

    /// Writes the rows. Returns when they are handed to the outside system or safely queued.
    async fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Called when no further batch is waiting: pushes out whatever is buffered.
    async fn flush(&mut self) -> Result<()>;

    /// The place after what is outside: behind all rows but the [`unsent`](Self::unsent) ones; `None` if
    /// this sink cannot go back. Cheap: it is asked after every `write`. It is true at once for a process
    /// that dies, and after the next [`sync`](Self::sync) for a machine that does.
    fn receipt(&self) -> Option<Receipt> {
        None
    }

    /// Makes everything up to the latest receipt survive a crash of the machine.
    async fn sync(&mut self) -> Result<()> {
        self.flush().await
    }

    /// How many of the rows written last are still in the sink's own hands, and would be lost with the
    /// process. May be too many, never too few; of a sink that gives receipts the exact number.
    fn unsent(&self) -> u64 {
        0
    }

    /// Rows that the sink has dropped by a policy of its own, since it was made. Only grows.
    fn dropped(&self) -> u64 {
        0
    }

    /// Lets go of all rows that are still in its own hands, and says which: for each, oldest first,
    /// how many rows were written after it. Asked after a failed `write` or `flush`, when its rows are
    /// given up. `None` if it has none that it could let go.
    fn take_back(&mut self) -> Option<Vec<u64>> {
        None
    }

    /// Follows whether the outside can be reached: why not, or `None` as long as it can. Only for a
    /// sink that connects by itself; what `write` and `flush` answer need not be told here.
    fn outage(&self) -> Option<watch::Receiver<Option<String>>> {
        None
    }

    /// Flushes and closes. Called once; the sink is dropped after it.
    async fn close(&mut self) -> Result<()>;
}
