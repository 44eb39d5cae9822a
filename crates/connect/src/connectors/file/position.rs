//! The position of a file sink in its file, and how it finds it again after a crash.
//!
//! ```text
//!   | head (<= 1024) |        ...        | tail (<= 64) | what a crash left behind |
//!   0                                             length ^
//! ```
//!
//! A receipt is the length and the hashes of the first and last bytes before it. They distinguish the
//! file from another one of the same name, whatever its inode: a file that was copied back from a backup
//! is the same file, the successor of a rotated file is not. What follows `length` is truncated.

use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::identity::{LENGTH_MAX, Prefix, fnv};
use crate::{Error, Receipt, Result};

/// The largest number of last bytes that are hashed.
const TAIL_MAX: usize = 64;

/// A position in a file, with the bytes before it that identify the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct FilePosition {
    /// The number of bytes before this position.
    pub length: u64,
    /// The first bytes, at most `LENGTH_MAX`.
    head: Vec<u8>,
    /// The last bytes, at most `TAIL_MAX`.
    tail: Vec<u8>,
}

/// What a receipt of a file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileReceipt {
    pub length: u64,
    head: Prefix,
    tail: u64,
}

impl FileReceipt {
    pub fn of(receipt: &Receipt, target: &str) -> Result<Self> {
        Self::deserialize(&receipt.0).map_err(|error| Error::BadReceipt {
            target: target.to_owned(),
            reason: format!("it is not the receipt of a file: {error}"),
        })
    }
}

impl FilePosition {
    /// After the first `length` bytes of a file that has at least that many.
    pub async fn read(file: &mut File, length: u64) -> std::io::Result<Self> {
        let head = bytes(file, 0, length.min(LENGTH_MAX as u64)).await?;
        let tail = length.min(TAIL_MAX as u64);
        let tail = bytes(file, length - tail, tail).await?;
        Ok(Self { length, head, tail })
    }

    /// Moves behind these bytes, which were written here.
    pub fn advance(&mut self, written: &[u8]) {
        let missing = LENGTH_MAX.saturating_sub(self.head.len());
        self.head
            .extend_from_slice(&written[..missing.min(written.len())]);
        let kept = TAIL_MAX.saturating_sub(written.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - kept);
        let start = written.len().saturating_sub(TAIL_MAX);
        self.tail.extend_from_slice(&written[start..]);
        self.length += written.len() as u64;
    }

    pub fn file_receipt(&self) -> FileReceipt {
        FileReceipt {
            length: self.length,
            head: Prefix::of_bytes(&self.head),
            tail: fnv(&self.tail),
        }
    }

    /// `None` only if numbers could not be JSON.
    pub fn receipt(&self) -> Option<Receipt> {
        serde_json::to_value(self.file_receipt()).ok().map(Receipt)
    }
}

async fn bytes(file: &mut File, from: u64, length: u64) -> std::io::Result<Vec<u8>> {
    // At most `LENGTH_MAX`, which fits.
    let mut bytes = vec![0; length as usize];
    file.seek(std::io::SeekFrom::Start(from)).await?;
    file.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn written_and_read_positions_are_the_same(parts in prop::collection::vec(0..400_usize, 0..12)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut file = tempfile::tempfile().unwrap();
            let mut position = FilePosition::default();
            for (at, length) in parts.into_iter().enumerate() {
                let part: Vec<u8> = (0..length).map(|byte| (at * 31 + byte) as u8).collect();
                file.write_all(&part).unwrap();
                position.advance(&part);
            }
            let mut file = File::from_std(file);
            let read = runtime.block_on(FilePosition::read(&mut file, position.length)).unwrap();
            prop_assert_eq!(read, position);
        }
    }
}
