//! The conformance suite that every connector passes, built-in or your own.
//!
//! The author of a connector describes in a [`SourceCase`] or [`SinkCase`] how to make the external system
//! produce, or show, numbered rows, and calls [`source`] or [`sink`] in a test. The suite then starts and
//! stops the connector, stops it while it waits, restarts it, crashes it and resumes from its cursor, cuts
//! its connection, stalls its reader, crashes a sink and continues from each of its receipts, and checks that
//! every row arrives, once where that is guaranteed, in order. It uses the real clock and the external system
//! of the case; nothing in it depends on speed.

mod sinks;
mod sources;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;

use crate::{Blueprint, Guarantee, Sink};

pub use sinks::sink;
pub use sources::source;

/// The longest wait for an event that a working connector produces.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gives the suite a source and control over the external system that it reads.
#[async_trait]
pub trait SourceCase: Send + Sync {
    /// A source for an external system that has produced nothing yet. Called once for each check; the suite
    /// does not use earlier sources any more.
    async fn fresh(&self) -> Arc<dyn Blueprint>;

    /// Makes the external system produce rows with these numbers. Called with consecutive ranges from 0. Does
    /// nothing for a source that makes its rows by itself.
    async fn produce(&self, rows: Range<u64>);

    /// The numbers of these rows.
    fn numbers(&self, rows: &RecordBatch) -> Vec<u64>;

    /// Cuts the connection at the external system. `false` if there is none.
    async fn cut(&self) -> bool {
        false
    }
}

/// Gives the suite a sink and a view of the external system that it writes to.
#[async_trait]
pub trait SinkCase: Send + Sync {
    /// A sink for an empty external system. Called once for each check; the suite does not use earlier sinks
    /// any more.
    async fn fresh(&self) -> Box<dyn Sink>;

    /// Another sink for the external system of the last fresh one, as a restarted process makes it.
    async fn again(&self) -> Box<dyn Sink>;

    /// The guarantee in the sink's declaration.
    fn guarantee(&self) -> Guarantee;

    /// Rows with these numbers.
    fn rows(&self, numbers: Range<u64>) -> RecordBatch;

    /// The numbers that have reached the external system so far, in order.
    async fn received(&self) -> Vec<u64>;

    /// Cuts the connection at the external system. `false` if there is none.
    async fn cut(&self) -> bool {
        false
    }
}

/// Waits for `future`; panics with a sentence that names `what` if it does not end in time.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come within {} s", PATIENCE.as_secs()),
    }
}
