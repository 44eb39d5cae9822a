//! Small files of a data folder: read whole, written so that they exist whole or not at all.
//!
//! ```text
//!   8 hexadecimal digits: the crc32c of what follows | line feed | JSON
//! ```

use std::io::{self, IoSlice};
use std::path::Path;

use arrow::buffer::Buffer;
use headwater_log::{Disk, read_full, write_full};
use serde::Serialize;

/// Bytes of the checksum and the line feed.
const HEAD: usize = 9;

/// A value as JSON behind its checksum.
pub(super) fn with_checksum(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut bytes = format!("{:08x}\n", crc32c::crc32c(&json)).into_bytes();
    bytes.extend(json);
    Ok(bytes)
}

/// The JSON behind a checksum; `None` if the checksum does not match.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (head, json) = bytes.split_at_checked(HEAD)?;
    let digits = std::str::from_utf8(head).ok()?.strip_suffix('\n')?;
    let sum = u32::from_str_radix(digits, 16).ok()?;
    (sum == crc32c::crc32c(json)).then_some(json)
}

/// Reads `bytes` bytes of a file from byte `at` on.
///
/// # Errors
/// `UnexpectedEof` if the file is shorter.
pub(super) fn read_part(disk: &dyn Disk, path: &Path, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    // Before the allocation: a damaged file may ask for any size.
    if at
        .checked_add(bytes)
        .is_none_or(|end| end > file.len().unwrap_or(0))
    {
        return Err(short());
    }
    let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| short())?];
    match read_full(&*file, &mut buffer, at)? {
        read if read == buffer.len() => Ok(buffer),
        _ => Err(short()),
    }
}

/// Reads a file whole.
pub(super) fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let bytes = disk.open(path)?.len()?;
    read_part(disk, path, 0, bytes)
}

/// Writes and syncs a file; its name is durable once the folder is synced.
pub(super) fn write_file(disk: &dyn Disk, path: &Path, parts: &[Buffer]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let file = disk.create(path)?;
    write_full(&*file, &mut slices, 0)?;
    file.sync()
}

/// Writes a file under a temporary name and renames it: it is there whole, and durable when this returns.
pub(super) fn replace_file(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
    bytes: Vec<u8>,
) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    write_file(disk, &temporary, &[Buffer::from_vec(bytes)])?;
    disk.rename(&temporary, &folder.join(name))?;
    disk.sync_dir(folder)
}
