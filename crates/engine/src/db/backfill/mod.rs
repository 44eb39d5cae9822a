//! Backfill: queries that begin in the past, or were held, fed from the logs until they have caught up.
//!
//! ```text
//!   log   ─────────────────────────────────────►
//!   query ────────►│ read, a step at a time     │ Buffer │ the rest │ released: buffer, then live
//! ```
//!
//! The calling thread reads the logs and feeds what it reads by commands between the steps of all, one at
//! a time: so other queries wait for a step at most, however long the log is. The workers buffer what
//! arrives during the last stretch, which closes the gap without a row missed or fed twice.

mod feed;
mod input;
mod start;

pub(crate) use feed::{catch_up, release};
pub(crate) use input::{BackfillInput, Clip, inputs_from};
pub(crate) use start::{Start, instant_us, start_of};
