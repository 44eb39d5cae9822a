//! Why a checkpoint cannot be read or written.

use std::io;

use super::run_file::DataFileProblem;

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
    #[error("{file} is a copy of manifest {found}")]
    Number { file: String, found: u64 },
    #[error(
        "{file} has format {found}, and this build reads formats up to {known}: a later version wrote it, open the folder with that"
    )]
    Newer {
        file: String,
        found: u32,
        known: u32,
    },
    #[error("{file} is incomplete: it has the state of {found} of {expected} workers of {query:?}")]
    Incomplete {
        file: String,
        query: String,
        found: usize,
        expected: usize,
    },
    #[error("no checkpoint in {folder} can be read: {newest}")]
    Damaged {
        folder: String,
        newest: Box<CheckpointError>,
    },
    #[error(
        "{folder} has no manifest, and there is {found}: without a manifest nothing tells what that belongs to, so \
         nothing is opened or changed; put the newest checkpoints/*.json back from a copy, or get the rows out \
         with `headwater salvage`"
    )]
    Missing { folder: String, found: String },
    #[error("{file}: {problem}")]
    DataFile {
        file: String,
        problem: DataFileProblem,
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

impl CheckpointError {
    /// Whether the checkpoint itself is at fault, so that an older one may serve; not the disk.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Checksum { .. }
            | Self::Manifest { .. }
            | Self::Number { .. }
            | Self::Incomplete { .. }
            | Self::DataFile { .. }
            | Self::Run { .. } => true,
            Self::Disk { error, .. } => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
            ),
            Self::Newer { .. } | Self::Damaged { .. } | Self::Missing { .. } | Self::Encode(_) => {
                false
            }
        }
    }
}
