//! Disks that lose an fsync, fail an operation, or change a bit.
