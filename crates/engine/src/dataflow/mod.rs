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
//! What crosses workers as a message: [`StreamElement`]s, each with the numbers of the worker that it is
//! from and the worker that it goes to. They can be serialized, rows as Arrow IPC; between the threads
//! of a process timely moves them, and both sides hold the same Arrow buffers.
//!
//! What the workers of a query share as memory, so that a query runs in one process:
//!
//! - the [`Plan`], with its expressions and functions, which has no serialized form;
//! - the [`QueryFailure`], so that the first error ends the query on every worker;
//! - the [`OpenWindows`], from which a source that is idle learns when the next window closes.
//!
//! State is not shared: each worker has its own, and only its immutable [`Run`]s leave the worker, for
//! checkpoints.

mod build;
mod computed_columns;
mod fingerprint;
mod frontier;
mod group_results;
mod groups;
mod key_group;
mod key_numbers;
mod keyed;
mod keyed_state;
mod local_days;
mod metadata_columns;
mod open_windows;
mod pane;
mod panes;
mod plan;
mod query_errors;
mod session;
mod source_columns;
mod stage;
mod stage_state;
mod stream_element;
mod transform;
mod type_name;
mod union;
mod window;
mod window_slots;

pub use build::{Built, Input, Outlet, build};
pub use datafusion::error::Result;
pub use fingerprint::Fingerprint;

pub use frontier::{
    BatchFrontier, Frontier, FrontierEvent, FrontierMoves, LaneMark, LaneMarks, NO_LANE,
};
pub use groups::{Aggregate, Grouping, OutputColumn};
pub use key_group::{KEY_GROUPS, owner};
pub(crate) use key_numbers::KeyNumbers;
pub use local_days::LocalDays;
pub use metadata_columns::{
    MetadataColumn, MetadataColumns, Offsets, Provenance, with_metadata_columns,
};
pub use open_windows::OpenWindows;
pub(crate) use pane::{earliest, in_us, latest, times};
pub use plan::{
    EventTime, KeyedSpec, LATE_COLUMNS, Plan, PlanNode, SessionSpec, WindowSpec, with_lateness,
};
pub use query_errors::{OnError, QueryErrors, QueryFailure, SqlstateOf};
pub(crate) use query_errors::{lower_first, reason_of, sqlstate_of_reason};
pub(crate) use source_columns::ComputedRows;
pub use source_columns::{ColumnOrigin, SourceColumns};
pub use stage_state::{Run, Share, StageHandle, StageState};
pub(crate) use stream_element::batch_of;
pub use stream_element::{
    DIFF_COLUMN, StreamElement, Watermark, appearing, disappearing, with_diff,
};
pub use transform::Transform;
pub(crate) use type_name::type_name;
pub use window_slots::WindowSlots;
