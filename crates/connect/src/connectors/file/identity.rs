//! Recognises a file, whatever its name.
//!
//! Device and inode distinguish two files that exist at the same time; but a new file may get the inode of
//! one that was removed, and a file may be truncated and rewritten in place. So a hash of the first bytes,
//! as many as there were and at most 1,024, goes with them: with other first bytes it is another file. The
//! hash of a short file grows with it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};

/// A file on this machine, whatever its name: device and inode.
pub(super) type FileId = (u64, u64);

pub(super) fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// The largest number of first bytes that are hashed.
pub(super) const LENGTH_MAX: usize = 1_024;

/// The first bytes of a file: their number, and their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefix {
    pub length: u16,
    pub hash: u64,
}

impl Prefix {
    /// Of the first bytes that the file has now.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let mut bytes = [0; LENGTH_MAX];
        let length = read_start(file, &mut bytes)?;
        Ok(Self::of_bytes(&bytes[..length]))
    }

    /// Of the first bytes of a file, at most `LENGTH_MAX`.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        // At most `LENGTH_MAX`, which fits.
        Self {
            length: bytes.len() as u16,
            hash: fnv(bytes),
        }
    }

    /// Whether the file still begins like this; if so, the prefix grows with it.
    pub(super) fn follow(&mut self, file: &File) -> io::Result<bool> {
        let mut bytes = [0; LENGTH_MAX];
        let length = read_start(file, &mut bytes)?;
        let known = usize::from(self.length);
        if length < known || fnv(&bytes[..known]) != self.hash {
            return Ok(false);
        }
        *self = Self::of_bytes(&bytes[..length]);
        Ok(true)
    }
}

fn read_start(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// FNV-1a: the same on every machine and in every version, as a saved hash must be.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_grows_is_the_same_and_a_rewritten_one_is_not() {
        let mut file = tempfile::tempfile().unwrap();
        let mut prefix = Prefix::of(&file).unwrap();
        for _ in 0..200 {
            file.write_all(b"0123456789").unwrap();
            assert!(prefix.follow(&file).unwrap());
        }
        assert_eq!(prefix.length, 1_024);
        file.write_at(b"x", 1_024).unwrap();
        assert!(prefix.follow(&file).unwrap(), "only the first bytes count");
        file.write_at(b"x", 1_023).unwrap();
        assert!(!prefix.follow(&file).unwrap());
        file.set_len(10).unwrap();
        assert!(!prefix.follow(&file).unwrap());
    }

    #[test]
    fn hashes_do_not_change_between_versions() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
