//! What a source is: something that produces data until its input ends or it is told to stop.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{Output, Result};

/// Produces data until its input ends or it is told to stop.
#[async_trait]
pub trait Source: Send + 'static {
    /// Checks that the outside system can be reached with these options. Reads no data.
    async fn validate(&self) -> Result<()>;

    /// Emits frames or batches into `out`. Every wait inside must end promptly when `stop` is
    /// cancelled.
    ///
    /// Called once: after an error that may be tried again the source is made anew, from the last
    /// cursor that the engine took. One that does not support that, and reconnects by itself, tells
    /// of the gap itself; if it returns the error, the gap is told for it.
    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End>;

    /// Whether `run` continues from a saved cursor.
    fn supports_incremental(&self) -> bool {
        false
    }
}

/// Why [`Source::run`] returned without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The input is exhausted: nothing more will ever come.
    Finished,
    /// `stop` was cancelled.
    Stopped,
}
