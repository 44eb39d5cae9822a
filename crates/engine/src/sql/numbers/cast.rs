//! CAST where a value may not fit, must be rounded, or is a text.
//!
//! A float is rounded to the nearest integer, and to the even one of two; a decimal, and a timestamp to a
//! coarser one, is rounded away from zero if it is halfway between two.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Float64Array, PrimitiveArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use headwater_connect::calendar::{DAY_SECONDS, days_from_civil};
use headwater_connect::time_unit::per_second;

use super::fault::ValueFault;
use crate::canonical::Canonical;
use crate::sql::values::{from_text, in_form_of, length_of, to_text};

/// The function for a cast, if DataFusion's own could give a wrong value or error; `or_null` for TRY_CAST.
pub(crate) fn exact_cast(
    from: &DataType,
    to: &Field,
    or_null: bool,
    text: String,
) -> Option<Arc<ScalarUDF>> {
    let length = length_of(to);
    (length.is_some() || needs_check(from, to.data_type())).then(|| {
        Arc::new(ScalarUDF::from(ExactCast {
            to: to.data_type().clone(),
            length,
            or_null,
            text,
            signature: Signature::any(1, Volatility::Immutable),
        }))
    })
}

fn needs_check(from: &DataType, to: &DataType) -> bool {
    if from == to {
        return false;
    }
    match (from, to) {
        _ if from.is_string() => from_text::reads(to),
        (_, DataType::Utf8) => to_text::writes(from),
        // Also to a finer one: the optimizer would take the cast off and compare with a coarser literal.
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        _ if !from.is_numeric() || !to.is_numeric() => false,
        _ => match (digits(from), digits(to)) {
            (Some(from), Some(to)) => !from.fit_in(&to),
            // From a float to an integer or a decimal.
            (None, Some(_)) => true,
            (_, None) => {
                from.is_decimal() || matches!((from, to), (DataType::Float64, DataType::Float32))
            }
        },
    }
}

/// The digits that exact numbers of a type may have.
struct Digits {
    before_point: i16,
    after_point: i16,
    /// Of an integer: bits without the sign, and whether there is a sign.
    integer: Option<(u8, bool)>,
}

impl Digits {
    fn fit_in(&self, wide: &Self) -> bool {
        match (self.integer, wide.integer) {
            (Some((bits, signed)), Some((wide, has_sign))) => bits <= wide && (has_sign || !signed),
            (None, Some(_)) => false,
            _ => self.before_point <= wide.before_point && self.after_point <= wide.after_point,
        }
    }
}

fn digits(data_type: &DataType) -> Option<Digits> {
    let integer = |bits, signed, before_point| {
        Some(Digits {
            before_point,
            after_point: 0,
            integer: Some((bits, signed)),
        })
    };
    match data_type {
        DataType::Int8 => integer(7, true, 3),
        DataType::Int16 => integer(15, true, 5),
        DataType::Int32 => integer(31, true, 10),
        DataType::Int64 => integer(63, true, 19),
        DataType::UInt8 => integer(8, false, 3),
        DataType::UInt16 => integer(16, false, 5),
        DataType::UInt32 => integer(32, false, 10),
        DataType::UInt64 => integer(64, false, 20),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            Some(Digits {
                before_point: i16::from(*precision) - i16::from(*scale),
                after_point: i16::from(*scale),
                integer: None,
            })
        }
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactCast {
    to: DataType,
    /// Of `VARCHAR(length)`: what is longer is cut.
    length: Option<usize>,
    or_null: bool,
    text: String,
    signature: Signature,
}

impl ExactCast {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let result = self.fitting(values)?;
        if self.or_null || result.null_count() == values.null_count() {
            return Ok(result);
        }
        let row = (0..values.len()).find(|&row| result.is_null(row) && values.is_valid(row));
        let options = FormatOptions::default();
        let value = ArrayFormatter::try_new(values, &options)?;
        let value = value.value(row.unwrap_or_default()).to_string();
        Err(match values.data_type() {
            it if it.is_string() => {
                let fault = from_text::fault(&value, &self.to);
                fault.error(&self.to, &self.text, format_args!("'{value}'"))
            }
            DataType::Binary => ValueFault::NotUtf8.error(&self.to, &self.text, value),
            _ => ValueFault::OutOfRange.error(&self.to, &self.text, value),
        })
    }

    /// The cast, with NULL for what does not fit.
    fn fitting(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match (values.data_type(), &self.to) {
            (_, DataType::Utf8) => {
                let texts = to_text::written(values)?;
                match self.length {
                    Some(length) => to_text::shortened(&texts, length),
                    None => Ok(texts),
                }
            }
            (from, to) if from.is_string() => from_text::read(values, to),
            (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) => {
                timestamps(values, *from, *to, &self.to)
            }
            (DataType::Float32, to) if to.is_integer() => {
                let wide = or_null(values, &DataType::Float64)?;
                self.float_to_integer(&wide)
            }
            (DataType::Float64, to) if to.is_integer() => self.float_to_integer(values),
            (DataType::Float64, DataType::Float32) => {
                let floats: PrimitiveArray<Float32Type> =
                    values.as_primitive::<Float64Type>().unary_opt(narrow);
                Ok(Arc::new(floats))
            }
            (DataType::Float32 | DataType::Float64, DataType::Decimal128(precision, scale)) => {
                let decimals = floats_to_decimals(values, *scale)?;
                let wide = DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale);
                let decimals: ArrayRef = Arc::new(decimals.with_data_type(wide));
                or_null(&decimals, &DataType::Decimal128(*precision, *scale))
            }
            (DataType::Decimal128(_, scale), DataType::Float32 | DataType::Float64) => {
                let decimals = values.as_primitive::<Decimal128Type>();
                let doubles: Float64Array = decimals.unary(|it| nearest_double(it, *scale));
                let doubles: ArrayRef = Arc::new(doubles);
                self.fitting(&doubles)
            }
            (DataType::Float64, DataType::Float64) => Ok(Arc::clone(values)),
            (DataType::Decimal128(..), to) if to.is_integer() => {
                let whole = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);
                or_null(&or_null(values, &whole)?, to)
            }
            (DataType::Decimal256(..), to) if to.is_integer() => {
                let whole = DataType::Decimal256(DECIMAL256_MAX_PRECISION, 0);
                or_null(&or_null(values, &whole)?, to)
            }
            (_, to) => or_null(values, to),
        }
    }

    fn float_to_integer(&self, floats: &ArrayRef) -> Result<ArrayRef> {
        match &self.to {
            DataType::Int8 => Ok(rounded::<Int8Type>(floats)),
            DataType::Int16 => Ok(rounded::<Int16Type>(floats)),
            DataType::Int32 => Ok(rounded::<Int32Type>(floats)),
            DataType::Int64 => Ok(rounded::<Int64Type>(floats)),
            DataType::UInt8 => Ok(rounded::<UInt8Type>(floats)),
            DataType::UInt16 => Ok(rounded::<UInt16Type>(floats)),
            DataType::UInt32 => Ok(rounded::<UInt32Type>(floats)),
            DataType::UInt64 => Ok(rounded::<UInt64Type>(floats)),
            other => exec_err!("a cast to {other}"),
        }
    }
}

/// Arrow's cast, with NULL for what does not fit.
pub(in crate::sql) fn or_null(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    Ok(cast_with_options(values, to, &options)?)
}

/// Timestamps of another unit; NULL for those out of range.
fn timestamps(values: &ArrayRef, from: TimeUnit, to: TimeUnit, of: &DataType) -> Result<ArrayRef> {
    /// Where PostgreSQL counts timestamps from, seconds since 1970.
    const EPOCH_2000: i64 = days_from_civil(2000, 1, 1) * DAY_SECONDS;
    let numbers = or_null(values, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let (from_units, to_units) = (per_second(from), per_second(to));
    let converted: PrimitiveArray<Int64Type> = match from_units <= to_units {
        true => numbers.unary_opt(|time| time.checked_mul(to_units / from_units)),
        false => {
            let (unit, epoch) = (from_units / to_units, EPOCH_2000 * from_units);
            numbers.unary_opt(|time| {
                let half = if time < epoch { -unit / 2 } else { unit / 2 };
                // Rounded away from the epoch.
                let rounded = time.checked_sub(epoch)?.checked_add(half)? / unit;
                Some(rounded + epoch / unit)
            })
        }
    };
    let converted: ArrayRef = Arc::new(converted);
    or_null(&converted, of)
}

fn floats_to_decimals(values: &ArrayRef, scale: i8) -> Result<Decimal128Array> {
    /// Decimal digits that a float holds for certain, beyond which PostgreSQL rounds it.
    const F32_DIGITS: usize = 6;
    const F64_DIGITS: usize = 15;
    let digits = match values.data_type() {
        DataType::Float32 => F32_DIGITS,
        _ => F64_DIGITS,
    };
    let doubles = or_null(values, &DataType::Float64)?;
    let doubles = doubles.as_primitive::<Float64Type>();
    Ok(doubles.unary_opt(|double| decimal(double, digits, scale)))
}

/// The double nearest to `value / 10^scale`.
fn nearest_double(value: i128, scale: i8) -> f64 {
    /// Up to both of them doubles are exact, so only the quotient is rounded.
    const EXACT_BITS: u32 = 53;
    const EXACT_POWERS: std::ops::RangeInclusive<i8> = 0..=22;
    if value.unsigned_abs() < 1 << EXACT_BITS && EXACT_POWERS.contains(&scale) {
        return value as f64 / 10_f64.powi(scale.into());
    }
    let text = format!("{value}e{}", -i32::from(scale));
    text.parse().unwrap_or(f64::NAN)
}

/// The integer of a decimal with this scale; `None` if it does not fit.
fn decimal(double: f64, digits: usize, scale: i8) -> Option<i128> {
    /// How far a number may be from halfway and its neighbours' digits still do not count.
    const CERTAIN: f64 = 0.25;
    let scaled = double * 10_f64.powi(scale.into());
    let rounded = scaled.round();
    let error = scaled.abs() * 10_f64.powi(1 - digits as i32);
    if error < CERTAIN && (scaled - rounded).abs() < CERTAIN {
        return Some(rounded as i128);
    }
    if !double.is_finite() {
        return None;
    }
    let text = format!("{double:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let integer: i128 = mantissa.replacen('.', "", 1).parse().ok()?;
    let shift = exponent + i32::from(scale) - (digits as i32 - 1);
    let factor = 10_i128.checked_pow(shift.unsigned_abs());
    let value = match (shift >= 0, factor) {
        (true, factor) => integer.checked_mul(factor?)?,
        (false, Some(factor)) => (integer + factor / 2 * integer.signum()) / factor,
        (false, None) => 0,
    };
    let limit = 10_u128.pow(DECIMAL128_MAX_PRECISION.into());
    (value.unsigned_abs() < limit).then_some(value)
}

/// A double as a real, if it is within the range of reals.
fn narrow(double: f64) -> Option<f32> {
    let real = double as f32;
    let overflows = real.is_infinite() && double.is_finite();
    let underflows = real == 0.0 && double != 0.0;
    (!overflows && !underflows).then(|| real.canonical())
}

/// Doubles as integers; NULL for those out of range.
fn rounded<T: ArrowPrimitiveType<Native: TryFrom<i128>>>(floats: &ArrayRef) -> ArrayRef {
    let integers: PrimitiveArray<T> = floats.as_primitive::<Float64Type>().unary_opt(|float| {
        // Every integer of 64 bits fits into 128, and a double beyond those becomes the greatest of them.
        let whole = float.round_ties_even();
        (!whole.is_nan())
            .then(|| T::Native::try_from(whole as i128).ok())
            .flatten()
    });
    Arc::new(integers)
}

impl ScalarUDFImpl for ExactCast {
    fn name(&self) -> &str {
        match self.or_null {
            true => "exact_try_cast",
            false => "exact_cast",
        }
    }

    /// The name of its argument, as that of any CAST.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        match arguments {
            [of] => Ok(of.schema_name().to_string()),
            _ => internal_err!("a cast of {} arguments", arguments.len()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = self.or_null || args.arg_fields.iter().any(|it| it.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [value] => in_form_of(value, self.apply(&value.to_array(1)?)?),
            other => internal_err!("a cast of {} arguments", other.len()),
        }
    }
}
