//! What answers without changing anything.

pub(super) mod explain;
pub(super) mod guarantees;
mod metrics;
mod private_replay;
pub(super) mod retained_rows;
pub(super) mod select;
mod subscribe;
pub(super) mod system_rows;
