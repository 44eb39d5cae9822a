//! A manifest: what vouches for all other files of a data folder.
//!
//! ```text
//!   crc32c | { "sequence": a note, "format": 2, "folder": id, "number": 42,
//!              "files": { "41": { bytes, crc }, "42": .. },    each data file whole
//!              "state": a Checkpoint: its runs with file, place, length and crc; its logs with id and end }
//! ```
//!
//! It is the root of one tree of checksums. A build of format 1 expects a number behind `sequence`, which
//! comes first: it refuses the file with the note. Manifests of format 1 are a [`Checkpoint`] alone, and
//! are read as well.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::checkpoint_error::CheckpointError;
use super::files::{checked, with_checksum};
use super::identity::Id;
use super::run_file::{FileSum, RunLocation};

/// The format that this build writes.
pub(super) const FORMAT: u32 = 2;

/// What a build of format 1 says of a manifest of this one.
const NOTE: &str = "this folder has format 2, open it with the version of Headwater that wrote it";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    sequence: String,
    pub format: u32,
    pub folder: Id,
    pub number: u64,
    /// The data files that the runs are in.
    pub files: BTreeMap<u64, FileSum>,
    pub state: Checkpoint<RunLocation>,
}

/// The part of a manifest that tells how to read the rest.
#[derive(Deserialize)]
struct ManifestFormat {
    #[serde(default = "first")]
    format: u32,
}

fn first() -> u32 {
    1
}

impl Manifest {
    pub fn new(
        folder: Id,
        number: u64,
        files: BTreeMap<u64, FileSum>,
        state: Checkpoint<RunLocation>,
    ) -> Self {
        Self {
            sequence: NOTE.to_owned(),
            format: FORMAT,
            folder,
            number,
            files,
            state,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>, CheckpointError> {
        with_checksum(self).map_err(|error| CheckpointError::Manifest {
            file: manifest_name(self.number),
            error,
        })
    }

    /// Reads the manifest of this number. One of format 1 gets `folder` as its folder, and names no files.
    pub fn decode(number: u64, bytes: &[u8], folder: Id) -> Result<Self, CheckpointError> {
        let file = manifest_name(number);
        let Some(json) = checked(bytes) else {
            return Err(CheckpointError::Checksum { file });
        };
        let wrong = |error| CheckpointError::Manifest {
            file: file.clone(),
            error,
        };
        let ManifestFormat { format } = serde_json::from_slice(json).map_err(wrong)?;
        let manifest = match format {
            1 => Self {
                format,
                ..Self::new(
                    folder,
                    number,
                    BTreeMap::new(),
                    serde_json::from_slice(json).map_err(wrong)?,
                )
            },
            FORMAT => serde_json::from_slice(json).map_err(wrong)?,
            found => {
                let known = FORMAT;
                return Err(CheckpointError::Newer { file, found, known });
            }
        };
        if manifest.number != number {
            let found = manifest.number;
            return Err(CheckpointError::Number { file, found });
        }
        manifest.check_workers(file)?;
        Ok(manifest)
    }

    /// An error unless each query has the state of every worker, and each worker that of every stage.
    fn check_workers(&self, file: String) -> Result<(), CheckpointError> {
        if self.format == 1 {
            return Ok(());
        }
        let expected = self.state.workers;
        let incomplete = self.state.queries.iter().find(|(_, query)| {
            let stages = query.stages.len();
            let is_whole = query.workers.values().all(|worker| worker.len() == stages);
            query.workers.len() != expected || !is_whole
        });
        match incomplete {
            None => Ok(()),
            Some((name, query)) => Err(CheckpointError::Incomplete {
                file,
                query: name.clone(),
                found: query.workers.len(),
                expected,
            }),
        }
    }
}

pub(super) fn manifest_name(number: u64) -> String {
    format!("{number:012}.json")
}
