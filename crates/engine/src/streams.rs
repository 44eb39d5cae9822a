//! Streams and their lifecycle, as a Rust API: create, attach, start, pause, resume, stop, watch.
//!
//! ```text
//!   pending ──start──► active ◄──start, resume── paused        what is lost
//!                        │  └──────pause──────────►│            pause: nothing that is kept:
//!                        └──stop──► stopped ◄─stop─┘                   cursors, windows, views
//!                                     │                         stop:  all of that
//!                                     └──start──► active
//! ```
//!
//! A source runs unless there is at least one stream that reads it and none of these is active.

pub use crate::db::Streams;
pub use crate::stream_status::{LifecycleState, SavedStream, StreamStats, StreamStatus};
