//! `file`: lines of files, followed and written.
//!
//! `source.rs` follows the files that patterns match; `sink.rs` writes one file, a line a row, which `target.rs` opens.
//!
//! The source in parts: `find.rs` matches patterns, `watch.rs` collects inotify events, `tail.rs` reads one
//! file, `identity.rs` recognises a file, `cursor.rs` is the saved state, `resume.rs` matches it with the
//! files found, `gone.rs` keeps the positions of absent files, `follower.rs` drives them all.

mod cursor;
mod find;
mod follower;
mod gone;
mod identity;
mod kind;
mod position;
mod resume;
mod sink;
mod source;
mod source_options;
mod tail;
mod target;
mod watch;

use crate::Connector;

pub const CONNECTOR: Connector = Connector {
    name: "file",
    summary: "lines of files on this machine",
    source: Some(source::KIND),
    sink: Some(sink::KIND),
};
