//! What creates, changes and drops.

mod alter_source;
mod create_sink;
mod create_source;
mod drop;
