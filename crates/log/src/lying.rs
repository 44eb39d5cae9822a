//! A disk in memory that forgets, tears, fills up and lies, all from a seed: for tests of crash consistency.
//!
//! Each file has the content that a program sees (the page cache) and the durable content; between them are the writes
//! and truncations since the last sync. Each folder has names likewise. A crash keeps a random part of these, in any
//! combination: a write whole, not at all, some of its pages, or torn at any byte; a create, rename or removal or not.
//!
//! ```text
//!   program ──► cache ──pending──► durable          crash: durable + some of pending, torn = the new cache
//! ```
//!
//! It counts its operations, can stop the machine at any of them ([`LyingDisk::crash_at`]), fail one, lose an fsync,
//! run out of room, flip a bit at rest, and read and write short. Handles from before a crash fail for ever. The same
//! seed and the same operations give the same disk. A failed fsync drops what it should have written, as kernels do:
//! the cache still shows it, and no later fsync writes it to the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::segment::locked;

mod files;
mod world;

use world::{CachedFile, Failing, World, below};

/// A kind of disk operation, for counting and for failing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Opening a file that exists.
    Open,
    /// Creating or emptying a file.
    Create,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Cutting or extending a file.
    Truncate,
    /// Making a file's contents durable.
    Sync,
    /// Making a folder's names durable.
    SyncDir,
    /// Renaming a file within its folder.
    Rename,
    /// Removing the name of a file.
    Remove,
}

/// How much a crash loses of what was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing: only the process ended.
    Process,
    /// Everything that was not synced.
    Everything,
    /// A random part, torn at any byte.
    Anything,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct LyingDisk {
    world: Arc<Mutex<World>>,
}

impl LyingDisk {
    /// An empty disk without faults; the other methods add them.
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

    /// Crashes and restarts the machine. All handles fail from then on, all locks are free.
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
                        .for_each(|change| change.apply_torn(random, &mut content.durable));
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

    /// Stops the machine in the middle of operation `k`, counted from 0 over the disk's life: it and all after it fail,
    /// until [`LyingDisk::crash`].
    pub fn crash_at(&self, k: u64) {
        locked(&self.world).crash_at = Some(k);
    }

    /// Whether the machine has stopped and not yet crashed.
    pub fn is_down(&self) -> bool {
        locked(&self.world).down
    }

    /// Number of operations so far, not counting locking and listing.
    pub fn operations(&self) -> u64 {
        locked(&self.world).operations
    }

    /// Number of operations of one kind so far.
    pub fn count(&self, op: Op) -> u64 {
        locked(&self.world)
            .counts
            .get(&op)
            .copied()
            .unwrap_or_default()
    }

    /// Makes one operation of this kind fail: the next, after `skip` more that succeed.
    pub fn fail(&self, op: Op, skip: u64, kind: ErrorKind) {
        let world = &mut *locked(&self.world);
        let nth = world.counts.get(&op).copied().unwrap_or_default() + skip;
        world.failing.push(Failing { op, nth, kind });
    }

    /// Makes one file sync succeed without doing anything: the next, after `skip` more that work.
    pub fn lose_sync(&self, skip: u64) {
        let world = &mut *locked(&self.world);
        let nth = world.counts.get(&Op::Sync).copied().unwrap_or_default() + skip;
        world.lost_syncs.insert(nth);
    }

    /// Whether all file syncs succeed without doing anything.
    pub fn lose_all_syncs(&self, lose: bool) {
        locked(&self.world).lose_all_syncs = lose;
    }

    /// Sets the capacity of the disk, bytes (`None`: no limit).
    pub fn set_room(&self, bytes: Option<u64>) {
        locked(&self.world).room = bytes;
    }

    /// Total length of all files, bytes.
    pub fn used(&self) -> u64 {
        locked(&self.world).used()
    }

    /// Whether reads and writes are short now and then.
    pub fn set_short(&self, short: bool) {
        locked(&self.world).short = short;
    }

    /// Flips one bit of a file, durably; false if there is no such byte.
    pub fn flip(&self, path: &Path, byte: u64, bit: u8) -> bool {
        self.change(path, |bytes| {
            let found = bytes.get_mut(byte as usize);
            found.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
    }

    /// Replaces a file's contents, durably; creates the file if needed.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let world = &mut *locked(&self.world);
        let file = world
            .names
            .get(path)
            .copied()
            .unwrap_or_else(|| world.next_file());
        world.names.insert(path.to_owned(), file);
        world.durable_names.insert(path.to_owned(), file);
        let content = CachedFile {
            cache: bytes.to_owned(),
            durable: bytes.to_owned(),
            pending: Vec::new(),
        };
        world.files.insert(file, content);
    }

    /// The contents of a file as a program reads them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let world = locked(&self.world);
        Some(world.files[world.names.get(path)?].cache.clone())
    }

    /// The paths of all files as a program sees them.
    pub fn paths(&self) -> Vec<PathBuf> {
        locked(&self.world).names.keys().cloned().collect()
    }

    /// An independent copy, with the same contents and settings but no planned faults.
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
