//! The positions of files that are gone, so that a file that comes back is not read twice.
//!
//! A late mount, a folder that is moved away and back: the file is the same, and its lines must not come
//! again. It is recognised by its inode, or by its path if its inode is nowhere to be found, and by its
//! first bytes in either case. One position is kept for each path, that of the file that disappeared last,
//! and at most `KEPT_MAX` in all: a folder of rotated files must not grow the cursor for ever. A file that
//! was removed cannot come back, and is not kept; only the follower, which has it open, can see that.
//!
//! `follower.rs` reports that a file is gone, `resume.rs` matches the other files of the cursor.

use std::collections::HashSet;
use std::io;

use super::cursor::SavedFile;
use super::identity::FileId;
use super::tail::TailedFile;

/// The largest number of positions kept: each cursor holds them all, about 150 bytes for one. The docs of
/// the option `path` name the number.
const KEPT_MAX: usize = 64;

#[derive(Default)]
pub(super) struct GoneFiles {
    /// At most `KEPT_MAX`, each with another path, in the order in which they disappeared.
    files: Vec<SavedFile>,
    /// What came back and was not reported yet.
    returned: Vec<String>,
}

impl GoneFiles {
    pub(super) fn new(files: Vec<SavedFile>) -> Self {
        let mut gone = Self::default();
        files.into_iter().for_each(|saved| gone.keep(saved));
        gone
    }

    pub(super) fn files(&self) -> &[SavedFile] {
        &self.files
    }

    /// Keeps the position of a file, unless it is its beginning.
    pub(super) fn keep(&mut self, saved: SavedFile) {
        if saved.position == 0 {
            return;
        }
        self.files.retain(|other| other.path != saved.path);
        self.files.push(SavedFile {
            after: None,
            ..saved
        });
        let excess = self.files.len().saturating_sub(KEPT_MAX);
        self.files.drain(..excess);
    }

    /// The files that came back since the last call, as sentences.
    pub(super) fn take_returned(&mut self) -> Vec<String> {
        std::mem::take(&mut self.returned)
    }

    /// Continues a file whose inode is known. If the file was rewritten, or the inode now belongs to
    /// another file, the position is forgotten. Blocks.
    pub(super) fn resume_id(&mut self, tail: &mut TailedFile) -> io::Result<bool> {
        let known = |saved: &SavedFile| saved.id() == tail.id;
        let Some(at) = self.files.iter().position(known) else {
            return Ok(false);
        };
        let resumed = tail.resume(self.files[at].prefix, self.files[at].position)?;
        let saved = self.files.remove(at);
        if resumed {
            self.has_returned(tail, &saved);
        }
        Ok(resumed)
    }

    /// Continues a file at the path of one whose inode is neither among `ids` nor in its folder. Blocks.
    pub(super) fn resume_path(
        &mut self,
        tail: &mut TailedFile,
        ids: &HashSet<FileId>,
    ) -> io::Result<bool> {
        let known = |saved: &SavedFile| saved.path == tail.path;
        let Some(at) = self.files.iter().position(known) else {
            return Ok(false);
        };
        let saved = &self.files[at];
        let may_be = saved.is_lost(ids) && (!saved.left || saved.inode == tail.id.1);
        if may_be && tail.resume(saved.prefix, saved.position)? {
            let saved = self.files.remove(at);
            self.has_returned(tail, &saved);
            return Ok(true);
        }
        self.files[at].left = true;
        Ok(false)
    }

    fn has_returned(&mut self, tail: &TailedFile, saved: &SavedFile) {
        let path = tail.path.display();
        self.returned.push(format!(
            "{path} is back: reading continues after {} bytes",
            saved.position
        ));
    }
}
