//! The suite that every connector passes, ours and yours.
//!
//! Whoever writes a connector describes in a [`SourceCase`] or [`SinkCase`] how to make the outside
//! produce, or show, numbered rows, and calls [`source`] or [`sink`] in a test. The suite then starts and
//! stops the connector, stops it while it waits, restarts it, crashes it and resumes from its cursor, cuts
//! its connection, stalls its reader, crashes a sink and goes on from each of its receipts, and counts: every row there, once where that can be promised, in
//! order. It uses the real clock and whatever the case reaches for; nothing in it depends on speed.

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

/// Whatever takes longer than this never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the suite gets hold of a source and of the outside that it reads.
#[async_trait]
pub trait SourceCase: Send + Sync {
    /// The source, towards an outside in which nothing was produced yet. Called once for each check;
    /// what was made before is not used any more.
    async fn fresh(&self) -> Arc<dyn Blueprint>;

    /// Makes the outside produce rows with these numbers. Called with consecutive ranges from 0. A
    /// source that makes its rows by itself has nothing to do.
    async fn produce(&self, rows: Range<u64>);

    /// The numbers of these rows.
    fn numbers(&self, rows: &RecordBatch) -> Vec<u64>;

    /// Cuts the connection from outside. `false` if there is none to be cut.
    async fn cut(&self) -> bool {
        false
    }
}

/// How the suite gets hold of a sink and of the outside that it writes to.
#[async_trait]
pub trait SinkCase: Send + Sync {
    /// A sink towards an outside in which nothing is yet. Called once for each check; what was made
    /// before is not used any more.
    async fn fresh(&self) -> Box<dyn Sink>;

    /// Another sink towards the same outside as the last fresh one, as a process makes it that was
    /// started again.
    async fn again(&self) -> Box<dyn Sink>;

    /// What the sink's declaration promises.
    fn guarantee(&self) -> Guarantee;

    /// Rows with these numbers.
    fn rows(&self, numbers: Range<u64>) -> RecordBatch;

    /// The numbers that have reached the outside so far, in their order.
    async fn received(&self) -> Vec<u64>;

    /// Cuts the connection from outside. `false` if there is none to be cut.
    async fn cut(&self) -> bool {
        false
    }
}

/// What comes out of `future`, or a panic that names what never came.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come within {} s", PATIENCE.as_secs()),
    }
}
