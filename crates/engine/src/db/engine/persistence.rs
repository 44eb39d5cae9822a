//! What a database keeps on disk for its entries: the logs of sources, and what the newest checkpoint
//! held of each entry. A database in memory keeps none of that.

use std::sync::Arc;

use headwater_connect::Receipt;
use headwater_ring::Bell;

use super::data_folder::DataFolder;
use crate::dataflow::Run;
use crate::db::options::{IngestOptions, WalOption};
use crate::durable::{
    AckTracker, QueryCheckpoint, SinkCheckpoint, SourceCheckpoint, SourceFeed, TopicCheckpoint,
    WalSettings, WalWriter,
};
use crate::error::{Error, Result};
use crate::event_time::EventTimeColumn;
use crate::source::{Backpressure, SourceConfig, WalMode};
use crate::sql::plan::Relation;
use crate::topic::Topic;

pub(crate) struct Persistence {
    folder: Option<Arc<DataFolder>>,
    /// Statements that need a data folder pass without one.
    pub is_trial: bool,
}

impl Persistence {
    pub fn new(folder: Option<DataFolder>, is_trial: bool) -> Self {
        let folder = folder.map(Arc::new);
        Self { folder, is_trial }
    }

    pub fn folder(&self) -> Option<&Arc<DataFolder>> {
        self.folder.as_ref()
    }

    /// The feed of a source, with its log if it has one.
    pub fn open_log(
        &self,
        topic: &Arc<Topic>,
        options: &IngestOptions,
        time: Option<&EventTimeColumn>,
        bell: Arc<Bell>,
    ) -> Result<SourceFeed> {
        let name = &topic.relation.name;
        let mode = options.wal_mode;
        let Some(folder) = &self.folder else {
            return match mode {
                None | Some(WalOption::Off) => Ok(SourceFeed::default()),
                Some(_) if self.is_trial => Ok(SourceFeed::default()),
                Some(_) => Err(no_data_folder("wal_mode")),
            };
        };
        folder.checkpoint_every(options.checkpoint_interval.0);
        let saved = folder.restore(|state| state.sources.remove(name));
        let sync = mode == Some(WalOption::Sync);
        if folder.folder.is_unloaded() {
            return Ok(SourceFeed::new(None, sync, saved.unwrap_or_default()));
        }
        if mode == Some(WalOption::Off) {
            return Ok(SourceFeed::new(None, sync, saved.unwrap_or_default()));
        }
        let settings = WalSettings {
            name: name.clone(),
            schema: Arc::clone(&topic.relation.schema),
            time: time.cloned(),
            bell,
            sync,
            retention: options.retention(),
        };
        let wal_writer = folder.folder.wal_writer(settings, saved.as_ref())?;
        let wal_writer = Arc::new(wal_writer);
        folder.add_wal_writer(name, &wal_writer);
        let mut fed = saved.unwrap_or_default();
        // Checkpoints of earlier versions have no such time.
        let last_append_us = || wal_writer.last_append_us();
        fed.last_row_us = fed.last_row_us.or_else(last_append_us);
        Ok(SourceFeed::new(Some(wal_writer), sync, fed))
    }

    /// Makes room for the log of a new source, or takes over the one that is there. Returns what is known of
    /// the source behind the last record of the latter.
    ///
    /// # Errors
    /// Why there is no room, or nothing to take over.
    pub fn claim_log(
        &self,
        relation: &Relation,
        options: &IngestOptions,
    ) -> Result<Option<SourceCheckpoint>, String> {
        let Some(folder) = &self.folder else {
            return match options.adopts_log() && !self.is_trial {
                true => Err(no_data_folder("log").to_string()),
                false => Ok(None),
            };
        };
        if folder.is_restoring() {
            return Ok(None);
        }
        if !options.adopts_log() {
            return folder.folder.free_log(&relation.name).map(|()| None);
        }
        let adopted = folder.folder.adopt_log(&relation.name, &relation.schema)?;
        let topic = TopicCheckpoint {
            rows: adopted.offset,
            watermark: Some(adopted.watermark),
            failure: None,
            resumable: None,
            kept: Vec::new(),
        };
        // As if a checkpoint had held it.
        folder.restore(|state| {
            state.topics.insert(relation.name.clone(), topic);
            state.sources.insert(relation.name.clone(), adopted.clone());
        });
        Ok(Some(adopted))
    }

    /// What makes the pushes of a handle wait for the disk, if `config` asks for that.
    pub fn ack_tracker(
        &self,
        source: &str,
        config: &SourceConfig,
    ) -> Result<Option<Arc<AckTracker>>> {
        let Some(folder) = &self.folder else {
            return match config.wal_mode {
                Some(_) => Err(no_data_folder("wal_mode")),
                None => Ok(None),
            };
        };
        if let Some(every) = config.checkpoint_interval {
            folder.checkpoint_every(every);
        }
        match (config.wal_mode, folder.wal_writer(source)) {
            (None, _) | (Some(WalMode::Async), Some(_)) => Ok(None),
            (Some(_), None) => Err(Error::config(format!(
                "source {source:?} has no log (wal_mode = 'off'), so a handle cannot ask for one"
            ))),
            (Some(WalMode::Sync), Some(_)) if config.backpressure == Backpressure::DropOldest => {
                Err(Error::config(
                    "wal_mode sync and backpressure drop_oldest cannot both be: a push that \
                     returned would be lost when a later one drops it",
                ))
            }
            (Some(WalMode::Sync), Some(_)) => {
                let ack_tracker = Arc::new(AckTracker::default());
                folder.add_ack_tracker(&ack_tracker);
                Ok(Some(ack_tracker))
            }
        }
    }

    /// Whether nothing runs: the state of the data folder is not loaded.
    pub fn is_stopped(&self) -> bool {
        let folder = self.folder.as_ref();
        folder.is_some_and(|it| it.folder.is_unloaded())
    }

    /// Whether the statements of the checkpoint are being executed again.
    pub fn is_restoring(&self) -> bool {
        self.folder.as_ref().is_some_and(|it| it.is_restoring())
    }

    /// Gives a topic what the checkpoint held of it.
    pub fn restore_topic(&self, topic: &Topic) {
        let folder = self.folder.as_ref();
        let saved =
            folder.and_then(|it| it.restore(|state| state.topics.remove(&topic.relation.name)));
        if let Some(saved) = saved {
            topic.restore(saved);
        }
    }

    /// What the checkpoint held of a query.
    pub fn saved_query(&self, name: &str) -> Option<QueryCheckpoint<Run>> {
        self.folder
            .as_ref()?
            .restore(|state| state.queries.remove(name))
    }

    /// The position of a sink in the external system, at the checkpoint.
    pub fn saved_receipt(&self, name: &str) -> Option<Receipt> {
        let folder = self.folder.as_ref()?;
        folder.restore(|state| state.sinks.get(name)?.receipt.clone().map(Receipt))
    }

    /// What the checkpoint held of a sink.
    pub fn saved_sink(&self, name: &str) -> Option<SinkCheckpoint<Run>> {
        self.folder
            .as_ref()?
            .restore(|state| state.sinks.remove(name))
    }

    /// The log of a source, if it has one.
    pub fn wal_writer(&self, source: &str) -> Option<Arc<WalWriter>> {
        self.folder.as_ref()?.wal_writer(source)
    }

    /// Why the disk does not take the log of a source, if it does not.
    pub fn log_problem(&self) -> Option<String> {
        let wal_writers = self.folder.as_ref()?.wal_writers();
        wal_writers.iter().find_map(|it| it.problem())
    }

    /// Waits until all rows that were taken are in the logs and on disk.
    pub fn sync_logs(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let wal_writers = folder.wal_writers();
        folder.check_open()?;
        let sync = |wal_writer: &Arc<WalWriter>| wal_writer.sync_all().map_err(Error::Data);
        wal_writers.iter().try_for_each(sync)
    }
}

fn no_data_folder(option: &str) -> Error {
    Error::config(format!(
        "{option} needs a data folder: open the database with Db::open(folder), or leave it out"
    ))
}
