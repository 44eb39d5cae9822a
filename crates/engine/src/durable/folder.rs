//! The data folder of one database: its lock, its logs, its checkpoints.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use headwater_log::{Disk, FolderLock, LogConfig, LogWriter, SyncMode, Syncer, lock};

use super::checkpoint::Checkpoint;
use super::checkpoints::{Checkpoints, Written};
use super::wal_writer::{WalSettings, WalWriter};
use crate::dataflow::Run;
use crate::error::{Error, Result};
use crate::locked::locked;

/// A data folder, locked for this process until this is dropped. Thread-safe.
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    syncer: Arc<Syncer>,
    segment_bytes: u64,
    checkpoints: Mutex<Checkpoints>,
    lock: Mutex<Option<FolderLock>>,
}

impl Folder {
    /// Opens a data folder, which it creates if there is none, and reads the newest checkpoint. Logs have
    /// segments of `segment_bytes`.
    ///
    /// # Errors
    /// If another process has it open, or it cannot be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        segment_bytes: u64,
    ) -> Result<(Self, Option<Checkpoint<Run>>)> {
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

    /// Opens the log of a source and starts its WAL writer. The checkpoint was fed up to the offset `fed`.
    /// A torn end, which a crash leaves, is cut off and logged.
    ///
    /// # Errors
    /// If rows that were on disk cannot be read any more, or the disk fails.
    pub fn wal_writer(&self, settings: WalSettings, fed: u64) -> Result<WalWriter> {
        let config = LogConfig {
            mode: if settings.sync {
                SyncMode::Sync
            } else {
                SyncMode::default()
            },
            segment_bytes: self.segment_bytes,
            ..LogConfig::default()
        };
        let path = self.log_path(&settings.name);
        let opened = LogWriter::open(Arc::clone(&self.disk), &path, config);
        let (log, recovered) = opened.map_err(Error::data)?;
        let (first, end) = (log.first_offset(), log.end().offset);
        if fed < first || end < fed {
            let path = path.display();
            return Err(Error::Data(format!(
                "the log in {path} has rows {first} to {end}, but the checkpoint covers rows up to \
                 {fed}: rows that were on disk are missing"
            )));
        }
        for cut in &recovered.cut {
            tracing::warn!(source = settings.name, %cut, "the log was repaired");
        }
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
    /// If a file cannot be removed.
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
    /// If the disk fails; the last checkpoint still counts.
    pub fn write(&self, state: Checkpoint<Run>) -> Result<Written> {
        locked(&self.checkpoints).write(state).map_err(Error::data)
    }

    /// The folders with files among the logs that belong to none of these sources.
    pub fn strange_logs<'a>(&self, sources: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
        let known: Vec<String> = sources.map(file_name).collect();
        let logs = self.path.join("log");
        // If there is no such folder, there are no logs.
        let found = self.disk.list(&logs).unwrap_or_default();
        let strange = found.into_iter().filter(|name| !known.contains(name));
        let folders = strange.map(|name| logs.join(name));
        let holds = |folder: &PathBuf| self.disk.list(folder).is_ok_and(|files| !files.is_empty());
        folders.filter(holds).collect()
    }

    /// Lets another process open the folder. Nothing may be written after this.
    pub fn release(&self) {
        locked(&self.lock).take();
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path.join("log").join(file_name(name))
    }
}

/// The bytes of the name of a folder, more than which no file system takes.
const FILE_NAME_MAX: usize = 255;

/// Why a source of this name could have no log, if it could not.
pub(crate) fn too_long(name: &str) -> Option<String> {
    let bytes = file_name(name).len();
    (bytes > FILE_NAME_MAX)
        .then(|| format!("the name of its log would have {bytes} bytes, at most {FILE_NAME_MAX}"))
}

fn left(file: &Path, error: &std::io::Error) -> Error {
    let file = file.display();
    Error::Data(format!(
        "{file}, of a source that was dropped, cannot be removed: {error}"
    ))
}

/// The folder of a source's log: letters of any case, digits, `_` and `-` stay, every other byte
/// becomes `%` and two hexadecimal digits, so different sources have different folders.
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
    use super::{file_name, too_long};

    #[test]
    fn a_source_of_any_name_has_a_folder_of_its_own() {
        assert_eq!(file_name("trades_2-b"), "trades_2-b");
        assert_eq!(file_name("../Ä b"), "%2e%2e%2f%c3%84%20b");
        assert_ne!(file_name("a%b"), file_name("a%25b"));
    }

    #[test]
    fn a_name_is_too_long_when_that_of_its_folder_is() {
        assert_eq!(too_long(&"a".repeat(255)), None);
        assert!(too_long(&"a".repeat(256)).is_some());
        assert_eq!(too_long(&"é".repeat(42)), None);
        assert!(too_long(&"é".repeat(43)).is_some());
    }
}
