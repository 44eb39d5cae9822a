//! A log of checksummed records in segments on disk: what a source has sent, durable and replayable.
//!
//! ```text
//!   LogWriter ── append ──► 00000000000000000000.log │ 00000000000067108928.log │ ...   ◄── LogReader ── LogScan
//!                           sealed, with its .index  │ being written                        any number, any thread
//!                                         ▲
//!                             Syncer ─────┘ fsync, for many logs, when asked or due ──► LogDurability: wait, wake
//! ```
//!
//! A record holds a run of rows: their first offset (counted from 0 over the life of the source), their number, their
//! event times, the step that made them, and an opaque payload. No record is ever split, changed or reordered. What was
//! acknowledged as durable survives any crash; what survives a crash is a prefix of what was appended; cuts are
//! reported to the byte; damage is refused, or skipped only on request. `FORMAT.md` draws the bytes and states what is
//! verified when.
//!
//! [`lock`] locks a whole data folder; [`lying::LyingDisk`] is a disk for tests that forgets, tears and fills up. This
//! crate knows nothing of Arrow, of connectors, or of the content of a payload.
//!
//! ```
//! use std::sync::Arc;
//! use headwater_log::{Append, LogConfig, LogWriter, RealDisk};
//!
//! let folder = std::env::temp_dir().join(format!("headwater-log-{}", std::process::id()));
//! let (mut log, found) = LogWriter::open(Arc::new(RealDisk), &folder, LogConfig::default())?;
//! assert_eq!(found.end.offset, 0);
//! let end = log.append(&Append { rows: 2, sequence: 1, payload: &[b"two", b" rows"], ..Append::default() })?;
//! log.durability().sync()?;
//! assert_eq!(end, log.durability().durable());
//!
//! let mut scan = log.reader().read_from(0)?;
//! assert_eq!(scan.next()?.map(|record| record.payload.to_vec()), Some(b"two rows".to_vec()));
//! # std::fs::remove_dir_all(&folder).ok();
//! # Ok::<(), headwater_log::Error>(())
//! ```

mod disk;
mod error;
mod format;
mod index;
mod inspect;
mod lock;
pub mod lying;
mod reader;
mod recover;
mod retention;
mod segment;
mod segment_reader;
mod shared_log;
mod survey;
mod syncer;
mod writer;

pub use disk::{Disk, DiskFile, Locking, RealDisk, read_full, write_full};
pub use error::{Cut, Damage, Defect, Error, Result};
pub use format::{MAX_PAYLOAD, Position};
pub use index::Extent;
pub use inspect::{InspectedDamage, Inspection, inspect};
pub use lock::{FolderLock, lock};
pub use reader::{LogReader, LogRecord, LogScan};
pub use recover::Recovered;
pub use retention::{Needed, Removed, Retention};
pub use syncer::{LogDurability, Syncer};
pub use writer::{Append, LogConfig, LogWriter, SyncMode};
