//! One process per data folder.
//!
//! The lock is the operating system's (`flock` on a file named `LOCK`), so it ends with the process that holds it,
//! however that ends. The file holds the process id, for the error message of the second one that comes.

use std::path::Path;
use std::time::Duration;

use crate::disk::{Disk, Locking};
use crate::error::{Error, Result};

/// A data folder that is ours until this is dropped.
pub struct FolderLock {
    _held: Box<dyn Send + Sync>,
}

/// So often a lock that seems to be our own is tried: a program that is being started holds copies of our handles, also
/// of one that was closed, until it runs.
const TRIES: u32 = 10;
/// The wait between two tries.
const WAIT: Duration = Duration::from_millis(10);

/// Takes the data folder, creating it if need be; [`Error::Locked`] if another process, or another handle of this one, has it.
/// Blocks for at most a tenth of a second.
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
