//! A factory of sources, for programs: made by kind and id, supervised, continued from saved cursors.
//!
//! For programs that collect from many systems without SQL: [`Sources::create`] finds the connector, loads
//! the cursor that was saved for the id, checks options and reachability, and returns an
//! [`ActiveSource`], a stream of batches. [`Sources::save_cursor`] saves the position of its reader.
//!
//! ```
//! use headwater_connect::{Connectors, Credentials, MemoryCursors, SourceConfig, Sources};
//! use futures_util::StreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> headwater_connect::Result<()> {
//! let sources = Sources::new(Connectors::builtin(), MemoryCursors::default());
//! for expected in [100, 0] {
//!     let config = SourceConfig::new().option("kind", "nexmark").option("table", "bid");
//!     let config = config.option("rows", 100).option("rows_per_second", 0);
//!     let mut bids = sources.create("generate", "bids", Credentials::new(), config).await?;
//!     let mut rows = 0;
//!     while let Some(batch) = bids.next().await {
//!         rows += batch?.rows.num_rows();
//!     }
//!     sources.save_cursor("bids").await?;
//!     sources.close("bids").await;
//!     assert_eq!(rows, expected, "the second time there is nothing new");
//! }
//! # Ok(()) }
//! ```
//!
//! A [`CursorStore`](crate::CursorStore) keeps the cursors; a `SourceHandle` runs each source.

mod active;
mod config;
mod store;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::future::join_all;

pub use active::{ActiveSource, SourceStats};
pub use config::{Credentials, SourceConfig};
pub use store::{CursorStore, FolderCursors, MemoryCursors, StoreError};

use crate::locked::locked;
use crate::registry::wrong_role;
use crate::{Blueprint, Care, Connector, Connectors, Cursor, Error, Result, SourceSpec};
use active::Tracked;

/// Makes sources and keeps those that are active. Thread-safe: a whole program shares one.
///
/// The registered kinds belong to this factory; nothing is global.
pub struct Sources {
    connectors: RwLock<Connectors>,
    cursors: Arc<dyn CursorStore>,
    care: Care,
    /// The active sources by id; `None` is one that is being made.
    active: Mutex<BTreeMap<String, Option<Arc<Tracked>>>>,
    created: AtomicU64,
    closed: AtomicU64,
    saved: AtomicU64,
}

/// The counters of a factory.
#[derive(Debug, Clone)]
pub struct SourcesStats {
    /// The number of kinds that can be made.
    pub registered: usize,
    /// Sources made so far. Only grows.
    pub created: u64,
    /// Sources closed so far. Only grows.
    pub closed: u64,
    /// Cursors saved so far. Only grows.
    pub cursors_saved: u64,
    /// Rows that the active sources have yielded.
    pub rows: u64,
    /// The active sources, by id.
    pub active: BTreeMap<String, SourceStats>,
}

impl Sources {
    /// A factory for these kinds, which keeps cursors in `cursors`.
    pub fn new(connectors: Connectors, cursors: impl CursorStore) -> Self {
        Self {
            connectors: RwLock::new(connectors),
            cursors: Arc::new(cursors),
            care: Care::default(),
            active: Mutex::new(BTreeMap::new()),
            created: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            saved: AtomicU64::new(0),
        }
    }

    /// The same factory, which supervises its sources with `care` instead of [`Care::default`].
    #[must_use]
    pub fn with_care(self, care: Care) -> Self {
        Self { care, ..self }
    }

    // Kinds.

    /// Adds a kind, under the same rules as [`Connectors::register`]. Fails also if it is not a source.
    pub fn register(&self, connector: Connector) -> Result<()> {
        if connector.source.is_none() {
            return Err(wrong_role(&connector, "source"));
        }
        let connectors = self.connectors.write();
        let mut connectors = connectors.unwrap_or_else(PoisonError::into_inner);
        connectors.register(connector)
    }

    /// The kinds that can be made, sorted.
    pub fn registered(&self) -> Vec<String> {
        let connectors = self.connectors();
        let names = connectors
            .names()
            .filter(|name| is_source(&connectors, name));
        names.map(str::to_owned).collect()
    }

    /// Whether sources of this kind can be made.
    pub fn is_available(&self, kind: &str) -> bool {
        is_source(&self.connectors(), kind)
    }

    // Sources.

    /// Makes a source and checks that its system can be reached; it starts when its first batch is polled.
    /// It continues from the cursor in `config`, otherwise from the one saved for `id`.
    ///
    /// Fails with [`Error::UnknownSourceKind`], with [`Error::BadConfig`] if options, credentials or cursor
    /// are wrong, with [`Error::NotReached`] if the external system cannot be reached, with
    /// [`Error::SourceExists`] while another source has this id, and with [`Error::CursorStore`].
    pub async fn create(
        &self,
        kind: &str,
        id: &str,
        credentials: Credentials,
        config: SourceConfig,
    ) -> Result<ActiveSource> {
        let reservation = self.reserve(id)?;
        let spec = Arc::new(self.spec(kind, id, &credentials, &config)?);
        let cursor = match config.cursor {
            Some(cursor) => Some(cursor),
            None => self.load_cursor(id).await?,
        };
        let bad = |error: Error| bad_config(id, error.to_string());
        let source = spec.source(cursor.clone()).map_err(bad)?;
        let incremental = source.supports_incremental();
        if cursor.is_some() && !incremental {
            return Err(bad(not_incremental(spec.connector())));
        }
        source.validate().await.map_err(|error| match error {
            Error::Unreachable { .. }
            | Error::Refused { .. }
            | Error::Io { .. }
            | Error::Exited { .. } => Error::NotReached {
                id: id.to_owned(),
                last: Box::new(error),
            },
            error => bad(error),
        })?;
        let tracked = Tracked::new(id, spec, incremental, cursor, self.care.clone());
        let tracked = Arc::new(tracked);
        reservation.fill(tracked.clone());
        self.created.fetch_add(1, Relaxed);
        tracing::info!(source = id, kind, "source created");
        Ok(ActiveSource::new(tracked))
    }

    /// The sources that are not closed, by id.
    pub fn active(&self) -> BTreeMap<String, SourceStats> {
        let tracked: Vec<_> = locked(&self.active).values().flatten().cloned().collect();
        let stats = tracked.iter().map(|one| (one.id.clone(), one.stats()));
        stats.collect()
    }

    /// Stops a source and forgets it; its stream ends. Does not save its cursor. Waits at most
    /// [`Care::stop_deadline`]. `false` if no source has this id.
    pub async fn close(&self, id: &str) -> bool {
        let tracked = locked(&self.active).get(id).cloned().flatten();
        let Some(tracked) = tracked else { return false };
        tracked.close().await;
        let mut active = locked(&self.active);
        let is_it =
            |one: &Option<Arc<Tracked>>| one.as_ref().is_some_and(|one| Arc::ptr_eq(one, &tracked));
        if !active.get(id).is_some_and(is_it) {
            return false;
        }
        active.remove(id);
        self.closed.fetch_add(1, Relaxed);
        tracing::info!(source = id, "source closed");
        true
    }

    /// Closes all sources concurrently. Returns their number.
    pub async fn close_all(&self) -> usize {
        let ids: Vec<String> = locked(&self.active).keys().cloned().collect();
        let closed = join_all(ids.iter().map(|id| self.close(id))).await;
        closed.into_iter().filter(|closed| *closed).count()
    }

    /// The counters of the factory and of its sources.
    pub fn stats(&self) -> SourcesStats {
        let active = self.active();
        SourcesStats {
            registered: self.registered().len(),
            created: self.created.load(Relaxed),
            closed: self.closed.load(Relaxed),
            cursors_saved: self.saved.load(Relaxed),
            rows: active.values().map(|stats| stats.rows).sum(),
            active,
        }
    }

    // Cursors.

    /// Saves the cursor of an active source, which covers every batch that its stream has yielded: call this
    /// when those are processed. Returns what was saved; `None` if the source has no cursor.
    pub async fn save_cursor(&self, id: &str) -> Result<Option<Cursor>> {
        let tracked = locked(&self.active).get(id).cloned().flatten();
        let tracked = tracked.ok_or_else(|| Error::NoSuchSource { id: id.to_owned() })?;
        // One save at a time, so that an older cursor never follows a newer one.
        let _turn = tracked.saving.lock().await;
        let Some(cursor) = tracked.cursor() else {
            return Ok(None);
        };
        let saved = self.cursors.save(id, &cursor).await;
        saved.map_err(|error| store_failed(id, "save", &error))?;
        self.saved.fetch_add(1, Relaxed);
        Ok(Some(cursor))
    }

    /// The cursor saved for this id; `None` if there is none.
    pub async fn load_cursor(&self, id: &str) -> Result<Option<Cursor>> {
        let loaded = self.cursors.load(id).await;
        loaded.map_err(|error| store_failed(id, "load", &error))
    }

    // Private.

    fn spec(
        &self,
        kind: &str,
        id: &str,
        credentials: &Credentials,
        config: &SourceConfig,
    ) -> Result<SourceSpec> {
        if !self.is_available(kind) {
            return Err(Error::UnknownSourceKind {
                kind: kind.to_owned(),
                registered: self.registered(),
            });
        }
        let connectors = self.connectors();
        let given = config::merged(connectors.get(kind)?, credentials, config);
        let given = given.map_err(|reason| bad_config(id, reason))?;
        let spec = connectors.source(kind, &given, config.columns.clone(), &[]);
        spec.map_err(|rejection| bad_config(id, rejection.to_string()))
    }

    /// Reserves the id for a source that is being made.
    fn reserve<'a>(&'a self, id: &'a str) -> Result<SourceIdReservation<'a>> {
        let mut active = locked(&self.active);
        if active.contains_key(id) {
            return Err(Error::SourceExists { id: id.to_owned() });
        }
        active.insert(id.to_owned(), None);
        Ok(SourceIdReservation { sources: self, id })
    }

    fn connectors(&self) -> std::sync::RwLockReadGuard<'_, Connectors> {
        self.connectors
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that is reserved until this is dropped, and longer if it was filled.
struct SourceIdReservation<'a> {
    sources: &'a Sources,
    id: &'a str,
}

impl SourceIdReservation<'_> {
    fn fill(self, tracked: Arc<Tracked>) {
        locked(&self.sources.active).insert(self.id.to_owned(), Some(tracked));
    }
}

impl Drop for SourceIdReservation<'_> {
    fn drop(&mut self) {
        let mut active = locked(&self.sources.active);
        if let Some(None) = active.get(self.id) {
            active.remove(self.id);
        }
    }
}

fn is_source(connectors: &Connectors, name: &str) -> bool {
    let found = connectors.get(name);
    found.is_ok_and(|found| found.source.is_some())
}

fn bad_config(id: &str, reason: String) -> Error {
    Error::BadConfig {
        id: id.to_owned(),
        reason,
    }
}

fn not_incremental(kind: &str) -> Error {
    Error::NotIncremental {
        kind: kind.to_owned(),
    }
}

fn store_failed(id: &str, what: &'static str, error: &StoreError) -> Error {
    Error::CursorStore {
        what,
        id: id.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(all(test, feature = "file"))]
mod tests;
