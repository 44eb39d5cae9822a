//! Opening a database: [`Builder`], its settings.

use std::path::Path;
use std::sync::Arc;

use headwater_connect::Connectors;
use headwater_log::Disk;
use headwater_ring::WaitStrategy;

use super::engine::{DataFolder, Engine, IoRuntime, Persistence, Workers, check_resources};
use super::shutdown::EngineOwner;
use super::{Db, checkpoint, recovery};
use crate::error::Result;

/// How a database is opened.
#[derive(Clone)]
pub struct Builder {
    workers: usize,
    wait: WaitStrategy,
    connectors: Connectors,
    start_connectors: bool,
    trial: bool,
    script: bool,
    stopped: bool,
    segment_bytes: u64,
}

impl Default for Builder {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            workers: cores.min(4),
            wait: WaitStrategy::default(),
            connectors: Connectors::builtin(),
            start_connectors: true,
            trial: false,
            script: false,
            stopped: false,
            segment_bytes: headwater_log::LogConfig::default().segment_bytes,
        }
    }
}

impl Builder {
    /// The number of worker threads, from 1 to 64. Default: the cores, at most 4.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How workers wait for rows. Default: `SpinYield(100)`; `Spin` takes a core for each worker.
    #[must_use]
    pub fn wait_strategy(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// The connectors that statements can name. Default: those that Headwater brings.
    #[must_use]
    pub fn connectors(mut self, connectors: Connectors) -> Self {
        self.connectors = connectors;
        self
    }

    /// Whether `execute` starts the sources and sinks that it created. With `false` statements are
    /// checked and planned, and no external system is touched before [`Db::start_connectors`].
    #[must_use]
    pub fn start_connectors(mut self, start: bool) -> Self {
        self.start_connectors = start;
        self
    }

    /// Statements are only tried: a database in memory then also takes what needs a data folder, and
    /// keeps it in memory.
    #[must_use]
    pub fn trial(mut self) -> Self {
        self.trial = true;
        self
    }

    /// All statements are those of one script, whichever calls execute them: a source takes
    /// nothing before a SELECT or SUBSCRIBE that reads it, or [`Db::end_script`], so that no stream misses its
    /// first rows; and a SELECT answers when the finite inputs that it reads have ended.
    #[must_use]
    pub fn script(mut self) -> Self {
        self.script = true;
        self
    }

    /// Opens a data folder without running anything: no source, query or sink, and no state is loaded, so it
    /// opens where the state does not fit into memory. What exists can be looked at, altered and dropped;
    /// everything else is refused. What is not dropped keeps its state.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.stopped = true;
        self.workers = 1;
        self.start_connectors = false;
        self
    }

    /// How large a file of a log becomes before the next is begun: for tests and benches that want many.
    #[doc(hidden)]
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Checks that the machine gives the threads, the memory and the open files that opening needs. Opening
    /// does that, too; a program that needs some itself before asks here.
    ///
    /// # Errors
    /// What is missing, and which limit to raise.
    pub fn check_resources(&self) -> Result<()> {
        check_resources(self.workers)
    }

    /// Opens a database that keeps everything in memory.
    ///
    /// # Errors
    /// If the number of workers is out of range, or the machine refuses the threads.
    pub fn in_memory(self) -> Result<Db> {
        check_resources(self.workers)?;
        self.start(None)
    }

    /// Opens the database that keeps its data in `folder`, which is made if need be. What was created
    /// there is there again, and goes on where it was: also after a crash. Blocks until it has caught
    /// up with the log.
    ///
    /// # Errors
    /// As [`in_memory`](Self::in_memory); if another process has the folder open, it cannot be read or
    /// written, or what was created there cannot be created again (such as by a connector that is missing).
    pub fn open(self, folder: impl AsRef<Path>) -> Result<Db> {
        let disk = Arc::new(headwater_log::RealDisk);
        self.open_on(disk, folder.as_ref())
    }

    /// As [`open`](Self::open), on a disk of your own: for tests with one that lies.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    pub fn open_on(self, disk: Arc<dyn Disk>, folder: &Path) -> Result<Db> {
        check_resources(self.workers)?;
        let (is_stopped, bytes) = (self.stopped, self.segment_bytes);
        let folder = match is_stopped {
            true => DataFolder::open_stopped(disk, folder, bytes)?,
            false => DataFolder::open(disk, folder, bytes)?,
        };
        let db = self.start(Some(folder))?;
        if let Some(folder) = db.engine.persistence.folder() {
            recovery::recover(&db.engine, folder)?;
        }
        if !is_stopped {
            checkpoint::start_thread(&db.engine.0)?;
        }
        Ok(db)
    }

    fn start(self, folder: Option<DataFolder>) -> Result<Db> {
        let workers = Workers::start(self.workers, self.wait)?;
        let engine = Engine::new(
            workers,
            IoRuntime::start()?,
            Persistence::new(folder, self.trial),
            self.connectors,
            self.start_connectors,
            self.script,
        );
        Ok(Db::new(EngineOwner(Arc::new(engine))))
    }
}

impl Db {
    /// A database that keeps everything in memory, with the default settings.
    ///
    /// # Errors
    /// If the machine refuses the threads.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory()
    }

    /// Settings to choose before opening.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A database that keeps its data in `folder`, with the default settings: see [`Builder::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(folder)
    }
}
