//! Checkpoints on disk: data files with runs, and manifests that name them.
//!
//! ```text
//!   checkpoints/000041.data   runs (run_file.rs)
//!   checkpoints/000042.data
//!   checkpoints/000042.json   the manifest (manifest.rs)
//! ```
//!
//! A run is written with the first checkpoint that has it, so a checkpoint costs what has changed. A
//! manifest is written under a temporary name, synced and renamed, after the data that it names is
//! durable: it exists whole, with all that it needs, or not at all. The newest manifest counts. The one
//! before is kept, with the data files that either names, as long as both have the same definitions:
//! should a disk damage the newest, the one before and the logs behind it hold the same, and retention
//! leaves those logs. Runs in data files of which little is still named are written again, so that the
//! folder stays in proportion to the state.
//!
//! A folder has a manifest from its creation on. So one without a manifest, and with anything else, has lost
//! it: it is refused, and nothing in it is changed.

mod unloaded;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use headwater_log::Disk;

use super::checkpoint::{Checkpoint, Definition};
use super::checkpoint_error::CheckpointError;
use super::files::{read_file, read_part, replace_file, write_file};
use super::identity::Id;
use super::manifest::{self, Manifest, manifest_name};
use super::run_file::{
    self, DataFile, DataFileProblem, FileSum, RunLocation, check_head, data_name, decode, is_run,
};
use crate::dataflow::Run;

/// Percent of a data file that manifests must name, or its runs are written again.
const LIVE_PERCENT_MIN: u64 = 25;

type Result<T> = std::result::Result<T, CheckpointError>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub number: u64,
    /// Runs that no earlier checkpoint had.
    pub runs: usize,
    pub bytes: u64,
}

/// The folder of checkpoints. One thread writes it.
pub(crate) struct Checkpoints {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The id of the data folder.
    id: Id,
    /// The number of the last checkpoint; 0 before the first.
    number: u64,
    /// Whether the last manifest has the format of now.
    is_current: bool,
    /// The locations of the last checkpoint's runs, by their ids.
    locations: HashMap<u64, RunLocation>,
    /// The data files that a kept manifest names, by its number; at most two manifests are kept.
    named: BTreeMap<u64, BTreeSet<u64>>,
    /// The definitions of the last checkpoint.
    definitions: Vec<Definition>,
    /// The data files of the last checkpoint.
    files: BTreeMap<u64, FileSum>,
}

/// What opening the folder found. `R` is a run, or its location on disk.
pub(crate) struct OpenedCheckpoints<R> {
    pub checkpoints: Checkpoints,
    /// The newest checkpoint that is whole; of a new folder, one with nothing.
    pub state: Checkpoint<R>,
    /// Why newer checkpoints than that do not count.
    pub passed_over: Vec<CheckpointError>,
}

impl Checkpoints {
    /// Opens the folder, and reads the newest checkpoint that is whole. A new data folder gets a first one;
    /// `has_more` says whether something else is in the data folder, of which only a manifest can tell what it
    /// is. Removes what a crash left unfinished.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        has_more: Option<String>,
    ) -> Result<OpenedCheckpoints<Run>> {
        Self::open_with(disk, folder, has_more, Self::restore)
    }

    /// As [`open`](Self::open); reads a checkpoint with `restore`.
    fn open_with<R>(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        has_more: Option<String>,
        restore: impl Fn(&mut Self, u64) -> Result<Checkpoint<R>>,
    ) -> Result<OpenedCheckpoints<R>> {
        let mut this = Self::new(disk, folder);
        let made = this.disk.create_dir(&this.folder);
        made.map_err(|error| failed(&this.folder.display().to_string(), error))?;
        let mut manifests = this.find()?;
        let mut passed_over = Vec::new();
        let Some(&newest) = manifests.last() else {
            this.begin(has_more)?;
            return Ok(OpenedCheckpoints {
                checkpoints: this,
                state: Checkpoint::default(),
                passed_over,
            });
        };
        while let Some(candidate) = manifests.pop() {
            match restore(&mut this, candidate) {
                Ok(state) => {
                    this.keep_older(manifests.pop());
                    this.clean();
                    return Ok(OpenedCheckpoints {
                        checkpoints: this,
                        state,
                        passed_over,
                    });
                }
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "a checkpoint is damaged; the one before it counts");
                    passed_over.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        let unread = || CheckpointError::Checksum {
            file: manifest_name(newest),
        };
        Err(CheckpointError::Damaged {
            folder: this.folder.display().to_string(),
            newest: Box::new(passed_over.into_iter().next().unwrap_or_else(unread)),
        })
    }

    /// The folder, of which nothing is known yet.
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self {
            disk,
            folder,
            id: Id::fresh(),
            number: 0,
            is_current: true,
            locations: HashMap::new(),
            named: BTreeMap::new(),
            definitions: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// The numbers of the manifests, oldest first. No file gets a number that one has.
    pub fn find(&mut self) -> Result<Vec<u64>> {
        let folder = self.folder.display().to_string();
        let failed = |error| failed(&folder, error);
        let names = self.disk.list(&self.folder).map_err(failed)?;
        let numbers = |extension| names.iter().filter_map(move |name| number(name, extension));
        let mut manifests: Vec<u64> = numbers("json").collect();
        manifests.sort_unstable();
        let used = numbers("data").chain(numbers("json"));
        self.number = used.max().unwrap_or(0);
        Ok(manifests)
    }

    /// Writes the first checkpoint of a new data folder.
    fn begin(&mut self, has_more: Option<String>) -> Result<()> {
        let data = (self.number > 0).then(|| data_name(self.number));
        if let Some(found) = has_more.or(data) {
            return Err(CheckpointError::Missing {
                folder: self.folder.display().to_string(),
                found,
            });
        }
        self.write(Checkpoint::default()).map(drop)
    }

    /// Reads the checkpoint of this number, which becomes the last one.
    pub fn restore(&mut self, number: u64) -> Result<Checkpoint<Run>> {
        let manifest = self.read_manifest(number)?;
        let definitions = manifest.state.definitions.clone();
        let (id, is_current) = (manifest.folder, manifest.format == manifest::FORMAT);
        self.check_files(&manifest)?;
        let state = self.load(manifest)?;
        self.named.insert(number, self.files());
        (self.id, self.is_current, self.definitions) = (id, is_current, definitions);
        if !is_current {
            // So that the next checkpoint writes all runs again, in the format of now.
            self.locations.clear();
        }
        Ok(state)
    }

    /// Keeps the checkpoint before the last, if it may replace a damaged one.
    fn keep_older(&mut self, number: Option<u64>) {
        let older = number.and_then(|number| Some((number, self.read_manifest(number).ok()?)));
        let Some((number, manifest)) = older else {
            return;
        };
        let is_current = manifest.format == manifest::FORMAT;
        if manifest.state.definitions != self.definitions || is_current != self.is_current {
            return;
        }
        let mut files = BTreeSet::new();
        let noted = manifest.state.try_map(|location| {
            files.insert(location.file);
            Ok::<_, std::convert::Infallible>(())
        });
        if noted.is_ok() {
            self.named.insert(number, files);
        }
    }

    /// The id of the data folder.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The number of the last checkpoint.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Writes a checkpoint, durable when this returns. After an error the last one still counts.
    pub fn write(&mut self, state: Checkpoint<Run>) -> Result<Written> {
        let definitions = state.definitions.clone();
        let written = self.write_files(state);
        if written.is_ok() {
            if definitions != self.definitions || !self.is_current {
                // A source dropped since has no log any more, so the checkpoint before is of no use. Nor may an
                // older build go on from one in its format.
                self.is_current = true;
                let last = self.named.pop_last();
                self.named = last.into_iter().collect();
                self.definitions = definitions;
            }
            while self.named.len() > 2 {
                self.named.pop_first();
            }
        }
        // Also after an error: on a full disk, part of a checkpoint takes room.
        self.clean();
        written
    }

    fn write_files(&mut self, state: Checkpoint<Run>) -> Result<Written> {
        let number = self.number + 1;
        let rewritten = self.sparse_files();
        let mut file = DataFile::new(self.id, number);
        let known = &self.locations;
        let mut locations = HashMap::new();
        let state = state.try_map(|run| {
            let location = match known
                .get(&run.id)
                .filter(|it| !rewritten.contains(&it.file))
            {
                Some(location) => *location,
                None => file.add(&run)?,
            };
            locations.insert(run.id, location);
            Ok::<_, CheckpointError>(location)
        })?;
        // The number is not used again even after an error: part of the file may exist.
        self.number = number;
        let written = Written {
            number,
            runs: file.runs,
            bytes: file.bytes,
        };
        let mut files = self.files.clone();
        if file.runs > 0 {
            self.put_data(&file)?;
            files.insert(number, file.sum());
        }
        let named: BTreeSet<u64> = locations.values().map(|location| location.file).collect();
        files.retain(|file, _| named.contains(file));
        self.put_manifest(&Manifest::new(self.id, number, files.clone(), state))?;
        (self.locations, self.files) = (locations, files);
        self.named.insert(number, named);
        Ok(written)
    }

    /// Data files of which manifests name less than [`LIVE_PERCENT_MIN`].
    fn sparse_files(&self) -> BTreeSet<u64> {
        let mut live: HashMap<u64, u64> = HashMap::new();
        for location in self.locations.values() {
            *live.entry(location.file).or_default() += location.bytes;
        }
        let sparse = |(file, live): (u64, u64)| {
            let bytes = self.files.get(&file).map_or(0, |file| file.bytes);
            (live * 100 < bytes * LIVE_PERCENT_MIN).then_some(file)
        };
        live.into_iter().filter_map(sparse).collect()
    }

    /// Removes what no kept manifest names; what cannot be removed now goes the next time. A file with a name that
    /// this program does not give stays.
    fn clean(&mut self) {
        let Ok(names) = self.disk.list(&self.folder) else {
            return;
        };
        for name in names {
            let keep = match (number(&name, "json"), number(&name, "data")) {
                (Some(manifest), _) => self.named.contains_key(&manifest),
                (_, Some(file)) => self.named.values().any(|files| files.contains(&file)),
                (None, None) => number(&name, "json.new").is_none(),
            };
            if !keep && let Err(error) = self.disk.remove(&self.folder.join(&name)) {
                tracing::warn!(name, %error, "an old checkpoint file cannot be removed");
            }
        }
    }

    fn put_data(&self, file: &DataFile) -> Result<()> {
        let name = data_name(self.number);
        let written = write_file(&*self.disk, &self.folder.join(&name), &file.parts)
            .and_then(|()| self.disk.sync_dir(&self.folder));
        written.map_err(|error| failed(&name, error))
    }

    fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let name = manifest_name(manifest.number);
        let written = replace_file(&*self.disk, &self.folder, &name, manifest.encode()?);
        written.map_err(|error| failed(&name, error))
    }

    pub(super) fn read_manifest(&self, number: u64) -> Result<Manifest> {
        let name = manifest_name(number);
        let bytes = read_file(&*self.disk, &self.folder.join(&name));
        let bytes = bytes.map_err(|error| failed(&name, error))?;
        Manifest::decode(number, &bytes, self.id)
    }

    /// Checks each data file whole against its checksum.
    pub(super) fn check_sums(&self, manifest: &Manifest) -> Result<()> {
        for (&number, sum) in &manifest.files {
            let file = data_name(number);
            let bytes = read_file(&*self.disk, &self.folder.join(&file));
            let bytes = bytes.map_err(|error| failed(&file, error))?;
            if crc32c::crc32c(&bytes) != sum.crc {
                let problem = DataFileProblem::Checksum;
                return Err(CheckpointError::DataFile { file, problem });
            }
        }
        Ok(())
    }

    /// Checks that each data file is the one that the manifest names, by its length and its head.
    pub(super) fn check_files(&self, manifest: &Manifest) -> Result<()> {
        for (&number, sum) in &manifest.files {
            let file = data_name(number);
            let path = self.folder.join(&file);
            let wrong = |problem| CheckpointError::DataFile {
                file: file.clone(),
                problem,
            };
            let found = self.disk.open(&path).and_then(|file| file.len());
            let (found, expected) = (found.map_err(|error| failed(&file, error))?, sum.bytes);
            if found != expected {
                return Err(wrong(DataFileProblem::Length { found, expected }));
            }
            let head = read_part(&*self.disk, &path, 0, run_file::HEAD);
            let head = head.map_err(|error| failed(&file, error))?;
            check_head(&head, manifest.folder, number).map_err(wrong)?;
        }
        Ok(())
    }

    fn load(&mut self, manifest: Manifest) -> Result<Checkpoint<Run>> {
        let mut locations = HashMap::new();
        let state = manifest.state.try_map(|location| {
            let run = Run {
                counted_from: location.counted_from.unwrap_or(i64::MIN),
                ..Run::new(location.slot, self.read_run(&location)?)
            };
            locations.insert(run.id, location);
            Ok::<_, CheckpointError>(run)
        })?;
        (self.locations, self.files) = (locations, manifest.files);
        Ok(state)
    }

    fn files(&self) -> BTreeSet<u64> {
        let locations = self.locations.values();
        locations.map(|location| location.file).collect()
    }

    pub(super) fn read_run(&self, location: &RunLocation) -> Result<RecordBatch> {
        let file = data_name(location.file);
        let at = location.at;
        let bytes = read_part(&*self.disk, &self.folder.join(&file), at, location.bytes);
        let bytes = bytes.map_err(|error| failed(&file, error))?;
        if !is_run(&bytes, location) {
            let problem = DataFileProblem::Exchanged { at };
            return Err(CheckpointError::DataFile { file, problem });
        }
        decode(bytes).map_err(|error| CheckpointError::Run { file, at, error })
    }
}

fn failed(file: &str, error: io::Error) -> CheckpointError {
    CheckpointError::Disk {
        file: file.to_owned(),
        error,
    }
}

/// The number of a file with this extension.
fn number(name: &str, extension: &str) -> Option<u64> {
    let (number, found) = name.split_once('.')?;
    (found == extension).then(|| number.parse().ok()).flatten()
}
