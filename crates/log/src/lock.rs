//! One process per data folder.
//!
//! The lock is the operating system's (`flock` on a file named `LOCK`), so it ends with the process that holds it,
//! however that ends. The file holds the process id, for the error message of the second one that comes.

use std::path::Path;

use crate::disk::{Disk, Locking};
use crate::error::{Error, Result};

/// A data folder that is ours until this is dropped.
pub struct FolderLock {
    _held: Box<dyn Send + Sync>,
}

/// Takes the data folder, creating it if need be; [`Error::Locked`] if another process, or another handle of this one, has it.
/// Never blocks.
pub fn lock(disk: &dyn Disk, folder: &Path) -> Result<FolderLock> {
    disk.create_dir(folder)
        .map_err(|error| Error::io("create", folder, error))?;
    let path = folder.join("LOCK");
    let taken = disk.lock(&path, &format!("{}\n", std::process::id()));
    match taken.map_err(|error| Error::io("lock", &path, error))? {
        Locking::Held(_held) => Ok(FolderLock { _held }),
        Locking::Taken(note) => Err(Error::Locked {
            folder: folder.to_owned(),
            pid: note.trim().parse().ok(),
        }),
    }
}

impl std::fmt::Debug for FolderLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FolderLock")
    }
}
