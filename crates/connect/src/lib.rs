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
//! This crate knows Arrow and the client libraries. It does not know DataFusion, timely or the
//! ring: the engine hands it a [`Lane`], and that is all it sees of what comes after.

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
mod lane;
pub mod options;
mod output;
mod registry;
#[cfg(test)]
mod scripted;
mod sink;
mod source;
mod status;

pub use backoff::{Attempts, Backoff};
pub use clock::{Clock, SystemClock};
pub use connector::{Connector, SinkArgs, SinkKind, SourceArgs, SourceKind};
pub use error::{Error, Result, Retry};
pub use handle::{Blueprint, Care, SourceHandle};
pub use lane::{Bad, Cursor, Delivery, Gap, Item, Lane, LaneClosed, Lifecycle};
pub use output::{BAD_COPY_MAX, Output, OutputParts, Tap, overlong};
pub use registry::{Connectors, Rejection, SinkSpec, SourceSpec};
pub use sink::Sink;
pub use source::{End, Source};
pub use status::{State, Status};
