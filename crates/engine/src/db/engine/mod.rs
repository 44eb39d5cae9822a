//! The engine: its parts, each of which owns its state, and what needs several of them at once.
//!
//! ```text
//!   Workers        threads that run the queries; every command goes through their sequencer
//!   IoRuntime      tokio, for connectors, sinks and SELECT
//!   Persistence    the data folder, if there is one: logs, and what the newest checkpoint held
//!   Catalog        what exists, behind one lock
//! ```
//!
//! A function takes the parts that it needs, and the whole engine only if it needs most of it.

mod data_folder;
mod io_runtime;
mod persistence;
mod resources;
mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use headwater_connect::Connectors;

use super::catalog::{Catalog, SourceEntry};
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::event_time::WatermarkConfig;
use crate::locked::locked;
use crate::record::Record;
use crate::source::{Source, SourceConfig};
use crate::sql::plan::{Planner, Relation};
use crate::topic::Topic;

pub(crate) use data_folder::DataFolder;
pub(crate) use io_runtime::IoRuntime;
pub(crate) use persistence::Persistence;
pub(crate) use resources::{check_resources, check_thread_for};
pub(crate) use workers::{LOSSLESS_QUEUE, Workers};

/// What all handles of a database share.
pub(crate) struct Engine {
    pub workers: Arc<Workers>,
    pub io: IoRuntime,
    pub persistence: Persistence,
    pub planner: Planner,
    pub connectors: Connectors,
    pub event_log: Arc<EventLog>,
    /// Whether statements start what they create: always, or since the user has started connectors.
    starts_connectors: AtomicBool,
    /// Whether statements are those of one script, until its end.
    runs_script: bool,
    catalog: Mutex<Catalog>,
    /// Locked by each statement, so that they run one at a time.
    statement: Mutex<()>,
}

impl Engine {
    pub fn new(
        workers: Workers,
        io: IoRuntime,
        persistence: Persistence,
        connectors: Connectors,
        starts_connectors: bool,
        runs_script: bool,
    ) -> Self {
        Self {
            workers: Arc::new(workers),
            io,
            persistence,
            planner: Planner::new(),
            connectors,
            event_log: Arc::default(),
            starts_connectors: AtomicBool::new(starts_connectors),
            runs_script,
            catalog: Mutex::default(),
            statement: Mutex::new(()),
        }
    }

    pub fn catalog(&self) -> MutexGuard<'_, Catalog> {
        locked(&self.catalog)
    }

    /// No other statement runs while the guard is there. Blocks.
    pub fn one_statement(&self) -> MutexGuard<'_, ()> {
        locked(&self.statement)
    }

    /// # Errors
    /// If the database is closed, or runs nothing.
    pub fn check_running(&self) -> Result<()> {
        self.workers.check_open()?;
        match self.persistence.is_stopped() {
            true => Err(Error::config(
                "the database is open without running anything: open it without Builder::stopped",
            )),
            false => Ok(()),
        }
    }

    /// Whether statements start what they create.
    pub fn starts_connectors(&self) -> bool {
        self.starts_connectors.load(Ordering::Acquire)
    }

    /// Whether sources wait for statements that read them, and statements for the end of their inputs.
    pub fn runs_script(&self) -> bool {
        self.runs_script
    }

    /// From now on statements start what they create.
    pub fn set_starts_connectors(&self) {
        self.starts_connectors.store(true, Ordering::Release);
    }

    /// A handle of a source, with a lane of its own.
    pub fn source_handle<T: Record>(
        &self,
        source: &SourceEntry,
        config: &SourceConfig,
    ) -> Result<Source<T>> {
        let ack_tracker = self.persistence.ack_tracker(source.shared.name(), config)?;
        self.workers.add_lane(source, config, ack_tracker)
    }

    /// A topic as the checkpoint held it; `is_kept` if it keeps its rows.
    pub fn restored_topic(
        &self,
        home: usize,
        relation: Relation,
        is_kept: bool,
    ) -> Result<Arc<Topic>> {
        let topic = Topic::new(self.workers.next_topic(), home, relation, is_kept)?;
        self.persistence.restore_topic(&topic);
        Ok(Arc::new(topic))
    }

    /// Gives a source without event time that of a handle.
    pub fn set_event_time(&self, name: &str, time: &WatermarkConfig) -> Result<()> {
        let mut catalog = self.catalog();
        let source = catalog.source_mut(name)?;
        let command = source.set_event_time(time)?;
        if let (Some(wal_writer), Some(time)) = (self.persistence.wal_writer(name), &source.time) {
            wal_writer.set_time(time.clone());
        }
        self.workers.command(command);
        catalog.define_event_time(name, time);
        Ok(())
    }
}
