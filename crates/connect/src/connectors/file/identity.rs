//! What makes a file the same file, whatever it is called and whenever it is looked at.
//!
//! Device and inode tell two files apart that exist at the same time; but a new file may get the
//! inode of one that was removed, and a file may be emptied and written anew in place. So a hash of the
//! first bytes, as many as there were and at most 1,024, goes with them. A file of which they are
//! others is another file. Short files are read at once: the hash grows with them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

/// So many of the first bytes are hashed at most.
pub(super) const LENGTH_MAX: usize = 1_024;

/// The first bytes of a file: how many, and their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefix {
    pub length: u16,
    pub hash: u64,
}

impl Prefix {
    /// Of as many bytes as there are now.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let mut bytes = [0; LENGTH_MAX];
        let length = read_start(file, &mut bytes)?;
        Ok(Self::of_bytes(&bytes[..length]))
    }

    /// Of bytes that begin a file, at most `LENGTH_MAX`.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        // At most `LENGTH_MAX`, which fits.
        Self {
            length: bytes.len() as u16,
            hash: fnv(bytes),
        }
    }

    /// Whether the file still begins like this; if so, more bytes are included if there are more.
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
    fn a_file_that_grows_is_the_same_and_one_written_anew_is_not() {
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
