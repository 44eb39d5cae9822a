//! What answers without changing what exists: SELECT, SHOW, DESCRIBE, EXPLAIN, REPLAY, metrics; and the
//! planner of continuous queries.

mod explain;
mod guarantees;
mod health;
mod plan;
mod private_replay;
mod retained_rows;
mod select;
mod system_rows;
mod undefined;
mod view_rows;
mod wildcards;

pub(crate) use explain::{describe, explain};
pub(crate) use guarantees::guarantees;
pub use guarantees::{Guarantees, Link};
pub(crate) use health::{failures, metrics, stream_stats};
pub(crate) use plan::{plan, published_schema};
pub(crate) use private_replay::{replay, replay_statement};
pub(crate) use select::{read_by, select};
pub(crate) use system_rows::show;
