//! The cursor of the file source: which files were read, and up to which position.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::{FileId, Prefix};
use super::tail::TailedFile;

/// A file as it was when the cursor was saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedFile {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub prefix: Prefix,
    /// All lines that end before this position were handed on.
    pub position: u64,
    /// The file that must be read to its end before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileId>,
    /// Whether it was moved away while it was watched, or another file was found at its path. Then a
    /// file with another inode at this path is another file, even if it begins with the same bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct FileCursor {
    /// The files being read.
    pub files: Vec<SavedFile>,
    /// Files that are gone and whose gap was reported, in the order in which they disappeared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<SavedFile>,
}

impl SavedFile {
    pub(super) fn of(tail: &TailedFile) -> Self {
        Self {
            path: tail.path.clone(),
            device: tail.id.0,
            inode: tail.id.1,
            prefix: tail.prefix,
            position: tail.position(),
            after: tail.after,
            left: false,
        }
    }

    pub(super) fn id(&self) -> FileId {
        (self.device, self.inode)
    }
}
