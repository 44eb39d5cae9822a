//! One column while it is being decoded: plain vectors that become an Arrow array without a copy.
//!
//! A column grows by exactly one value per row. Whoever fills a row and finds it bad truncates every
//! column back to the rows before, so a bad row leaves no trace. NULLs are the positions of a short
//! list, and the bitmap is made of it at the end, so a value that is there costs nothing for them.
//!
//! How a value is written is the business of the formats: `json` calls [`Column::json`] (in
//! `json/value.rs`), `csv` calls [`Column::field`], both end up in the same conversions here.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, Float32Array,
    Float64Array, Int64Array, ListArray, PrimitiveArray, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Decimal128Type, DecimalType, Field, FieldRef,
    Int8Type, Int16Type, Int32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::EpochUnit;
use super::fault::{Fault, sql_name};
use super::json::Object;
use super::number::{self, Number, Rounding};
use super::time;
use crate::{Error, Result};

/// Base64 as everybody writes it, with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) struct Column {
    pub(super) field: FieldRef,
    pub(super) values: Values,
    /// The positions that are NULL, ascending; the values there are of no meaning.
    nulls: Vec<u32>,
}

pub(super) enum Values {
    Boolean(Vec<bool>),
    /// Every integer type but `UInt64`; within the limits of the column.
    Integer {
        values: Vec<i64>,
        min: i64,
        max: i64,
    },
    Unsigned(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Text(Bytes),
    Binary(Bytes),
    /// Days since 1970-01-01.
    Date(Vec<i32>),
    Timestamp {
        values: Vec<i64>,
        unit: TimeUnit,
        zone: Option<Arc<str>>,
        epoch: EpochUnit,
    },
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    List {
        ends: Vec<i32>,
        items: Box<Column>,
    },
    Struct(Box<Object>),
}

/// Values of any length, back to back.
#[derive(Default)]
pub(super) struct Bytes {
    pub(super) bytes: Vec<u8>,
    /// Where each value ends; at most `i32::MAX`.
    ends: Vec<i32>,
}

impl Bytes {
    /// Everything appended to `bytes` since the last call is one value.
    #[inline(always)]
    pub(super) fn end_value(&mut self) -> Result<(), Fault> {
        let end = i32::try_from(self.bytes.len()).map_err(|_| Fault::TooLarge)?;
        self.ends.push(end);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        let end = self.ends.last().map_or(0, |end| *end as usize);
        self.bytes.truncate(end);
    }

    /// Leaves vectors of the same capacity behind: the next run is probably as large.
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

impl Column {
    /// An empty column. Refuses types that no text format can fill.
    pub(super) fn new(field: FieldRef, epoch: EpochUnit) -> Result<Self> {
        let values = Values::new(&field, epoch)?;
        Ok(Self {
            field,
            values,
            nulls: Vec::new(),
        })
    }

    /// How many values it has.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Integer { values, .. } | Values::Timestamp { values, .. } => values.len(),
            Values::Unsigned(values) => values.len(),
            Values::Float32(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Text(values) | Values::Binary(values) => values.ends.len(),
            Values::Date(values) => values.len(),
            Values::Decimal { values, .. } => values.len(),
            Values::List { ends, .. } => ends.len(),
            Values::Struct(object) => object.len(),
        }
    }

    /// Forgets the values from `len` on, and whatever a failed value left half done.
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::Integer { values, .. } | Values::Timestamp { values, .. } => {
                values.truncate(len)
            }
            Values::Unsigned(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Text(values) | Values::Binary(values) => values.truncate(len),
            Values::Date(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::List { ends, items } => {
                ends.truncate(len);
                items.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Struct(object) => object.truncate(len),
        }
        while self
            .nulls
            .last()
            .is_some_and(|position| *position as usize >= len)
        {
            self.nulls.pop();
        }
    }

    /// Appends NULL, if the column takes it.
    pub(super) fn null(&mut self) -> Result<(), Fault> {
        if !self.field.is_nullable() {
            return Err(Fault::Null);
        }
        let position = u32::try_from(self.len()).map_err(|_| Fault::TooLarge)?;
        self.placeholder()?;
        self.nulls.push(position);
        Ok(())
    }

    /// Appends any value: the one under a NULL.
    pub(super) fn placeholder(&mut self) -> Result<(), Fault> {
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Integer { values, .. } | Values::Timestamp { values, .. } => values.push(0),
            Values::Unsigned(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Text(values) | Values::Binary(values) => return values.end_value(),
            Values::Date(values) => values.push(0),
            Values::Decimal { values, .. } => values.push(0),
            Values::List { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(object) => return object.placeholder(),
        }
        Ok(())
    }

    /// Appends the value that a field of CSV holds.
    pub(super) fn field(&mut self, text: &[u8]) -> Result<(), Fault> {
        match &mut self.values {
            Values::Boolean(values) => values.push(boolean(text).ok_or(Fault::Type)?),
            Values::Float32(values) => values.push(match special_float(text) {
                Some(value) => value as f32,
                None => number::field(text).ok_or(Fault::Type)?.float32()?,
            }),
            Values::Float64(values) => values.push(match special_float(text) {
                Some(value) => value,
                None => number::field(text).ok_or(Fault::Type)?.float64()?,
            }),
            Values::Text(values) => {
                values.bytes.extend_from_slice(text);
                return values.end_value();
            }
            Values::Binary(_) | Values::Date(_) | Values::Timestamp { .. } => {
                return self.values.text(text.trim_ascii());
            }
            values => return values.number(number::field(text).ok_or(Fault::Type)?),
        }
        Ok(())
    }

    /// The finished array; the column is empty after it.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let len = self.len();
        let nulls = null_buffer(&take(&mut self.nulls), len);
        let array = self.values.finish(nulls, len);
        match array.data_type() == self.field.data_type() {
            true => array,
            // Only between the layouts of one type (`Utf8` to `Utf8View`), which always works.
            false => cast(&array, self.field.data_type()).unwrap_or(array),
        }
    }
}

impl Values {
    fn new(field: &Field, epoch: EpochUnit) -> Result<Self> {
        let integer = |min, max| Self::Integer {
            values: Vec::new(),
            min,
            max,
        };
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(Vec::new()),
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => integer(0, u8::MAX.into()),
            DataType::UInt16 => integer(0, u16::MAX.into()),
            DataType::UInt32 => integer(0, u32::MAX.into()),
            DataType::UInt64 => Self::Unsigned(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(Bytes::default())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Binary(Bytes::default())
            }
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Timestamp(unit, zone) => Self::Timestamp {
                values: Vec::new(),
                unit: *unit,
                zone: zone.clone(),
                epoch,
            },
            DataType::Decimal128(precision, scale) => Self::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::List(items) => {
                let items = Box::new(Column::new(items.clone(), epoch)?);
                Self::List {
                    ends: Vec::new(),
                    items,
                }
            }
            DataType::Struct(fields) => Self::Struct(Box::new(Object::new(fields, epoch)?)),
            other => {
                return Err(Error::UnusableColumn {
                    column: field.name().clone(),
                    reason: format!("text cannot be decoded into the type {}", sql_name(other)),
                });
            }
        })
    }

    /// Appends a number to a column that numbers can be converted to.
    #[inline]
    pub(super) fn number(&mut self, number: Number<'_>) -> Result<(), Fault> {
        match self {
            Self::Integer { values, min, max } => values.push(number.whole_within(*min, *max)?),
            Self::Unsigned(values) => {
                values.push(u64::try_from(number.whole()?).map_err(|_| Fault::Range)?);
            }
            Self::Float32(values) => values.push(number.float32()?),
            Self::Float64(values) => values.push(number.float64()?),
            Self::Date(values) => {
                values.push(number.whole_within(i32::MIN.into(), i32::MAX.into())? as i32);
            }
            Self::Timestamp {
                values,
                unit,
                epoch,
                ..
            } => {
                let scale = time::unit_power(*unit) as i32 - time::unit_power(epoch.unit()) as i32;
                let value = number.scaled(scale, Rounding::Floor)?;
                values.push(i64::try_from(value).map_err(|_| Fault::Range)?);
            }
            Self::Decimal {
                values,
                precision,
                scale,
            } => {
                let value = number.scaled(i32::from(*scale), Rounding::HalfAway)?;
                if !Decimal128Type::is_valid_decimal_precision(value, *precision) {
                    return Err(Fault::Range);
                }
                values.push(value);
            }
            _ => return Err(Fault::Type),
        }
        Ok(())
    }

    /// Appends what a string says to a column that is not text: a number, a date, base64.
    pub(super) fn text(&mut self, text: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Binary(values) => {
                let start = values.bytes.len();
                let decoded = BASE64.decode_vec(text, &mut values.bytes);
                decoded.map_err(|_| {
                    values.bytes.truncate(start);
                    Fault::Base64
                })?;
                return values.end_value();
            }
            Self::Date(values) => match time::parse_date(text) {
                Some(days) => values.push(days),
                None => return self.number(number::quoted(text).ok_or(Fault::Type)?),
            },
            Self::Timestamp { values, unit, .. } => match number::quoted(text) {
                Some(number) => return self.number(number),
                None => values.push(time::parse_timestamp(text, *unit)?),
            },
            _ => return self.number(number::quoted(text).ok_or(Fault::Type)?),
        }
        Ok(())
    }

    fn finish(&mut self, nulls: Option<NullBuffer>, len: usize) -> ArrayRef {
        match self {
            Self::Boolean(values) => {
                Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls))
            }
            Self::Integer { values, min, max } => integers(take(values), (*min, *max), nulls),
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
            Self::Date(values) => Arc::new(PrimitiveArray::<Date32Type>::new(
                take(values).into(),
                nulls,
            )),
            Self::Timestamp {
                values, unit, zone, ..
            } => timestamps(take(values), *unit, zone.clone(), nulls),
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
            Self::Struct(object) => {
                let (fields, arrays) = object.finish();
                match arrays.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(len, nulls)),
                    false => Arc::new(StructArray::new(fields, arrays, nulls)),
                }
            }
        }
    }
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

/// The integer array whose type has these limits.
fn integers(values: Vec<i64>, limits: (i64, i64), nulls: Option<NullBuffer>) -> ArrayRef {
    const I8: i64 = i8::MAX as i64;
    const I16: i64 = i16::MAX as i64;
    const I32: i64 = i32::MAX as i64;
    const U8: i64 = u8::MAX as i64;
    const U16: i64 = u16::MAX as i64;
    const U32: i64 = u32::MAX as i64;
    match limits.1 {
        I8 => narrow::<Int8Type>(&values, nulls),
        I16 => narrow::<Int16Type>(&values, nulls),
        I32 => narrow::<Int32Type>(&values, nulls),
        U8 => narrow::<UInt8Type>(&values, nulls),
        U16 => narrow::<UInt16Type>(&values, nulls),
        U32 => narrow::<UInt32Type>(&values, nulls),
        _ => Arc::new(Int64Array::new(values.into(), nulls)),
    }
}

/// The values are within the limits of `T`: that was checked when they came.
fn narrow<T: ArrowPrimitiveType>(values: &[i64], nulls: Option<NullBuffer>) -> ArrayRef
where
    T::Native: TryFrom<i64> + Default,
{
    let native = |value: &i64| T::Native::try_from(*value).unwrap_or_default();
    let values: Vec<T::Native> = values.iter().map(native).collect();
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))
}

fn timestamps(
    values: Vec<i64>,
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    match unit {
        TimeUnit::Second => timestamps_of::<TimestampSecondType>(values, zone, nulls),
        TimeUnit::Millisecond => timestamps_of::<TimestampMillisecondType>(values, zone, nulls),
        TimeUnit::Microsecond => timestamps_of::<TimestampMicrosecondType>(values, zone, nulls),
        TimeUnit::Nanosecond => timestamps_of::<TimestampNanosecondType>(values, zone, nulls),
    }
}

fn timestamps_of<T: ArrowTimestampType>(
    values: Vec<i64>,
    zone: Option<Arc<str>>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_timezone_opt(zone))
}

/// As CSV files write it.
fn boolean(text: &[u8]) -> Option<bool> {
    let text = text.trim_ascii();
    let is = |words: &[&str]| {
        words
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    match () {
        () if is(&["true", "t", "yes", "1"]) => Some(true),
        () if is(&["false", "f", "no", "0"]) => Some(false),
        () => None,
    }
}

/// The floats that are no decimal numbers.
fn special_float(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let (negative, word) = match text {
        [b'-', word @ ..] => (true, word),
        [b'+', word @ ..] => (false, word),
        word => (false, word),
    };
    let value = match () {
        () if word.eq_ignore_ascii_case(b"nan") => f64::NAN,
        () if word.eq_ignore_ascii_case(b"inf") => f64::INFINITY,
        () if word.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        () => return None,
    };
    Some(if negative { -value } else { value })
}
