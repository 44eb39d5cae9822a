//! SELECT over a source: the rows that its log has kept, or the bad ones, as a table of a batch query.
//!
//! The log is a row of extents, each with the range of its event times. A condition on the event time
//! leaves out the extents that cannot hold such rows; the others are shared out over partitions, read
//! and decoded in parallel on threads that may block. What is read is what was logged when the query
//! began. DataFusion applies the conditions again, row by row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
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
use headwater_log::{Extent, LogReader};

use crate::dataflow::MetadataColumns;
use crate::durable::{SourceStep, WalRecordCodec, bad_schema};

/// Batches that wait between reading and computing, for each partition.
const READ_AHEAD: usize = 4;

/// The retained rows of one source.
#[derive(Debug)]
pub(super) struct History {
    /// The columns of the source.
    pub columns: SchemaRef,
    /// What of its rows is wanted.
    pub of: Kept,
    pub reader: LogReader,
    /// The column of the event time, if the source has one.
    pub time: Option<usize>,
    /// How many threads read at once, at most.
    pub partitions: usize,
}

/// What the log of a source keeps.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    /// Its rows, with hidden columns if they are named.
    Rows(Option<MetadataColumns>),
    /// What could not be decoded.
    Bad,
}

#[async_trait]
impl TableProvider for History {
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
        let span = name.map_or(Span::ALL, |name| Span::of(name, filters));
        let mut extents = self.reader.extents();
        extents.retain(|extent| span.is_all() || extent.overlaps(span.0.start, span.0.end));
        let size = extents.len().div_ceil(self.partitions).max(1);
        let part = |extents: &[Extent]| -> Arc<dyn PartitionStream> {
            Arc::new(Part {
                schema: self.shown(),
                columns: Arc::clone(&self.columns),
                of: self.of.clone(),
                reader: self.reader.clone(),
                extents: extents.to_vec(),
                span: span.clone(),
            })
        };
        let mut parts: Vec<_> = extents.chunks(size).map(part).collect();
        if parts.is_empty() {
            parts.push(part(&[]));
        }
        let schema = self.shown();
        let scan = StreamingTableExec::try_new(schema, parts, projection, [], false, limit)?;
        Ok(Arc::new(scan))
    }
}

impl History {
    /// The columns that a query sees.
    fn shown(&self) -> SchemaRef {
        match &self.of {
            Kept::Rows(Some(stamp)) => Arc::clone(stamp.schema()),
            Kept::Rows(None) => Arc::clone(&self.columns),
            Kept::Bad => bad_schema(),
        }
    }
}

/// Event times in microseconds, from the first to the last, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span(Range<i64>);

impl Span {
    const ALL: Self = Self(i64::MIN..i64::MAX);

    fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The times that conditions, all of which must hold, leave to the column `name`.
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
    let target = DataType::Timestamp(TimeUnit::Microsecond, None);
    match value {
        ScalarValue::TimestampNanosecond(Some(at), _) => Some(at.div_euclid(1_000)),
        ScalarValue::TimestampMicrosecond(Some(at), _) => Some(*at),
        ScalarValue::TimestampMillisecond(Some(at), _) => at.checked_mul(1_000),
        ScalarValue::TimestampSecond(Some(at), _) => at.checked_mul(1_000_000),
        ScalarValue::Utf8(Some(_)) => match value.cast_to(&target) {
            Ok(ScalarValue::TimestampMicrosecond(at, _)) => at,
            _ => None,
        },
        _ => None,
    }
}

/// The extents that one thread reads.
#[derive(Debug, Clone)]
struct Part {
    schema: SchemaRef,
    columns: SchemaRef,
    of: Kept,
    reader: LogReader,
    extents: Vec<Extent>,
    span: Span,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let mut stream = RecordBatchReceiverStreamBuilder::new(schema, READ_AHEAD);
        let send = stream.tx();
        let part = self.clone();
        stream.spawn_blocking(move || {
            part.read(|rows| {
                // Whoever reads may have seen enough.
                send.blocking_send(Ok(rows)).is_ok()
            })
        });
        stream.build()
    }
}

impl Part {
    /// Hands the rows to `give` until it wants no more.
    fn read(&self, mut give: impl FnMut(RecordBatch) -> bool) -> Result<()> {
        let codec = WalRecordCodec::new(&self.columns).map_err(failed)?;
        for extent in &self.extents {
            let mut records = self.reader.scan_extent(extent).map_err(failed)?;
            while let Some(record) = records.next().map_err(failed)? {
                let span = &self.span.0;
                let outside = |(least, greatest)| greatest < span.start || span.end < least;
                let empty = record.rows == 0 && !matches!(self.of, Kept::Bad);
                if empty || record.times.is_some_and(outside) {
                    continue;
                }
                let taken = codec.decode(record.payload.to_vec());
                let mut taken = taken.map_err(failed)?;
                taken.locate(record.first_offset, record.appended_us);
                for rows in self.of.wanted(taken)? {
                    if !give(rows) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Kept {
    fn wanted(&self, taken: SourceStep) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Rows(None) => Ok(taken.rows),
            Self::Rows(Some(stamp)) => {
                let rows = taken.rows.iter().zip(&taken.from);
                let stamped = rows.map(|(rows, from)| stamp.apply(rows, from));
                Ok(stamped.collect::<std::result::Result<_, _>>()?)
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
        assert_eq!(Span::of("ts", &filters), Span(5..20));
        let between = [col("ts").between(at(1), at(2))];
        assert_eq!(Span::of("ts", &between), Span(1..2));
        let either = [col("ts").gt(at(5)).or(col("n").gt(lit(1)))];
        assert!(Span::of("ts", &either).is_all());
    }
}
