//! The rows of a source that its log retains, or its bad rows, as a table of a batch query.
//!
//! The log is a sequence of extents, each with the range of its event times. A condition on the event
//! time skips the extents that cannot hold such rows; the others are divided among partitions, read and
//! decoded in parallel on threads that may block. A query reads the rows that were in the log when it
//! began. DataFusion applies the conditions again, row by row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use headwater_connect::time_unit;
use headwater_log::{Extent, LogReader};

use crate::dataflow::MetadataColumns;
use crate::db::backfill::instant_us;
use crate::durable::bad_schema;
use crate::durable::{SourceStep, WalRecordCodec};

/// Batches that wait between reading and computing, for each partition.
const READ_AHEAD: usize = 4;

#[derive(Debug)]
pub(super) struct RetainedRows {
    pub columns: SchemaRef,
    pub part: RetainedPart,
    pub reader: LogReader,
    /// The column of the event time, if the source has one.
    pub time: Option<usize>,
    /// Maximum number of threads that read at once.
    pub partitions: usize,
}

#[derive(Debug, Clone)]
pub(super) enum RetainedPart {
    /// The rows of the source, with metadata columns if the query names some.
    Rows(Option<MetadataColumns>),
    Bad,
}

#[async_trait]
impl TableProvider for RetainedRows {
    fn schema(&self) -> SchemaRef {
        self.shown()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let name = self
            .time
            .map(|time| self.columns.field(time).name().as_str());
        let span = name.map_or(EventTimeRange::ALL, |name| {
            EventTimeRange::of(name, filters)
        });
        let mut extents = self.reader.extents();
        extents.retain(|extent| span.is_all() || extent.overlaps(span.0.start, span.0.end));
        let size = extents.len().div_ceil(self.partitions).max(1);
        let reader = |extents: &[Extent]| -> Arc<dyn PartitionStream> {
            Arc::new(ExtentReader {
                schema: self.shown(),
                columns: Arc::clone(&self.columns),
                part: self.part.clone(),
                reader: self.reader.clone(),
                extents: extents.to_vec(),
                span: span.clone(),
            })
        };
        let mut parts: Vec<_> = extents.chunks(size).map(reader).collect();
        if parts.is_empty() {
            parts.push(reader(&[]));
        }
        let schema = self.shown();
        let scan = StreamingTableExec::try_new(schema, parts, projection, [], false, limit)?;
        Ok(Arc::new(scan))
    }
}

impl RetainedRows {
    fn shown(&self) -> SchemaRef {
        match &self.part {
            RetainedPart::Rows(Some(metadata)) => Arc::clone(metadata.schema()),
            RetainedPart::Rows(None) => Arc::clone(&self.columns),
            RetainedPart::Bad => bad_schema(),
        }
    }
}

/// Event times in microseconds, from the first to the last, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EventTimeRange(Range<i64>);

impl EventTimeRange {
    const ALL: Self = Self(i64::MIN..i64::MAX);

    fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The times of the column `name` that satisfy all of these conditions.
    fn of(name: &str, filters: &[Expr]) -> Self {
        let mut span = Self::ALL;
        filters.iter().for_each(|filter| span.narrow(name, filter));
        span
    }

    fn narrow(&mut self, name: &str, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::And,
                right,
            }) => {
                self.narrow(name, left);
                self.narrow(name, right);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                match (bound(name, left, right), bound(name, right, left)) {
                    (Some(at), _) => self.cut(*op, at),
                    (_, Some(at)) => {
                        if let Some(op) = op.swap() {
                            self.cut(op, at);
                        }
                    }
                    (None, None) => {}
                }
            }
            Expr::Between(between) if !between.negated => {
                if let Some(at) = bound(name, &between.expr, &between.low) {
                    self.cut(Operator::GtEq, at);
                }
                if let Some(at) = bound(name, &between.expr, &between.high) {
                    self.cut(Operator::LtEq, at);
                }
            }
            _ => {}
        }
    }

    /// A column finer than a microsecond may be anywhere within `at`, so bounds are inclusive.
    fn cut(&mut self, op: Operator, at: i64) {
        if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
            self.0.start = self.0.start.max(at);
        }
        if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
            self.0.end = self.0.end.min(at);
        }
    }
}

/// The time that `column`, if it is the one of this name, is compared with.
fn bound(name: &str, column: &Expr, value: &Expr) -> Option<i64> {
    match (column, value) {
        (Expr::Column(column), Expr::Literal(value, _)) if column.name == name => micros(value),
        _ => None,
    }
}

fn micros(value: &ScalarValue) -> Option<i64> {
    let in_us = |at, unit| time_unit::convert(at, unit, TimeUnit::Microsecond);
    match value {
        ScalarValue::TimestampNanosecond(Some(at), _) => in_us(*at, TimeUnit::Nanosecond),
        ScalarValue::TimestampMicrosecond(Some(at), _) => Some(*at),
        ScalarValue::TimestampMillisecond(Some(at), _) => in_us(*at, TimeUnit::Millisecond),
        ScalarValue::TimestampSecond(Some(at), _) => in_us(*at, TimeUnit::Second),
        ScalarValue::Utf8(Some(text)) => instant_us(text),
        _ => None,
    }
}

#[derive(Debug, Clone)]
struct ExtentReader {
    schema: SchemaRef,
    columns: SchemaRef,
    part: RetainedPart,
    reader: LogReader,
    extents: Vec<Extent>,
    span: EventTimeRange,
}

impl PartitionStream for ExtentReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let mut stream = RecordBatchReceiverStreamBuilder::new(schema, READ_AHEAD);
        let send = stream.tx();
        let reader = self.clone();
        stream.spawn_blocking(move || {
            reader.read(|rows| {
                // The receiver ends early if a LIMIT is reached.
                send.blocking_send(Ok(rows)).is_ok()
            })
        });
        stream.build()
    }
}

impl ExtentReader {
    /// Passes the rows to `give` until it returns false.
    fn read(&self, mut give: impl FnMut(RecordBatch) -> bool) -> Result<()> {
        let codec = WalRecordCodec::new(&self.columns).map_err(failed)?;
        for extent in &self.extents {
            let mut records = self.reader.scan_extent(extent).map_err(failed)?;
            while let Some(record) = records.next().map_err(failed)? {
                let span = &self.span.0;
                let outside = |(least, greatest)| greatest < span.start || span.end < least;
                let empty = record.rows == 0 && !matches!(self.part, RetainedPart::Bad);
                if empty || record.times.is_some_and(outside) {
                    continue;
                }
                let taken = codec.decode(record.payload.to_vec());
                let mut taken = taken.map_err(failed)?;
                taken.locate(record.first_offset, record.appended_us);
                for rows in self.part.wanted(taken)? {
                    if !give(rows) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

impl RetainedPart {
    fn wanted(&self, taken: SourceStep) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Rows(None) => Ok(taken.rows),
            Self::Rows(Some(metadata)) => {
                let rows = taken.rows.iter().zip(&taken.from);
                let rows = rows.map(|(rows, from)| metadata.apply(rows, from));
                Ok(rows.collect::<std::result::Result<_, _>>()?)
            }
            Self::Bad => Ok(taken.bad.into_iter().collect()),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> DataFusionError {
    DataFusionError::Execution(format!("the log: {error}"))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    fn at(us: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(us), None))
    }

    #[test]
    fn conditions_on_the_event_time_narrow_the_span() {
        let filters = [
            col("ts").gt_eq(at(5)).and(at(20).gt(col("ts"))),
            col("n").lt(at(3)),
            col("ts").not_eq(at(7)),
        ];
        assert_eq!(EventTimeRange::of("ts", &filters), EventTimeRange(5..20));
        let between = [col("ts").between(at(1), at(2))];
        assert_eq!(EventTimeRange::of("ts", &between), EventTimeRange(1..2));
        let either = [col("ts").gt(at(5)).or(col("n").gt(lit(1)))];
        assert!(EventTimeRange::of("ts", &either).is_all());
    }
}
