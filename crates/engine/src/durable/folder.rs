//! The data folder of one database: its lock, its logs, its checkpoints.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use headwater_log::{Disk, FolderLock, LogConfig, LogWriter, SyncMode, Syncer, lock};
use headwater_ring::Bell;

use super::checkpoints::{Checkpoints, Written};
use super::state::State;
use super::wal_writer::{Settings, WalWriter};
use crate::dataflow::Run;
use crate::error::{Error, Result};
use crate::ingest::EventTimeColumn;

/// What a source's log is told.
pub(crate) struct SourceLog {
    pub name: String,
    pub schema: SchemaRef,
    pub time: Option<EventTimeColumn>,
    /// Rung when something has become durable, or there is room again.
    pub bell: Arc<Bell>,
    /// Whether rows are fed, and pushes return, only when they are on disk.
    pub sync: bool,
    pub retention: headwater_log::Retention,
    /// How far the checkpoint was fed from it.
    pub fed: u64,
}

/// A data folder that is ours until this is dropped. Thread-safe.
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    syncer: Arc<Syncer>,
    segment_bytes: u64,
    checkpoints: Mutex<Checkpoints>,
    lock: Mutex<Option<FolderLock>>,
}

impl Folder {
    /// Opens a data folder, made if need be, and reads the newest checkpoint. Logs have segments of
    /// `segment_bytes`.
    ///
    /// # Errors
    /// If another process has it, or it cannot be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        segment_bytes: u64,
    ) -> Result<(Self, Option<State<Run>>)> {
        let lock = lock(&*disk, path).map_err(Error::data)?;
        let checkpoints = Checkpoints::open(Arc::clone(&disk), path.join("checkpoints"));
        let (checkpoints, state) = checkpoints.map_err(Error::data)?;
        let folder = Self {
            syncer: Arc::new(Syncer::start().map_err(Error::data)?),
            disk,
            segment_bytes,
            path: path.to_owned(),
            checkpoints: Mutex::new(checkpoints),
            lock: Mutex::new(Some(lock)),
        };
        Ok((folder, state))
    }

    /// Opens the log of a source and starts its journal. What a crash left torn is cut and told.
    ///
    /// # Errors
    /// If rows that were on disk cannot be read any more, or the disk refuses.
    pub fn wal_writer(&self, source: SourceLog) -> Result<WalWriter> {
        let config = LogConfig {
            mode: if source.sync {
                SyncMode::Sync
            } else {
                SyncMode::default()
            },
            segment_bytes: self.segment_bytes,
            ..LogConfig::default()
        };
        let path = self.log_path(&source.name);
        let opened = LogWriter::open(Arc::clone(&self.disk), &path, config);
        let (log, recovered) = opened.map_err(Error::data)?;
        let (first, end, fed) = (log.first_offset(), log.end().offset, source.fed);
        if fed < first || end < fed {
            let path = path.display();
            return Err(Error::Data(format!(
                "the log in {path} has rows {first} to {end}, but the checkpoint was made behind row \
                 {fed}: rows that were on disk are missing"
            )));
        }
        for cut in &recovered.cut {
            tracing::warn!(source = source.name, %cut, "the log was repaired");
        }
        let settings = Settings {
            name: source.name,
            schema: source.schema,
            time: source.time,
            bell: source.bell,
            sync: source.sync,
            retention: source.retention,
        };
        self.syncer.serve(&log);
        let (disk, syncer) = (Arc::clone(&self.disk), Arc::clone(&self.syncer));
        let open = Box::new(move || {
            let opened = LogWriter::open(Arc::clone(&disk), &path, config);
            let (log, _) = opened.map_err(|error| error.to_string())?;
            syncer.serve(&log);
            Ok(log)
        });
        WalWriter::start(log, open, settings).map_err(Error::data)
    }

    /// Removes the log of a source that was dropped, if there is one.
    ///
    /// # Errors
    /// If a file of it stays.
    pub fn remove_log(&self, name: &str) -> Result<()> {
        let path = self.log_path(name);
        let names = match self.disk.list(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names.map_err(|error| left(&path, &error))?,
        };
        for name in names {
            let file = path.join(name);
            self.disk
                .remove(&file)
                .map_err(|error| left(&file, &error))?;
        }
        Ok(())
    }

    /// Writes a checkpoint. Blocks until it is durable.
    ///
    /// # Errors
    /// What is wrong with the disk; the last checkpoint still counts.
    pub fn write(&self, state: State<Run>) -> Result<Written> {
        let mut checkpoints = self
            .checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        checkpoints.write(state).map_err(Error::data)
    }

    /// The folders among the logs that are of none of these sources and hold something.
    pub fn strange_logs<'a>(&self, sources: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
        let known: Vec<String> = sources.map(file_name).collect();
        let logs = self.path.join("log");
        // Without the folder there are no logs.
        let found = self.disk.list(&logs).unwrap_or_default();
        let strange = found.into_iter().filter(|name| !known.contains(name));
        let folders = strange.map(|name| logs.join(name));
        let holds = |folder: &PathBuf| self.disk.list(folder).is_ok_and(|files| !files.is_empty());
        folders.filter(holds).collect()
    }

    /// Lets another process open the folder. Nothing may be written after this.
    pub fn release(&self) {
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path.join("log").join(file_name(name))
    }
}

fn left(file: &Path, error: &std::io::Error) -> Error {
    let file = file.display();
    Error::Data(format!(
        "{file}, of a source that was dropped, cannot be removed: {error}"
    ))
}

/// A name as a name of a folder: letters of any case, digits, `_` and `-` stand for themselves, every
/// other byte becomes `%` and two digits, so different names are different folders.
fn file_name(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let parts = name.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_source_of_any_name_has_a_folder_of_its_own() {
        assert_eq!(file_name("trades_2-b"), "trades_2-b");
        assert_eq!(file_name("../Ä b"), "%2e%2e%2f%c3%84%20b");
        assert_ne!(file_name("a%b"), file_name("a%25b"));
    }
}
