//! How Headwater reaches the outside world: sources, sinks, their options and their formats.
//!
//! A **source** produces *frames* (the bytes of one message) or Arrow batches into an [`Output`];
//! a **sink** takes Arrow batches. Everything in between that a connector could get wrong (options,
//! lifecycle, decoding, backpressure, batching) is done once, here, around every connector:
//!
//! ```text
//!   WITH list -> options walker -> Source::run -> Output -> decoder -> Lane -> engine
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use arrow::datatypes::{DataType, Field, Schema};
//! use headwater_connect::options::Given;
//! use headwater_connect::{Care, Connectors, Item, SourceHandle};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let columns = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
//! let options = [Given::new("rows", 3), Given::new("rows_per_second", 0)];
//! let spec = Connectors::builtin().source("generate", &options, Some(columns), &[])?;
//!
//! let source = SourceHandle::new(Arc::new(spec), None, Care::default());
//! let (lane, mut items) = tokio::sync::mpsc::channel(1);
//! source.start(&Default::default(), Some(Box::new(lane)))?;
//! let mut rows = 0;
//! while let Some(item) = items.recv().await {
//!     if let Item::Rows(delivery) = item {
//!         rows += delivery.rows.num_rows();
//!     }
//! }
//! assert_eq!(rows, 3);
//! # Ok(()) }
//! ```
//!
//! This crate knows Arrow and the client libraries. It does not know DataFusion, timely or the
//! ring: the engine hands it a [`Lane`], and that is all it sees of what comes after.

mod again;
mod backoff;
mod clock;
pub mod conform;
mod connector;
mod connectors;
pub mod docs;
mod drive;
mod error;
pub mod formats;
mod gather;
mod handle;
pub mod help;
mod lane;
mod letter;
mod lines;
pub mod options;
mod output;
mod registry;
mod restart;
#[cfg(test)]
mod scripted;
mod sink;
mod source;
mod sources;
mod stamp;
mod status;
mod strategy;
mod tally;

pub use again::Again;
pub use backoff::{Attempts, Backoff, Limit};
pub use clock::{Clock, SystemClock};
pub use connector::{Connector, SinkArgs, SinkKind, SourceArgs, SourceKind};
pub use error::{Error, Result, Retry};
pub use handle::{Blueprint, Care, SourceHandle};
pub use lane::{Bad, Cursor, Delivery, Gap, Item, Lane, LaneClosed, Lifecycle};
pub use letter::{DeadLetter, DeadLetters, originals};
pub use output::{BAD_COPY_MAX, Output, OutputParts, Tap, overlong};
pub use registry::{Connectors, Rejection, SinkSpec, SourceSpec};
pub use sink::{Guarantee, Receipt, Sink};
pub use source::{End, Source};
pub use sources::{
    ActiveSource, Credentials, CursorStore, FolderCursors, MemoryCursors, SourceConfig,
    SourceStats, Sources, SourcesStats, StoreError,
};
pub use status::{Failure, State, Status};
pub use strategy::{BadRows, ErrorOptions, ErrorStrategy, Growth, error_options};
pub use tally::{OTHER_REASONS, Tally};
