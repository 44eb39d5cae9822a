//! Columns of a source that every query may name though nobody declared them.
//!
//! | column | type | what it is |
//! |---|---|---|
//! | `_source` | VARCHAR NOT NULL | the source's name |
//! | `_offset` | BIGINT NOT NULL | the row's place in the source, counted from 0 |
//! | `_arrival` | TIMESTAMP NOT NULL | when the row arrived |
//! | `_origin` | VARCHAR | the path, URL or topic that it is from, if the connector names one |
//!
//! Rows do not carry them. In front of each batch of a source goes its [`Provenance`], of which a
//! [`MetadataColumns`] at the input of a query makes the columns that this query names; other queries hear
//! nothing of it and pay nothing. What the log keeps of it is what was said first, so a row that is
//! fed again has the same.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

/// Which rows of a source a batch holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Offsets {
    /// The rows from this place on, without a gap.
    From(u64),
    /// Each row's place.
    Each(Arc<[u64]>),
}

/// Where the rows of a batch are from.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// Their places in the source.
    pub offsets: Offsets,
    /// When they arrived, in microseconds since 1970-01-01 UTC.
    pub arrival_us: i64,
    /// The path, URL or topic.
    pub origin: Option<Arc<str>>,
}

impl Provenance {
    /// What is left of it when some of the rows are left out.
    #[must_use]
    pub fn kept(&self, kept: impl Iterator<Item = usize>) -> Self {
        let offset = |row: usize| match &self.offsets {
            Offsets::From(first) => first + row as u64,
            Offsets::Each(offsets) => offsets[row],
        };
        Self {
            offsets: Offsets::Each(kept.map(offset).collect()),
            ..self.clone()
        }
    }

    fn offsets(&self, rows: usize) -> Int64Array {
        match &self.offsets {
            Offsets::From(first) => {
                let first = *first as i64;
                Int64Array::from_iter_values(first..first + rows as i64)
            }
            Offsets::Each(offsets) => {
                Int64Array::from_iter_values(offsets.iter().map(|offset| *offset as i64))
            }
        }
    }
}

/// A hidden column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetadataColumn {
    /// `_source`
    Source,
    /// `_offset`
    Offset,
    /// `_arrival`
    Arrival,
    /// `_origin`
    Origin,
}

impl MetadataColumn {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Source, Self::Offset, Self::Arrival, Self::Origin];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "_source",
            Self::Offset => "_offset",
            Self::Arrival => "_arrival",
            Self::Origin => "_origin",
        }
    }

    fn field(self) -> Field {
        let data_type = match self {
            Self::Source | Self::Origin => DataType::Utf8,
            Self::Offset => DataType::Int64,
            Self::Arrival => DataType::Timestamp(TimeUnit::Microsecond, None),
        };
        Field::new(self.name(), data_type, self == Self::Origin)
    }
}

/// The columns of a source, and behind them `hidden` ones.
pub fn with_metadata_columns(columns: &Schema, metadata: &[MetadataColumn]) -> SchemaRef {
    let metadata = metadata.iter().map(|column| Arc::new(column.field()));
    let all = columns.fields().iter().cloned().chain(metadata);
    Arc::new(Schema::new(all.collect::<Vec<_>>()))
}

/// Gives the rows of one source hidden columns.
#[derive(Debug, Clone)]
pub struct MetadataColumns {
    source: Arc<str>,
    metadata: Vec<MetadataColumn>,
    /// The columns of the source, and the hidden ones.
    schema: SchemaRef,
}

impl MetadataColumns {
    /// For a source of this name with these columns.
    pub fn new(source: &str, columns: &Schema, metadata: &[MetadataColumn]) -> Self {
        Self {
            source: source.into(),
            metadata: metadata.to_vec(),
            schema: with_metadata_columns(columns, metadata),
        }
    }

    /// The columns of the rows behind it.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// `rows` with the hidden columns behind the others.
    ///
    /// # Errors
    /// If they are not rows of the source.
    pub fn apply(&self, rows: &RecordBatch, of: &Provenance) -> Result<RecordBatch, ArrowError> {
        let count = rows.num_rows();
        let same = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                text, count,
            )))
        };
        let metadata = self.metadata.iter().map(|column| -> ArrayRef {
            match (column, &of.origin) {
                (MetadataColumn::Source, _) => same(&self.source),
                (MetadataColumn::Offset, _) => Arc::new(of.offsets(count)),
                (MetadataColumn::Arrival, _) => {
                    Arc::new(TimestampMicrosecondArray::from_value(of.arrival_us, count))
                }
                (MetadataColumn::Origin, Some(origin)) => same(origin),
                (MetadataColumn::Origin, None) => new_null_array(&DataType::Utf8, count),
            }
        });
        let all = rows.columns().iter().cloned().chain(metadata);
        RecordBatch::try_new(Arc::clone(&self.schema), all.collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_that_are_left_keep_their_places() {
        let first = Provenance {
            offsets: Offsets::From(100),
            arrival_us: 7,
            origin: Some("here".into()),
        };
        let some = first.kept([1, 3, 4].into_iter());
        let fewer = some.kept([0, 2].into_iter());
        let columns = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let stamp = MetadataColumns::new("s", &columns, &MetadataColumn::ALL);
        let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_new(Arc::new(columns), vec![n]).unwrap();
        let rows = stamp.apply(&rows, &fewer).unwrap();
        assert_eq!(rows.schema(), *stamp.schema());
        let offsets = rows["_offset"].as_primitive::<Int64Type>();
        assert_eq!(offsets.values(), &[101, 104]);
        assert_eq!(rows["_source"].as_string::<i32>().value(1), "s");
        assert_eq!(rows["_origin"].as_string::<i32>().value(0), "here");
    }
}
