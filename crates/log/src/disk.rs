//! The file system operations that a log needs, as a trait, and their implementation on the operating system.
//!
//! Everything this crate does to a file system goes through [`Disk`] and [`DiskFile`], so that tests can use a disk
//! that forgets, tears, fills up and lies (`lying::LyingDisk`). Reads and writes may be short, as those of an operating
//! system are; `read_full` and `write_full` finish them.
//!
//! The contract: a write is durable once `sync` of its file has returned; a create, rename or remove is durable once
//! `sync_dir` of its folder has. Until then a crash may lose any part of it, in any order.
//!
//! A file removed while it is open can be read to its end, as on any Unix.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A file system, as far as a log uses one; thread-safe.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file, or empties an existing one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// The names of all files in a folder, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a folder and its parents, durably; succeeds if it exists. On Unix only the owner may access what it
    /// creates, because received data may be secret.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file within its folder, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; readers that have the file open keep it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a file, creating the file if needed, and writes `note` into it; never blocks. The
    /// lock lasts until the value is dropped or the process ends.
    fn lock(&self, path: &Path, note: &str) -> io::Result<Locking>;
}

/// An open file of a [`Disk`]; any number of threads may use it at once.
pub trait DiskFile: Send + Sync {
    /// Reads at byte `at`. 0 bytes mean the end of the file; a shorter read than asked for means nothing.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes the slices one after the other at byte `at`, extending the file; may write fewer bytes than given.
    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize>;
    /// Length of the file, bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has length 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or extends it with zeros, to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes all writes durable. After an error, any write since the last success may be lost, and a later success does
    /// not change that.
    fn sync(&self) -> io::Result<()>;
}

/// The outcome of [`Disk::lock`].
pub enum Locking {
    /// This process holds the lock until the value is dropped.
    Held(Box<dyn Send + Sync>),
    /// Another holder has the lock; with the note it wrote.
    Taken(String),
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|folder| !folder.exists())
            .collect();
        let mut owned = fs::DirBuilder::new();
        owned.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut owned, 0o700);
        owned.create(dir)?;
        for folder in missing
            .into_iter()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            let above = folder
                .parent()
                .filter(|above| !above.as_os_str().is_empty());
            self.sync_dir(above.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Locking> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                let mut holder = Vec::new();
                (&mut file).take(64).read_to_end(&mut holder)?;
                return Ok(Locking::Taken(
                    String::from_utf8_lossy(&holder).into_owned(),
                ));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(note.as_bytes())?;
        Ok(Locking::Held(Box::new(file)))
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, slices, at)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Slices passed to one system call, at most: `IOV_MAX` of Linux.
const SLICES_MAX: usize = 1024;

/// Writes all slices, repeating short writes.
pub fn write_full(file: &dyn DiskFile, slices: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
    let mut rest = slices;
    let mut at = at;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let some = &rest[..rest.len().min(SLICES_MAX)];
        match file.write_at(some, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends; returns the number of bytes read.
pub fn read_full(file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], at + have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Reads a small file whole; `None` if it does not exist or is longer than `limit` bytes.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let len = file.len().map_err(|error| Error::io("read", path, error))?;
    if len > limit {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    let read = read_full(&*file, &mut bytes, 0).map_err(|error| Error::io("read", path, error))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}
