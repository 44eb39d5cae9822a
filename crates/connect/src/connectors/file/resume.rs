//! The files of a cursor, to be found again: in their place, under another name, written anew or gone.
//!
//! A file is known by its node (device and inode) and its first bytes. One that has another node now,
//! under the path it had, is taken for the same if its first bytes are and the node is nowhere to be
//! found: so a copy put in its place goes on, and the successor of a file that was rotated does not.
//! Who has moved is remembered, so that it is read before the one that took its path.
//!
//! Those that are gone, which was told, are kept by `gone.rs`. Telling of gaps and reading are left to
//! `reading.rs`.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::find::{Found, Node};
use super::gone::Gone;
use super::saved::{Places, Saved};
use super::tail::Tail;

/// What is left of a cursor.
#[derive(Default)]
pub(super) struct Before {
    /// Files that were not found yet, by their rank in the cursor: what is read first comes first.
    files: BTreeMap<usize, Saved>,
    /// Files found under another path than this one, by rank.
    moved: BTreeMap<PathBuf, BTreeMap<usize, Node>>,
    /// Files that may come back.
    pub gone: Gone,
}

impl Before {
    pub(super) fn new(saved: Places) -> Self {
        Self {
            files: saved.files.into_iter().enumerate().collect(),
            moved: BTreeMap::new(),
            gone: Gone::new(saved.gone),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Saved> {
        self.files.values()
    }

    /// Takes all files that were not found yet, to be kept or told of.
    pub(super) fn take(&mut self) -> BTreeMap<usize, Saved> {
        std::mem::take(&mut self.files)
    }

    pub(super) fn keep(&mut self, rank: usize, saved: Saved) {
        self.files.insert(rank, saved);
    }

    /// The file is not at `path` any more.
    pub(super) fn has_moved(&mut self, rank: usize, path: PathBuf, node: Node) {
        self.moved.entry(path).or_default().insert(rank, node);
    }

    /// Who has left which path, the one to be read first first.
    pub(super) fn take_moved(&mut self) -> impl Iterator<Item = (PathBuf, Vec<Node>)> + use<> {
        let moved = std::mem::take(&mut self.moved).into_iter();
        moved.map(|(path, nodes)| (path, nodes.into_values().collect()))
    }

    /// Those of the nodes found that are of files in the cursor.
    pub(super) fn nodes_among(&self, found: &Found) -> HashSet<Node> {
        let files = self.files.values().chain(self.gone.files());
        files
            .map(Saved::node)
            .filter(|node| found.files.contains_key(node))
            .collect()
    }

    /// Continues where the cursor says, if it knows the file. `nodes` are those of the cursor that
    /// patterns lead to. Blocks.
    pub(super) fn resume(&mut self, tail: &mut Tail, nodes: &HashSet<Node>) -> io::Result<bool> {
        let same_node = |saved: &Saved| saved.node() == tail.node;
        if let Some(rank) = self.rank_of(same_node) {
            return self.resume_at(rank, tail);
        }
        if self.gone.resume_node(tail)? {
            return Ok(true);
        }
        let same_path = |saved: &Saved| saved.path == tail.path && saved.is_lost(nodes);
        if let Some(rank) = self.rank_of(same_path)
            && self.resume_at(rank, tail)?
        {
            return Ok(true);
        }
        self.gone.resume_path(tail, nodes)
    }

    fn rank_of(&self, known: impl Fn(&Saved) -> bool) -> Option<usize> {
        let mut files = self.files.iter();
        files.find(|(_, saved)| known(saved)).map(|(rank, _)| *rank)
    }

    /// Continues where this file of the cursor was, if it is the same. Blocks.
    fn resume_at(&mut self, rank: usize, tail: &mut Tail) -> io::Result<bool> {
        let Some(saved) = self.files.remove(&rank) else {
            return Ok(false);
        };
        let resumed = tail.resume(saved.prefix, saved.position);
        tail.after = saved.after;
        if !matches!(resumed, Ok(true)) {
            self.files.insert(rank, saved);
        } else if saved.path != tail.path {
            self.has_moved(rank, saved.path, tail.node);
        }
        resumed
    }
}

impl Saved {
    /// The file under another name in its folder, where it is continued. Blocks.
    pub(super) fn moved(&self, max: usize) -> Option<Box<Tail>> {
        let mut tail = Tail::open(self.sibling()?, max).ok()?;
        let resumed = tail.resume(self.prefix, self.position).ok()?;
        tail.after = self.after;
        resumed.then(|| Box::new(tail))
    }

    /// Whether a file with its path and another node may be it. `nodes` are those of the cursor that
    /// patterns lead to. Blocks.
    pub(super) fn is_lost(&self, nodes: &HashSet<Node>) -> bool {
        self.prefix.length > 0 && !nodes.contains(&self.node()) && self.sibling().is_none()
    }

    /// The path in its folder that has its node now. Blocks.
    fn sibling(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path.parent()?).ok()?;
        let is_it = |entry: &std::fs::DirEntry| {
            entry
                .metadata()
                .is_ok_and(|found| (found.dev(), found.ino()) == self.node())
        };
        Some(entries.flatten().find(is_it)?.path())
    }
}
