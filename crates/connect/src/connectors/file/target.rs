//! Opens the file of a sink, and refuses one that a sink must not write.
//!
//! A sink truncates and writes, perhaps as root, so whoever decides what is at its path decides what is
//! overwritten and who reads the rows. The rules, those of the kernel's `protected_symlinks`, `protected_regular`
//! and `protected_hardlinks`, which may be off, and a little more:
//!
//! - A link is followed only if it belongs to us or root, in a folder that nobody else may change. Links are resolved
//!   here, one by one; what is opened at the end is no link.
//! - In a folder where others may write, an existing file must belong to us or root, and have one name.
//! - It is a regular file: a pipe or a device cannot be truncated, and opening one may block or act.
//!
//! Only the last part of the path is looked at, as in the kernel. A new file is readable by its group (mode 640, less
//! the umask).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid};

use super::kind::other_than_file;
use super::sink::{failed, folder};
use crate::{Error, Result};

/// The mode of a new file, before the umask.
const MODE: u32 = 0o640;
/// The longest chain of links.
const LINKS_MAX: u32 = 16;

/// The mode bits of a folder.
const GROUP_WRITES: u32 = 0o020;
const ANYONE_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Opens the file for reading and appending. Blocks.
pub(super) fn open(path: &Path, create: bool) -> Result<File> {
    let at = resolved(path)?;
    let mut how = OpenOptions::new();
    how.read(true).append(true).create(create).mode(MODE);
    // Should a link or a pipe take its place now, the system refuses the one and does not wait for the other.
    how.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let cannot = failed("cannot open", path);
    let file = how.open(&at).map_err(&cannot)?;
    refuse_file(path, &at, &file.metadata().map_err(cannot)?)?;
    Ok(file)
}

/// Fails if what is at this path now would be refused. Nothing may be there. Blocks briefly.
pub(super) fn refusal(path: &Path) -> Result<()> {
    resolved(path).map(drop)
}

/// The path behind all links.
fn resolved(path: &Path) -> Result<PathBuf> {
    if let Ok(found) = fs::metadata(path) {
        refuse_kind(path, &found)?;
    }
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        // Other errors come from opening it.
        let Ok(found) = fs::symlink_metadata(&at) else {
            return Ok(at);
        };
        if !found.is_symlink() {
            refuse_file(path, &at, &found)?;
            return Ok(at);
        }
        refuse_link(path, &at, &found)?;
        let leads_to = fs::read_link(&at).map_err(failed("cannot open", path))?;
        at = folder(&at).join(leads_to);
    }
    let source = std::io::Error::from(ErrorKind::InvalidInput);
    Err(failed("too many links at", path)(source))
}

fn refuse_file(path: &Path, at: &Path, found: &Metadata) -> Result<()> {
    refuse_kind(path, found)?;
    if !others_write(folder(at)) {
        return Ok(());
    }
    let hint = "Write to a folder in which only this user may write, or remove the file.";
    match () {
        () if !is_trusted(found.uid()) => Err(refused(
            path,
            "it belongs to another user, in a folder where others may write".to_owned(),
            hint,
        )),
        () if found.nlink() > 1 => Err(refused(
            path,
            "it has another name as well, in a folder where others may write".to_owned(),
            hint,
        )),
        () => Ok(()),
    }
}

fn refuse_kind(path: &Path, found: &Metadata) -> Result<()> {
    let Some(kind) = other_than_file(found.file_type()) else {
        return Ok(());
    };
    let hint = match found.is_dir() {
        true => "Name a file in the folder.",
        false => {
            "Name a regular file. A program reads rows from a pipe behind the connector 'stdout'."
        }
    };
    let reason = format!("it is {kind}, and a sink writes regular files only");
    Err(refused(path, reason, hint))
}

fn refuse_link(path: &Path, at: &Path, found: &Metadata) -> Result<()> {
    let whose = match () {
        () if !is_trusted(found.uid()) => "a link of another user",
        () if others_replace(folder(at)) => "a link in a folder where others may replace it",
        () => return Ok(()),
    };
    let whose = match at == path {
        true => format!("it is {whose}"),
        false => format!("{} is {whose}", at.display()),
    };
    let hint = "Name the file that the link leads to, or put a link of this user into a folder in which only this \
                user may write.";
    Err(refused(path, whose, hint))
}

fn refused(path: &Path, reason: String, hint: &'static str) -> Error {
    Error::RefusedTarget {
        target: path.display().to_string(),
        reason,
        hint,
    }
}

/// Whether the files of this user are ours, or root's, who may do anything anyway.
fn is_trusted(user: u32) -> bool {
    user == geteuid().as_raw() || user == 0
}

/// Whether others may make files in the folder. The group of this process alone is not another: some systems give
/// each user a group.
fn others_write(folder: &Path) -> bool {
    let Ok(found) = fs::metadata(folder) else {
        return false;
    };
    let mode = found.mode();
    let group_writes = mode & GROUP_WRITES != 0 && found.gid() != getegid().as_raw();
    !is_trusted(found.uid()) || mode & ANYONE_WRITES != 0 || group_writes
}

/// Whether others may put something else in the place of a file of ours in the folder.
fn others_replace(folder: &Path) -> bool {
    let keeps = |found: Metadata| is_trusted(found.uid()) && found.mode() & STICKY != 0;
    others_write(folder) && !fs::metadata(folder).is_ok_and(keeps)
}

#[cfg(test)]
mod tests;
