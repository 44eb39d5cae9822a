//! A disk in memory that forgets, tears, fills up and lies, all from a seed: for tests that pull the plug.
//!
//! Each file has what a program sees (the page cache) and what is durable; between them lie the writes and truncations
//! since the last sync. Each folder has names likewise. A crash keeps of these what chance says, in any combination:
//! a write whole, not at all, a part of its pages, or torn at any byte; a create, rename or removal or not.
//!
//! ```text
//!   program ──► cache ──pending──► durable          crash: durable + some of pending, torn = the new cache
//! ```
//!
//! It counts its operations, can stop the machine at any of them ([`LyingDisk::crash_at`]), fail one, lose an fsync, run
//! out of room, flip a bit at rest, and be short in what it reads and writes. Handles from before a crash fail for ever.
//! The same seed and the same operations give the same disk. A failed fsync drops what it should have written, as kernels do: the cache still shows it, no
//! later fsync brings it to the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::segment::locked;

mod files;
mod world;

use world::{Content, Failing, World, below};

/// What an operation does, to choose one that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Opening a file that exists.
    Open,
    /// Creating a file.
    Create,
    /// Reading at a place.
    Read,
    /// Writing at a place.
    Write,
    /// Cutting or extending a file.
    Truncate,
    /// Making a file's contents durable.
    Sync,
    /// Making a folder's names durable.
    SyncDir,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
}

/// What a crash takes of that which was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing: only the process ended.
    Process,
    /// Everything.
    Everything,
    /// What chance says, torn at any place.
    Anything,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct LyingDisk {
    world: Arc<Mutex<World>>,
}

impl LyingDisk {
    /// An empty disk that behaves, until it is told otherwise.
    pub fn new(seed: u64) -> LyingDisk {
        let world = World {
            random: seed,
            age: 0,
            down: false,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeSet::new(),
            operations: 0,
            counts: BTreeMap::new(),
            crash_at: None,
            failing: Vec::new(),
            lost_syncs: BTreeSet::new(),
            lose_all_syncs: false,
            room: None,
            short: false,
        };
        LyingDisk {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Pulls the plug and starts the machine again. All handles and locks are gone.
    pub fn crash(&self, crash: Crash) {
        let world = &mut *locked(&self.world);
        let random = &mut world.random;
        world.names = world.durable_names.clone();
        for naming in &world.pending_names {
            let kept = match crash {
                Crash::Process => true,
                Crash::Everything => false,
                Crash::Anything => below(random, 2) == 0,
            };
            if kept {
                naming.apply(&mut world.names);
            }
        }
        world.durable_names = world.names.clone();
        world.pending_names.clear();
        for content in world.files.values_mut() {
            match crash {
                Crash::Process => continue,
                Crash::Everything => {}
                Crash::Anything => {
                    let pending = std::mem::take(&mut content.pending);
                    pending
                        .iter()
                        .for_each(|change| change.torn(random, &mut content.durable));
                }
            }
            content.pending.clear();
            content.cache = content.durable.clone();
        }
        let names = &world.names;
        world
            .files
            .retain(|file, _| names.values().any(|named| named == file));
        (world.age, world.down, world.crash_at) = (world.age + 1, false, None);
        world.locks.clear();
    }

    /// Stops the machine in the middle of operation `k`, counted from 0 over the disk's life: it and all after it fail, until
    /// [`LyingDisk::crash`].
    pub fn crash_at(&self, k: u64) {
        locked(&self.world).crash_at = Some(k);
    }

    /// Whether the machine stands still.
    pub fn is_down(&self) -> bool {
        locked(&self.world).down
    }

    /// How many operations there were. Locking and listing count as none.
    pub fn operations(&self) -> u64 {
        locked(&self.world).operations
    }

    /// How many operations of one kind there were.
    pub fn count(&self, op: Op) -> u64 {
        locked(&self.world)
            .counts
            .get(&op)
            .copied()
            .unwrap_or_default()
    }

    /// Lets the operation of this kind fail that comes after `skip` more of them.
    pub fn fail(&self, op: Op, skip: u64, kind: ErrorKind) {
        let world = &mut *locked(&self.world);
        let nth = world.counts.get(&op).copied().unwrap_or_default() + skip;
        world.failing.push(Failing { op, nth, kind });
    }

    /// Lets the file sync that comes after `skip` more of them succeed without doing anything.
    pub fn lose_sync(&self, skip: u64) {
        let world = &mut *locked(&self.world);
        let nth = world.counts.get(&Op::Sync).copied().unwrap_or_default() + skip;
        world.lost_syncs.insert(nth);
    }

    /// Lets all file syncs succeed without doing anything, or no longer.
    pub fn lose_all_syncs(&self, lose: bool) {
        locked(&self.world).lose_all_syncs = lose;
    }

    /// How many bytes fit on the disk; `None` for as many as one likes.
    pub fn set_room(&self, bytes: Option<u64>) {
        locked(&self.world).room = bytes;
    }

    /// How many bytes all files have.
    pub fn used(&self) -> u64 {
        locked(&self.world).used()
    }

    /// Reads and writes do only a part of what they are asked, now and then.
    pub fn set_short(&self, short: bool) {
        locked(&self.world).short = short;
    }

    /// Turns one bit of a file around, durably; false if there is no such byte.
    pub fn flip(&self, path: &Path, byte: u64, bit: u8) -> bool {
        self.change(path, |bytes| {
            let found = bytes.get_mut(byte as usize);
            found.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
    }

    /// Puts these bytes in the place of a file's contents, durably; creates the file if need be.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let world = &mut *locked(&self.world);
        let file = world
            .names
            .get(path)
            .copied()
            .unwrap_or_else(|| world.fresh());
        world.names.insert(path.to_owned(), file);
        world.durable_names.insert(path.to_owned(), file);
        let content = Content {
            cache: bytes.to_owned(),
            durable: bytes.to_owned(),
            pending: Vec::new(),
        };
        world.files.insert(file, content);
    }

    /// What a program would read in this file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let world = locked(&self.world);
        Some(world.files[world.names.get(path)?].cache.clone())
    }

    /// All files, as a program sees them.
    pub fn paths(&self) -> Vec<PathBuf> {
        locked(&self.world).names.keys().cloned().collect()
    }

    /// A disk of its own with the same contents and settings.
    pub fn fork(&self) -> LyingDisk {
        let copy = LyingDisk::new(0);
        let from = locked(&self.world);
        {
            let to = &mut *locked(&copy.world);
            to.random = from.random;
            to.files = from.files.clone();
            to.names = from.names.clone();
            to.durable_names = from.durable_names.clone();
            to.pending_names = from.pending_names.clone();
            (to.room, to.short) = (from.room, from.short);
        }
        copy
    }

    fn change(&self, path: &Path, change: impl Fn(&mut Vec<u8>) -> bool) -> bool {
        let world = &mut *locked(&self.world);
        let Some(file) = world.names.get(path) else {
            return false;
        };
        let content = world.files.get_mut(file).expect("a name has a file");
        change(&mut content.durable);
        change(&mut content.cache)
    }
}
