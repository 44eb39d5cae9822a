//! The lifecycle of streams: START, PAUSE, RESUME and STOP, ATTACH and DETACH, and which sources run
//! because of it.
//!
//! ```text
//!   status of a stream changes
//!     -> connectors that no active stream needs any more are paused
//!     -> rows that have arrived go through
//!     -> a paused stream's inputs that others keep running are held: it misses their rows, counted
//!   at the end of the script: connectors that are needed are started
//! ```
//!
//! A source is needed unless streams read it and none of them is active. Only those that read it
//! directly count: behind a paused stream no row arrives, whatever reads it.

mod attach;
mod rebuild;
mod regulate;
mod restore;
mod resume;
mod source_group;
mod transition;

pub(crate) use attach::attach;
pub(crate) use rebuild::{held_if_failed, holds};
pub(crate) use regulate::regulate;
pub(crate) use restore::{note_status, reattach, restore};
pub(crate) use source_group::new_topic;
pub(crate) use transition::change_state;
