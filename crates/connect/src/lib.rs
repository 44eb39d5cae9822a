//! How Headwater reaches external systems: sources, sinks, their options and their formats.
//!
//! A **source** produces *frames* (the bytes of one message) or Arrow batches into an [`Output`];
//! a **sink** takes Arrow batches. Everything in between that a connector could get wrong (options,
//! lifecycle, decoding, backpressure, batching) is done once, here, around every connector:
//!
//! ```text
//!   WITH list -> options::check -> Source::run -> Output -> decoder -> Lane -> engine
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
//!
//! # Cargo features
//!
//! `file`, `process` and `websocket` include the connector of that name and its dependencies. All are on by
//! default. A statement that names a connector that was left out gets the error for an unknown connector.

mod again;
mod backoff;
pub mod calendar;
mod clock;
pub mod conform;
mod connector;
mod connectors;
mod dead_letters;
pub mod docs;
mod drive;
mod error;
#[cfg_attr(not(feature = "file"), allow(dead_code, unused_imports))]
pub mod formats;
mod gather;
mod handle;
pub mod help;
mod lane;
mod line_buffer;
#[cfg(any(feature = "file", feature = "process"))]
#[cfg_attr(not(feature = "file"), allow(dead_code))]
mod lines;
mod locked;
mod metadata_columns;
pub mod options;
mod output;
mod overlong;
mod registry;
mod restart;
#[cfg(test)]
mod scripted;
pub mod shown;
mod sink;
mod source;
mod sources;
mod status;
mod strategy;
mod tally;
pub mod time_unit;

pub use again::Again;
pub use backoff::{Attempts, Backoff, Limit};
pub use clock::{Clock, SystemClock};
pub use connector::{Connector, SinkArgs, SinkKind, SourceArgs, SourceKind};
pub use dead_letters::{DeadLetter, DeadLetters, originals};
pub use error::{Error, Result, Retry};
pub use handle::{Blueprint, Care, SourceHandle};
pub use lane::{Bad, Cursor, Delivery, Gap, Item, Lane, LaneClosed, Lifecycle};
pub use output::{MAX_FRAME, Output, OutputParts, Tap};
pub use overlong::{BAD_COPY_MAX, overlong};
pub use registry::{Connectors, DeclaredOptions, Rejection, SinkSpec, SourceSpec};
pub use sink::{Guarantee, Receipt, Sink};
pub use source::{End, Source};
pub use sources::{
    ActiveSource, Credentials, CursorStore, FolderCursors, MemoryCursors, SourceConfig,
    SourceStats, Sources, SourcesStats, StoreError,
};
pub use status::{Failure, State, Status};
pub use strategy::{BadRows, ErrorOptions, ErrorStrategy, Growth, error_options};
pub use tally::{OTHER_REASONS, Tally};
