//! Columns while they are being decoded: plain vectors that become Arrow arrays without a copy.
//!
//! A column grows by exactly one value per row. When a row turns out to be bad, the decoder truncates
//! every column back to the rows before it, so a bad row leaves no trace. NULLs are the positions of a
//! short list, and the bitmap is made of it at the end, so a value that is not NULL costs nothing for
//! them.
//!
//! The formats decide how a value is written: `json/value.rs` and `csv/value.rs` both end up in the
//! conversions of [`ColumnValues`]. `array.rs` makes the arrays.

mod array;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{
    DataType, Decimal128Type, DecimalType, FieldRef, Fields, SchemaRef, TimeUnit,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::EpochUnit;
use super::data_type::{is_binary, is_text, sql_name};
use super::fault::DecodeFault;
use super::number::{self, Number, Rounding};
use super::time;
use crate::{Error, Result, time_unit};

/// Base64 as everybody writes it, with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) struct ColumnBuilder {
    pub(super) field: FieldRef,
    pub(super) values: ColumnValues,
    /// The positions that are NULL, ascending; `values` has placeholders there.
    nulls: Vec<u32>,
}

pub(super) enum ColumnValues {
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
    Text(ByteValues),
    Binary(ByteValues),
    /// In days since 1970-01-01.
    Date(Vec<i32>),
    Timestamp {
        values: Vec<i64>,
        unit: TimeUnit,
        epoch: EpochUnit,
    },
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    List {
        ends: Vec<i32>,
        items: Box<ColumnBuilder>,
    },
    Struct(RowBuilder),
}

/// Values of any length, back to back.
#[derive(Default)]
pub(super) struct ByteValues {
    pub(super) bytes: Vec<u8>,
    /// Where each value ends; at most `i32::MAX`.
    ends: Vec<i32>,
}

/// Columns of equal length, except while a row is being read: the rows of a source or of a STRUCT.
pub(super) struct RowBuilder {
    pub(super) columns: Vec<ColumnBuilder>,
    rows: usize,
}

impl RowBuilder {
    /// No rows yet. Refuses types that no text format can fill.
    pub(super) fn new(fields: &Fields, epoch: EpochUnit) -> Result<Self> {
        let column = |field: &FieldRef| ColumnBuilder::new(field.clone(), epoch);
        Ok(Self {
            columns: fields.iter().map(column).collect::<Result<_>>()?,
            rows: 0,
        })
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Ends a row: every column has got its value.
    #[inline(always)]
    pub(super) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Forgets the rows from `len` on, and the values of a row that was not ended.
    pub(super) fn truncate(&mut self, len: usize) {
        let columns = self.columns.iter_mut();
        columns.for_each(|column| column.truncate(len));
        self.rows = self.rows.min(len);
    }

    /// Appends a row of placeholders, for the place under a NULL.
    fn placeholder(&mut self) -> Result<(), DecodeFault> {
        for column in &mut self.columns {
            match column.field.is_nullable() {
                true => column.null()?,
                false => column.placeholder()?,
            }
        }
        self.end_row();
        Ok(())
    }

    /// The finished columns; there are no rows after it.
    fn finish(&mut self) -> (Fields, Vec<ArrayRef>) {
        self.rows = 0;
        let columns = self.columns.iter_mut();
        let finished = columns.map(|column| (column.field.clone(), column.finish()));
        let (fields, arrays): (Vec<FieldRef>, _) = finished.unzip();
        (fields.into(), arrays)
    }

    /// The rows as a batch; there are no rows after it. Fails above 2 GiB in one column.
    pub(super) fn batch(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let (_, columns) = self.finish();
        RecordBatch::try_new_with_options(schema.clone(), columns, &options)
    }
}

impl ByteValues {
    /// Everything appended to `bytes` since the last call is one value.
    #[inline(always)]
    pub(super) fn end_value(&mut self) -> Result<(), DecodeFault> {
        let end = i32::try_from(self.bytes.len()).map_err(|_| DecodeFault::TooLarge)?;
        self.ends.push(end);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        let end = self.ends.last().map_or(0, |end| *end as usize);
        self.bytes.truncate(end);
    }
}

impl ColumnBuilder {
    fn new(field: FieldRef, epoch: EpochUnit) -> Result<Self> {
        let values = ColumnValues::new(&field, epoch)?;
        Ok(Self {
            field,
            values,
            nulls: Vec::new(),
        })
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        match &self.values {
            ColumnValues::Boolean(values) => values.len(),
            ColumnValues::Integer { values, .. } | ColumnValues::Timestamp { values, .. } => {
                values.len()
            }
            ColumnValues::Unsigned(values) => values.len(),
            ColumnValues::Float32(values) => values.len(),
            ColumnValues::Float64(values) => values.len(),
            ColumnValues::Text(values) | ColumnValues::Binary(values) => values.ends.len(),
            ColumnValues::Date(values) => values.len(),
            ColumnValues::Decimal { values, .. } => values.len(),
            ColumnValues::List { ends, .. } => ends.len(),
            ColumnValues::Struct(rows) => rows.len(),
        }
    }

    /// Forgets the values from `len` on, and the half of a value that failed.
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            ColumnValues::Boolean(values) => values.truncate(len),
            ColumnValues::Integer { values, .. } | ColumnValues::Timestamp { values, .. } => {
                values.truncate(len)
            }
            ColumnValues::Unsigned(values) => values.truncate(len),
            ColumnValues::Float32(values) => values.truncate(len),
            ColumnValues::Float64(values) => values.truncate(len),
            ColumnValues::Text(values) | ColumnValues::Binary(values) => values.truncate(len),
            ColumnValues::Date(values) => values.truncate(len),
            ColumnValues::Decimal { values, .. } => values.truncate(len),
            ColumnValues::List { ends, items } => {
                ends.truncate(len);
                items.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            ColumnValues::Struct(rows) => rows.truncate(len),
        }
        let kept = self.nulls.partition_point(|at| (*at as usize) < len);
        self.nulls.truncate(kept);
    }

    /// Appends NULL, if the column takes it.
    pub(super) fn null(&mut self) -> Result<(), DecodeFault> {
        if !self.field.is_nullable() {
            return Err(DecodeFault::Null);
        }
        let position = u32::try_from(self.len()).map_err(|_| DecodeFault::TooLarge)?;
        self.placeholder()?;
        self.nulls.push(position);
        Ok(())
    }

    /// Appends any value, for the place under a NULL.
    fn placeholder(&mut self) -> Result<(), DecodeFault> {
        match &mut self.values {
            ColumnValues::Boolean(values) => values.push(false),
            ColumnValues::Integer { values, .. } | ColumnValues::Timestamp { values, .. } => {
                values.push(0)
            }
            ColumnValues::Unsigned(values) => values.push(0),
            ColumnValues::Float32(values) => values.push(0.0),
            ColumnValues::Float64(values) => values.push(0.0),
            ColumnValues::Text(values) | ColumnValues::Binary(values) => return values.end_value(),
            ColumnValues::Date(values) => values.push(0),
            ColumnValues::Decimal { values, .. } => values.push(0),
            ColumnValues::List { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            ColumnValues::Struct(rows) => return rows.placeholder(),
        }
        Ok(())
    }
}

impl ColumnValues {
    fn new(field: &FieldRef, epoch: EpochUnit) -> Result<Self> {
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
            text if is_text(text) => Self::Text(ByteValues::default()),
            bytes if is_binary(bytes) => Self::Binary(ByteValues::default()),
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Timestamp(unit, _) => Self::Timestamp {
                values: Vec::new(),
                unit: *unit,
                epoch,
            },
            DataType::Decimal128(precision, scale) => Self::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::List(items) => Self::List {
                ends: Vec::new(),
                items: Box::new(ColumnBuilder::new(items.clone(), epoch)?),
            },
            DataType::Struct(fields) => Self::Struct(RowBuilder::new(fields, epoch)?),
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
    pub(super) fn number(&mut self, number: Number<'_>) -> Result<(), DecodeFault> {
        match self {
            Self::Integer { values, min, max } => values.push(number.whole_within(*min, *max)?),
            Self::Unsigned(values) => {
                values.push(u64::try_from(number.whole()?).map_err(|_| DecodeFault::Range)?);
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
                let scale =
                    time_unit::precision(*unit) as i32 - time_unit::precision(epoch.unit()) as i32;
                let value = number.scaled(scale, Rounding::Floor)?;
                values.push(i64::try_from(value).map_err(|_| DecodeFault::Range)?);
            }
            Self::Decimal {
                values,
                precision,
                scale,
            } => {
                let value = number.scaled(i32::from(*scale), Rounding::HalfAway)?;
                if !Decimal128Type::is_valid_decimal_precision(value, *precision) {
                    return Err(DecodeFault::Range);
                }
                values.push(value);
            }
            _ => return Err(DecodeFault::Type),
        }
        Ok(())
    }

    /// Appends the value of a string to a column that is not text: a number, a date, base64.
    pub(super) fn text(&mut self, text: &[u8]) -> Result<(), DecodeFault> {
        match self {
            Self::Binary(values) => {
                let start = values.bytes.len();
                let decoded = BASE64.decode_vec(text, &mut values.bytes);
                decoded.map_err(|_| {
                    values.bytes.truncate(start);
                    DecodeFault::Base64
                })?;
                return values.end_value();
            }
            Self::Date(values) => match time::parse_date(text) {
                Some(days) => values.push(days),
                None => return self.number(number::quoted(text).ok_or(DecodeFault::Type)?),
            },
            Self::Timestamp { values, unit, .. } => match number::quoted(text) {
                Some(number) => return self.number(number),
                None => values.push(time::parse_timestamp(text, *unit)?),
            },
            _ => return self.number(number::quoted(text).ok_or(DecodeFault::Type)?),
        }
        Ok(())
    }
}
