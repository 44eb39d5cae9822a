//! [`Db`]: the engine as a library.
//!
//! ```text
//!   execute(sql) ─► statements ─► catalog ─► commands to the workers
//!   source::<T>() ─► a handle to push rows through
//!   subscribe(name) ─► results as they come        query(sql) ─► results as they are
//! ```
//!
//! A `Db` is a cheap handle; clones share the engine, which ends when the last one goes. Statements
//! run one at a time and block until they are done. Connectors and sinks run on a tokio runtime of
//! the database's own, so it may be used from any thread, within another runtime or without one.

mod alter;
mod catalog;
mod catch_up;
mod connect;
mod dead_letters;
mod drops;
mod durability;
mod explain;
mod guarantees;
mod history;
mod life;
mod logs;
mod metrics;
mod options;
mod replay;
mod reprocess;
mod select;
mod sink_task;
mod sinks;
mod source_groups;
mod sources;
mod statements;
mod streams;
mod subscribe;
mod system;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_connect::Connectors;
use headwater_ring::{ChannelConfig, WaitStrategy, channel_with_bell};
use timely::communication::WorkerGuards;
use tokio_util::sync::CancellationToken;

use crate::durable::AckTracker;
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::ingest::HandleChannel;
use crate::record::{Record, matches};
use crate::sequencer::Sequencer;
use crate::source::{ArrowSource, Source, SourceConfig};
use crate::sql::plan::Planner;
use crate::subscription::{QUEUE_ROWS, SubscriberQueue, Subscription, TypedSubscription};
use crate::topic::{Begin, Topic};
use crate::worker::{Handoff, LaneBacklog, Worker, WorkerCommand};
use catalog::Catalog;
use durability::Durability;

pub use catalog::Kind;
pub use guarantees::{Guarantees, Link};
pub use options::source_options;
pub use statements::Outcome;

/// How long closing waits for connectors to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What sinks have for their last rows in any case.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// A sink or subscriber that has taken nothing for so long is not waited for at the end.
const STALLED: Duration = Duration::from_secs(2);

/// How a database is opened.
#[derive(Clone)]
pub struct Builder {
    workers: usize,
    wait: WaitStrategy,
    connectors: Connectors,
    start_connectors: bool,
    trial: bool,
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
    /// checked and planned, and nothing outside is touched before [`Db::start_connectors`].
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

    /// How large a file of a log becomes before the next is begun: for tests and benches that want many.
    #[doc(hidden)]
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Opens a database that keeps everything in memory.
    ///
    /// # Errors
    /// If the number of workers is out of range, or the machine refuses the threads.
    pub fn in_memory(self) -> Result<Db> {
        Db::start(self, None)
    }
}

/// A streaming database. See the [crate] for an example.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    /// Itself, for threads that must not keep it alive.
    this: Weak<Inner>,
    sequencer: Arc<Sequencer<WorkerCommand>>,
    catalog: Mutex<Catalog>,
    next_topic: AtomicU64,
    planner: Planner,
    connectors: Connectors,
    start_connectors: bool,
    /// Connectors have been started, so that streams may start theirs.
    connectors_begun: AtomicBool,
    event_log: Arc<EventLog>,
    workers: usize,
    closed: AtomicBool,
    /// Held by each statement that creates or drops, so that they run one at a time.
    statements: Mutex<()>,
    /// Ends the SELECTs that run.
    selects: Mutex<CancellationToken>,
    /// What needs a data folder is taken without one.
    trial: bool,
    /// `None` if everything is kept in memory.
    durability: Option<Arc<Durability>>,
    guards: Mutex<Option<WorkerGuards<()>>>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    tokio: tokio::runtime::Handle,
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
    pub fn open(folder: impl AsRef<std::path::Path>) -> Result<Self> {
        Self::builder().open(folder)
    }

    fn start(builder: Builder, durability: Option<Durability>) -> Result<Self> {
        let workers = builder.workers;
        if !(1..=64).contains(&workers) {
            let what = format!("workers must be from 1 to 64, not {workers}");
            return Err(Error::Config { what });
        }
        let sequencer = Arc::new(Sequencer::new(workers));
        let config = match workers {
            1 => timely::Config::thread(),
            several => timely::Config::process(several),
        };
        let (shared, wait) = (Arc::clone(&sequencer), builder.wait);
        let guards = timely::execute(config, move |timely| {
            let worker = Worker::new(timely, Arc::clone(&shared), wait);
            // Its drop has told everybody; the panic itself was reported by the hook.
            let _ = catch_unwind(AssertUnwindSafe(|| worker.run()));
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("headwater-io")
            // SELECT is planned on these threads.
            .thread_stack_size(crate::sql::STACK)
            .enable_all()
            .build()
            .map_err(|error| Error::Start(error.to_string()))?;
        let guards = guards.map_err(Error::Start)?;
        let inner = Arc::new_cyclic(|this| Inner {
            this: Weak::clone(this),
            sequencer,
            catalog: Mutex::new(Catalog::default()),
            next_topic: AtomicU64::new(0),
            planner: Planner::new(),
            connectors: builder.connectors,
            start_connectors: builder.start_connectors,
            connectors_begun: AtomicBool::new(false),
            event_log: Arc::default(),
            workers,
            closed: AtomicBool::new(false),
            statements: Mutex::new(()),
            selects: Mutex::default(),
            trial: builder.trial,
            durability: durability.map(Arc::new),
            guards: Mutex::new(Some(guards)),
            tokio: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
        });
        Ok(Self { inner })
    }

    /// Runs the statements of a script in order, and starts the connectors that they create once all
    /// have run, so that no stream misses the first rows. Blocks.
    ///
    /// # Errors
    /// The first that is wrong; the statements before it have run.
    pub fn execute(&self, sql: &str) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        self.inner.execute(sql, &mut outcomes).map(|()| outcomes)
    }

    /// As [`execute`](Self::execute), and gives what the statements before the one that is wrong gave.
    pub fn execute_until_error(&self, sql: &str) -> (Vec<Outcome>, Result<()>) {
        let mut outcomes = Vec::new();
        let done = self.inner.execute(sql, &mut outcomes);
        (outcomes, done)
    }

    /// A handle to push rows of `T` into a source.
    ///
    /// # Errors
    /// If there is no such source, it is closed, or its columns are not those of `T`.
    pub fn source<T: Record>(&self, name: &str) -> Result<Source<T>> {
        self.open_source(name, Some(&T::schema()), None)
    }

    /// A handle to push Arrow batches into a source whose columns the program does not know at
    /// compile time.
    ///
    /// # Errors
    /// If there is no such source, or it is closed.
    pub fn source_untyped(&self, name: &str) -> Result<ArrowSource> {
        self.open_source(name, None, None).map(ArrowSource::new)
    }

    /// As [`source`](Self::source), with settings of its own instead of those of CREATE SOURCE.
    ///
    /// # Errors
    /// As `source`, and if a setting is out of range or not built.
    pub fn source_with_config<T: Record>(
        &self,
        name: &str,
        config: SourceConfig,
    ) -> Result<Source<T>> {
        self.open_source(name, Some(&T::schema()), Some(config))
    }

    fn open_source<T: Record>(
        &self,
        name: &str,
        columns: Option<&SchemaRef>,
        config: Option<SourceConfig>,
    ) -> Result<Source<T>> {
        self.inner.check_open()?;
        let catalog = self.inner.catalog();
        let source = catalog.source(name)?;
        if source.shared.is_closed() {
            let what = format!("source {:?} is closed", source.topic.relation.name);
            return Err(Error::Config { what });
        }
        if let Some(columns) = columns {
            matches(&source.topic.relation.schema, columns)?;
        }
        let config = config.unwrap_or_else(|| source.config.clone());
        let name = source.shared.name().to_owned();
        let ack_tracker = self.inner.ack_tracker(&name, &config)?;
        drop(catalog);
        if let Some(watermark) = &config.watermark {
            self.inner.bring_event_time(&name, watermark)?;
        }
        let catalog = self.inner.catalog();
        let source = catalog.source(&name)?;
        self.inner.add_lane(source, &config, ack_tracker)
    }

    /// The rows of a source, stream or view as structs, from now on; a view first gives what it
    /// holds. A row of a changing stream comes without its diff: use
    /// [`subscribe_batches`](Self::subscribe_batches) for those.
    ///
    /// # Errors
    /// If there is nothing of this name, or its columns are not those of `T`.
    pub fn subscribe<T: Record>(&self, name: &str) -> Result<TypedSubscription<T>> {
        let events = self.subscribe_batches(name)?;
        T::from_columns(&RecordBatch::new_empty(Arc::clone(events.schema())))?;
        Ok(TypedSubscription::new(events))
    }

    /// The rows of a source, stream or view as Arrow batches, from now on; a view first gives what
    /// it holds. A changing stream has the column `_diff` at the end.
    ///
    /// # Errors
    /// If there is nothing of this name.
    pub fn subscribe_batches(&self, name: &str) -> Result<Subscription> {
        self.inner.check_open()?;
        let topic = self.inner.catalog().topic(name)?;
        let queue = SubscriberQueue::new(QUEUE_ROWS, None);
        Ok(self.inner.subscribe(&topic, queue, Begin::Kept))
    }

    /// As [`subscribe_batches`](Self::subscribe_batches), for a subscriber that must see every row: it
    /// misses none, and while 256 Ki rows wait for it the sources before it are not read.
    ///
    /// # Errors
    /// If there is nothing of this name.
    pub fn subscribe_lossless(&self, name: &str) -> Result<Subscription> {
        self.inner.check_open()?;
        let catalog = self.inner.catalog();
        let topic = catalog.topic(name)?;
        Ok(self.inner.subscribe_lossless(&catalog, &topic))
    }

    /// The raw bytes that a source reads from outside, from the first call on: the last 1 MiB is kept
    /// for readers, who are told what they missed. A format of text has each message on its own line.
    ///
    /// # Errors
    /// If there is no such source, or it reads no bytes: it has no connector, or one that makes rows.
    pub fn tap(&self, name: &str) -> Result<headwater_ring::ByteReader> {
        self.inner.check_open()?;
        let catalog = self.inner.catalog();
        let source = catalog.source(name)?;
        let refused = |why: &str| {
            let what = format!("source {name:?} has no raw bytes: {why}");
            Err(Error::Config { what })
        };
        match &source.connector {
            None => refused("your code pushes its rows"),
            Some(connector) if connector.spec.format().is_none() => {
                refused("its connector makes rows")
            }
            Some(connector) => Ok(connector.tap.reader()),
        }
    }

    /// The answer to a SELECT over views: what they hold after all rows pushed before, as long as
    /// no more than one step's worth is waiting. Blocks.
    ///
    /// # Errors
    /// Whatever is wrong with the statement.
    pub fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.inner.query(sql)
    }

    /// Starts the sources and sinks created so far, where the builder said that `execute` should not.
    ///
    /// # Errors
    /// If the database is closed.
    pub fn start_connectors(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.start_connectors().map(drop)
    }

    /// Checks that everything outside can be reached with the options given, without reading or
    /// writing data. Blocks. One entry for each source and sink with a connector.
    pub fn validate(&self) -> Vec<(String, Result<(), headwater_connect::Error>)> {
        self.inner.validate()
    }

    /// Waits until all rows that have arrived are processed and published. Blocks; while rows keep
    /// coming it may take long.
    ///
    /// # Errors
    /// If the database is closed; what is wrong with the disk, if rows wait for that.
    pub fn settle(&self) -> Result<()> {
        self.inner.settle()
    }

    /// Saves the state of all queries now, and returns when it is on disk: a restart then reads no more
    /// of the log than what comes later. It is also done by itself, every `checkpoint_interval`. Blocks;
    /// does nothing in a database in memory.
    ///
    /// # Errors
    /// What is wrong with the disk; then the last checkpoint still counts, and nothing is lost.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.checkpoint().map(|_| ())
    }

    /// Returns when all rows that have arrived are processed, and are in the log and on disk. Blocks;
    /// in a database in memory it is [`settle`](Self::settle).
    ///
    /// # Errors
    /// What is wrong with the disk; the rows are kept, and written when it takes them.
    pub fn flush(&self) -> Result<()> {
        self.settle()?;
        self.inner.sync_logs()
    }

    /// Closes a source: no more rows; those that have arrived are processed, then its windows close.
    ///
    /// # Errors
    /// If there is no such source.
    pub fn close_source(&self, name: &str) -> Result<()> {
        let catalog = self.inner.catalog();
        catalog.source(name)?.shared.close();
        Ok(())
    }

    /// Whether every source with a connector has ended, by itself or by failing.
    pub fn sources_ended(&self) -> bool {
        self.inner
            .catalog()
            .sources()
            .all(catalog::SourceEntry::has_ended)
    }

    /// Stops the sources (at most 5 s), processes what has arrived and closes the windows of sources
    /// whose input has ended; dead letters that sinks may still have are waited for (at most 5 s). Rows
    /// that a full sink or lossless subscriber holds back are waited for while it takes some, and 2 s
    /// longer. Views can still be asked, and rows still be pushed. Blocks.
    ///
    /// # Errors
    /// If the database is closed; what is wrong with the disk, if rows wait for that.
    pub fn drain(&self) -> Result<()> {
        self.inner.drain()
    }

    /// What has failed for good, and why: sources, streams, views and sinks by name. Also after
    /// [`close`](Self::close).
    pub fn failures(&self) -> Vec<(Kind, String, String)> {
        self.inner.failures()
    }

    /// Ends the engine: connectors are stopped (at most 5 s), what has arrived is processed, the
    /// windows of sources whose input has ended close, subscriptions and sinks end. Blocks. Later calls fail with [`Error::Closed`].
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle of a source, with a lane of its own.
    fn handle<T: Record>(
        &self,
        source: &catalog::SourceEntry,
        config: &SourceConfig,
    ) -> Result<Source<T>> {
        let ack_tracker = self.ack_tracker(source.shared.name(), config)?;
        self.add_lane(source, config, ack_tracker)
    }

    fn add_lane<T: Record>(
        &self,
        source: &catalog::SourceEntry,
        config: &SourceConfig,
        ack_tracker: Option<Arc<AckTracker>>,
    ) -> Result<Source<T>> {
        let ring = ChannelConfig {
            capacity: config.buffer_size,
            backpressure: config.backpressure,
            wait: config.wait_strategy,
        };
        let bell = Arc::clone(self.sequencer.bell(source.topic.home));
        let (producer, consumer) =
            channel_with_bell(ring, bell).map_err(|error| Error::Config {
                what: error.to_string(),
            })?;
        let channel =
            Handoff::new(Box::new(HandleChannel::<T>::new(consumer, ack_tracker.clone())) as _);
        self.sequencer.command(WorkerCommand::AddChannel {
            source: source.topic.id,
            channel,
        });
        Ok(Source::new(
            producer,
            Arc::clone(&source.shared),
            ack_tracker,
        ))
    }

    fn next_topic(&self) -> u64 {
        self.next_topic.fetch_add(1, Ordering::Relaxed)
    }

    fn subscribe(
        &self,
        topic: &Arc<Topic>,
        queue: Arc<SubscriberQueue>,
        from: Begin,
    ) -> Subscription {
        let subscription = Subscription::new(Arc::clone(&queue), topic.published_schema());
        self.sequencer.command(WorkerCommand::Subscribe {
            topic: Arc::clone(topic),
            queue,
            from,
        });
        subscription
    }

    /// What these views hold, all at one moment, in their order.
    fn read(&self, views: &[Arc<Topic>]) -> Result<Vec<Vec<RecordBatch>>> {
        let (answer, answers) = sync_channel(views.len().max(1));
        let views = views.to_vec();
        self.sequencer.command(WorkerCommand::Read {
            views: views.clone(),
            answer,
        });
        let mut held = HashMap::new();
        for _ in &views {
            let (view, rows) = answers.recv().map_err(|_| Error::Closed)?;
            held.insert(view, rows?);
        }
        Ok(views
            .iter()
            .map(|view| held.remove(&view.id).unwrap_or_default())
            .collect())
    }

    /// One step on every worker; tells whether rows are still waiting that will be taken.
    fn step_and_look(&self) -> Result<bool> {
        self.check_open()?;
        self.sequencer.step();
        self.look().map(|left| left == LaneBacklog::Rows)
    }

    /// Waits until all rows that have arrived are processed.
    fn settle(&self) -> Result<()> {
        while !self.settle_once()? {}
        Ok(())
    }

    /// Does a step; whether all rows that have arrived are processed.
    fn settle_once(&self) -> Result<bool> {
        self.check_open()?;
        self.sequencer.step();
        match (self.look()?, self.log_problem()) {
            (LaneBacklog::Nothing, _) => Ok(true),
            (LaneBacklog::Stuck, Some(problem)) => Err(Error::Data(problem)),
            (LaneBacklog::Stuck | LaneBacklog::Rows, _) => Ok(false),
        }
    }

    /// Waits until the workers have done all turns so far; what is waiting.
    fn look(&self) -> Result<LaneBacklog> {
        let (answer, answers) = sync_channel(self.workers);
        self.sequencer.command(WorkerCommand::Look { answer });
        let mut left = LaneBacklog::Nothing;
        for _ in 0..self.workers {
            left = left.max(answers.recv().map_err(|_| Error::Closed)?);
        }
        Ok(left)
    }

    fn drain(&self) -> Result<()> {
        self.check_open()?;
        self.stop_sources();
        self.settle_while_moving()?;
        self.wait_for_dead_letters();
        self.settle_while_moving()
    }

    /// Like [`settle`](Self::settle), but rows that a full queue holds back are not waited for when nobody
    /// has taken any for [`STALLED`].
    fn settle_while_moving(&self) -> Result<()> {
        let mut moved = (self.rows_moved(), Instant::now());
        while !self.settle_once()? {
            let rows = self.rows_moved();
            if rows != moved.0 {
                moved = (rows, Instant::now());
            } else if moved.1.elapsed() > STALLED {
                tracing::warn!("rows wait for a sink or a subscriber that takes none");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Grows while rows come to queries or go to sinks.
    fn rows_moved(&self) -> u64 {
        let catalog = self.catalog();
        let sinks = catalog.entries.values().filter_map(|entry| match entry {
            catalog::Entry::Sink(sink) => Some(sink.status.rows.load(Ordering::Relaxed)),
            _ => None,
        });
        sinks
            .chain(catalog.topics().map(|topic| topic.rows()))
            .sum()
    }

    fn close(&self) {
        let _one_at_a_time = self
            .statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let began = Instant::now();
        self.stop_sources();
        self.wait_for_dead_letters();
        self.sequencer.command(WorkerCommand::Seal);
        if let Err(error) = self.settle() {
            tracing::error!(%error, "closed before all rows were taken");
        }
        self.close_durably();
        self.closed.store(true, Ordering::Release);
        self.sequencer.end(WorkerCommand::Shutdown);
        let guards = self
            .guards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(guards);
        self.stop_sinks((began + STOP_DEADLINE).max(Instant::now() + LAST_WRITES));
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
        self.event_log.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db")
            .field("workers", &self.inner.workers)
            .finish_non_exhaustive()
    }
}
