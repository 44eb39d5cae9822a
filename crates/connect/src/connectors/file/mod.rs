//! `file`: lines of files, followed and written.
//!
//! `source.rs` follows files that patterns lead to; `sink.rs` writes one file, a line a row. They share
//! nothing but the name.
//!
//! The source in parts: `find.rs` looks for files, `watch.rs` hears of changes, `tail.rs` reads one
//! file, `identity.rs` knows it again, `saved.rs` is the cursor, `resume.rs` finds its files again,
//! `gone.rs` keeps those that may come back, `reading.rs` brings them together.

mod find;
mod gone;
mod identity;
mod place;
mod reading;
mod resume;
mod saved;
mod sink;
mod source;
mod tail;
mod watch;

use crate::Connector;

/// The connector `file`.
pub const CONNECTOR: Connector = Connector {
    name: "file",
    summary: "lines of files on this machine",
    source: Some(source::KIND),
    sink: Some(sink::KIND),
};
