//! The state of the lying disk: cached and durable contents of each file, the changes pending between them, and names
//! likewise.
//!
//! `World` counts operations and decides at each whether the machine stops in it or it fails. `CacheChange` and
//! `Naming` are pending changes; they can be applied whole, and a crash can tear a `CacheChange`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::Op;

const PAGE: usize = 4096;

pub(super) struct World {
    pub random: u64,
    /// Number of crashes so far; handles of an earlier age fail.
    pub age: u64,
    pub down: bool,
    pub files: BTreeMap<u64, CachedFile>,
    pub names: BTreeMap<PathBuf, u64>,
    pub durable_names: BTreeMap<PathBuf, u64>,
    pub pending_names: Vec<Naming>,
    pub locks: BTreeSet<PathBuf>,
    pub operations: u64,
    pub counts: BTreeMap<Op, u64>,
    pub crash_at: Option<u64>,
    pub failing: Vec<Failing>,
    pub lost_syncs: BTreeSet<u64>,
    pub lose_all_syncs: bool,
    pub room: Option<u64>,
    pub short: bool,
}

pub(super) struct Failing {
    pub op: Op,
    /// Which operation of this kind fails, counted from 0 over the disk's life.
    pub nth: u64,
    pub kind: ErrorKind,
}

#[derive(Default, Clone)]
pub(super) struct CachedFile {
    pub cache: Vec<u8>,
    pub durable: Vec<u8>,
    pub pending: Vec<CacheChange>,
}

#[derive(Clone)]
pub(super) enum CacheChange {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
pub(super) enum Naming {
    Put(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Naming {
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Naming::Put(path, _) | Naming::Remove(path) | Naming::Rename(path, ..) => path.parent(),
        }
    }

    pub fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Naming::Put(path, file) => drop(names.insert(path.clone(), *file)),
            Naming::Remove(path) => drop(names.remove(path)),
            Naming::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl CacheChange {
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            CacheChange::Truncate(len) => bytes.resize(*len, 0),
            CacheChange::Write(at, new) => put(bytes, *at, new),
        }
    }

    /// Applies a random part of it, as a crash does.
    pub fn apply_torn(&self, random: &mut u64, bytes: &mut Vec<u8>) {
        match (self, below(random, 4)) {
            (_, 0) => {}
            (_, 1) | (CacheChange::Truncate(_), _) => self.apply(bytes),
            (CacheChange::Write(at, new), 2) => {
                put(bytes, *at, &new[..below(random, new.len() + 1)])
            }
            (CacheChange::Write(at, new), _) => {
                let mut from = 0;
                while from < new.len() {
                    let to = (from + PAGE - (at + from) % PAGE).min(new.len());
                    if below(random, 2) == 0 {
                        put(bytes, at + from, &new[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

pub(super) fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// The next random number, by splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(super) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(super) fn below(state: &mut u64, limit: usize) -> usize {
    (random(state) % limit.max(1) as u64) as usize
}

impl World {
    /// Counts an operation; `Break` if the machine stops in the middle of it.
    pub fn begin(&mut self, op: Op) -> io::Result<ControlFlow<()>> {
        if self.down {
            return Err(down());
        }
        let nth = self.counts.entry(op).or_default();
        let (this, here) = (*nth, self.operations);
        *nth += 1;
        self.operations += 1;
        if self.crash_at.is_some_and(|k| here >= k) {
            self.down = true;
            return Ok(ControlFlow::Break(()));
        }
        match self
            .failing
            .iter()
            .find(|failing| failing.op == op && failing.nth == this)
        {
            Some(failing) => Err(failing.kind.into()),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    pub fn used(&self) -> u64 {
        self.names
            .values()
            .map(|file| self.files[file].cache.len() as u64)
            .sum()
    }

    /// A number that no file has.
    pub fn next_file(&self) -> u64 {
        self.files.keys().last().map_or(0, |last| last + 1)
    }

    /// Applies a change of names and leaves it pending.
    pub fn change_name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    pub fn content(&mut self, file: u64) -> &mut CachedFile {
        self.files
            .get_mut(&file)
            .expect("a handle of this age has a file")
    }

    pub fn find(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The number of bytes that a read or write of `len` bytes handles.
    pub fn shortened(&mut self, len: usize) -> usize {
        let cut = self.short && len > 1 && below(&mut self.random, 3) == 0;
        if cut {
            1 + below(&mut self.random, len - 1)
        } else {
            len
        }
    }
}

pub(super) fn down() -> io::Error {
    io::Error::other("the machine has stopped")
}

/// Fails an operation in the middle of which the machine has stopped.
pub(super) fn ended(flow: ControlFlow<()>) -> io::Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(down()),
    }
}
