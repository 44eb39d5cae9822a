//! Every connector, one file or folder each.
//!
//! A connector is a struct of options for each direction, a `pub const CONNECTOR`, a source, a sink,
//! private helpers and tests. The crate reaches it by its line in `registry.rs` and by nothing else;
//! connectors do not know each other. One that brings dependencies has a Cargo feature of its name.

#[cfg(feature = "file")]
pub(crate) mod file;
pub(crate) mod generate;
#[cfg(feature = "process")]
pub(crate) mod process;
pub(crate) mod stdout;
#[cfg(feature = "websocket")]
pub(crate) mod websocket;
