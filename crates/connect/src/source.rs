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
