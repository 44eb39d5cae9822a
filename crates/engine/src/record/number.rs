//! Integers, floats and booleans as columns.
//!
//! Written as one tight loop over the rows into a buffer of exactly their number. Read from their
//! own type, or from a narrower one all of whose values they hold (`INT` into `i64`, never `BIGINT`
//! into `f64`).

use std::convert::identity;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

use super::codec::{Refusal, Scalar, Values};
use crate::canonical::Canonical;

macro_rules! numbers {
    ($($native:ty as $arrow:ty, $written:expr);+ $(;)?) => {$(
        impl Scalar for $native {
            type Array = PrimitiveArray<$arrow>;

            fn data_type() -> DataType {
                <$arrow>::DATA_TYPE
            }

            fn write<'a>(
                values: impl Values<'a, Self>,
                nulls: Option<NullBuffer>,
            ) -> Result<ArrayRef, Refusal> {
                Ok(Arc::new(primitives::<$arrow>(values, nulls, $written)))
            }

            fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
                widened(array)
            }

            fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
                Ok(array.value(row))
            }
        }
    )+};
}

numbers!(
    i8 as Int8Type, identity;
    i16 as Int16Type, identity;
    i32 as Int32Type, identity;
    i64 as Int64Type, identity;
    u8 as UInt8Type, identity;
    u16 as UInt16Type, identity;
    u32 as UInt32Type, identity;
    u64 as UInt64Type, identity;
    f32 as Float32Type, Canonical::canonical;
    f64 as Float64Type, Canonical::canonical;
);

impl Scalar for bool {
    type Array = BooleanArray;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn write<'a>(
        values: impl Values<'a, Self>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Refusal> {
        let bits: BooleanBuffer = values.map(|value| value.is_some_and(|&bit| bit)).collect();
        Ok(Arc::new(BooleanArray::new(bits, nulls)))
    }

    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
        array.as_boolean_opt().cloned().ok_or(Refusal::Type)
    }

    fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
        Ok(array.value(row))
    }
}

/// The values, each as `written`, as an array, zero under every NULL.
pub(super) fn primitives<'a, P: ArrowPrimitiveType>(
    values: impl Values<'a, P::Native>,
    nulls: Option<NullBuffer>,
    written: impl Fn(P::Native) -> P::Native,
) -> PrimitiveArray<P> {
    let values: Vec<P::Native> = values
        .map(|value| written(value.copied().unwrap_or_default()))
        .collect();
    PrimitiveArray::new(values.into(), nulls)
}

/// The array as `P`, if it has that type or can be converted without loss.
fn widened<P: ArrowPrimitiveType>(array: &ArrayRef) -> Result<PrimitiveArray<P>, Refusal> {
    if let Some(same) = array.as_primitive_opt::<P>() {
        return Ok(same.clone());
    }
    if !fits(array.data_type(), &P::DATA_TYPE) {
        return Err(Refusal::Type);
    }
    let wide = cast(array, &P::DATA_TYPE).map_err(|_| Refusal::Type)?;
    Ok(wide.as_primitive::<P>().clone())
}

/// Whether every value of `narrow` is also one of `wide`.
fn fits(narrow: &DataType, wide: &DataType) -> bool {
    if (narrow, wide) == (&DataType::Float32, &DataType::Float64) {
        return true;
    }
    let (Some(from), Some(to)) = (integer(narrow), integer(wide).or(mantissa(wide))) else {
        return false;
    };
    from.bits <= to.bits && (!from.signed || to.signed)
}

/// The range in which a number type holds every integer.
struct IntegerRange {
    bits: u8,
    signed: bool,
}

fn integer(number: &DataType) -> Option<IntegerRange> {
    let (bits, signed) = match number {
        DataType::Int8 => (7, true),
        DataType::Int16 => (15, true),
        DataType::Int32 => (31, true),
        DataType::Int64 => (63, true),
        DataType::UInt8 => (8, false),
        DataType::UInt16 => (16, false),
        DataType::UInt32 => (32, false),
        DataType::UInt64 => (64, false),
        _ => return None,
    };
    Some(IntegerRange { bits, signed })
}

fn mantissa(number: &DataType) -> Option<IntegerRange> {
    let bits = match number {
        DataType::Float32 => 24,
        DataType::Float64 => 53,
        _ => return None,
    };
    Some(IntegerRange { bits, signed: true })
}
