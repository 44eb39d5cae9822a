//! Rows that could not be read or written: how they get into a dead-letter stream, and how bad rows are
//! decoded again.
//!
//! ```text
//!   source: undecodable frames ──┐
//!                                ├─► DeadLetterWriter ─► lane of the stream ─► its log ─► queries
//!   sink: rows given up ─────────┘      waits until they are on disk
//! ```
//!
//! A dead-letter stream is a source without a connector that has the columns of a
//! [`DeadLetter`](headwater_connect::DeadLetter). With a data folder a dead letter is on disk before the
//! source passes on the rows that came with it, and before the sink counts the rows as delivered: a
//! crash in between duplicates it, and never loses it.

mod reprocess;
mod writer;

pub(crate) use reprocess::reprocess;
pub(crate) use writer::{connector_lane, dead_letter_writer};
