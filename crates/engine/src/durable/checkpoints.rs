//! Checkpoints on disk: data files with runs, and manifests that name them.
//!
//! ```text
//!   checkpoints/000041.data   runs, one Arrow IPC stream after the other; written once
//!   checkpoints/000042.data
//!   checkpoints/000042.json   the manifest: crc32c of the rest, a line feed, a Checkpoint as JSON
//! ```
//!
//! A run is written with the first checkpoint that has it, so a checkpoint costs what has changed. A
//! manifest is written under a temporary name, synced and renamed, after the data that it names is
//! durable: it exists whole, with all that it needs, or not at all. The newest manifest counts. The one
//! before is kept, with the data files that either names, as long as both have the same definitions:
//! should a disk damage the newest, the one before and the logs behind it hold the same, and retention
//! leaves those logs. Runs in data files of which little is still named are written again, so that the
//! folder stays in proportion to the state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use headwater_log::{Disk, read_full, write_full};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Definition};
use crate::dataflow::Run;

/// Percent of a data file that manifests must name, or its runs are written again.
const LIVE_PERCENT_MIN: u64 = 25;

/// Where a run is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunLocation {
    file: u64,
    at: u64,
    bytes: u64,
    slot: i64,
    /// As [`Run::counted_from`]; older manifests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counted_from: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("{file}: {error}")]
    Disk { file: String, error: io::Error },
    #[error("{file} is not a manifest: {error}")]
    Manifest {
        file: String,
        error: serde_json::Error,
    },
    #[error("{file} is damaged: its checksum does not match")]
    Checksum { file: String },
    #[error("no checkpoint in {folder} can be read: {newest}")]
    Damaged {
        folder: String,
        newest: Box<CheckpointError>,
    },
    #[error("{file}, byte {at}: {error}")]
    Run {
        file: String,
        at: u64,
        error: arrow::error::ArrowError,
    },
    #[error("a run cannot be written: {0}")]
    Encode(#[from] arrow::error::ArrowError),
}

type Result<T> = std::result::Result<T, CheckpointError>;

impl CheckpointError {
    /// Whether the checkpoint itself is at fault, so that an older one may serve; not the disk.
    fn is_damage(&self) -> bool {
        match self {
            Self::Checksum { .. } | Self::Manifest { .. } | Self::Run { .. } => true,
            Self::Disk { error, .. } => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
            ),
            Self::Damaged { .. } | Self::Encode(_) => false,
        }
    }
}

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
    /// The number of the last checkpoint; 0 before the first.
    number: u64,
    /// The locations of the last checkpoint's runs, by their ids.
    locations: HashMap<u64, RunLocation>,
    /// The data files that a kept manifest names, by its number; at most two manifests are kept.
    named: BTreeMap<u64, BTreeSet<u64>>,
    /// The definitions of the last checkpoint.
    definitions: Vec<Definition>,
    /// The size of each data file, bytes.
    sizes: BTreeMap<u64, u64>,
}

impl Checkpoints {
    /// Opens the folder, and reads the newest checkpoint that is whole, if there is one. Removes what a
    /// crash left unfinished.
    pub fn open(disk: Arc<dyn Disk>, folder: PathBuf) -> Result<(Self, Option<Checkpoint<Run>>)> {
        let mut this = Self {
            disk,
            folder,
            number: 0,
            locations: HashMap::new(),
            named: BTreeMap::new(),
            definitions: Vec::new(),
            sizes: BTreeMap::new(),
        };
        let folder = this.folder.clone();
        let failed = |error| CheckpointError::Disk {
            file: folder.display().to_string(),
            error,
        };
        this.disk.create_dir(&folder).map_err(failed)?;
        let names = this.disk.list(&folder).map_err(failed)?;
        let mut manifests: Vec<u64> = names
            .iter()
            .filter_map(|name| number(name, "json"))
            .collect();
        manifests.sort_unstable();
        for name in &names {
            if let Some(file) = number(name, "data") {
                this.number = this.number.max(file);
                let bytes = this.read_len(name)?;
                this.sizes.insert(file, bytes);
            }
        }
        this.number = this.number.max(manifests.last().copied().unwrap_or(0));
        let mut newest = None;
        while let Some(candidate) = manifests.pop() {
            match this.restore(candidate) {
                Ok(state) => {
                    this.keep_older(manifests.pop());
                    this.clean();
                    return Ok((this, Some(state)));
                }
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "a checkpoint is damaged; the one before it counts");
                    newest.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match newest {
            None => Ok((this, None)),
            Some(newest) => Err(CheckpointError::Damaged {
                folder: this.folder.display().to_string(),
                newest: Box::new(newest),
            }),
        }
    }

    /// Reads the checkpoint of this number, which becomes the last one.
    fn restore(&mut self, number: u64) -> Result<Checkpoint<Run>> {
        let manifest = self.read_manifest(number)?;
        let definitions = manifest.definitions.clone();
        let state = self.load(manifest)?;
        self.named.insert(number, self.files());
        self.definitions = definitions;
        Ok(state)
    }

    /// Keeps the checkpoint before the last, if it may replace a damaged one.
    fn keep_older(&mut self, number: Option<u64>) {
        let Some((number, manifest)) =
            number.and_then(|number| Some((number, self.read_manifest(number).ok()?)))
        else {
            return;
        };
        if manifest.definitions != self.definitions {
            return;
        }
        let mut files = BTreeSet::new();
        let noted = manifest.try_map(|location| {
            files.insert(location.file);
            Ok::<_, std::convert::Infallible>(())
        });
        if noted.is_ok() {
            self.named.insert(number, files);
        }
    }

    /// Writes a checkpoint, durable when this returns. After an error the last one still counts.
    pub fn write(&mut self, state: Checkpoint<Run>) -> Result<Written> {
        let definitions = state.definitions.clone();
        let written = self.write_files(state);
        if written.is_ok() {
            if definitions != self.definitions {
                // A source dropped since has no log any more, so the checkpoint before is of no use.
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
        let mut file = DataFile::new(number);
        let known = &self.locations;
        let mut locations = HashMap::new();
        let manifest = state.try_map(|run| {
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
        if file.runs > 0 {
            self.put(&data_name(number), &file.parts)?;
            self.sizes.insert(number, file.bytes);
            self.sync_names(&data_name(number))?;
        }
        self.put_manifest(number, &manifest)?;
        self.locations = locations;
        self.named.insert(number, self.files());
        Ok(written)
    }

    /// Data files of which manifests name less than [`LIVE_PERCENT_MIN`].
    fn sparse_files(&self) -> BTreeSet<u64> {
        let mut live: HashMap<u64, u64> = HashMap::new();
        for location in self.locations.values() {
            *live.entry(location.file).or_default() += location.bytes;
        }
        let sparse = |(file, live): (u64, u64)| {
            let bytes = self.sizes.get(&file).copied().unwrap_or(0);
            (live * 100 < bytes * LIVE_PERCENT_MIN).then_some(file)
        };
        live.into_iter().filter_map(sparse).collect()
    }

    fn files(&self) -> BTreeSet<u64> {
        self.locations
            .values()
            .map(|location| location.file)
            .collect()
    }

    /// Removes what no kept manifest names; what cannot be removed now goes the next time.
    fn clean(&mut self) {
        let Ok(names) = self.disk.list(&self.folder) else {
            return;
        };
        for name in names {
            let keep = match (number(&name, "json"), number(&name, "data")) {
                (Some(manifest), _) => self.named.contains_key(&manifest),
                (_, Some(file)) => self.named.values().any(|files| files.contains(&file)),
                (None, None) => false,
            };
            if keep {
                continue;
            }
            if let Err(error) = self.disk.remove(&self.folder.join(&name)) {
                tracing::warn!(name, %error, "an old checkpoint file cannot be removed");
            } else if let Some(file) = number(&name, "data") {
                self.sizes.remove(&file);
            }
        }
    }

    fn put_manifest(&mut self, number: u64, manifest: &Checkpoint<RunLocation>) -> Result<()> {
        let name = manifest_name(number);
        let json = serde_json::to_vec(manifest).map_err(|error| CheckpointError::Manifest {
            file: name.clone(),
            error,
        })?;
        let head = format!("{:08x}\n", crc32c::crc32c(&json)).into_bytes();
        let temporary = format!("{name}.new");
        self.put(
            &temporary,
            &[Buffer::from_vec(head), Buffer::from_vec(json)],
        )?;
        let renamed = self
            .disk
            .rename(&self.folder.join(&temporary), &self.folder.join(&name));
        renamed.map_err(|error| failed(&name, error))?;
        self.sync_names(&name)
    }

    /// Syncs the folder, so that the name of this file is durable.
    fn sync_names(&self, name: &str) -> Result<()> {
        let synced = self.disk.sync_dir(&self.folder);
        synced.map_err(|error| failed(name, error))
    }

    fn read_manifest(&self, number: u64) -> Result<Checkpoint<RunLocation>> {
        let name = manifest_name(number);
        let bytes = self.read(&name, 0, self.read_len(&name)?)?;
        let (head, json) = bytes.split_at_checked(9).unwrap_or_default();
        let sum = std::str::from_utf8(head).ok().and_then(|head| {
            let digits = head.strip_suffix('\n')?;
            u32::from_str_radix(digits, 16).ok()
        });
        if sum != Some(crc32c::crc32c(json)) {
            return Err(CheckpointError::Checksum { file: name });
        }
        let state = serde_json::from_slice(json);
        state.map_err(|error| CheckpointError::Manifest { file: name, error })
    }

    fn load(&mut self, manifest: Checkpoint<RunLocation>) -> Result<Checkpoint<Run>> {
        let mut locations = HashMap::new();
        let state = manifest.try_map(|location| {
            let run = Run {
                counted_from: location.counted_from.unwrap_or(i64::MIN),
                ..Run::new(location.slot, self.read_run(&location)?)
            };
            locations.insert(run.id, location);
            Ok::<_, CheckpointError>(run)
        })?;
        self.locations = locations;
        Ok(state)
    }

    fn read_run(&self, location: &RunLocation) -> Result<RecordBatch> {
        let name = data_name(location.file);
        let bytes = self.read(&name, location.at, location.bytes)?;
        decode(bytes).map_err(|error| CheckpointError::Run {
            file: name,
            at: location.at,
            error,
        })
    }

    fn put(&self, name: &str, parts: &[Buffer]) -> Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let file = self.disk.create(&self.folder.join(name));
        let written = file.and_then(|file| {
            write_full(&*file, &mut slices, 0)?;
            file.sync()
        });
        written.map_err(|error| failed(name, error))
    }

    fn read(&self, name: &str, at: u64, bytes: u64) -> Result<Vec<u8>> {
        let len = self.read_len(name)?;
        let short = || failed(name, io::ErrorKind::UnexpectedEof.into());
        // Before the allocation: a damaged manifest may ask for any size.
        if at.checked_add(bytes).is_none_or(|end| end > len) {
            return Err(short());
        }
        let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| short())?];
        let file = self.disk.open(&self.folder.join(name));
        let read = file.and_then(|file| read_full(&*file, &mut buffer, at));
        match read.map_err(|error| failed(name, error))? {
            read if read == buffer.len() => Ok(buffer),
            _ => Err(short()),
        }
    }

    fn read_len(&self, name: &str) -> Result<u64> {
        let file = self.disk.open(&self.folder.join(name));
        let len = file.and_then(|file| file.len());
        len.map_err(|error| failed(name, error))
    }
}

fn failed(file: &str, error: io::Error) -> CheckpointError {
    CheckpointError::Disk {
        file: file.to_owned(),
        error,
    }
}

fn manifest_name(number: u64) -> String {
    format!("{number:012}.json")
}

fn data_name(number: u64) -> String {
    format!("{number:012}.data")
}

/// The number of a file with this extension.
fn number(name: &str, extension: &str) -> Option<u64> {
    let (number, found) = name.split_once('.')?;
    (found == extension).then(|| number.parse().ok()).flatten()
}

/// A data file in memory, before it is written.
struct DataFile {
    number: u64,
    parts: Vec<Buffer>,
    bytes: u64,
    runs: usize,
}

impl DataFile {
    fn new(number: u64) -> Self {
        Self {
            number,
            parts: Vec::new(),
            bytes: 0,
            runs: 0,
        }
    }

    /// Adds a run; its buffers are shared, not copied.
    fn add(&mut self, run: &Run) -> Result<RunLocation> {
        let mut encoder = StreamEncoder::try_new(run.rows.schema_ref())?;
        let mut parts = encoder.encode(&run.rows)?;
        let bytes = encoder.finish().map(|end| {
            parts.extend(end);
            parts.iter().map(Buffer::len).sum::<usize>() as u64
        })?;
        // The checksum follows the run.
        let sum = parts
            .iter()
            .fold(0, |sum, part| crc32c::crc32c_append(sum, part));
        parts.push(Buffer::from_vec(sum.to_le_bytes().to_vec()));
        let location = RunLocation {
            file: self.number,
            at: self.bytes,
            bytes: bytes + 4,
            slot: run.slot,
            counted_from: Some(run.counted_from).filter(|from| *from > i64::MIN),
        };
        self.parts.extend(parts);
        self.bytes += bytes + 4;
        self.runs += 1;
        Ok(location)
    }
}

fn decode(mut bytes: Vec<u8>) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    use arrow::error::ArrowError::IpcError;
    let sum = bytes.split_off(bytes.len().saturating_sub(4));
    if crc32c::crc32c(&bytes).to_le_bytes() != *sum {
        return Err(IpcError("the checksum does not match".to_owned()));
    }
    let mut decoder = StreamDecoder::new();
    let mut bytes = Buffer::from_vec(bytes);
    while !bytes.is_empty() {
        if let Some(batch) = decoder.decode(&mut bytes)? {
            return Ok(batch);
        }
    }
    Err(IpcError("there is no batch".to_owned()))
}
