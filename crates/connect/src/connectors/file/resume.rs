//! Finds the files of a cursor again: at their path, under another name, rewritten or gone.
//!
//! A file is known by its inode and its first bytes. One that has another inode now, at the path it had,
//! counts as the same if its first bytes are the same and the old inode is nowhere to be found: so a copy
//! put in its place is continued, and the successor of a rotated file is not. Moved files are remembered,
//! so that each is read before the one that took its path.
//!
//! `gone.rs` keeps the files that are gone and were reported. The follower reports gaps and reads.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;

use super::cursor::{FileCursor, SavedFile};
use super::find::FoundFiles;
use super::gone::GoneFiles;
use super::identity::{FileId, file_id};
use super::tail::TailedFile;
use crate::lines::Framing;

/// The files of a cursor that are not being read.
#[derive(Default)]
pub(super) struct ResumePoints {
    /// Files that were not found yet, by their rank in the cursor: the file of a lower rank is read first.
    files: BTreeMap<usize, SavedFile>,
    /// Files found under another path than this one, by rank.
    moved: BTreeMap<PathBuf, BTreeMap<usize, FileId>>,
    /// Files that may come back.
    pub gone: GoneFiles,
}

impl ResumePoints {
    pub(super) fn new(saved: FileCursor) -> Self {
        Self {
            files: saved.files.into_iter().enumerate().collect(),
            moved: BTreeMap::new(),
            gone: GoneFiles::new(saved.gone),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &SavedFile> {
        self.files.values()
    }

    /// Takes all files that were not found yet; the caller keeps or reports each.
    pub(super) fn take(&mut self) -> BTreeMap<usize, SavedFile> {
        std::mem::take(&mut self.files)
    }

    pub(super) fn keep(&mut self, rank: usize, saved: SavedFile) {
        self.files.insert(rank, saved);
    }

    /// Notes that the file is not at `path` any more.
    pub(super) fn has_moved(&mut self, rank: usize, path: PathBuf, id: FileId) {
        self.moved.entry(path).or_default().insert(rank, id);
    }

    /// The files that left each path, in the order in which they are to be read.
    pub(super) fn take_moved(&mut self) -> impl Iterator<Item = (PathBuf, Vec<FileId>)> + use<> {
        let moved = std::mem::take(&mut self.moved).into_iter();
        moved.map(|(path, ids)| (path, ids.into_values().collect()))
    }

    /// The files of the cursor that are among those found.
    pub(super) fn ids_among(&self, found: &FoundFiles) -> HashSet<FileId> {
        let files = self.files.values().chain(self.gone.files());
        files
            .map(SavedFile::id)
            .filter(|id| found.files.contains_key(id))
            .collect()
    }

    /// Continues at the saved position, if the cursor knows the file. `ids` are the files of the cursor
    /// that patterns match. Blocks.
    pub(super) fn resume(
        &mut self,
        tail: &mut TailedFile,
        ids: &HashSet<FileId>,
    ) -> io::Result<bool> {
        let same_id = |saved: &SavedFile| saved.id() == tail.id;
        if let Some(rank) = self.rank_of(same_id) {
            return self.resume_at(rank, tail);
        }
        if self.gone.resume_id(tail)? {
            return Ok(true);
        }
        let same_path = |saved: &SavedFile| saved.path == tail.path && saved.is_lost(ids);
        if let Some(rank) = self.rank_of(same_path)
            && self.resume_at(rank, tail)?
        {
            return Ok(true);
        }
        self.gone.resume_path(tail, ids)
    }

    fn rank_of(&self, known: impl Fn(&SavedFile) -> bool) -> Option<usize> {
        let mut files = self.files.iter();
        files.find(|(_, saved)| known(saved)).map(|(rank, _)| *rank)
    }

    /// Continues at the position of this file of the cursor, if it is the same file. Blocks.
    fn resume_at(&mut self, rank: usize, tail: &mut TailedFile) -> io::Result<bool> {
        let Some(saved) = self.files.remove(&rank) else {
            return Ok(false);
        };
        let resumed = tail.resume(saved.prefix, saved.position);
        tail.after = saved.after;
        if !matches!(resumed, Ok(true)) {
            self.files.insert(rank, saved);
        } else if saved.path != tail.path {
            self.has_moved(rank, saved.path, tail.id);
        }
        resumed
    }
}

impl SavedFile {
    /// The file under another name in its folder, continued at its position. Blocks.
    pub(super) fn moved(&self, framing: Framing) -> Option<Box<TailedFile>> {
        let mut tail = TailedFile::open(self.sibling()?, framing).ok()?;
        let resumed = tail.resume(self.prefix, self.position).ok()?;
        tail.after = self.after;
        resumed.then(|| Box::new(tail))
    }

    /// Whether a file at its path with another inode may be this one. `ids` are the files of the cursor
    /// that patterns match. Blocks.
    pub(super) fn is_lost(&self, ids: &HashSet<FileId>) -> bool {
        self.prefix.length > 0 && !ids.contains(&self.id()) && self.sibling().is_none()
    }

    /// The path in its folder that has its inode now. Blocks.
    fn sibling(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path.parent()?).ok()?;
        let is_it = |entry: &std::fs::DirEntry| {
            let found = entry.metadata();
            found.is_ok_and(|found| file_id(&found) == self.id())
        };
        Some(entries.flatten().find(is_it)?.path())
    }
}
