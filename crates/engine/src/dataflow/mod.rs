//! Continuous queries as timely dataflows over Arrow batches.
//!
//! ```text
//!   Plan (a tree of nodes)  --build-->  timely operators, one dataflow a query
//!
//!   Input -> [spread] -> Transform -> Window | Session | Keyed -> Transform -> [gather] -> outlet
//! ```
//!
//! A dataflow's time is the **epoch**: the number of the step. Rows and watermarks of one step travel
//! as [`Chunk`]s at that epoch; a stateful stage acts when the epoch is complete everywhere, so what
//! it emits does not depend on how the step was cut into batches. Event time never is dataflow time:
//! it is data ([`Chunk::Watermark`]).
//!
//! Nothing here knows SQL, sources or sinks. The planner makes a [`Plan`]; the engine feeds inputs
//! and takes what the outlet collected. Operators do not share memory with their peers on other
//! workers: what crosses workers are chunks.

mod build;
mod chunk;
mod groups;
mod keyed;
mod latest;
mod pane;
mod panes;
mod plan;
mod saved;
mod session;
mod stage;
mod stamp;
mod transform;
mod union;
mod window;

pub use build::{Built, Failure, Input, Outlet, build};
pub use chunk::{Chunk, DIFF_COLUMN, Watermark, appearing, disappearing, with_diff};
pub use datafusion::error::Result;
pub use groups::{Aggregate, Grouping};
pub(crate) use pane::{earliest, latest, times};
pub use plan::{EventTime, KeyedSpec, Node, OutputColumn, Plan, SessionSpec, WindowSpec};
pub use saved::{KEY_GROUPS, Run, Share, StageHandle, StageState, owner};
pub use stamp::{Hidden, Offsets, Provenance, Stamp, with_hidden};
pub use transform::Transform;
