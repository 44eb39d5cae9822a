//! Rows for columns that the user declared, filled by type.
//!
//! The first column of whole numbers counts the rows from 0, and from 0 again where its type ends; other
//! numbers are random, texts are one of a number of keys, times are the row's event time.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use super::dice::Dice;
use super::{Clockwork, Maker};
use crate::{Error, Result};

/// The exclusive upper bound of other whole numbers.
const NUMBERS: u64 = 100;
/// The exclusive upper bound of other numbers, which have two decimals.
const DECIMALS: f64 = 1_000.0;

/// A value that does not fit is an error, not NULL.
const EXACTLY: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: arrow::util::display::FormatOptions::new(),
};

pub(super) struct Rows {
    schema: SchemaRef,
    fills: Vec<Fill>,
    seed: u64,
    keys: u64,
}

/// How one column is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    Count,
    Whole,
    Decimal,
    Truth,
    Key,
    Time,
}

impl Rows {
    pub fn new(schema: SchemaRef, seed: u64, keys: u64) -> Result<Self> {
        let mut fills = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let fill = fill(field)?;
            let counted = fills.contains(&Fill::Count);
            fills.push(if fill == Fill::Whole && !counted {
                Fill::Count
            } else {
                fill
            });
        }
        Ok(Self {
            schema,
            fills,
            seed,
            keys,
        })
    }

    fn column(
        &self,
        at: usize,
        rows: std::ops::Range<u64>,
        time: &Clockwork,
    ) -> Result<ArrayRef, ArrowError> {
        let field = self.schema.field(at);
        let dice = |row| Dice::new(self.seed, row, at as u64);
        let array: ArrayRef = match self.fills[at] {
            Fill::Count => {
                let end = count_end(field.data_type());
                numbers::<Int64Type>(rows, |row| (row % end) as i64)
            }
            Fill::Whole => numbers::<Int64Type>(rows, |row| dice(row).below(NUMBERS) as i64),
            Fill::Decimal => numbers::<Float64Type>(rows, |row| {
                (dice(row).unit() * DECIMALS * 100.0).floor() / 100.0
            }),
            Fill::Truth => Arc::new(
                rows.map(|row| Some(dice(row).below(2) == 1))
                    .collect::<BooleanArray>(),
            ),
            Fill::Key => {
                Arc::new(StringArray::from_iter_values(rows.map(|row| {
                    format!("{}-{}", field.name(), dice(row).below(self.keys))
                })))
            }
            Fill::Time => numbers::<TimestampMicrosecondType>(rows, |row| time.row(row)),
        };
        cast_with_options(&array, field.data_type(), &EXACTLY)
    }
}

impl Maker for Rows {
    fn make(
        &self,
        rows: std::ops::Range<u64>,
        time: &Clockwork,
    ) -> Result<RecordBatch, ArrowError> {
        let columns = (0..self.fills.len())
            .map(|at| self.column(at, rows.clone(), time))
            .collect::<Result<_, _>>()?;
        let options = arrow::array::RecordBatchOptions::new()
            .with_row_count(Some((rows.end - rows.start) as usize));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

pub(super) fn numbers<T: ArrowPrimitiveType>(
    rows: std::ops::Range<u64>,
    value: impl Fn(u64) -> T::Native,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(rows.map(value)))
}

/// The count at which a column of this type begins again from 0.
fn count_end(of: &DataType) -> u64 {
    match of {
        DataType::Int8 => 1 << 7,
        DataType::Int16 => 1 << 15,
        DataType::Int32 => 1 << 31,
        DataType::UInt8 => 1 << 8,
        DataType::UInt16 => 1 << 16,
        DataType::UInt32 => 1 << 32,
        _ => 1 << 63,
    }
}

fn fill(field: &Field) -> Result<Fill> {
    match field.data_type() {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => Ok(Fill::Whole),
        DataType::Float32 | DataType::Float64 => Ok(Fill::Decimal),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            let whole = i16::from(*precision) - i16::from(*scale);
            if whole >= 3 {
                return Ok(Fill::Decimal);
            }
            let reason = format!("generate needs 3 digits before the point, it has {whole}");
            Err(Error::UnusableColumn {
                column: field.name().clone(),
                reason,
            })
        }
        DataType::Boolean => Ok(Fill::Truth),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Fill::Key),
        DataType::Timestamp(TimeUnit::Nanosecond | TimeUnit::Microsecond, _)
        | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Second, _)
        | DataType::Date32
        | DataType::Date64 => Ok(Fill::Time),
        other => Err(Error::UnusableColumn {
            column: field.name().clone(),
            reason: format!("generate knows no values of type {other}"),
        }),
    }
}
