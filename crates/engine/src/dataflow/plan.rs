//! The plan of a continuous query: a tree of nodes with everything already resolved and typed.
//!
//! A plan is made once, and every worker builds the same one, so it is `Send` and cheap to clone. It is
//! a value of this process, not a message: expressions, predicates and aggregates are shared
//! [`PhysicalExpr`]s and DataFusion functions behind `Arc`, with no serialized form. Another process would
//! plan the SQL text itself.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use headwater_connect::time_unit;

use super::groups::{Grouping, OutputColumn};
use super::metadata_columns::MetadataColumns;
use super::pane::{in_us, times};
use super::stream_element::{StreamElement, batch_of};
use super::transform::Transform;
use super::window_slots::WindowSlots;

/// A continuous query, ready to be built on every worker.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The node that produces the result.
    pub root: PlanNode,
    /// For each input the metadata columns that the query names, if any.
    pub metadata_columns: Vec<Option<MetadataColumns>>,
    /// The columns of the result, without the diff column.
    pub schema: SchemaRef,
    /// Whether the result changes: then each row carries a diff, and may be retracted.
    pub changes: bool,
    /// The schema of the late rows of each stage that can have late rows.
    pub late: Vec<SchemaRef>,
}

/// One node of a plan.
#[derive(Debug, Clone)]
pub enum PlanNode {
    /// An input of the query.
    Input {
        /// The number of the input, counted from 0.
        input: usize,
    },
    /// Never a row; only the watermarks of the first input.
    Empty,
    /// Filters and projections, row by row.
    Transform {
        /// The node whose rows it reads.
        from: Box<PlanNode>,
        /// The transforms, in their order.
        steps: Vec<Transform>,
        /// Whether the rows of `from` carry a diff, as their last column.
        changes: bool,
    },
    /// UNION ALL: the rows of all inputs, which have the same columns.
    Union {
        /// The inputs, at least two.
        from: Vec<PlanNode>,
    },
    /// GROUP BY over TUMBLE and HOP windows.
    Window {
        /// The node whose rows it reads.
        from: Box<PlanNode>,
        /// Windows, keys and aggregates.
        spec: Arc<WindowSpec>,
    },
    /// GROUP BY over SESSION windows.
    Session {
        /// The node whose rows it reads.
        from: Box<PlanNode>,
        /// Gap, keys and aggregates.
        spec: Arc<SessionSpec>,
    },
    /// GROUP BY without a window: the result changes as rows come.
    Keyed {
        /// The node whose rows it reads.
        from: Box<PlanNode>,
        /// Keys, aggregates and result columns.
        spec: Arc<KeyedSpec>,
    },
}

/// The event time of a row, and its relation to the watermark of the stream.
#[derive(Debug, Clone)]
pub struct EventTime {
    /// The column or expression, of a timestamp type.
    pub expr: Arc<dyn PhysicalExpr>,
    /// The type of `expr`.
    pub data_type: DataType,
    /// How far the values may lie behind the watermark of the stream, in microseconds.
    pub lag_us: i64,
}

impl EventTime {
    /// The event time of each row, in the unit of the column.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Int64Array> {
        times(&self.expr.evaluate(rows)?.into_array(rows.num_rows())?)
    }

    /// The least watermark, in microseconds, with which no row before `end` will come.
    pub(super) fn closes_us(&self, end: i64) -> i64 {
        let us = in_us(&self.data_type, end).unwrap_or(i64::MAX);
        let rounded = i64::from(self.bound(us.saturating_add(self.lag_us)) < end);
        us.saturating_add(self.lag_us).saturating_add(rounded)
    }

    /// The watermark of the stream in the unit of this column: no row earlier than this will come.
    pub fn bound(&self, watermark_us: i64) -> i64 {
        if watermark_us == i64::MIN || watermark_us == i64::MAX {
            return watermark_us;
        }
        let us = watermark_us.saturating_sub(self.lag_us);
        let unit = match self.data_type {
            DataType::Timestamp(unit, _) => unit,
            _ => TimeUnit::Microsecond,
        };
        time_unit::convert_saturating(us, TimeUnit::Microsecond, unit)
    }
}

/// A windowed GROUP BY with windows of equal size.
#[derive(Debug)]
pub struct WindowSpec {
    /// The number of this stage among those with late rows, counted from 0.
    pub stage: usize,
    /// The event time of the rows.
    pub time: EventTime,
    /// Where windows begin and end.
    pub slots: WindowSlots,
    /// Keys and aggregates of the GROUP BY.
    pub grouping: Arc<Grouping>,
    /// The columns of the result, in their order.
    pub output: Vec<OutputColumn>,
    /// The names and types of `output`.
    pub schema: SchemaRef,
}

impl WindowSpec {
    /// Rows that are late, whether a window counts them, and the start of the last window that missed them.
    pub(super) fn late(
        &self,
        rows: RecordBatch,
        is_counted: bool,
        missed: Option<i64>,
    ) -> Result<StreamElement> {
        let missed_until = missed.map(|start| self.slots.instant(self.slots.end(start)));
        let missed_until = Int64Array::from(vec![missed_until; rows.num_rows()]);
        let rows = self.grouping.as_they_came(&rows)?;
        late(self.stage, rows, is_counted, &missed_until, &self.time)
    }
}

/// Late rows of a stage with the columns of [`with_lateness`].
pub(super) fn late(
    stage: usize,
    rows: RecordBatch,
    is_counted: bool,
    missed_until: &Int64Array,
    time: &EventTime,
) -> Result<StreamElement> {
    let schema = with_lateness(&rows.schema(), &time.data_type);
    let (_, mut columns, count) = rows.into_parts();
    columns.push(Arc::new(BooleanArray::from(vec![is_counted; count])));
    columns.push(cast(missed_until, &time.data_type)?);
    let rows = batch_of(&schema, columns, count)?;
    Ok(StreamElement::Late { stage, rows })
}

/// The columns that late rows have behind those of the input.
pub const LATE_COLUMNS: [&str; 2] = ["_counted", "_missed_until"];

/// The columns of the late rows of a stage whose rows have these `columns`:
///
/// - `_counted`: whether a window counts the row, as with HOP one that closed later may;
/// - `_missed_until`: the end of the last window that closed before the row came; NULL without an event
///   time.
pub fn with_lateness(columns: &Schema, time: &DataType) -> SchemaRef {
    let [counted, missed_until] = LATE_COLUMNS;
    let counted = Field::new(counted, DataType::Boolean, false);
    let missed_until = Field::new(missed_until, time.clone(), true);
    let more = [counted, missed_until].map(Arc::new);
    let all = columns.fields().iter().cloned().chain(more);
    Arc::new(Schema::new(all.collect::<Vec<_>>()))
}

/// A GROUP BY with session windows.
#[derive(Debug)]
pub struct SessionSpec {
    /// The number of this stage among those with late rows, counted from 0.
    pub stage: usize,
    /// The event time of the rows.
    pub time: EventTime,
    /// Rows of a key less than this apart are in one session; in units of the event time column.
    pub gap: i64,
    /// Keys and aggregates of the GROUP BY.
    pub grouping: Arc<Grouping>,
    /// The columns of the result, in their order.
    pub output: Vec<OutputColumn>,
    /// The names and types of `output`.
    pub schema: SchemaRef,
}

/// A GROUP BY without a window.
#[derive(Debug)]
pub struct KeyedSpec {
    /// Keys and aggregates of the GROUP BY.
    pub grouping: Arc<Grouping>,
    /// The columns of the result, in their order; no window columns.
    pub output: Vec<OutputColumn>,
    /// The names and types of `output`, without the diff column.
    pub schema: SchemaRef,
    /// Without keys, the state of the one group before the first row.
    pub total: Option<RecordBatch>,
}
