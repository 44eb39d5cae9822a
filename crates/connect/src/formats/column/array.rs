//! Finished columns: the vectors of a builder as Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int64Array, ListArray, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use super::{ByteValues, ColumnBuilder, ColumnValues};

impl ColumnBuilder {
    /// The finished array; the column is empty after it.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let len = self.len();
        let nulls = null_buffer(&take(&mut self.nulls), len);
        let array = self.values.finish(nulls, len);
        if array.data_type() == self.field.data_type() {
            return array;
        }
        // From 64 bits to an integer whose limits were checked, or to a timestamp, and between the
        // layouts of one type (`Utf8` to `Utf8View`): it always works.
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&array, self.field.data_type(), &options).unwrap_or(array)
    }
}

impl ColumnValues {
    fn finish(&mut self, nulls: Option<NullBuffer>, len: usize) -> ArrayRef {
        match self {
            Self::Boolean(values) => {
                Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls))
            }
            Self::Integer { values, .. } | Self::Timestamp { values, .. } => {
                Arc::new(Int64Array::new(take(values).into(), nulls))
            }
            Self::Unsigned(values) => Arc::new(UInt64Array::new(take(values).into(), nulls)),
            Self::Float32(values) => Arc::new(Float32Array::new(take(values).into(), nulls)),
            Self::Float64(values) => Arc::new(Float64Array::new(take(values).into(), nulls)),
            Self::Text(values) => {
                let (offsets, bytes) = values.take();
                Arc::new(StringArray::new(offsets, bytes.into(), nulls))
            }
            Self::Binary(values) => {
                let (offsets, bytes) = values.take();
                Arc::new(BinaryArray::new(offsets, bytes.into(), nulls))
            }
            Self::Date(values) => Arc::new(Date32Array::new(take(values).into(), nulls)),
            Self::Decimal {
                values,
                precision,
                scale,
            } => {
                let array = Decimal128Array::new(take(values).into(), nulls);
                Arc::new(array.with_data_type(DataType::Decimal128(*precision, *scale)))
            }
            Self::List { ends, items } => {
                let (field, items) = (items.field.clone(), items.finish());
                Arc::new(ListArray::new(field, offsets(take(ends)), items, nulls))
            }
            Self::Struct(rows) => {
                let (fields, arrays) = rows.finish();
                match arrays.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(len, nulls)),
                    false => Arc::new(StructArray::new(fields, arrays, nulls)),
                }
            }
        }
    }
}

impl ByteValues {
    /// Leaves vectors of the same capacity: the next run is probably as large.
    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        (offsets(take(&mut self.ends)), take(&mut self.bytes))
    }
}

/// The offsets of values that end at `ends`.
fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend_from_slice(&ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

/// The bitmap of a column of `len` values.
fn null_buffer(positions: &[u32], len: usize) -> Option<NullBuffer> {
    if positions.is_empty() {
        return None;
    }
    let mut valid = vec![true; len];
    positions
        .iter()
        .for_each(|position| valid[*position as usize] = false);
    Some(NullBuffer::from(valid))
}
