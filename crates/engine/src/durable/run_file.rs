//! A data file of checkpoints: runs, one Arrow IPC stream after the other; written once.
//!
//! ```text
//!   magic 8 | format u32 | crc u32 | folder u64 | number u64 | run, crc u32 | run, crc u32 | ...
//! ```
//!
//! The head says which folder and which checkpoint wrote the file, so a copy under another name is known. The
//! manifest holds the checksum of the file and that of each run, so a file is never taken for another. Files
//! of format 1 have no head. All numbers are little endian.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use serde::{Deserialize, Serialize};

use super::identity::Id;
use crate::dataflow::Run;

const MAGIC: &[u8; 8] = b"HWRUNS\x1a\n";

/// The version of these files.
const FORMAT: u32 = 2;

/// Bytes in front of the first run.
pub(super) const HEAD: u64 = 32;

/// Where a run is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunLocation {
    pub file: u64,
    pub at: u64,
    /// Its length, with the checksum behind it.
    pub bytes: u64,
    pub slot: i64,
    /// As [`Run::counted_from`]; older manifests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_from: Option<i64>,
    /// Its checksum; manifests of format 1 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc: Option<u32>,
}

/// What a manifest says of a data file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileSum {
    pub bytes: u64,
    pub crc: u32,
}

/// How a data file is not the one that the manifest names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataFileProblem {
    #[error("it has {found} bytes, and the manifest says {expected}")]
    Length { found: u64, expected: u64 },
    #[error("it does not begin as a data file of this version")]
    Head,
    #[error("it is file {number} of the data folder with the id {folder}")]
    Other { folder: Id, number: u64 },
    #[error("its checksum is not the one in the manifest")]
    Checksum,
    #[error("the run at byte {at} is not the one that the manifest names: its checksum differs")]
    Exchanged { at: u64 },
}

/// A data file in memory, before it is written.
pub(super) struct DataFile {
    number: u64,
    pub parts: Vec<Buffer>,
    pub bytes: u64,
    pub runs: usize,
}

impl DataFile {
    pub fn new(folder: Id, number: u64) -> Self {
        Self {
            number,
            parts: vec![Buffer::from_vec(head(folder, number))],
            bytes: HEAD,
            runs: 0,
        }
    }

    /// Adds a run; its buffers are shared, not copied.
    pub fn add(&mut self, run: &Run) -> Result<RunLocation, ArrowError> {
        let mut encoder = StreamEncoder::try_new(run.rows.schema_ref())?;
        let mut parts = encoder.encode(&run.rows)?;
        parts.extend(encoder.finish()?);
        let crc = checksum(&parts);
        // The checksum follows the run.
        parts.push(Buffer::from_vec(crc.to_le_bytes().to_vec()));
        let location = RunLocation {
            file: self.number,
            at: self.bytes,
            bytes: parts.iter().map(Buffer::len).sum::<usize>() as u64,
            slot: run.slot,
            counted_from: Some(run.counted_from).filter(|from| *from > i64::MIN),
            crc: Some(crc),
        };
        self.parts.extend(parts);
        self.bytes += location.bytes;
        self.runs += 1;
        Ok(location)
    }

    pub fn sum(&self) -> FileSum {
        FileSum {
            bytes: self.bytes,
            crc: checksum(&self.parts),
        }
    }
}

fn checksum(parts: &[Buffer]) -> u32 {
    let parts = parts.iter();
    parts.fold(0, |sum, part| crc32c::crc32c_append(sum, part))
}

fn head(folder: Id, number: u64) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(FORMAT.to_le_bytes());
    let mut rest = folder.number().to_le_bytes().to_vec();
    rest.extend(number.to_le_bytes());
    head.extend(crc32c::crc32c_append(crc32c::crc32c(&head), &rest).to_le_bytes());
    head.extend(rest);
    head
}

/// Checks the head of data file `number` of `folder`.
pub(super) fn check_head(found: &[u8], folder: Id, number: u64) -> Result<(), DataFileProblem> {
    if found == head(folder, number) {
        return Ok(());
    }
    let u64_at = |at: usize| {
        let bytes = found.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    match (u64_at(16), u64_at(24)) {
        (Some(other), Some(number)) if found == head(Id::of(other), number) => {
            let folder = Id::of(other);
            Err(DataFileProblem::Other { folder, number })
        }
        _ => Err(DataFileProblem::Head),
    }
}

/// Whether these bytes of a run end with the checksum that the manifest has of it.
pub(super) fn is_run(bytes: &[u8], location: &RunLocation) -> bool {
    let Some(crc) = location.crc else {
        return true;
    };
    bytes.ends_with(&crc.to_le_bytes())
}

/// The rows of a run, whose checksum must match.
pub(super) fn decode(mut bytes: Vec<u8>) -> Result<RecordBatch, ArrowError> {
    use ArrowError::IpcError;
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

pub(super) fn data_name(number: u64) -> String {
    format!("{number:012}.data")
}
