//! The data folder of one database: its lock, its logs, its checkpoints.
//!
//! A log is opened only if it is the one that the checkpoint names, and removed or replaced only if it is
//! known to be the folder's own and to be dropped or empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{Schema, SchemaRef};
use headwater_log::{Disk, FolderLock, LogConfig, LogWriter, SyncMode, Syncer, inspect, lock};

use super::checkpoint::{Checkpoint, Definition, LogEnd, SourceCheckpoint};
use super::checkpoints::{Checkpoints, Written};
use super::identity::{Id, IdentityError, LogIdentity};
use super::run_file::RunLocation;
use super::wal_record::WalRecordCodec;
use super::wal_writer::{WalSettings, WalWriter};
use crate::dataflow::Run;
use crate::error::{Error, Result};
use crate::locked::locked;

/// The longest file of a log without a record, bytes: the header of a segment.
const NO_RECORD: u64 = 64;

/// A data folder, locked for this process until this is dropped. Thread-safe.
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    id: Id,
    syncer: Arc<Syncer>,
    segment_bytes: u64,
    checkpoints: Mutex<Checkpoints>,
    /// The last checkpoint, if its state is not loaded.
    unloaded: Option<Mutex<Checkpoint<RunLocation>>>,
    lock: Mutex<Option<FolderLock>>,
}

/// What opening a data folder found.
pub(crate) struct OpenedFolder {
    pub folder: Folder,
    /// The newest checkpoint that is whole.
    pub state: Checkpoint<Run>,
    /// Why newer checkpoints than that do not count.
    pub passed_over: Vec<String>,
}

impl Folder {
    /// Opens a data folder, which it creates if there is none, and reads the newest checkpoint. Logs have
    /// segments of `segment_bytes`.
    ///
    /// # Errors
    /// If another process has it open, it cannot be read, or it has a log and no manifest.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, segment_bytes: u64) -> Result<OpenedFolder> {
        let lock = lock(&*disk, path).map_err(Error::data)?;
        let (checkpoints, has_more) = (path.join("checkpoints"), has_more(&*disk, path));
        let opened = Checkpoints::open(Arc::clone(&disk), checkpoints, has_more);
        let opened = opened.map_err(Error::data)?;
        Ok(OpenedFolder {
            folder: Self::new(disk, path, segment_bytes, opened.checkpoints, lock)?,
            state: opened.state,
            passed_over: opened.passed_over.iter().map(ToString::to_string).collect(),
        })
    }

    /// Opens a data folder without the state of its newest checkpoint, which stays on disk: it is returned
    /// without. There must be a data folder.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_unloaded(
        disk: Arc<dyn Disk>,
        path: &Path,
        segment_bytes: u64,
    ) -> Result<OpenedFolder> {
        let checkpoints = path.join("checkpoints");
        // Opening would create it.
        if disk.list(&checkpoints).is_err() {
            let path = path.display();
            return Err(Error::Data(format!("{path} is no data folder")));
        }
        let lock = lock(&*disk, path).map_err(Error::data)?;
        let has_more = has_more(&*disk, path);
        let opened = Checkpoints::open_unloaded(Arc::clone(&disk), checkpoints, has_more);
        let opened = opened.map_err(Error::data)?;
        let state = opened.state.without_state();
        let folder = Self {
            unloaded: Some(Mutex::new(opened.state)),
            ..Self::new(disk, path, segment_bytes, opened.checkpoints, lock)?
        };
        Ok(OpenedFolder {
            folder,
            state,
            passed_over: opened.passed_over.iter().map(ToString::to_string).collect(),
        })
    }

    fn new(
        disk: Arc<dyn Disk>,
        path: &Path,
        segment_bytes: u64,
        checkpoints: Checkpoints,
        lock: FolderLock,
    ) -> Result<Self> {
        let syncer = Syncer::start().map_err(|error| Error::no_thread("the logs", &error))?;
        Ok(Self {
            disk,
            path: path.to_owned(),
            id: checkpoints.id(),
            syncer: Arc::new(syncer),
            segment_bytes,
            checkpoints: Mutex::new(checkpoints),
            unloaded: None,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Whether the state of the last checkpoint is not loaded.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.is_some()
    }

    /// Makes what is not loaded a checkpoint of these definitions, whose names and topics are in `names`.
    /// Returns the logs that are then to be removed. Blocks until it is durable; writes nothing if nothing has
    /// changed.
    ///
    /// # Errors
    /// If the disk fails; the last checkpoint still counts.
    pub fn keep_only(
        &self,
        definitions: Vec<Definition>,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Id>> {
        let Some(unloaded) = &self.unloaded else {
            return Ok(BTreeMap::new());
        };
        let mut manifest = locked(unloaded);
        if manifest.definitions != definitions {
            let mut checkpoints = locked(&self.checkpoints);
            if !checkpoints.is_current() {
                let what = "the data folder has the format of an earlier version: start it once, which \
                            writes that of this one, before it is changed while nothing runs";
                return Err(Error::Data(what.to_owned()));
            }
            let mut kept = manifest.clone();
            kept.keep_only(definitions, names);
            *manifest = checkpoints.rewrite(kept).map_err(Error::data)?;
        }
        Ok(manifest.dropped.clone())
    }

    /// Opens the log of a source and starts its WAL writer. `fed` is what the checkpoint held of the source; a
    /// source without that is new and gets a new log. A torn end, which a crash leaves, is cut off and logged.
    ///
    /// # Errors
    /// If the log is not that of the checkpoint, rows that were on disk cannot be read any more, or the disk
    /// fails.
    pub fn wal_writer(
        &self,
        settings: WalSettings,
        fed: Option<&SourceCheckpoint>,
    ) -> Result<WalWriter> {
        let path = self.log_path(&settings.name);
        let identity = match fed {
            None => {
                self.free_log(&settings.name).map_err(Error::Data)?;
                self.begin_log(&path, &settings)?
            }
            Some(fed) => self.known_log(&path, &settings, fed.log)?,
        };
        let known = fed.and_then(|fed| fed.log).map(|end| end.position());
        let config = LogConfig {
            mode: if settings.sync {
                SyncMode::Sync
            } else {
                SyncMode::default()
            },
            segment_bytes: self.segment_bytes,
            id: identity.log.number(),
            known: known.unwrap_or_default(),
            known_first: fed.and_then(|fed| fed.log).map(|end| end.begin()),
            ..LogConfig::default()
        };
        let opened = LogWriter::open(Arc::clone(&self.disk), &path, config);
        let (log, recovered) = opened.map_err(Error::data)?;
        let fed = fed.map_or(0, |fed| fed.offset);
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
        let what = format!("the log of {:?}", settings.name);
        WalWriter::start(log, open, settings).map_err(|error| Error::no_thread(&what, &error))
    }

    /// The identity of a new log, on disk before the log has a segment.
    fn begin_log(&self, path: &Path, settings: &WalSettings) -> Result<LogIdentity> {
        let since = locked(&self.checkpoints).number();
        let identity = LogIdentity::new(self.id, &settings.name, since, &settings.schema);
        self.put(&identity, path)?;
        Ok(identity)
    }

    /// The identity of a log of a checkpoint; `end` is what the manifest says of it.
    fn known_log(
        &self,
        path: &Path,
        settings: &WalSettings,
        end: Option<LogEnd>,
    ) -> Result<LogIdentity> {
        let found = LogIdentity::read(&*self.disk, path);
        let shown = path.display();
        match (end, found) {
            (Some(end), Ok(found)) if (found.folder, found.log) == (self.id, end.id) => Ok(found),
            (Some(end), Ok(found)) => Err(Error::Data(format!(
                "the log in {shown} is not the one of the checkpoint: it is log {} of source {:?} in data \
                 folder {}, and the checkpoint has log {} in data folder {}; put that one back",
                found.log, found.source, found.folder, end.id, self.id
            ))),
            (end, Err(why @ (IdentityError::Missing | IdentityError::Checksum))) => {
                if end.is_some() {
                    tracing::warn!(log = %shown, %why, "the identity of a log is written again");
                }
                let since = locked(&self.checkpoints).number();
                let mut identity =
                    LogIdentity::new(self.id, &settings.name, since, &settings.schema);
                identity.log = end.map_or(identity.log, |end| end.id);
                self.put(&identity, path)?;
                Ok(identity)
            }
            // A manifest of format 1 names no logs: a start before this one has begun the upgrade.
            (None, Ok(mut identity)) => {
                identity.folder = self.id;
                self.put(&identity, path)?;
                Ok(identity)
            }
            (_, Err(why)) => Err(Error::Data(format!(
                "the identity of the log in {shown}: {why}"
            ))),
        }
    }

    fn put(&self, identity: &LogIdentity, path: &Path) -> Result<()> {
        let written = identity.write(&*self.disk, path);
        written.map_err(|error| {
            let path = path.display();
            Error::Data(format!(
                "the identity of the log in {path} cannot be written: {error}"
            ))
        })
    }

    /// Makes room for the log of a new source: removes one without records, which a crash has left.
    ///
    /// # Errors
    /// What is there, if that may hold rows.
    pub fn free_log(&self, name: &str) -> std::result::Result<(), String> {
        let path = self.log_path(name);
        let names = match self.disk.list(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let holds_nothing = |name: &String| {
            let file = self.disk.open(&path.join(name));
            let bytes = file.and_then(|file| file.len()).unwrap_or(u64::MAX);
            match name.rsplit_once('.') {
                Some((_, "log")) => bytes <= NO_RECORD,
                Some((_, "new")) => true,
                _ => ["identity", "durable", "first"].contains(&name.as_str()),
            }
        };
        if names.iter().all(holds_nothing) {
            return self
                .remove_files(&path, names)
                .map_err(|error| error.to_string());
        }
        let of = match LogIdentity::read(&*self.disk, &path) {
            Ok(found) if found.folder != self.id => format!(
                "the log of source {:?} of another data folder, {}",
                found.source, found.folder
            ),
            Ok(found) => format!(
                "log {} of a source {:?} that no checkpoint names",
                found.log, found.source
            ),
            Err(why) => format!("a log whose identity is not known: {why}"),
        };
        Err(format!("{} holds {of}", path.display()))
    }

    /// Takes over a log without a statement for a new source with these columns: what a checkpoint would hold of
    /// the source behind the last record. Reads the whole log. Blocks.
    ///
    /// # Errors
    /// Why it cannot be taken over.
    pub fn adopt_log(
        &self,
        name: &str,
        columns: &SchemaRef,
    ) -> std::result::Result<SourceCheckpoint, String> {
        let path = self.log_path(name);
        let shown = path.display();
        let found = LogIdentity::read(&*self.disk, &path);
        let mut found = found
            .map_err(|why| format!("there is no log to adopt in {shown}: its identity: {why}"))?;
        if let Some(difference) = found.difference(columns) {
            return Err(format!(
                "the log in {shown} has other columns: {difference}"
            ));
        }
        let adopted = self.read_adopted(&path, found.log, columns)?;
        (found.folder, found.source) = (self.id, name.to_owned());
        self.put(&found, &path).map_err(|error| error.to_string())?;
        Ok(adopted)
    }

    fn read_adopted(
        &self,
        path: &Path,
        id: Id,
        columns: &Schema,
    ) -> std::result::Result<SourceCheckpoint, String> {
        let codec =
            WalRecordCodec::new(&Arc::new(columns.clone())).map_err(|error| error.to_string())?;
        let config = LogConfig {
            id: id.number(),
            ..LogConfig::default()
        };
        let (mut adopted, mut wrong) = (SourceCheckpoint::default(), None);
        let inspected = inspect(&*self.disk, path, &config, |record| {
            match codec.decode(record.payload.to_vec()) {
                Ok(step) => {
                    let end = record.first_offset + u64::from(record.rows);
                    adopted.note(end, record.sequence, &step);
                }
                Err(error) => wrong = Some(error.to_string()),
            }
            Ok(())
        });
        let inspected = inspected.map_err(|error| error.to_string())?;
        if let Some(damage) = inspected.damaged.first() {
            return Err(damage.damage.to_string());
        }
        if let Some(error) = wrong {
            return Err(format!(
                "a record of the log in {} cannot be read: {error}",
                path.display()
            ));
        }
        adopted.offset = inspected.end.offset;
        adopted.log = Some(LogEnd::at(id, inspected.begin, inspected.end));
        Ok(adopted)
    }

    /// Removes the log `id` of a source that was dropped, if it is still there.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_log(&self, name: &str, id: Id) -> Result<()> {
        let path = self.log_path(name);
        let names = match self.disk.list(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names.map_err(|error| left(&path, &error))?,
        };
        match LogIdentity::read(&*self.disk, &path) {
            Ok(found) if found.log == id => self.remove_files(&path, names),
            // It has been removed, or is another one by now.
            Ok(_) | Err(IdentityError::Missing) => Ok(()),
            Err(why) => {
                let path = path.display();
                tracing::warn!(log = %path, %why, "this log stays: it cannot be told whether it was dropped");
                Ok(())
            }
        }
    }

    /// Removes these files of a log, the identity last: as long as there is one file, it tells whose they are.
    fn remove_files(&self, path: &Path, mut names: Vec<String>) -> Result<()> {
        names.sort_by_key(|name| name == "identity");
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

    /// The logs that belong to none of these sources, each with what is known of it.
    pub fn strange_logs<'a>(
        &self,
        sources: impl Iterator<Item = &'a str>,
    ) -> Vec<(PathBuf, String)> {
        let known: Vec<PathBuf> = sources.map(|name| self.log_path(name)).collect();
        let mut strange = logs(&*self.disk, &self.path);
        strange.retain(|log| !known.contains(log));
        let newest = locked(&self.checkpoints).number();
        let describe = |log: PathBuf| {
            let what = match LogIdentity::read(&*self.disk, &log) {
                Ok(found) if found.folder != self.id => {
                    format!("it is of source {:?} of another data folder", found.source)
                }
                Ok(found) if found.since >= newest => format!(
                    "source {:?} was created after checkpoint {newest}, the newest one here: later \
                     checkpoints may be missing",
                    found.source
                ),
                Ok(found) => format!("it is of source {:?}", found.source),
                Err(why) => format!("its identity: {why}"),
            };
            (log, what)
        };
        strange.into_iter().map(describe).collect()
    }

    /// Lets another process open the folder. Nothing may be written after this.
    pub fn release(&self) {
        locked(&self.lock).take();
    }

    fn log_path(&self, name: &str) -> PathBuf {
        log_path(&self.path, name)
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

/// The logs in a data folder, of which only a manifest can tell what they are; `None` if there are none.
fn has_more(disk: &dyn Disk, folder: &Path) -> Option<String> {
    let logs = logs(disk, folder);
    let logs: Vec<_> = logs.iter().map(|log| log.display().to_string()).collect();
    (!logs.is_empty()).then(|| logs.join(", "))
}

/// The folders of all logs in a data folder that hold a file.
pub(super) fn logs(disk: &dyn Disk, folder: &Path) -> Vec<PathBuf> {
    let logs = folder.join("log");
    // If there is no such folder, there are no logs.
    let found = disk.list(&logs).unwrap_or_default().into_iter();
    let mut found: Vec<PathBuf> = found.map(|name| logs.join(name)).collect();
    found.retain(|log| disk.list(log).is_ok_and(|files| !files.is_empty()));
    found.sort();
    found
}

fn left(file: &Path, error: &std::io::Error) -> Error {
    let file = file.display();
    Error::Data(format!(
        "{file}, of a source that was dropped, cannot be removed: {error}"
    ))
}

/// The folder of a source's log.
pub(super) fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("log").join(file_name(name))
}

/// The name of the folder of a source's log: letters of any case, digits, `_` and `-` stay, every other byte
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
