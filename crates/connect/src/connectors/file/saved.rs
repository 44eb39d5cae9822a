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
    /// Whether it was moved away while it was watched, or another file was found in its place: what is
    /// there later with another inode is another file, however it begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// What a cursor says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Places {
    /// The files that are read.
    pub files: Vec<Saved>,
    /// Those that are gone, and that was told: the one that went last is the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Saved>,
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
            left: false,
        }
    }

    pub(super) fn node(&self) -> Node {
        (self.device, self.inode)
    }
}

/// The cursor that says this.
pub(super) fn cursor(places: &Places) -> Result<Cursor> {
    let value = serde_json::to_value(places);
    value.map(Cursor).map_err(|error| Error::BadCursor {
        reason: error.to_string(),
    })
}

/// What this cursor says.
pub(super) fn places(cursor: &Cursor) -> Result<Places> {
    Places::deserialize(&cursor.0).map_err(|error| Error::BadCursor {
        reason: error.to_string(),
    })
}
