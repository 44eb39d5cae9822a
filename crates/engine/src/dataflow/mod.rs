//! Continuous queries as timely dataflows over Arrow batches.
//!
//! ```text
//!   Plan (a tree of nodes)  --build-->  timely operators, one dataflow a query
//!
//!   Input -> [spread] -> Transform -> Window | Session | Keyed -> Transform -> [gather] -> outlet
//! ```
//!
//! A dataflow's time is the **epoch**: the number of the step. Rows and watermarks of one step travel
//! as [`StreamElement`]s at that epoch; a stateful stage acts when the epoch is complete everywhere, so what
//! it emits does not depend on how the step was cut into batches. Event time never is dataflow time:
//! it is data ([`StreamElement::Watermark`]).
//!
//! Nothing here knows SQL, sources or sinks. The planner makes a [`Plan`]; the engine feeds inputs
//! and takes what the outlet collected. Operators do not share memory with their peers on other
//! workers: what crosses workers are chunks.

mod build;
mod groups;
mod keyed;
mod keyed_state;
mod metadata_columns;
mod pane;
mod panes;
mod plan;
mod saved;
mod session;
mod stage;
mod stream_element;
mod transform;
mod union;
mod window;

pub use build::{Built, Failure, Input, Outlet, build};
pub use datafusion::error::Result;
pub use groups::{Aggregate, Grouping};
pub use metadata_columns::{
    MetadataColumn, MetadataColumns, Offsets, Provenance, with_metadata_columns,
};
pub(crate) use pane::{earliest, latest, times};
pub use plan::{EventTime, KeyedSpec, Node, OutputColumn, Plan, SessionSpec, WindowSpec};
pub use saved::{KEY_GROUPS, Run, Share, StageHandle, StageState, owner};
pub use stream_element::{
    DIFF_COLUMN, StreamElement, Watermark, appearing, disappearing, with_diff,
};
pub use transform::Transform;
