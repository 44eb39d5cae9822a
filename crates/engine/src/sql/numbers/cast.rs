//! CAST from number to number where a value may not fit, or must be rounded.
//!
//! A float is rounded to the nearest integer, and to the even one of two; a decimal is rounded away from
//! zero if it is halfway between two.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use super::fault::NumberFault;
use crate::canonical::Canonical;

/// The function for a cast, if DataFusion's own could give a wrong value; `or_null` for TRY_CAST.
pub(crate) fn number_cast(
    from: &DataType,
    to: &DataType,
    or_null: bool,
    text: String,
) -> Option<Arc<ScalarUDF>> {
    needs_check(from, to).then(|| {
        Arc::new(ScalarUDF::from(NumberCast {
            to: to.clone(),
            or_null,
            text,
            signature: Signature::any(1, Volatility::Immutable),
        }))
    })
}

fn needs_check(from: &DataType, to: &DataType) -> bool {
    if !from.is_numeric() || !to.is_numeric() || from == to {
        return false;
    }
    match (digits(from), digits(to)) {
        (Some(from), Some(to)) => !from.fit_in(&to),
        // From a float to an integer or a decimal.
        (None, Some(_)) => true,
        (_, None) => matches!((from, to), (DataType::Float64, DataType::Float32)),
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
pub(super) struct NumberCast {
    to: DataType,
    or_null: bool,
    text: String,
    signature: Signature,
}

impl NumberCast {
    fn apply(&self, numbers: &ArrayRef) -> Result<ArrayRef> {
        let result = self.fitting(numbers)?;
        if self.or_null || result.null_count() == numbers.null_count() {
            return Ok(result);
        }
        let row = (0..numbers.len()).find(|&row| result.is_null(row) && numbers.is_valid(row));
        let options = FormatOptions::default();
        let value = ArrayFormatter::try_new(numbers, &options)?;
        let value = value.value(row.unwrap_or_default()).to_string();
        Err(NumberFault::OutOfRange.error(&self.to, &self.text, value))
    }

    /// The cast, with NULL for what does not fit.
    fn fitting(&self, numbers: &ArrayRef) -> Result<ArrayRef> {
        match (numbers.data_type(), &self.to) {
            (DataType::Float32, to) if to.is_integer() => {
                let wide = or_null(numbers, &DataType::Float64)?;
                self.float_to_integer(&wide)
            }
            (DataType::Float64, to) if to.is_integer() => self.float_to_integer(numbers),
            (DataType::Float64, DataType::Float32) => {
                let floats: PrimitiveArray<Float32Type> =
                    numbers.as_primitive::<Float64Type>().unary_opt(narrow);
                Ok(Arc::new(floats))
            }
            (DataType::Decimal128(..), to) if to.is_integer() => {
                let whole = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);
                or_null(&or_null(numbers, &whole)?, to)
            }
            (DataType::Decimal256(..), to) if to.is_integer() => {
                let whole = DataType::Decimal256(DECIMAL256_MAX_PRECISION, 0);
                or_null(&or_null(numbers, &whole)?, to)
            }
            (_, to) => or_null(numbers, to),
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

fn or_null(numbers: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    Ok(cast_with_options(numbers, to, &options)?)
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

impl ScalarUDFImpl for NumberCast {
    fn name(&self) -> &str {
        match self.or_null {
            true => "try_cast_number",
            false => "cast_number",
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
            [ColumnarValue::Array(numbers)] => Ok(ColumnarValue::Array(self.apply(numbers)?)),
            [ColumnarValue::Scalar(number)] => {
                let result = self.apply(&number.to_array()?)?;
                let result = ScalarValue::try_from_array(&result, 0)?;
                Ok(ColumnarValue::Scalar(result))
            }
            other => internal_err!("a cast of {} arguments", other.len()),
        }
    }
}
