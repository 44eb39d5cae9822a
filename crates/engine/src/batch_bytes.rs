//! How many bytes a batch holds, and the limits in bytes of steps, records and queues.
//!
//! ```text
//!   row <= ROW_BYTES_MAX < a record's limit (crate `log`)
//!   step: stops taking at STEP_BYTES ─► a record for each RECORD_BYTES, or for one row that is larger
//! ```
//!
//! Everything that is bounded in bytes counts with [`batch_bytes`]. A slice counts what it shows, not the
//! buffers that it shares, so the slices of a batch count together as much as the batch. Each batch and
//! column also counts a fixed share, so that many tiny batches are not free; that share covers what a
//! record adds to the values (padding, message heads). A queue always accepts one batch, however large.

use arrow::array::{Array, AsArray, ByteView, RecordBatch};
use arrow::datatypes::DataType;
use headwater_connect::MAX_FRAME;

/// Bytes that a batch counts beside its columns.
const BATCH: usize = 512;
/// Bytes that a column counts beside its values.
const COLUMN: usize = 256;

/// Bytes at which a step takes no more from a source.
pub(crate) const STEP_BYTES: usize = 16 << 20;

/// Size of a step's rows from which they become several steps, each with a record of its own, bytes.
pub(crate) const RECORD_BYTES: usize = 64 << 20;

/// Size of the largest row, bytes.
pub(crate) const ROW_BYTES_MAX: usize = 512 << 20;

/// Default limit of a queue, bytes.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;

/// A frame that is taken fits into a record twice over, and so do the largest row, a cursor and its like.
const _: () = assert!(2 * MAX_FRAME.0 <= ROW_BYTES_MAX as u64);
const _: () = assert!(2 * ROW_BYTES_MAX as u64 <= headwater_log::MAX_PAYLOAD);

/// Bytes that the rows of this batch take, in memory and in a record, at most about.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    let columns = columns.map(|column| COLUMN + array_bytes(column.as_ref()));
    BATCH + columns.sum::<usize>()
}

/// Bytes of the values of this array.
fn array_bytes(array: &dyn Array) -> usize {
    let nulls = array.nulls().map_or(0, |_| array.len().div_ceil(8));
    nulls + value_bytes(array)
}

fn value_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    if let Some(width) = array.data_type().primitive_width() {
        return rows * width;
    }
    /// Offsets, and the values from the first of them to the last.
    macro_rules! offsets {
        ($array:expr) => {{
            let offsets = $array.value_offsets();
            let values = offsets[rows] - offsets[0];
            size_of_val(offsets) + values as usize
        }};
    }
    /// Offsets, and the items between the first of them and the last.
    macro_rules! items {
        ($array:expr, $items:expr) => {{
            let offsets = $array.value_offsets();
            let (first, last) = (offsets[0] as usize, offsets[rows] as usize);
            size_of_val(offsets) + array_bytes(&$items.slice(first, last - first))
        }};
    }
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8 => offsets!(array.as_string::<i32>()),
        DataType::LargeUtf8 => offsets!(array.as_string::<i64>()),
        DataType::Binary => offsets!(array.as_binary::<i32>()),
        DataType::LargeBinary => offsets!(array.as_binary::<i64>()),
        DataType::Utf8View => viewed(array.as_string_view().views()),
        DataType::BinaryView => viewed(array.as_binary_view().views()),
        DataType::List(_) => items!(array.as_list::<i32>(), array.as_list::<i32>().values()),
        DataType::LargeList(_) => items!(array.as_list::<i64>(), array.as_list::<i64>().values()),
        DataType::Map(..) => items!(array.as_map(), array.as_map().entries()),
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter();
            fields
                .map(|field| COLUMN + array_bytes(field.as_ref()))
                .sum()
        }
        // No column of a source; of what a query computes, the slice or else all that is behind it.
        _ => {
            let slice = array.to_data().get_slice_memory_size();
            slice.unwrap_or_else(|_| array.get_array_memory_size())
        }
    }
}

/// Views, and the texts that are too long to be in them.
fn viewed(views: &[u128]) -> usize {
    let lengths = views
        .iter()
        .map(|view| ByteView::from(*view).length as usize);
    let long = lengths.filter(|length| *length > size_of::<u128>() - size_of::<u32>());
    size_of_val(views) + long.sum::<usize>()
}

/// How many rows of the batch, from the first on, take at most `bytes` bytes: at least one, and at least
/// half as many as could be.
pub(crate) fn rows_within(batch: &RecordBatch, bytes: usize) -> usize {
    let mut rows = batch.num_rows();
    while rows > 1 && batch_bytes(&batch.slice(0, rows)) > bytes {
        rows = rows.div_ceil(2);
    }
    rows
}

/// The numbers of the rows that are larger than [`ROW_BYTES_MAX`], each with its size; a batch that is not
/// has none.
pub(crate) fn too_large_rows(batch: &RecordBatch) -> Vec<(usize, usize)> {
    if batch_bytes(batch) <= ROW_BYTES_MAX {
        return Vec::new();
    }
    let sizes = (0..batch.num_rows()).map(|row| (row, batch_bytes(&batch.slice(row, 1))));
    sizes.filter(|(_, bytes)| *bytes > ROW_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let names = ["a", "b", "c", "d", "e"].into_iter();
        RecordBatch::try_from_iter(names.zip(columns)).unwrap()
    }

    /// One column of each kind, of 1,000 rows, and what a row of it takes.
    fn columns() -> Vec<(ArrayRef, usize)> {
        let texts = (0..1_000).map(|row| Some(format!("{row:0100}")));
        let texts: Vec<_> = texts.collect();
        let lists = (0..1_000).map(|row| Some(vec![Some(row); 50]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        let int: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let tuple = StructArray::try_from(vec![("x", int.clone()), ("y", list.clone())]).unwrap();
        vec![
            (int, 8),
            (Arc::new(StringArray::from(texts.clone())), 104),
            (Arc::new(StringViewArray::from_iter(texts)), 116),
            (list, 204),
            (Arc::new(tuple), 212),
        ]
    }

    #[test]
    fn a_slice_counts_what_it_shows() {
        for (column, row) in columns() {
            let name = column.data_type().to_string();
            let whole = batch(vec![column]);
            let near = |batch: &RecordBatch| {
                let (counted, rows) = (batch_bytes(batch), batch.num_rows());
                assert!(
                    counted >= rows * (row - 1),
                    "{name}: {counted} for {rows} rows"
                );
                assert!(
                    counted <= rows * row + 1_500,
                    "{name}: {counted} for {rows} rows"
                );
            };
            near(&whole);
            near(&whole.slice(300, 100));
            near(&whole.slice(999, 1));
            near(&whole.slice(1_000, 0));
            near(&whole.slice(100, 500).slice(100, 50));
        }
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 80]));
        assert_eq!(batch_bytes(&batch(vec![flags])), BATCH + COLUMN + 10);
    }

    #[test]
    fn rows_within_a_size_fill_half_of_it() {
        let (texts, row) = columns().swap_remove(1);
        let whole = batch(vec![texts]);
        for bytes in [1_000, 20_000, 50_000] {
            let rows = rows_within(&whole, bytes);
            let taken = batch_bytes(&whole.slice(0, rows));
            assert!(
                taken <= bytes && taken * 2 + row * 2 + 1_000 > bytes,
                "{bytes}: {taken}"
            );
        }
        assert_eq!(rows_within(&whole, 0), 1);
        assert_eq!(rows_within(&whole, usize::MAX), 1_000);
        assert!(too_large_rows(&whole).is_empty());
    }
}
