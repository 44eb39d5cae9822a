//! One process per data folder.
//!
//! The lock is the operating system's (`flock` on a file named `LOCK`), so it ends with the process that holds it, even
//! if that is killed. The file holds the process id, for the error message of a second process.

use std::path::Path;
use std::time::Duration;

use crate::disk::{Disk, Locking};
use crate::error::{Error, Result};

/// The exclusive lock on a data folder, held until it is dropped.
pub struct FolderLock {
    _held: Box<dyn Send + Sync>,
}

/// Attempts to take a lock whose file names this process. A child process holds copies of our file handles, even of
/// closed ones, from its fork to its exec, so a lock that we have just released may still be held.
const TRIES: u32 = 10;
/// Wait between two attempts.
const WAIT: Duration = Duration::from_millis(10);

/// Locks the data folder, creating it if needed. Blocks for at most 100 ms.
///
/// # Errors
/// [`Error::Locked`] if another process, or another handle of this one, holds the lock.
pub fn lock(disk: &dyn Disk, folder: &Path) -> Result<FolderLock> {
    disk.create_dir(folder)
        .map_err(|error| Error::io("create", folder, error))?;
    let path = folder.join("LOCK");
    let ours = std::process::id();
    let mut tries = 0;
    loop {
        let taken = disk.lock(&path, &format!("{ours}\n"));
        let pid = match taken.map_err(|error| Error::io("lock", &path, error))? {
            Locking::Held(_held) => return Ok(FolderLock { _held }),
            Locking::Taken(note) => note.trim().parse().ok(),
        };
        tries += 1;
        if pid != Some(ours) || tries == TRIES {
            let folder = folder.to_owned();
            return Err(Error::Locked { folder, pid });
        }
        std::thread::sleep(WAIT);
    }
}

impl std::fmt::Debug for FolderLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FolderLock")
    }
}
