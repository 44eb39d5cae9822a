//! The functions that the code of `#[derive(Record)]` calls.
//!
//! The macro generates, for each field, its codec, its type, its column's name and a closure that
//! borrows it; everything else is here. Reading opens all columns before it touches a row, so that
//! an error names every column that does not fit and not only the first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::codec::{Codec, Moment, Refusal};
use super::schema::{Difference, Mismatch};
use super::text::BYTES_MAX;
use super::{Record, RecordError};

/// The column of a field.
pub fn field<C: Codec<F>, F>(name: &str) -> Field {
    Field::new(name, C::data_type(), C::NULLABLE)
}

/// The schema of all columns.
pub fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// One field of all rows as an array.
pub fn array<'a, C: Codec<F>, F: 'a, R>(
    name: &str,
    rows: &'a [R],
    field: impl Fn(&'a R) -> &'a F + Copy,
) -> Result<ArrayRef, RecordError> {
    C::write(rows, field).map_err(|refusal| misfit(name, refusal))
}

/// The arrays of all fields as a batch.
pub fn batch<T: Record>(rows: usize, columns: Vec<ArrayRef>) -> Result<RecordBatch, RecordError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(T::schema(), columns, &options)
        .map_err(|e| RecordError::Inconsistent(e.to_string()))
}

/// One row as a batch; panics when a value fits no column, as `Record::to_record_batch` documents.
pub fn single<T: Record>(row: &T) -> RecordBatch {
    match T::to_columns(std::slice::from_ref(row)) {
        Ok(batch) => batch,
        Err(e) => panic!("{e}"),
    }
}

/// The time of a row.
pub fn event_time<C: Moment<F>, F>(field: &F) -> Option<i64> {
    C::micros(field)
}

/// Bytes that a field holds outside of its record.
#[inline]
pub fn heap_bytes<C: Codec<F>, F>(field: &F) -> usize {
    C::heap_bytes(field)
}

/// A column whose type and NULLs have been checked. It has no trait bound, so that the compiler
/// reports a field without a column type once and not for each use of this type.
pub struct CheckedColumn<A> {
    name: &'static str,
    array: A,
}

/// Finds a column, and checks its type and its NULLs.
pub fn open<C: Codec<F>, F>(
    batch: &RecordBatch,
    name: &'static str,
) -> Result<CheckedColumn<C::Array>, RecordError> {
    let Some(column) = batch.column_by_name(name) else {
        let missing = Difference::missing(name, &C::data_type(), batch.schema_ref());
        return Err(differs(missing));
    };
    let array = C::open(column).map_err(|refusal| match refusal {
        Refusal::Type => differs(Difference::Type {
            column: name.to_owned(),
            expected: C::data_type(),
            got: column.data_type().clone(),
        }),
        other => misfit(name, other),
    })?;
    match first_null(&array).filter(|_| !C::NULLABLE) {
        Some(row) => Err(RecordError::Null {
            column: name.to_owned(),
            row,
        }),
        None => Ok(CheckedColumn { name, array }),
    }
}

/// The field of a row of the batch.
pub fn get<C: Codec<F>, F>(column: &CheckedColumn<C::Array>, row: usize) -> Result<F, RecordError> {
    C::get(&column.array, row).map_err(|refusal| misfit(column.name, refusal))
}

/// All differences as one error if there are any, else the first other error.
pub fn refusal(errors: impl IntoIterator<Item = Option<RecordError>>) -> RecordError {
    let mut differences = Vec::new();
    let mut first = None;
    for error in errors.into_iter().flatten() {
        match error {
            RecordError::Columns(mismatch) => differences.extend(mismatch.differences),
            other => first = first.or(Some(other)),
        }
    }
    match Mismatch::check(differences) {
        Err(mismatch) => mismatch.into(),
        Ok(()) => first.unwrap_or(RecordError::Inconsistent("no column".to_owned())),
    }
}

fn first_null(array: &impl Array) -> Option<usize> {
    let nulls = array.logical_nulls().filter(|n| n.null_count() > 0)?;
    (0..nulls.len()).find(|&row| nulls.is_null(row))
}

fn differs(difference: Difference) -> RecordError {
    let differences = vec![difference];
    RecordError::Columns(Mismatch { differences })
}

fn misfit(name: &str, refusal: Refusal) -> RecordError {
    let column = name.to_owned();
    match refusal {
        Refusal::TooLarge(bytes) => RecordError::TooLarge {
            column,
            bytes,
            limit: BYTES_MAX,
        },
        Refusal::Row(row, reason) => RecordError::Value {
            column,
            row,
            reason,
        },
        Refusal::Type => RecordError::Inconsistent(format!("the type of column {name:?}")),
    }
}
