//! Segments of checksummed records on disk: what a source has sent, durable and replayable.
//!
//! ```text
//!   Log ── append ──► 00000000000000000000.log │ 00000000000067108928.log │ ...   ◄── LogReader ── Scan
//!                     sealed, with its .index  │ being written                        any number, any thread
//!                                   ▲
//!                       Syncer ─────┘ fsync, for many logs, when asked or due ──► Durability: wait, wake
//! ```
//!
//! A record holds a run of rows: their first offset (counted from 0 over the life of the source), how many, their event
//! times, the step that made them, and bytes that mean nothing here. No record is ever split, changed or reordered.
//! What was acknowledged as durable is there after any crash; what is there after a crash is a prefix of what was
//! appended; what was cut is reported to the byte; what is damaged is refused, or skipped only when one says so.
//! `FORMAT.md` draws the bytes and says what is verified when.
//!
//! Locks the whole data folder with [`lock`]; [`lying::LyingDisk`] is a disk for tests that forgets, tears and fills up.
//! It knows nothing of Arrow, of connectors, or of what a payload says.
//!
//! ```
//! use std::sync::Arc;
//! use headwater_log::{Append, Config, Log, RealDisk};
//!
//! let folder = std::env::temp_dir().join(format!("headwater-log-{}", std::process::id()));
//! let (mut log, found) = Log::open(Arc::new(RealDisk), &folder, Config::default())?;
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
mod durable;
mod error;
mod format;
mod frames;
mod index;
mod lock;
mod log;
pub mod lying;
mod reader;
mod recover;
mod retain;
mod segment;
mod survey;
mod syncer;

pub use disk::{Disk, DiskFile, Locking, RealDisk, read_full, write_full};
pub use error::{Cut, Damage, Error, Result, Why};
pub use format::{MAX_PAYLOAD, Position};
pub use index::Extent;
pub use lock::{FolderLock, lock};
pub use log::{Append, Config, Log, Mode};
pub use reader::{LogReader, Record, Scan};
pub use recover::Recovered;
pub use retain::{Needed, Removed, Retention};
pub use syncer::{Durability, Syncer};
