//! Every connector, one file or folder each.
//!
//! A connector is a struct of options for each direction, a `pub const CONNECTOR`, a source, a sink,
//! private helpers and tests. It is known to the world by its line in `registry.rs` and by nothing
//! else; connectors do not know each other.

pub(crate) mod file;
pub(crate) mod generate;
pub(crate) mod process;
pub(crate) mod stdout;
pub(crate) mod websocket;
