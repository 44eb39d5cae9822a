//! [`Db`]: the engine as a library.
//!
//! ARCHITECTURE.md draws the rooms of this module. A room names rooms below it, never one above or beside
//! it: `crates/server/tests/tidy/main.rs` checks that. `outcome` is what statements return, and any room may name it.
//!
//! A `Db` is a cheap handle; clones share the engine, which ends when the last one goes. Statements
//! run one at a time and block until they are done. Connectors and sinks run on a tokio runtime of
//! the database's own, so it may be used from any thread, within another runtime or without one.

mod backfill;
mod builder;
mod catalog;
mod checkpoint;
mod connectors;
mod ddl;
mod dead_letters;
mod engine;
mod lifecycle;
mod options;
mod outcome;
mod query;
mod recovery;
mod shutdown;
mod sink_task;
mod statements;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::event_log::Events;
use crate::record::{Record, matches};
use crate::source::{ArrowSource, Source, SourceConfig};
use crate::stream_status::LifecycleState;
use crate::subscription::{
    Gate, QUEUE_LIMIT, QueueConfig, SubscriberQueue, Subscription, TypedSubscription, WhenFull,
};
use crate::telemetry::Metric;
use crate::topic::Begin;
use catalog::SourceEntry;
use engine::LOSSLESS_QUEUE;
use shutdown::EngineOwner;

pub use crate::sql::Kind;
pub use builder::Builder;
pub use options::{shown_sql, source_options};
pub use outcome::Outcome;
pub use query::{Guarantees, Link};
pub use streams::Streams;

/// A streaming database. See the [crate] for an example.
#[derive(Clone, Debug)]
pub struct Db {
    engine: Arc<EngineOwner>,
}

impl Db {
    fn new(engine: EngineOwner) -> Self {
        Self {
            engine: Arc::new(engine),
        }
    }

    /// Runs the statements of a script in order, and starts the connectors that they create once all
    /// have run, so that no stream misses the first rows. Blocks.
    ///
    /// # Errors
    /// The first that is wrong; the statements before it have run.
    pub fn execute(&self, sql: &str) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        statements::execute(&self.engine, sql, &mut outcomes).map(|()| outcomes)
    }

    /// As [`execute`](Self::execute), and gives what the statements before the one that is wrong gave.
    pub fn execute_until_error(&self, sql: &str) -> (Vec<Outcome>, Result<()>) {
        let mut outcomes = Vec::new();
        let done = statements::execute(&self.engine, sql, &mut outcomes);
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
        self.engine.check_running()?;
        let catalog = self.engine.catalog();
        let source = catalog.source(name)?;
        let name = source.shared.name().to_owned();
        if source.shared.is_closed() {
            return Err(Error::config(format!("source {name:?} is closed")));
        }
        if let Some(columns) = columns {
            matches(&source.topic.relation.schema, columns)?;
        }
        let config = config.unwrap_or_else(|| source.config.clone());
        let ack_tracker = self.engine.persistence.ack_tracker(&name, &config)?;
        drop(catalog);
        if let Some(watermark) = &config.watermark {
            self.engine.set_event_time(&name, watermark)?;
        }
        let catalog = self.engine.catalog();
        let source = catalog.source(&name)?;
        self.engine.workers.add_lane(source, &config, ack_tracker)
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
        self.subscribe_queue(name, |_| SubscriberQueue::new(QUEUE_LIMIT, None))
    }

    /// As [`subscribe_batches`](Self::subscribe_batches), for a subscriber that must see every row: it
    /// misses none, and while 256 Ki rows wait for it the sources before it are not read.
    ///
    /// # Errors
    /// If there is nothing of this name.
    pub fn subscribe_lossless(&self, name: &str) -> Result<Subscription> {
        self.subscribe_queue(name, |gate| {
            SubscriberQueue::new(LOSSLESS_QUEUE, Some(gate()))
        })
    }

    /// As [`subscribe_batches`](Self::subscribe_batches), with a queue as `config` says. The name may
    /// also be a topic: `stream:name`, for a stream or view, or `source:name`.
    ///
    /// # Errors
    /// If there is nothing of this name, or no row may wait.
    pub fn subscribe_with(&self, name: &str, config: QueueConfig) -> Result<Subscription> {
        if config.rows == 0 {
            let what = "a subscriber's queue must hold at least 1 row, not 0";
            return Err(Error::config(what));
        }
        self.subscribe_queue(name, |gate| {
            let gate = (config.when_full == WhenFull::Wait).then(gate);
            SubscriberQueue::with_policy(config.limit(), gate, config.when_full)
        })
    }

    /// Subscribes a queue, which may have a gate in front of the sources behind the topic.
    fn subscribe_queue(
        &self,
        name: &str,
        queue: impl FnOnce(&dyn Fn() -> Arc<Gate>) -> Arc<SubscriberQueue>,
    ) -> Result<Subscription> {
        let workers = &self.engine.workers;
        self.engine.check_running()?;
        let catalog = self.engine.catalog();
        let topic = catalog.topic(name)?;
        let inputs = std::slice::from_ref(&topic.relation.name);
        let queue = queue(&|| workers.gate(&catalog.sources_of(inputs)));
        Ok(workers.subscribe(&topic, queue, Begin::Kept))
    }

    /// The raw bytes that a source reads from outside, from the first call on: the last 1 MiB is kept
    /// for readers, who are told what they missed. A format of text has each message on its own line.
    ///
    /// # Errors
    /// If there is no such source, or it reads no bytes: it has no connector, or one that makes rows.
    pub fn tap(&self, name: &str) -> Result<headwater_ring::ByteReader> {
        self.engine.check_running()?;
        let catalog = self.engine.catalog();
        let source = catalog.source(name)?;
        let refused = |why: &str| {
            Err(Error::config(format!(
                "source {name:?} has no raw bytes: {why}"
            )))
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
    /// no more than one step's worth is waiting. Blocks, but not for sources that are still being read: the
    /// log of the process names those whose end is to come; [`execute`](Self::execute) returns their names.
    ///
    /// # Errors
    /// Whatever is wrong with the statement.
    pub fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        statements::select_text(&self.engine, sql)
    }

    /// Starts the sources and sinks created so far, where the builder said that `execute` should not, and
    /// the sources that wait for a reader in a [`script`](Builder::script).
    ///
    /// # Errors
    /// If the database is closed.
    pub fn start_connectors(&self) -> Result<()> {
        self.engine.check_running()?;
        connectors::end_waiting(&self.engine);
        connectors::start_connectors(&self.engine).map(drop)
    }

    /// Ends a [`script`](Builder::script): starts the sources that wait for a reader, and returns when the
    /// finite ones that sinks read have ended and their rows are processed. Blocks.
    ///
    /// # Errors
    /// If the database is closed, or [`cancel_queries`](Self::cancel_queries) ends the wait.
    pub fn end_script(&self) -> Result<()> {
        statements::end_script(&self.engine)
    }

    /// Checks that every external system can be reached with the options given, without reading or
    /// writing data. Blocks. One entry for each source and sink with a connector.
    pub fn validate(&self) -> Vec<(String, Result<(), headwater_connect::Error>)> {
        connectors::validate(&self.engine)
    }

    /// Waits until all rows that have arrived are processed and published. Blocks; while rows keep
    /// coming it may take long.
    ///
    /// # Errors
    /// If the database is closed; what is wrong with the disk, if rows wait for that.
    pub fn settle(&self) -> Result<()> {
        shutdown::settle(&self.engine.workers, &self.engine.persistence)
    }

    /// Saves the state of all queries now, and returns when it is on disk: a restart then reads no more
    /// of the log than what comes later. It is also done by itself, every `checkpoint_interval`. Blocks;
    /// does nothing in a database in memory.
    ///
    /// # Errors
    /// What is wrong with the disk; then the last checkpoint still counts, and nothing is lost.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.workers.check_open()?;
        checkpoint::checkpoint(&self.engine)
    }

    /// Returns when all rows that have arrived are processed, and are in the log and on disk. Blocks;
    /// in a database in memory it is [`settle`](Self::settle).
    ///
    /// # Errors
    /// What is wrong with the disk; the rows are kept, and written when it takes them.
    pub fn flush(&self) -> Result<()> {
        self.settle()?;
        self.engine.persistence.sync_logs()
    }

    /// Closes a source: no more rows; those that have arrived are processed, then its windows close.
    ///
    /// # Errors
    /// If there is no such source.
    pub fn close_source(&self, name: &str) -> Result<()> {
        let catalog = self.engine.catalog();
        catalog.source(name)?.shared.close();
        Ok(())
    }

    /// Whether every source with a connector has ended, by itself or by failing.
    pub fn sources_ended(&self) -> bool {
        let catalog = self.engine.catalog();
        catalog.sources().all(SourceEntry::has_ended)
    }

    /// Whether every source with a connector behind this stream, view or source has ended, by itself or by
    /// failing; false if there is none of this name.
    pub fn inputs_ended(&self, name: &str) -> bool {
        let catalog = self.engine.catalog();
        let behind = catalog.sources_of(&[name.to_owned()]);
        let mut sources = behind.iter().map(|it| catalog.source(&it.relation.name));
        catalog.topic(name).is_ok() && sources.all(|it| it.is_ok_and(SourceEntry::has_ended))
    }

    /// Stops the sources (at most 5 s), processes what has arrived and closes the windows of sources
    /// whose input has ended; dead letters that sinks may still have are waited for (at most 5 s). Rows
    /// that a full sink or lossless subscriber holds back are waited for while it takes some, and 2 s
    /// longer. Views can still be asked, and rows still be pushed. Blocks.
    ///
    /// # Errors
    /// If the database is closed; what is wrong with the disk, if rows wait for that.
    pub fn drain(&self) -> Result<()> {
        shutdown::drain(&self.engine)
    }

    /// What has failed for good, and why: sources, streams, views and sinks by name. Also after
    /// [`close`](Self::close).
    pub fn failures(&self) -> Vec<(Kind, String, String)> {
        query::failures(&self.engine.catalog())
    }

    /// Ends the engine: connectors are stopped (at most 5 s), what has arrived is processed, the
    /// windows of sources whose input has ended close, subscriptions and sinks end. Blocks. Later calls fail with [`Error::Closed`].
    pub fn close(&self) {
        shutdown::close(&self.engine);
    }

    /// The streams of this database, to be started, paused and stopped.
    pub fn streams(&self) -> Streams {
        Streams::new(Arc::clone(&self.engine))
    }

    /// What happens to streams and to the connectors of sources, from now on.
    pub fn events(&self) -> Events {
        self.engine.event_log.watch(None)
    }

    /// What streams are doing and what is attached to them, to be given to
    /// [`restore_lifecycle`](Self::restore_lifecycle) of a database in which the same statements have run.
    pub fn lifecycle_state(&self) -> LifecycleState {
        self.engine.catalog().lifecycle_state()
    }

    /// Attaches, starts, pauses and stops so that streams are as they were when `state` was taken; a
    /// name that is not there is passed over. Starts no connector by itself.
    ///
    /// # Errors
    /// If a source that was attached is not there or does not fit any more.
    pub fn restore_lifecycle(&self, state: &LifecycleState) -> Result<()> {
        self.engine.check_running()?;
        lifecycle::restore(&self.engine, state)
    }

    /// Ends every SELECT that runs now, from any thread: each fails with SQLSTATE 57014. Does not
    /// block; SELECTs that begin later are not touched, nor are other statements.
    pub fn cancel_queries(&self) {
        self.engine.io.cancel_selects();
    }

    /// The rows of `source` that its log has kept, of event times from `from_us` (microseconds since
    /// 1970-01-01 UTC) up to and without `to_us`, once more through the query of `stream`. The results
    /// come as fast as they are read, or at `speed` times the pace at which it happened, and end. The
    /// live stream is not touched.
    ///
    /// # Errors
    /// If there is no such source or stream, the source has no log or no event time, or the stream
    /// reads something else.
    pub fn replay(
        &self,
        source: &str,
        from_us: Option<i64>,
        to_us: Option<i64>,
        speed: Option<f64>,
        stream: &str,
    ) -> Result<Subscription> {
        self.engine.check_running()?;
        query::replay(&self.engine, source, (from_us, to_us), speed, stream)
    }

    /// How often a row arrives at a source, stream, view or sink if the process crashes and is started
    /// again: link by link, from the sources on.
    ///
    /// # Errors
    /// If there is nothing of this name.
    pub fn guarantees(&self, name: &str) -> Result<Guarantees> {
        self.engine.workers.check_open()?;
        query::guarantees(&self.engine, name)
    }

    /// All metrics at this moment, in the order of [`telemetry::metric::ALL`](crate::telemetry::metric::ALL), then by name.
    pub fn metrics(&self) -> Vec<Metric> {
        query::metrics(&self.engine.catalog())
    }
}
