//! Continuous queries as timely dataflows over Arrow batches.
//!
//! ```text
//!   Plan (a tree of nodes)  --build-->  timely operators, one dataflow a query
//!
//!   Input -> [spread] -> Transform -> Window | Session | Keyed -> Transform -> [gather] -> outlet
//! ```
//!
//! A dataflow's time is the **epoch**: the number of the step. Rows and watermarks of one step travel
//! as [`StreamElement`]s at that epoch; a stateful stage acts when the epoch is complete on all workers, so
//! what it emits does not depend on how the step was cut into batches. Event time is never the time of
//! the dataflow: it is data ([`StreamElement::Watermark`]).
//!
//! Nothing here knows SQL, sources or sinks. The planner makes a [`Plan`]; the engine feeds inputs
//! and takes what the outlet collected.
//!
//! **What crosses workers as a message** are [`StreamElement`]s, each with the numbers of the worker it
//! is from and the worker it goes to; they serialize as Arrow IPC. **What the workers of a query share**
//! is memory of this process: the plan, with its expressions and functions (`plan.rs`), and the
//! [`QueryFailure`]. Runs of one worker's state are `Arc`ed Arrow buffers that the thread which writes
//! checkpoints reads. So a plan is no message, and a query runs in one process.

mod build;
mod groups;
mod key_group;
mod keyed;
mod keyed_state;
mod metadata_columns;
mod pane;
mod panes;
mod plan;
mod session;
mod stage;
mod stage_state;
mod stream_element;
mod transform;
mod union;
mod window;

pub use build::{Built, Input, Outlet, QueryFailure, build};
pub use datafusion::error::Result;
pub use groups::{Aggregate, Grouping, OutputColumn};
pub use key_group::{KEY_GROUPS, owner};
pub use metadata_columns::{
    MetadataColumn, MetadataColumns, Offsets, Provenance, with_metadata_columns,
};
pub(crate) use pane::{earliest, latest, times};
pub use plan::{EventTime, KeyedSpec, Plan, PlanNode, SessionSpec, WindowSpec};
pub use stage_state::{Run, Share, StageHandle, StageState};
pub use stream_element::{
    DIFF_COLUMN, StreamElement, Watermark, appearing, disappearing, with_diff,
};
pub use transform::Transform;
