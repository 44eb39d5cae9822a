//! Metadata columns: columns of every source that a query may name without a declaration.
//!
//! | column | type | what it is |
//! |---|---|---|
//! | `_source` | VARCHAR NOT NULL | the source's name |
//! | `_offset` | BIGINT NOT NULL | the row's offset in the source, counted from 0 |
//! | `_arrival` | TIMESTAMP NOT NULL | when the row arrived |
//! | `_origin` | VARCHAR | the path, URL or topic of the row, if the connector names one |
//!
//! Rows do not carry them. The [`Provenance`] of a batch precedes it, and [`MetadataColumns`] at the
//! input of a query makes the columns that this query names; other queries do not get it and pay
//! nothing. The log keeps the provenance, so a row that is fed again has the same.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

/// The offsets of the rows of a batch in their source.
#[derive(Debug, Clone, PartialEq)]
pub enum Offsets {
    /// Consecutive, from this offset on.
    From(u64),
    /// One offset for each row.
    Each(Arc<[u64]>),
}

/// The provenance of a batch: what its metadata columns are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The offsets of the rows in the source.
    pub offsets: Offsets,
    /// When the rows arrived, in microseconds since 1970-01-01 UTC.
    pub arrival_us: i64,
    /// The path, URL or topic of the rows.
    pub origin: Option<Arc<str>>,
}

impl Provenance {
    /// Of rows whose offsets are not known yet: they count from 0.
    pub fn arrived(arrival_us: i64, origin: Option<Arc<str>>) -> Self {
        Self {
            offsets: Offsets::From(0),
            arrival_us,
            origin,
        }
    }

    /// The provenance of only the rows `kept`, by their numbers in the batch.
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

/// One of the metadata columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetadataColumn {
    /// `_source`, the name of the source.
    Source,
    /// `_offset`, the offset in the source.
    Offset,
    /// `_arrival`, the time of arrival.
    Arrival,
    /// `_origin`, the path, URL or topic.
    Origin,
}

impl MetadataColumn {
    /// All metadata columns, in their order.
    pub const ALL: [Self; 4] = [Self::Source, Self::Offset, Self::Arrival, Self::Origin];

    /// The name of the column in SQL.
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

/// The columns of a source, followed by these metadata columns.
pub fn with_metadata_columns(columns: &Schema, metadata: &[MetadataColumn]) -> SchemaRef {
    let metadata = metadata.iter().map(|column| Arc::new(column.field()));
    let all = columns.fields().iter().cloned().chain(metadata);
    Arc::new(Schema::new(all.collect::<Vec<_>>()))
}

/// Adds metadata columns to the rows of one source.
#[derive(Debug, Clone)]
pub struct MetadataColumns {
    source: Arc<str>,
    metadata: Vec<MetadataColumn>,
    /// The columns of the source, then the metadata columns.
    schema: SchemaRef,
}

impl MetadataColumns {
    /// For the source of this name with these columns.
    pub fn new(source: &str, columns: &Schema, metadata: &[MetadataColumn]) -> Self {
        Self {
            source: source.into(),
            metadata: metadata.to_vec(),
            schema: with_metadata_columns(columns, metadata),
        }
    }

    /// The columns of the source, then the metadata columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// `rows` with the metadata columns appended.
    ///
    /// # Errors
    /// If `rows` have other columns than the source.
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
    fn rows_that_are_left_keep_their_offsets() {
        let first = Provenance {
            offsets: Offsets::From(100),
            arrival_us: 7,
            origin: Some("here".into()),
        };
        let some = first.kept([1, 3, 4].into_iter());
        let fewer = some.kept([0, 2].into_iter());
        let columns = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let metadata = MetadataColumns::new("s", &columns, &MetadataColumn::ALL);
        let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_new(Arc::new(columns), vec![n]).unwrap();
        let rows = metadata.apply(&rows, &fewer).unwrap();
        assert_eq!(rows.schema(), *metadata.schema());
        let offsets = rows["_offset"].as_primitive::<Int64Type>();
        assert_eq!(offsets.values(), &[101, 104]);
        assert_eq!(rows["_source"].as_string::<i32>().value(1), "s");
        assert_eq!(rows["_origin"].as_string::<i32>().value(0), "here");
    }
}
