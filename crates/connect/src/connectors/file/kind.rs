//! What a path leads to other than a file.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;

/// What this is, if it is not a regular file: one that can be read and written at a position.
pub(super) fn other_than_file(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a folder"),
        () if kind.is_fifo() => Some("a pipe"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}
