//! The plan of a continuous query: a tree of nodes with everything already resolved and typed.
//!
//! A plan is made once and sent to every worker, so it is `Send` and cheap to clone.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::physical_expr::PhysicalExpr;

use super::groups::Grouping;
use super::metadata_columns::MetadataColumns;
use super::transform::Transform;

/// A continuous query, ready to be built on every worker.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What produces the result.
    pub root: Node,
    /// For each input what gives its rows hidden columns, if they need some.
    pub stamps: Vec<Option<MetadataColumns>>,
    /// The columns of the result, without the diff.
    pub schema: SchemaRef,
    /// Whether rows of the result may be taken back: then each carries a diff.
    pub changes: bool,
    /// The schema of the late rows of each stage that can have some.
    pub late: Vec<SchemaRef>,
}

/// One node of a plan.
#[derive(Debug, Clone)]
pub enum Node {
    /// The query's input number `input`.
    Input {
        /// Its number, counted from 0.
        input: usize,
    },
    /// No rows, ever; the first input tells the time.
    Empty,
    /// Filters and projections, row by row.
    Transform {
        /// Where rows come from.
        from: Box<Node>,
        /// What happens to them, in order.
        steps: Vec<Transform>,
    },
    /// Rows of all inputs, which have the same columns.
    Union {
        /// At least two.
        from: Vec<Node>,
    },
    /// TUMBLE and HOP.
    Window {
        /// Where rows come from.
        from: Box<Node>,
        /// Which windows, keys and aggregates.
        spec: Arc<WindowSpec>,
    },
    /// SESSION.
    Session {
        /// Where rows come from.
        from: Box<Node>,
        /// Which gap, keys and aggregates.
        spec: Arc<SessionSpec>,
    },
    /// GROUP BY without a window: the result changes as rows come.
    Keyed {
        /// Where rows come from.
        from: Box<Node>,
        /// Which keys and aggregates.
        spec: Arc<KeyedSpec>,
    },
}

/// Where the event time of a row is and how the watermark speaks of it.
#[derive(Debug, Clone)]
pub struct EventTime {
    /// The column or expression: a timestamp.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Its type.
    pub data_type: DataType,
    /// How far the values may lie behind the watermark of the stream, in microseconds.
    pub lag_us: i64,
}

impl EventTime {
    /// How many units of the column make a second.
    pub fn per_second(&self) -> i64 {
        match self.data_type {
            DataType::Timestamp(TimeUnit::Second, _) => 1,
            DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
            _ => 1_000_000,
        }
    }

    /// The watermark of the stream in the unit of this column: no row earlier than this will come.
    pub fn bound(&self, watermark_us: i64) -> i64 {
        if watermark_us == i64::MIN || watermark_us == i64::MAX {
            return watermark_us;
        }
        let us = watermark_us.saturating_sub(self.lag_us);
        let per_second = self.per_second();
        if per_second >= 1_000_000 {
            us.saturating_mul(per_second / 1_000_000)
        } else {
            us.div_euclid(1_000_000 / per_second)
        }
    }
}

/// What a column of an aggregate's result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputColumn {
    /// The key of this number.
    Key(usize),
    /// The first instant of the window.
    WindowStart,
    /// The first instant after the window.
    WindowEnd,
    /// The aggregate of this number.
    Aggregate(usize),
}

/// A windowed GROUP BY with windows of equal size.
#[derive(Debug)]
pub struct WindowSpec {
    /// Which number this stage has among those with late rows.
    pub stage: usize,
    /// The event time.
    pub time: EventTime,
    /// Length of a window, in the unit of the event time column; a multiple of `slide`.
    pub size: i64,
    /// From the start of a window to the start of the next.
    pub slide: i64,
    /// Keys and aggregates.
    pub grouping: Arc<Grouping>,
    /// The result, column by column.
    pub output: Vec<OutputColumn>,
    /// The schema of the result.
    pub schema: SchemaRef,
}

/// A GROUP BY with session windows.
#[derive(Debug)]
pub struct SessionSpec {
    /// Which number this stage has among those with late rows.
    pub stage: usize,
    /// The event time.
    pub time: EventTime,
    /// Rows of a key at most this far apart are in one session; in the unit of the column.
    pub gap: i64,
    /// Keys and aggregates.
    pub grouping: Arc<Grouping>,
    /// The result, column by column.
    pub output: Vec<OutputColumn>,
    /// The schema of the result.
    pub schema: SchemaRef,
}

/// A GROUP BY without a window.
#[derive(Debug)]
pub struct KeyedSpec {
    /// Keys and aggregates.
    pub grouping: Arc<Grouping>,
    /// The result, column by column; no window columns.
    pub output: Vec<OutputColumn>,
    /// The schema of the result, without the diff.
    pub schema: SchemaRef,
    /// Without keys, what is known of the one group before any row has come.
    pub total: Option<RecordBatch>,
}
