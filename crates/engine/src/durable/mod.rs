//! Durability: the data folder.
//!
//! ```text
//!   headwater-data/
//!     LOCK                  one process at a time
//!     log/<source>/         what arrived, in order of arrival                 (crate `log`)
//!     log/<source>/identity which log that is                                 (identity.rs)
//!     checkpoints/          the engine's state between two steps              (checkpoints.rs)
//! ```
//!
//! The logs are the truth; a checkpoint only saves reading them from their beginning. It holds the
//! definitions, how far the queries were fed from each source, the state of every stage, the rows of
//! views, and how far each sink has come. After a crash the engine restores the newest checkpoint and
//! feeds the records behind it again, in the order of their step numbers and in the batches in which
//! they once came: so the engine repeats exactly what it had done.

mod ack_tracker;
mod adaptive_compression;
mod checkpoint;
mod checkpoint_error;
mod checkpoints;
mod files;
mod folder;
mod identity;
mod manifest;
mod run_file;
mod salvage;
mod source_feed;
mod source_step;
mod verify;
mod wal_merge;
mod wal_record;
mod wal_writer;

pub(crate) use ack_tracker::{AckTracker, Acks};
pub(crate) use checkpoint::{
    Checkpoint, Definition, QueryCheckpoint, SinkCheckpoint, SourceCheckpoint, SourceGaps,
    TopicCheckpoint,
};
pub(crate) use folder::{Folder, OpenedFolder, too_long};
pub(crate) use identity::Id;
pub use salvage::{Salvage, SalvagedLog, salvage};
pub(crate) use source_feed::SourceFeed;
pub(crate) use source_step::{BadRowPosition, SourceStep, bad_rows, bad_schema};
pub use verify::{Finding, FolderReport, verify};
pub(crate) use wal_merge::{Replayed, WalMerge};
pub(crate) use wal_record::WalRecordCodec;
pub(crate) use wal_writer::{WalSettings, WalWriter};
