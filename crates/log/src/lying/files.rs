//! The lying disk as a `Disk`: each operation is counted, may stop the machine half-way, and leaves its change pending.
//!
//! An operation in which the machine stops has changed the cache, and then fails: the crash that follows decides how
//! much of it reached the disk. A sync in which it stops may have written nothing.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::world::{CacheChange, CachedFile, Naming, World, down, ended};
use super::{LyingDisk, Op};
use crate::disk::{Disk, DiskFile, Locking};
use crate::segment::locked;

impl LyingDisk {
    fn handle(&self, world: &World, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(LyingFile {
            world: self.world.clone(),
            file,
            age: world.age,
        })
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
                content.pending.push(CacheChange::Truncate(0));
                file
            }
            Err(_) => {
                let file = world.next_file();
                world.files.insert(file, CachedFile::default());
                world.change_name(Naming::Put(path.to_owned(), file));
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
        // A folder exists as long as there is a file below it.
        let inside = world.names.keys().filter_map(|path| {
            let below = path.strip_prefix(dir).ok()?;
            Some(below.iter().next()?.to_string_lossy().into_owned())
        });
        let names: BTreeSet<String> = inside.collect();
        Ok(names.into_iter().collect())
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
        world.change_name(Naming::Rename(from.to_owned(), to.to_owned(), file));
        ended(flow)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let world = &mut *locked(&self.world);
        let flow = world.begin(Op::Remove)?;
        world.find(path)?;
        world.change_name(Naming::Remove(path.to_owned()));
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
    /// Runs an operation, unless the machine was restarted since the file was opened.
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
            let most = world.shortened(buffer.len());
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
            let len = world.shortened(bytes.len());
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
            let change = CacheChange::Write(at as usize, bytes);
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
            let change = CacheChange::Truncate(len as usize);
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
