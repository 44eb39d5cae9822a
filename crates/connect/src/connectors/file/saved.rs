//! The cursor: which files were read, and how far.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::find::Node;
use super::identity::Prefix;
use super::tail::Tail;
use crate::{Cursor, Error, Result};

/// A file as it was when the cursor was saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub prefix: Prefix,
    /// All lines that end before this were handed on.
    pub position: u64,
    /// The file that must be read to its end before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Node>,
}

#[derive(Serialize, Deserialize)]
struct Files<F> {
    files: F,
}

impl Saved {
    pub(super) fn of(tail: &Tail) -> Self {
        Self {
            path: tail.path.clone(),
            device: tail.node.0,
            inode: tail.node.1,
            prefix: tail.prefix,
            position: tail.position(),
            after: tail.after,
        }
    }

    pub(super) fn node(&self) -> Node {
        (self.device, self.inode)
    }
}

/// The cursor that covers these files.
pub(super) fn cursor(files: Vec<Saved>) -> Result<Cursor> {
    let value = serde_json::to_value(Files { files });
    value.map(Cursor).map_err(|error| Error::BadCursor {
        reason: error.to_string(),
    })
}

/// The files that a cursor covers.
pub(super) fn files(cursor: &Cursor) -> Result<Vec<Saved>> {
    let files = Files::<Vec<Saved>>::deserialize(&cursor.0);
    files
        .map(|files| files.files)
        .map_err(|error| Error::BadCursor {
            reason: error.to_string(),
        })
}
