//! `file`: lines of files, written.
//!
//! `sink.rs` writes one file, a line a row.

mod sink;

use crate::Connector;

/// The connector `file`.
pub const CONNECTOR: Connector = Connector {
    name: "file",
    summary: "lines of a file on this machine",
    source: None,
    sink: Some(sink::KIND),
};
