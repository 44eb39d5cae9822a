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
use std::io::{self, ErrorKind, IoSlice};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, Locking};
use crate::segment::locked;

const PAGE: usize = 4096;

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

struct World {
    random: u64,
    /// Counts crashes; handles of an earlier age fail.
    age: u64,
    down: bool,
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<Naming>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    counts: BTreeMap<Op, u64>,
    crash_at: Option<u64>,
    failing: Vec<Failing>,
    lost_syncs: BTreeSet<u64>,
    lose_all_syncs: bool,
    room: Option<u64>,
    short: bool,
}

struct Failing {
    op: Op,
    /// Counted from the start of the disk.
    nth: u64,
    kind: ErrorKind,
}

#[derive(Default, Clone)]
struct Content {
    cache: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum Naming {
    Put(PathBuf, u64),
    Gone(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Naming {
    fn dir(&self) -> Option<&Path> {
        match self {
            Naming::Put(path, _) | Naming::Gone(path) | Naming::Rename(path, ..) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Naming::Put(path, file) => drop(names.insert(path.clone(), *file)),
            Naming::Gone(path) => drop(names.remove(path)),
            Naming::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Truncate(len) => bytes.resize(*len, 0),
            Change::Write(at, new) => put(bytes, *at, new),
        }
    }

    /// What of it survives a crash.
    fn torn(&self, random: &mut u64, bytes: &mut Vec<u8>) {
        match (self, below(random, 4)) {
            (_, 0) => {}
            (_, 1) | (Change::Truncate(_), _) => self.apply(bytes),
            (Change::Write(at, new), 2) => put(bytes, *at, &new[..below(random, new.len() + 1)]),
            (Change::Write(at, new), _) => {
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

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// The next random number, by splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(state: &mut u64, limit: usize) -> usize {
    (random(state) % limit.max(1) as u64) as usize
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

    fn handle(&self, world: &World, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(LyingFile {
            world: self.world.clone(),
            file,
            age: world.age,
        })
    }
}

impl World {
    /// Counts an operation. `Break` if it is the one in the middle of which the machine stops.
    fn begin(&mut self, op: Op) -> io::Result<ControlFlow<()>> {
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

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|file| self.files[file].cache.len() as u64)
            .sum()
    }

    fn fresh(&self) -> u64 {
        self.files.keys().last().map_or(0, |last| last + 1)
    }

    /// Does a change of names and leaves it pending.
    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    fn content(&mut self, file: u64) -> &mut Content {
        self.files
            .get_mut(&file)
            .expect("a handle of this age has a file")
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn less(&mut self, len: usize) -> usize {
        let cut = self.short && len > 1 && below(&mut self.random, 3) == 0;
        if cut {
            1 + below(&mut self.random, len - 1)
        } else {
            len
        }
    }
}

fn down() -> io::Error {
    io::Error::other("the machine has stopped")
}

/// Ends an operation in the middle of which the machine may have stopped.
fn ended(flow: ControlFlow<()>) -> io::Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(down()),
    }
}

impl Disk for LyingDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let world = &mut *locked(&self.world);
        ended(world.begin(Op::Open)?)?;
        let file = world.find(path)?;
        Ok(self.handle(world, file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let world = &mut *locked(&self.world);
        let flow = world.begin(Op::Create)?;
        let file = match world.find(path) {
            Ok(file) => {
                let content = world.content(file);
                content.cache.clear();
                content.pending.push(Change::Truncate(0));
                file
            }
            Err(_) => {
                let file = world.fresh();
                world.files.insert(file, Content::default());
                world.name(Naming::Put(path.to_owned(), file));
                file
            }
        };
        ended(flow)?;
        Ok(self.handle(world, file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = locked(&self.world);
        if world.down {
            return Err(down());
        }
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        if locked(&self.world).down {
            Err(down())
        } else {
            Ok(())
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let world = &mut *locked(&self.world);
        ended(world.begin(Op::SyncDir)?)?;
        let (now, later) = world
            .pending_names
            .drain(..)
            .partition(|naming| naming.dir() == Some(dir));
        let now: Vec<Naming> = now;
        now.iter()
            .for_each(|naming| naming.apply(&mut world.durable_names));
        world.pending_names = later;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let world = &mut *locked(&self.world);
        let flow = world.begin(Op::Rename)?;
        let file = world.find(from)?;
        world.name(Naming::Rename(from.to_owned(), to.to_owned(), file));
        ended(flow)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let world = &mut *locked(&self.world);
        let flow = world.begin(Op::Remove)?;
        world.find(path)?;
        world.name(Naming::Gone(path.to_owned()));
        ended(flow)
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Locking> {
        let world = &mut *locked(&self.world);
        if world.down {
            return Err(down());
        }
        if !world.locks.insert(path.to_owned()) {
            return Ok(Locking::Taken(note.to_owned()));
        }
        let (world, path, age) = (self.world.clone(), path.to_owned(), world.age);
        Ok(Locking::Held(Box::new(LyingLock { world, path, age })))
    }
}

struct LyingLock {
    world: Arc<Mutex<World>>,
    path: PathBuf,
    age: u64,
}

impl Drop for LyingLock {
    fn drop(&mut self) {
        let world = &mut *locked(&self.world);
        if world.age == self.age {
            world.locks.remove(&self.path);
        }
    }
}

struct LyingFile {
    world: Arc<Mutex<World>>,
    file: u64,
    age: u64,
}

impl LyingFile {
    /// Runs an operation on this file's world, if the machine has not been started anew since.
    fn with<T>(&self, run: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let world = &mut *locked(&self.world);
        if world.age == self.age {
            run(world)
        } else {
            Err(down())
        }
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.with(|world| {
            ended(world.begin(Op::Read)?)?;
            let most = world.less(buffer.len());
            let cache = &world.content(self.file).cache;
            let from = (at as usize).min(cache.len());
            let len = most.min(cache.len() - from);
            buffer[..len].copy_from_slice(&cache[from..from + len]);
            Ok(len)
        })
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.with(|world| {
            let flow = world.begin(Op::Write)?;
            let mut bytes: Vec<u8> = slices
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            let len = world.less(bytes.len());
            bytes.truncate(len);
            let room = world.room.map(|room| room.saturating_sub(world.used()));
            let within = world
                .content(self.file)
                .cache
                .len()
                .saturating_sub(at as usize);
            let fits = room.map_or(len, |room| within.saturating_add(room as usize).min(len));
            if fits == 0 && len > 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            bytes.truncate(fits);
            let content = world.content(self.file);
            let change = Change::Write(at as usize, bytes);
            change.apply(&mut content.cache);
            content.pending.push(change);
            ended(flow)?;
            Ok(fits)
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|world| {
            if world.down {
                Err(down())
            } else {
                Ok(world.content(self.file).cache.len() as u64)
            }
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|world| {
            let flow = world.begin(Op::Truncate)?;
            let content = world.content(self.file);
            let change = Change::Truncate(len as usize);
            change.apply(&mut content.cache);
            content.pending.push(change);
            ended(flow)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world| {
            let nth = world.counts.get(&Op::Sync).copied().unwrap_or_default();
            let begun = world.begin(Op::Sync);
            if begun.is_err() && !world.down {
                world.content(self.file).pending.clear();
            }
            ended(begun?)?;
            if !world.lose_all_syncs && !world.lost_syncs.contains(&nth) {
                let content = world.content(self.file);
                let pending = std::mem::take(&mut content.pending);
                pending
                    .iter()
                    .for_each(|change| change.apply(&mut content.durable));
            }
            Ok(())
        })
    }
}
