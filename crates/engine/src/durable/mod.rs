//! What survives: the data folder.
//!
//! ```text
//!   headwater-data/
//!     LOCK                  one process at a time
//!     log/<source>/         what arrived, in the order in which it did        (crate `log`)
//!     checkpoints/          what was known between two steps                  (checkpoints.rs)
//! ```
//!
//! The logs are the truth; a checkpoint only saves reading them from their beginning. It holds what was
//! created, how far each source was fed to the queries, the state of every stage, what views keep, and
//! how far each sink has come. After a crash the newest checkpoint is restored and the records behind
//! it are fed again, in the order of their step numbers, in the batches in which they once came: so the
//! engine does again exactly what it had done.

mod ack_tracker;
mod adaptive_compression;
mod checkpoints;
mod feed;
mod folder;
mod record;
mod replay;
mod state;
mod wal_writer;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use ack_tracker::{AckTracker, Acks};
pub(crate) use checkpoints::Written;
pub(crate) use feed::{Feed, Replayed, SourceState};
pub(crate) use folder::{Folder, SourceLog};
pub(crate) use record::{BadPlace, Codec, Taken};
pub(crate) use replay::Replay;
pub(crate) use state::{Definition, QueryState, SinkState, StagePart, State, TopicState};
pub(crate) use wal_writer::WalWriter;

/// Arrival time, in microseconds since 1970-01-01 UTC.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
