//! Text and bytes as columns.
//!
//! Written as `Utf8` and `Binary`: the lengths are added up first, so that the bytes of all rows
//! are copied once into one buffer of the right size, and a column that offsets of 32 bits cannot
//! address is refused before anything is copied. Read from every encoding (offsets of 32 or 64
//! bits, views, dictionaries of any of them) as view arrays, which share the bytes.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, StringArray, StringViewArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::codec::{Refusal, Scalar, Values};

/// Maximum size of the values of one column of a batch, bytes.
pub(super) const BYTES_MAX: usize = i32::MAX as usize;

macro_rules! texts {
    ($($owned:ty),+) => {$(
        impl Scalar for $owned {
            type Array = StringViewArray;

            fn data_type() -> DataType {
                DataType::Utf8
            }

            fn write<'a>(
                values: impl Values<'a, Self>,
                nulls: Option<NullBuffer>,
            ) -> Result<ArrayRef, Refusal> {
                let bytes = values.map(|value| value.map_or(&[][..], |text| text.as_bytes()));
                text(joined(bytes)?, nulls)
            }

            fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
                text_views(array)
            }

            fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
                Ok(array.value(row).to_owned().into())
            }

            #[inline]
            fn heap_bytes(&self) -> usize {
                self.len()
            }
        }
    )+};
}

texts!(String, Box<str>, Arc<str>, Cow<'static, str>);

macro_rules! blobs {
    ($($owned:ty),+) => {$(
        impl Scalar for $owned {
            type Array = BinaryViewArray;

            fn data_type() -> DataType {
                DataType::Binary
            }

            fn write<'a>(
                values: impl Values<'a, Self>,
                nulls: Option<NullBuffer>,
            ) -> Result<ArrayRef, Refusal> {
                let bytes = values.map(|value| value.map_or(&[][..], |blob| blob.as_ref()));
                let Joined { offsets, bytes } = joined(bytes)?;
                let array = BinaryArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls);
                Ok(Arc::new(array.map_err(|e| Refusal::Row(0, e.to_string()))?))
            }

            fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
                let is_binary = |data_type: &DataType| {
                    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
                };
                let views = viewed(array, is_binary, &DataType::BinaryView)?;
                Ok(views.as_binary_view().clone())
            }

            fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
                Ok(array.value(row).into())
            }

            #[inline]
            fn heap_bytes(&self) -> usize {
                self.len()
            }
        }
    )+};
}

blobs!(Vec<u8>, Box<[u8]>, Arc<[u8]>);

/// The bytes of all values, one after another, and the offset at which each ends; the first is 0.
pub(super) struct Joined {
    pub offsets: Vec<i32>,
    pub bytes: Vec<u8>,
}

/// Empty buffers for values of these lengths; [`Refusal::TooLarge`] beyond [`BYTES_MAX`].
pub(super) fn room(lengths: impl ExactSizeIterator<Item = usize>) -> Result<Joined, Refusal> {
    let rows = lengths.len();
    let total = lengths.fold(0, usize::saturating_add);
    if total > BYTES_MAX {
        return Err(Refusal::TooLarge(total));
    }
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    let bytes = Vec::with_capacity(total);
    Ok(Joined { offsets, bytes })
}

fn joined<'a>(values: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Result<Joined, Refusal> {
    let mut joined = room(values.clone().map(<[u8]>::len))?;
    for value in values {
        joined.bytes.extend_from_slice(value);
        joined.offsets.push(joined.bytes.len() as i32);
    }
    Ok(joined)
}

/// The joined values, each of them UTF-8, as a text column.
pub(super) fn text(joined: Joined, nulls: Option<NullBuffer>) -> Result<ArrayRef, Refusal> {
    let Joined { offsets, bytes } = joined;
    let array = StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls);
    Ok(Arc::new(array.map_err(|e| Refusal::Row(0, e.to_string()))?))
}

/// Text in any encoding as views.
pub(super) fn text_views(array: &ArrayRef) -> Result<StringViewArray, Refusal> {
    let is_text = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    let views = viewed(array, is_text, &DataType::Utf8View)?;
    Ok(views.as_string_view().clone())
}

/// The array as `view`, if its type or that of its dictionary's values is accepted.
fn viewed(
    array: &ArrayRef,
    accepted: impl Fn(&DataType) -> bool,
    view: &DataType,
) -> Result<ArrayRef, Refusal> {
    let values = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    if !accepted(values) {
        return Err(Refusal::Type);
    }
    cast(array, view).map_err(|e| Refusal::Row(0, e.to_string()))
}
