//! `to_char`, `to_timestamp` and `to_date` as functions over columns.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, PrimitiveArray, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, UInt64Type,
};
use datafusion::common::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use headwater_connect::calendar::{DAY_SECONDS, days_from_civil};
use headwater_connect::time_unit;

use super::number_pattern::NumberPattern;
use super::number_writer::{NumberValue, NumberWriter};
use super::time_pattern::TimePattern;
use super::time_reader::TimeReader;
use super::time_writer::{SECOND_US, TimeParts};
use super::{external, undefined_function};
use crate::sql::types::{UTC, timestamptz};
use crate::sql::values::{in_form_of, to_text::texts};
use crate::sql::{SqlError, sqlstate};

/// Where PostgreSQL counts timestamps from, seconds since 1970.
const EPOCH_2000: i64 = days_from_civil(2000, 1, 1) * DAY_SECONDS;

/// What the function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PatternFunctionKind {
    Char,
    Timestamp,
    Date,
}

/// A pattern as it was read for the type of the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ReadPattern {
    Time(TimePattern),
    Interval(TimePattern),
    Number(NumberPattern),
    Text(TimeReader),
}

/// A function with a pattern as its second argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PatternFunction {
    kind: PatternFunctionKind,
    signature: Signature,
    /// The pattern, once the call was planned.
    pattern: Option<ReadPattern>,
}

impl PatternFunction {
    pub fn all() -> [Self; 3] {
        use PatternFunctionKind::{Char, Date, Timestamp};
        [Char, Timestamp, Date].map(|kind| Self {
            kind,
            signature: Signature::variadic_any(Volatility::Immutable),
            pattern: None,
        })
    }

    /// Reads the pattern for values of a type.
    fn read(&self, value: &DataType, pattern: &str) -> Result<ReadPattern, SqlError> {
        Ok(match (self.kind, value) {
            (PatternFunctionKind::Char, DataType::Timestamp(..) | DataType::Date32) => {
                ReadPattern::Time(TimePattern::new(pattern)?)
            }
            (PatternFunctionKind::Char, other) if is_interval(other) => {
                ReadPattern::Interval(TimePattern::of_interval(pattern)?)
            }
            (PatternFunctionKind::Char, _) => ReadPattern::Number(NumberPattern::new(pattern)?),
            _ => ReadPattern::Text(TimeReader::new(pattern)?),
        })
    }

    /// Whether there is such a function of these types.
    fn takes(&self, arguments: &[DataType]) -> bool {
        use PatternFunctionKind::{Char, Timestamp};
        match (self.kind, arguments) {
            (Timestamp, [value]) => value.is_numeric() || value.is_null(),
            (Char, [value, pattern]) => is_text(pattern) && is_written(value),
            (_, [value, pattern]) => is_text(pattern) && is_text(value),
            _ => false,
        }
    }

    fn undefined(&self, arguments: &[DataType]) -> SqlError {
        let hint = match self.kind {
            PatternFunctionKind::Char => "Write to_char(value, pattern).",
            PatternFunctionKind::Timestamp => {
                "Write to_timestamp(text, pattern), to_timestamp(seconds) or CAST(text AS TIMESTAMP)."
            }
            PatternFunctionKind::Date => "Write to_date(text, pattern) or CAST(text AS DATE).",
        };
        undefined_function(self.name(), arguments).hint(hint)
    }

    fn apply(&self, values: &ArrayRef, pattern: &ReadPattern) -> Result<ArrayRef> {
        Ok(match pattern {
            ReadPattern::Time(pattern) => Arc::new(written_times(values, pattern)?),
            ReadPattern::Interval(pattern) => Arc::new(written_intervals(values, pattern)?),
            ReadPattern::Number(pattern) => Arc::new(written_numbers(values, pattern)?),
            ReadPattern::Text(reader) => {
                let texts = cast(values, &DataType::Utf8)?;
                let texts = texts.as_string::<i32>();
                if self.kind == PatternFunctionKind::Date {
                    let dates = texts
                        .iter()
                        .map(|text| text.map(|it| reader.date(it)).transpose());
                    Arc::new(
                        dates
                            .collect::<Result<Date32Array, _>>()
                            .map_err(external)?,
                    )
                } else {
                    let times = texts
                        .iter()
                        .map(|text| text.map(|it| reader.timestamp_us(it)).transpose());
                    let times = times.collect::<Result<TimestampMicrosecondArray, _>>();
                    Arc::new(times.map_err(external)?.with_timezone(UTC))
                }
            }
        })
    }
}

impl ScalarUDFImpl for PatternFunction {
    fn name(&self) -> &str {
        match self.kind {
            PatternFunctionKind::Char => "to_char",
            PatternFunctionKind::Timestamp => "to_timestamp",
            PatternFunctionKind::Date => "to_date",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if !self.takes(arguments) {
            return Err(external(self.undefined(arguments)));
        }
        Ok(match self.kind {
            PatternFunctionKind::Char => DataType::Utf8,
            PatternFunctionKind::Timestamp => timestamptz(TimeUnit::Microsecond),
            PatternFunctionKind::Date => DataType::Date32,
        })
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [value, pattern] = args.as_slice() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        if self.pattern.is_some() {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let Expr::Literal(pattern, _) = pattern else {
            let what = format!("a pattern of {}() that is not a constant", self.name());
            return Err(external(
                SqlError::not_built(what).hint("Write the pattern as text."),
            ));
        };
        let Some(Some(pattern)) = pattern.try_as_str() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let pattern = self
            .read(&info.get_data_type(value)?, pattern)
            .map_err(external)?;
        let planned = ScalarUDF::from(Self {
            pattern: Some(pattern),
            ..self.clone()
        });
        let call = ScalarFunction::new_udf(Arc::new(planned), args);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, rest @ ..] = arguments.args.as_slice() else {
            return Err(external(self.undefined(&[])));
        };
        let values = value.to_array(1)?;
        let result = match (&self.pattern, rest) {
            _ if values.data_type().is_null() => {
                new_null_array(arguments.return_field.data_type(), values.len())
            }
            (Some(pattern), _) => self.apply(&values, pattern)?,
            (None, []) => Arc::new(from_epoch(&values)?.with_timezone(UTC)),
            (None, [ColumnarValue::Scalar(pattern), ..]) => match pattern.try_as_str().flatten() {
                Some(pattern) => {
                    let pattern = self.read(values.data_type(), pattern).map_err(external)?;
                    self.apply(&values, &pattern)?
                }
                None => new_null_array(arguments.return_field.data_type(), values.len()),
            },
            (None, _) => {
                let what = format!("a pattern of {}() that is not a constant", self.name());
                return Err(external(SqlError::not_built(what)));
            }
        };
        in_form_of(value, result)
    }
}

fn is_text(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_null()
}

/// Whether `to_char` writes values of this type.
fn is_written(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || data_type.is_null()
        || is_interval(data_type)
        || matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_)
    )
}

fn primitive<T: ArrowPrimitiveType>(values: &ArrayRef) -> Result<PrimitiveArray<T>> {
    Ok(cast(values, &T::DATA_TYPE)?.as_primitive::<T>().clone())
}

fn written_times(values: &ArrayRef, pattern: &TimePattern) -> Result<StringArray> {
    let numbers = primitive::<Int64Type>(values)?;
    let DataType::Timestamp(unit, zone) = values.data_type() else {
        return texts(values, |row, out| {
            pattern.write(&TimeParts::of_days(numbers.value(row)), out);
            Ok(())
        });
    };
    let zoned = zone.is_some();
    texts(values, |row, out| {
        let us = microseconds(numbers.value(row), *unit)?;
        pattern.write(&TimeParts::of_timestamp(us, zoned), out);
        Ok(())
    })
}

fn microseconds(value: i64, unit: TimeUnit) -> Result<i64> {
    time_unit::convert(value, unit, TimeUnit::Microsecond).ok_or_else(|| {
        let message = format!("{value} is out of the range of a timestamp in microseconds");
        external(SqlError::new(sqlstate::DATETIME_OVERFLOW, message))
    })
}

fn written_intervals(values: &ArrayRef, pattern: &TimePattern) -> Result<StringArray> {
    let (unit, has_days) = match values.data_type() {
        DataType::Duration(unit) => (*unit, true),
        DataType::Time32(unit) | DataType::Time64(unit) => (*unit, false),
        _ => {
            let whole = DataType::Interval(IntervalUnit::MonthDayNano);
            let whole = cast(values, &whole)?;
            let intervals = whole.as_primitive::<IntervalMonthDayNanoType>();
            return texts(values, |row, out| {
                let it = intervals.value(row);
                let parts = TimeParts::of_interval(
                    it.months.into(),
                    it.days.into(),
                    it.nanoseconds / 1_000,
                );
                pattern.write_interval(&parts, out);
                Ok(())
            });
        }
    };
    let numbers = primitive::<Int64Type>(values)?;
    let day_us = if has_days {
        DAY_SECONDS * SECOND_US
    } else {
        i64::MAX
    };
    texts(values, |row, out| {
        let us = microseconds(numbers.value(row), unit)?;
        let parts = TimeParts::of_interval(0, us / day_us, us % day_us);
        pattern.write_interval(&parts, out);
        Ok(())
    })
}

fn written_numbers(values: &ArrayRef, pattern: &NumberPattern) -> Result<StringArray> {
    let mut writer = NumberWriter::new(pattern);
    match values.data_type() {
        DataType::Float16 | DataType::Float32 => {
            let numbers = primitive::<Float32Type>(values)?;
            texts(values, |row, out| {
                writer.write(NumberValue::Float32(numbers.value(row)), out);
                Ok(())
            })
        }
        DataType::Float64 => {
            let numbers = primitive::<Float64Type>(values)?;
            texts(values, |row, out| {
                writer.write(NumberValue::Float64(numbers.value(row)), out);
                Ok(())
            })
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            let numbers = primitive::<Int32Type>(values)?;
            texts(values, |row, out| {
                writer.write(NumberValue::Int32(numbers.value(row)), out);
                Ok(())
            })
        }
        DataType::UInt64 => decimals(values, 0, writer, primitive::<UInt64Type>(values)?),
        DataType::Decimal128(_, scale) => decimals(
            values,
            *scale,
            writer,
            values.as_primitive::<Decimal128Type>().clone(),
        ),
        DataType::Decimal256(_, scale) => decimals(
            values,
            *scale,
            writer,
            values.as_primitive::<Decimal256Type>().clone(),
        ),
        DataType::Decimal32(..) | DataType::Decimal64(..) => {
            let (precision, scale) = (38, decimal_scale(values.data_type()));
            let wide = cast(values, &DataType::Decimal128(precision, scale))?;
            decimals(
                values,
                scale,
                writer,
                wide.as_primitive::<Decimal128Type>().clone(),
            )
        }
        _ => decimals(values, 0, writer, primitive::<Int64Type>(values)?),
    }
}

fn decimal_scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => *scale,
        _ => 0,
    }
}

fn decimals<T>(
    values: &ArrayRef,
    scale: i8,
    mut writer: NumberWriter<'_>,
    numbers: PrimitiveArray<T>,
) -> Result<StringArray>
where
    T: ArrowPrimitiveType<Native: std::fmt::Display>,
{
    let mut digits = String::new();
    texts(values, |row, out| {
        digits.clear();
        // Writing to a string cannot fail.
        let _ = write!(digits, "{}", numbers.value(row));
        let scale = scale.into();
        writer.write(
            NumberValue::Decimal {
                digits: &digits,
                scale,
            },
            out,
        );
        Ok(())
    })
}

/// Timestamps from seconds since 1970, rounded to microseconds as PostgreSQL rounds.
fn from_epoch(values: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let seconds = primitive::<Float64Type>(values)?;
    seconds.try_unary(|seconds| {
        let us = (seconds - EPOCH_2000 as f64) * SECOND_US as f64;
        let us = us.round_ties_even();
        // The float after the greatest integer is 2^63.
        let in_range = us >= i64::MIN as f64 && us < i64::MAX as f64;
        let us = in_range.then_some(us as i64);
        us.and_then(|us| us.checked_add(EPOCH_2000 * SECOND_US))
            .ok_or_else(|| {
                let message = format!("timestamp out of range: {seconds}");
                external(SqlError::new(sqlstate::DATETIME_OVERFLOW, message))
            })
    })
}
