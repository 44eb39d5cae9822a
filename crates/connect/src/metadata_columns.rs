//! Metadata columns: when a row arrived, and from where.
//!
//! A source may declare a column `_arrival` (a TIMESTAMP) or `_origin` (a VARCHAR). It is filled here,
//! whatever the connector and the format: neither of them ever sees such a column. `_arrival` is when
//! the first message of the delivery was received, so rows that arrived together have one time;
//! `_origin` is the path, URL or stream that the connector names, NULL if it names none. `_stream` is the
//! same column under the name that fits a process: 'stdout' or 'stderr'.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::{Error, Result};

const ARRIVAL: &str = "_arrival";
const ORIGIN: &str = "_origin";
const STREAM: &str = "_stream";

fn is_metadata(field: &Field) -> bool {
    [ARRIVAL, ORIGIN, STREAM].contains(&field.name().as_str())
}

/// The columns that the connector and its format fill: those of `columns` that are not metadata.
pub(crate) fn without(columns: &SchemaRef) -> SchemaRef {
    if !columns.fields().iter().any(|field| is_metadata(field)) {
        return columns.clone();
    }
    let others = columns.fields().iter().filter(|field| !is_metadata(field));
    Arc::new(Schema::new(others.cloned().collect::<Vec<_>>()))
}

/// The columns of a source: those that its connector settled on, and the metadata columns that were
/// declared, in the order of the declaration if it names them all, else behind the others.
pub(crate) fn with(settled: &SchemaRef, declared: &SchemaRef) -> Result<SchemaRef> {
    let metadata = declared.fields().iter().filter(|field| is_metadata(field));
    metadata.clone().try_for_each(|field| usable(field))?;
    if settled.fields().len() + metadata.clone().count() != declared.fields().len() {
        let all = settled.fields().iter().chain(metadata);
        return Ok(Arc::new(Schema::new(all.cloned().collect::<Vec<_>>())));
    }
    let mut others = settled.fields().iter();
    let all = declared
        .fields()
        .iter()
        .filter_map(|field| match is_metadata(field) {
            true => Some(field),
            false => others.next(),
        });
    Ok(Arc::new(Schema::new(all.cloned().collect::<Vec<_>>())))
}

fn usable(field: &Field) -> Result<()> {
    let reason = match (field.name().as_str(), field.data_type()) {
        (ARRIVAL, DataType::Timestamp(..)) => return Ok(()),
        (ORIGIN | STREAM, DataType::Utf8) if field.is_nullable() => return Ok(()),
        (ARRIVAL, _) => "it is when a row arrived, and needs the type TIMESTAMP",
        (_, DataType::Utf8) => "not every source knows where a row is from: leave out NOT NULL",
        _ => "it is where a row is from, and needs the type VARCHAR",
    };
    Err(Error::UnusableColumn {
        column: field.name().clone(),
        reason: reason.to_owned(),
    })
}

/// Rows of `columns`, made of rows without metadata columns.
pub(crate) fn add(
    rows: &RecordBatch,
    columns: &SchemaRef,
    arrival_us: i64,
    origin: Option<&str>,
) -> Result<RecordBatch, ArrowError> {
    let count = rows.num_rows();
    let mut others = rows.columns().iter();
    let mut column = |field: &Arc<Field>| -> Result<ArrayRef, ArrowError> {
        match (field.name().as_str(), origin) {
            (ARRIVAL, _) => {
                let arrival = TimestampMicrosecondArray::from_value(arrival_us, count);
                cast(&arrival, field.data_type())
            }
            (ORIGIN | STREAM, Some(origin)) => {
                let same = std::iter::repeat_n(origin, count);
                Ok(Arc::new(StringArray::from_iter_values(same)))
            }
            (ORIGIN | STREAM, None) => Ok(new_null_array(&DataType::Utf8, count)),
            _ => others.next().cloned().ok_or_else(|| {
                ArrowError::SchemaError(format!("no column fills {:?}", field.name()))
            }),
        }
    };
    let all = columns.fields().iter().map(&mut column);
    RecordBatch::try_new(columns.clone(), all.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{TimeUnit, TimestampMillisecondType};

    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
            Field::new(*name, data_type.clone(), *nullable)
        };
        Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
    }

    const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

    #[test]
    fn metadata_columns_keep_their_declared_place() {
        let declared = schema(&[
            (ORIGIN, DataType::Utf8, true),
            ("line", DataType::Utf8, false),
            (ARRIVAL, MILLIS, false),
            (STREAM, DataType::Utf8, true),
        ]);
        let inner = without(&declared);
        assert_eq!(inner, schema(&[("line", DataType::Utf8, false)]));
        assert_eq!(with(&inner, &declared).unwrap(), declared);
        let lines: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let rows = RecordBatch::try_new(inner, vec![lines]).unwrap();
        let added = add(&rows, &declared, 1_234_567, Some("here")).unwrap();
        assert_eq!(added.column(0).as_string::<i32>().value(1), "here");
        assert_eq!(added.column(1).as_string::<i32>().value(1), "b");
        let arrivals = added.column(2).as_primitive::<TimestampMillisecondType>();
        assert_eq!(arrivals.values(), &[1_234, 1_234]);
        assert_eq!(added.column(3).as_string::<i32>().value(0), "here");
        let unknown = add(&rows, &declared, 0, None).unwrap();
        assert_eq!(unknown.column(0).null_count(), 2);
        assert_eq!(unknown.column(3).null_count(), 2);
    }

    #[test]
    fn columns_that_the_connector_knows_come_first() {
        let declared = schema(&[(ARRIVAL, MILLIS, true)]);
        let settled = schema(&[("line", DataType::Utf8, false)]);
        let all = with(&settled, &declared).unwrap();
        let names: Vec<_> = all.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["line", ARRIVAL]);
    }

    #[test]
    fn metadata_columns_have_fixed_types() {
        let none = schema(&[]);
        for wrong in [
            (ARRIVAL, DataType::Int64, true),
            (ORIGIN, DataType::Int64, true),
            (ORIGIN, DataType::Utf8, false),
        ] {
            assert!(with(&none, &schema(&[wrong])).is_err());
        }
    }
}
