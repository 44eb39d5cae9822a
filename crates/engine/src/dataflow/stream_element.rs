//! What flows through a dataflow: batches of rows, and the watermarks between them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::frontier::Frontier;
use super::metadata_columns::Provenance;

/// The last column of a changing stream: `1` for a row that appears, `-1` for one that disappears.
pub const DIFF_COLUMN: &str = "_diff";

/// "No rows earlier than this will come."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Microseconds since 1970-01-01 UTC; `i64::MAX` once the input has ended.
    pub at_us: i64,
    /// Whether no rows come at the moment, so that an operator with several inputs does not wait for this
    /// one.
    pub idle: bool,
}

impl Watermark {
    /// Before the first row.
    pub const START: Self = Self {
        at_us: i64::MIN,
        idle: false,
    };
    /// The input has ended.
    pub const END: Self = Self {
        at_us: i64::MAX,
        idle: false,
    };

    /// The watermark after `next`. It never goes back.
    #[must_use]
    pub fn later(self, next: Self) -> Self {
        Self {
            at_us: self.at_us.max(next.at_us),
            idle: next.idle,
        }
    }
}

/// One element of a stream within a dataflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum StreamElement {
    /// Rows of the stream, with [`DIFF_COLUMN`] at the end if the stream changes, and the frontier of
    /// their source before each of them.
    Rows(#[serde(with = "ipc")] RecordBatch, Frontier),
    /// The groups of one worker, to be merged with those of the others.
    Partial {
        /// The start of the window the groups belong to, in the unit of the event time column.
        window: i64,
        /// Keys, then accumulator states.
        #[serde(with = "ipc")]
        rows: RecordBatch,
    },
    /// Rows that came after a window they belong to had closed.
    Late {
        /// Which stage of the query found them late, counted from its inputs.
        stage: usize,
        /// The rows as that stage got them, then the columns of [`with_lateness`](super::with_lateness).
        #[serde(with = "ipc")]
        rows: RecordBatch,
    },
    /// Rows whose expressions failed: the row as JSON, the error, its SQLSTATE.
    Failed(#[serde(with = "ipc")] RecordBatch),
    /// No earlier rows follow: the progress of event time.
    Watermark(Watermark),
    /// The provenance of the rows that follow. It ends at the inputs, which make metadata columns of it,
    /// on the worker that read the rows.
    #[serde(skip)]
    From(Provenance),
}

impl StreamElement {
    /// Rows that are late for no window that is open.
    pub fn rows(rows: RecordBatch) -> Self {
        Self::Rows(rows, Frontier::NONE)
    }
}

/// The schema of a changing stream: `schema` and [`DIFF_COLUMN`].
pub fn with_diff(schema: &Schema) -> SchemaRef {
    let diff = Arc::new(Field::new(DIFF_COLUMN, DataType::Int8, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([diff]).collect();
    Arc::new(Schema::new(fields))
}

/// A diff column with `diff` in each of `rows` rows.
pub(super) fn diffs(diff: i8, rows: usize) -> ArrayRef {
    Arc::new(Int8Array::from_value(diff, rows))
}

/// Rows as changes that add them: each with diff `1`.
pub fn appearing(rows: RecordBatch) -> RecordBatch {
    let schema = with_diff(rows.schema_ref());
    let (_, mut columns, count) = rows.into_parts();
    columns.push(diffs(1, count));
    batch_of(&schema, columns, count)
        .expect("the columns of a batch, and one more of the same length")
}

/// Changes that add rows as changes that remove them: each with diff `-1`.
pub fn disappearing(appearing: RecordBatch) -> RecordBatch {
    let (schema, mut columns, count) = appearing.into_parts();
    columns.pop();
    columns.push(diffs(-1, count));
    batch_of(&schema, columns, count)
        .expect("the columns of a batch, the last replaced by one of the same type and length")
}

/// A batch of `count` rows, also if it has no columns.
pub(crate) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    count: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// Batches as Arrow IPC streams, for workers in other processes.
mod ipc {
    use super::*;

    pub fn serialize<S: Serializer>(batch: &RecordBatch, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        let written = StreamWriter::try_new(&mut bytes, batch.schema_ref())
            .and_then(|mut writer| writer.write(batch).and_then(|()| writer.finish()));
        written.map_err(S::Error::custom)?;
        to.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RecordBatch, D::Error> {
        let bytes = <Vec<u8>>::deserialize(from)?;
        let mut reader = StreamReader::try_new(bytes.as_slice(), None).map_err(D::Error::custom)?;
        let batch = reader
            .next()
            .ok_or_else(|| D::Error::custom("an IPC stream without a batch"))?;
        batch.map_err(D::Error::custom)
    }
}
