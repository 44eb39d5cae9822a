//! What a database with a data folder gives to what is made: a source its log, and everything that is made
//! again after a restart what was known of it.

use std::sync::Arc;
use std::time::Duration;

use headwater_connect::Receipt;

use super::Inner;
use super::options::{SourceOptions, WalOption};
use crate::dataflow::Run;
use crate::durable::{
    AckTracker, QueryCheckpoint, SinkCheckpoint, SourceFeed, WalSettings, WalWriter,
};
use crate::error::{Error, Result};
use crate::event_time::EventTimeColumn;
use crate::source::{Backpressure, SourceConfig, WalMode};
use crate::topic::Topic;

/// How long closing waits for sinks before the last checkpoint.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(2);

impl Inner {
    /// The way of a source's rows through its log, as it was told or as the database has it.
    pub(super) fn open_log(
        &self,
        topic: &Arc<Topic>,
        options: &SourceOptions,
        time: Option<&EventTimeColumn>,
    ) -> Result<SourceFeed> {
        let name = &topic.relation.name;
        let mode = options.wal_mode();
        let Some(durability) = &self.durability else {
            return match mode {
                None | Some(WalOption::Off) => Ok(SourceFeed::default()),
                Some(_) if self.trial => Ok(SourceFeed::default()),
                Some(_) => Err(no_data_folder("wal_mode")),
            };
        };
        durability.checkpoint_every(options.checkpoint_interval());
        let saved = durability.restore(|state| state.sources.remove(name));
        if !durability.is_restoring() {
            // Of a source that was dropped just before a crash.
            durability.folder.remove_log(name)?;
        }
        let sync = mode == Some(WalOption::Sync);
        if mode == Some(WalOption::Off) {
            return Ok(SourceFeed::new(None, sync, saved.unwrap_or_default()));
        }
        let settings = WalSettings {
            name: name.clone(),
            schema: Arc::clone(&topic.relation.schema),
            time: time.cloned(),
            bell: Arc::clone(self.sequencer.bell(topic.home)),
            sync,
            retention: options.retention(),
        };
        let fed = saved.as_ref().map_or(0, |saved| saved.offset);
        let wal_writer = durability.folder.wal_writer(settings, fed)?;
        let wal_writer = Arc::new(wal_writer);
        durability.add_wal_writer(name, &wal_writer);
        Ok(SourceFeed::new(
            Some(wal_writer),
            sync,
            saved.unwrap_or_default(),
        ))
    }

    /// What lets the pushes of a handle wait for the disk, if it is to.
    pub(super) fn ack_tracker(
        &self,
        source: &str,
        config: &SourceConfig,
    ) -> Result<Option<Arc<AckTracker>>> {
        let Some(durability) = &self.durability else {
            return match (config.wal_mode, config.checkpoint_interval) {
                (Some(_), _) => Err(no_data_folder("wal_mode")),
                _ => Ok(None),
            };
        };
        if let Some(every) = config.checkpoint_interval {
            durability.checkpoint_every(every);
        }
        match (config.wal_mode, durability.wal_writer(source)) {
            (None, _) | (Some(WalMode::Async), Some(_)) => Ok(None),
            (Some(_), None) => {
                let what = format!(
                    "source {source:?} has no log (wal_mode = 'off'), so a handle cannot ask for one"
                );
                Err(Error::Config { what })
            }
            (Some(WalMode::Sync), Some(_)) if config.backpressure == Backpressure::DropOldest => {
                let what = "wal_mode sync and backpressure drop_oldest cannot both be: a push that \
                            returned would be lost when a later one drops it";
                Err(Error::Config {
                    what: what.to_owned(),
                })
            }
            (Some(WalMode::Sync), Some(_)) => {
                let ack_tracker = Arc::new(AckTracker::default());
                durability.add_ack_tracker(&ack_tracker);
                Ok(Some(ack_tracker))
            }
        }
    }

    /// The source has gone, and with it its log.
    pub(super) fn drop_log(&self, name: &str) {
        if let Some(durability) = &self.durability
            && let Some(wal_writer) = durability.remove_wal_writer(name)
        {
            wal_writer.close();
            durability.drop_later(name);
        }
    }

    /// Whether what was created before a restart is being created again.
    pub(super) fn is_restoring(&self) -> bool {
        self.durability.as_ref().is_some_and(|it| it.is_restoring())
    }

    /// What is known of a topic that is made again.
    pub(super) fn restore_topic(&self, topic: &Topic) -> Result<()> {
        let Some(durability) = &self.durability else {
            return Ok(());
        };
        let saved = durability.restore(|state| state.topics.remove(&topic.relation.name));
        match saved {
            Some(saved) => topic
                .restore(saved)
                .map_err(|error| Error::Data(error.strip_backtrace())),
            None => topic
                .begin_saving()
                .map_err(|error| Error::Data(error.strip_backtrace())),
        }
    }

    /// What is known of a query that is made again.
    pub(super) fn saved_query(&self, name: &str) -> Option<QueryCheckpoint<Run>> {
        let durability = self.durability.as_ref()?;
        durability.restore(|state| state.queries.remove(name))
    }

    /// Where a sink that is made again was in the outside system.
    pub(super) fn saved_receipt(&self, name: &str) -> Option<Receipt> {
        let durability = self.durability.as_ref()?;
        durability.restore(|state| state.sinks.get(name)?.receipt.clone().map(Receipt))
    }

    /// What is known of a sink that is made again.
    pub(super) fn saved_sink(&self, name: &str) -> Option<SinkCheckpoint<Run>> {
        let durability = self.durability.as_ref()?;
        durability.restore(|state| state.sinks.remove(name))
    }

    /// The log of a source, if it has one.
    pub(super) fn wal_writer_of(&self, source: &str) -> Option<Arc<WalWriter>> {
        self.durability.as_ref()?.wal_writer(source)
    }

    /// What is wrong with the disk, if it does not take the log of a source.
    pub(super) fn log_problem(&self) -> Option<String> {
        let durability = self.durability.as_ref()?;
        let wal_writers = durability.all_wal_writers();
        wal_writers
            .iter()
            .find_map(|wal_writer| wal_writer.problem())
    }

    /// Waits until all that was taken is in the logs and on disk.
    pub(super) fn sync_logs(&self) -> Result<()> {
        let Some(durability) = &self.durability else {
            return Ok(());
        };
        let wal_writers = durability.all_wal_writers();
        durability.check_open()?;
        wal_writers
            .iter()
            .try_for_each(|wal_writer| wal_writer.sync_all().map_err(Error::Data))
    }

    /// Gives the sinks a moment to write what they have, so that they need not write it again after a
    /// restart.
    fn wait_for_delivery(&self) {
        let deadline = std::time::Instant::now() + DELIVERY_DEADLINE;
        let delivered = || self.catalog().topics().all(|topic| topic.is_delivered());
        while !delivered() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The last checkpoint, and everything in the logs on disk. After a start that failed only what was
    /// there before counts: nothing is saved.
    pub(super) fn close_durably(&self) {
        let Some(durability) = &self.durability else {
            return;
        };
        durability.end();
        if durability.has_caught_up() {
            self.wait_for_delivery();
            if let Err(error) = self.checkpoint() {
                tracing::error!(%error, "no last checkpoint could be written; the one before it counts");
            }
        }
        durability.close_wal_writers();
        durability.folder.release();
    }
}

fn no_data_folder(option: &str) -> Error {
    let what = format!(
        "{option} needs a data folder: open the database with Db::open(folder), or leave it out"
    );
    Error::Config { what }
}
