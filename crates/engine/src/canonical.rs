//! Canonical floats: one NaN, positive, and no -0.0.
//!
//! Every float of the engine is canonical from where it enters: decoders, pushes and literals see to that,
//! and so does what computes a float (`sql/numbers.rs`). Comparing, grouping and sorting by the total order of IEEE 754,
//! as Arrow does, is then what SQL means: 0 = -0, and NaN equals itself and is the greatest.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

/// A float that may be -0.0 or one of many NaNs.
pub(crate) trait Canonical: Copy {
    /// The same number as the one float that stands for it.
    fn canonical(self) -> Self;

    /// Whether [`Self::canonical`] may change the bits.
    fn is_odd(self) -> bool;
}

macro_rules! canonical {
    ($($float:ty),+) => {$(
        impl Canonical for $float {
            #[inline(always)]
            fn canonical(self) -> Self {
                // -0.0 + 0.0 is 0.0, and every other number stays as it is.
                if self.is_nan() { Self::NAN } else { self + 0.0 }
            }

            #[inline(always)]
            fn is_odd(self) -> bool {
                self.is_nan() | (self.to_bits() == (-0.0 as Self).to_bits())
            }
        }
    )+};
}

canonical!(f32, f64);

/// The array with canonical floats: the same array if they are, or if it has no floats.
pub(crate) fn canonical_array(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => canonical_floats::<Float32Type>(array),
        DataType::Float64 => canonical_floats::<Float64Type>(array),
        _ => Arc::clone(array),
    }
}

fn canonical_floats<T: ArrowPrimitiveType<Native: Canonical>>(array: &ArrayRef) -> ArrayRef {
    let floats = array.as_primitive::<T>();
    // No early exit: so the loop is vectorised.
    let odd = floats
        .values()
        .iter()
        .fold(false, |odd, it| odd | it.is_odd());
    if !odd {
        return Arc::clone(array);
    }
    let canonical: PrimitiveArray<T> = floats.unary(Canonical::canonical);
    Arc::new(canonical)
}

/// The batch with canonical floats; columns that have them already are not copied.
pub(crate) fn canonical_batch(batch: RecordBatch) -> RecordBatch {
    let is_float = |array: &ArrayRef| array.data_type().is_floating();
    if !batch.columns().iter().any(is_float) {
        return batch;
    }
    let columns = batch.columns().iter().map(canonical_array).collect();
    RecordBatch::try_new(batch.schema(), columns).unwrap_or(batch)
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn floats_become_canonical_and_others_stay_as_they_are() {
        let odd = [-0.0, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001)];
        let array: ArrayRef = Arc::new(Float64Array::from(odd.to_vec()));
        let bits: Vec<u64> = canonical_array(&array)
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .map(|it| it.to_bits())
            .collect();
        assert_eq!(bits, [0, f64::NAN.to_bits(), f64::NAN.to_bits()]);
        for float in [
            0.0,
            1.5,
            -1.5,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            assert_eq!(float.canonical().to_bits(), float.to_bits());
        }
        let usual: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]));
        assert!(Arc::ptr_eq(&canonical_array(&usual), &usual));
    }
}
