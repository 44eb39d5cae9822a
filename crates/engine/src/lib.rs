//! Headwater: every stream starts at a source.

pub mod dataflow;
pub mod sql;
