//! Headwater: every stream starts at a source.

pub mod dataflow;
pub mod record;
pub mod sql;

pub use record::{Record, RecordError, Symbol, SymbolTooLong, Timestamp};
