//! The places of files that are gone, so that one that comes back is read on where it was.
//!
//! A late mount, a folder that is moved away and back: the file is the same, and what was read of it
//! must not come again. It is known by its node, or by its path if its node is nowhere to be found, and
//! by its first bytes in either case. Of each path the file that went last is kept, and of all those
//! only as many as went last: a folder of rotated files must not grow the cursor for ever. A file that
//! was removed cannot come back, and is not kept; that is seen by whoever had it open.
//!
//! Telling that a file is gone is left to `reading.rs`, finding one in its cursor to `resume.rs`.

use std::collections::HashSet;
use std::io;

use super::find::Node;
use super::saved::Saved;
use super::tail::Tail;

/// So many places are kept: with each cursor they are written, about 150 bytes for one. The docs of
/// the option `path` name the number.
const KEPT_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Gone {
    /// At most `KEPT_MAX`, each with another path; the one that went last is the last.
    files: Vec<Saved>,
    /// What came back, until it is told.
    back: Vec<String>,
}

impl Gone {
    pub(super) fn new(files: Vec<Saved>) -> Self {
        let mut gone = Self::default();
        files.into_iter().for_each(|saved| gone.keep(saved));
        gone
    }

    pub(super) fn files(&self) -> &[Saved] {
        &self.files
    }

    /// Keeps the place of a file, unless it is its beginning.
    pub(super) fn keep(&mut self, saved: Saved) {
        if saved.position == 0 {
            return;
        }
        self.files.retain(|other| other.path != saved.path);
        self.files.push(Saved {
            after: None,
            ..saved
        });
        let excess = self.files.len().saturating_sub(KEPT_MAX);
        self.files.drain(..excess);
    }

    /// What came back since this was last asked.
    pub(super) fn take_back(&mut self) -> Vec<String> {
        std::mem::take(&mut self.back)
    }

    /// Continues a file of which the node is known. If it was written anew, or its inode is that of
    /// another file now, its place is forgotten. Blocks.
    pub(super) fn resume_node(&mut self, tail: &mut Tail) -> io::Result<bool> {
        let known = |saved: &Saved| saved.node() == tail.node;
        let Some(at) = self.files.iter().position(known) else {
            return Ok(false);
        };
        let resumed = tail.resume(self.files[at].prefix, self.files[at].position)?;
        let saved = self.files.remove(at);
        if resumed {
            self.is_back(tail, &saved);
        }
        Ok(resumed)
    }

    /// Continues a file under the path of one of which the node is not among `nodes`, nor in its
    /// folder. Blocks.
    pub(super) fn resume_path(
        &mut self,
        tail: &mut Tail,
        nodes: &HashSet<Node>,
    ) -> io::Result<bool> {
        let known = |saved: &Saved| saved.path == tail.path;
        let Some(at) = self.files.iter().position(known) else {
            return Ok(false);
        };
        let saved = &self.files[at];
        let may_be = saved.is_lost(nodes) && (!saved.left || saved.inode == tail.node.1);
        if may_be && tail.resume(saved.prefix, saved.position)? {
            let saved = self.files.remove(at);
            self.is_back(tail, &saved);
            return Ok(true);
        }
        self.files[at].left = true;
        Ok(false)
    }

    fn is_back(&mut self, tail: &Tail, saved: &Saved) {
        let path = tail.path.display();
        let what = format!("{path} is back, and read on after {} bytes", saved.position);
        self.back.push(what);
    }
}
