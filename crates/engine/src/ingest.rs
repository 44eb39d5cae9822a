//! From lanes to batches: what a worker does with a source at the beginning of a step.
//!
//! ```text
//!   handle ──► ring lane ──► HandleChannel ────┐
//!   connector task ──► LaneQueue ──► ConnectorChannel ──► SourceReader ──► rows, watermark
//!   REPROCESS ──────────────► ReprocessedChannel ──┘
//! ```
//!
//! A source has one or more **channels** (one for each typed handle that was asked for, or one for
//! its connector), each with one or more **lanes** (one for each clone of the handle). [`SourceReader`]
//! drains them all, makes batches, and keeps the source's watermark.

mod channel;
mod channels;
mod lane_queue;
mod source_reader;

pub(crate) use channel::{Channel, DrainedLanes};
pub(crate) use channels::{ConnectorChannel, HandleChannel, ReprocessedChannel, ReprocessedRows};
pub(crate) use lane_queue::{ConnectorLane, LaneQueue};
pub(crate) use source_reader::SourceReader;
