//! A data folder as a process that is killed leaves it: a copy made while the database runs.
//!
//! Checkpoints are copied before logs: a log can be longer than a checkpoint covers, never shorter.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The data folder as the process would leave it if it were killed now: a copy beside it.
pub fn crash(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
    copy_all(folder, copy.path());
    copy
}

fn copy_all(from: &Path, to: &Path) {
    let entries = std::fs::read_dir(from).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap();
        if path.is_dir() {
            std::fs::create_dir_all(to.join(name)).unwrap();
            copy_all(&path, &to.join(name));
        } else if name != "LOCK" {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
