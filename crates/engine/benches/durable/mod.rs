//! What the parts of the bench of durability share: folders, a disk that counts, and sources of trades.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_log::{Disk, DiskFile, Locking, RealDisk};
use tempfile::TempDir;

use crate::trades::TRADES;

pub mod cost;
pub mod disk;
#[path = "../../tests/killed/mod.rs"]
mod killed;
pub mod latency;

/// Where the folders are made.
pub fn parent() -> PathBuf {
    std::env::var_os("HEADWATER_BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A folder that is removed at the end.
pub fn folder() -> TempDir {
    TempDir::new_in(parent()).expect("a folder for the bench")
}

/// CREATE SOURCE for trades with these options.
pub fn source(options: &str) -> String {
    format!("{TRADES} WITH ({options})")
}

/// Bytes of all files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    files_below(folder)
        .iter()
        .map(|file| file.metadata().map_or(0, |it| it.len()))
        .sum()
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a name in it").path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// The real disk, and how often something was synced.
#[derive(Clone, Default)]
pub struct Counting {
    syncs: Arc<AtomicU64>,
}

impl Counting {
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let syncs = Arc::clone(&self.syncs);
        Arc::new(CountingFile { file, syncs })
    }
}

struct CountingFile {
    file: Arc<dyn DiskFile>,
    syncs: Arc<AtomicU64>,
}

impl Disk for Counting {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path).map(|file| self.file(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Locking> {
        RealDisk.lock(path, note)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.file.write_at(slices, at)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
}
