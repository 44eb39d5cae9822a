//! What a source is: it produces data until its input ends or it is stopped.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{Output, Result};

/// Produces data until its input ends or it is stopped.
#[async_trait]
pub trait Source: Send + 'static {
    /// Checks that the external system can be reached with these options. Reads no data.
    async fn validate(&self) -> Result<()>;

    /// Emits frames or batches into `out`. Every wait inside must end promptly when `stop` is
    /// cancelled.
    ///
    /// Called once: after an error that may be retried the supervisor makes the source again, from the last
    /// cursor that the engine took. A source without cursors that reconnects by itself reports the gap
    /// itself; if it returns the error, the supervisor reports the gap.
    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End>;

    /// Whether `run` continues from a saved cursor.
    fn supports_incremental(&self) -> bool {
        false
    }

    /// Whether the input ends by itself, so that who wants all of it can wait.
    fn is_finite(&self) -> bool {
        false
    }
}

/// Why [`Source::run`] returned without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The input is exhausted: nothing more will ever come.
    Finished,
    /// The caller cancelled `stop`.
    Stopped,
}
