//! SUM and AVG of decimals: totals of 256 bits, rounded once and checked against the digits of the result.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type, DecimalType, i256,
};
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::arithmetic::{TOO_LONG, rounded_quotient};
use super::total::{TotalNumber, TotalResult, each_of};

impl TotalNumber for i256 {
    type Arrow = Decimal256Type;
    const TYPE: DataType = DataType::Decimal256(DECIMAL256_MAX_PRECISION, 0);

    fn sum(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn difference(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn for_each(array: &ArrayRef, mut each: impl FnMut(Self)) -> Result<()> {
        match array.data_type() {
            DataType::Decimal128(..) => each_of::<Decimal128Type, _>(array, &mut each),
            DataType::Decimal256(..) => each_of::<Decimal256Type, _>(array, &mut each),
            other => return exec_err!("a total of {other}"),
        }
        Ok(())
    }

    fn sums(
        totals: Vec<Self>,
        nulls: Option<NullBuffer>,
        result: &TotalResult,
    ) -> Result<ArrayRef> {
        match result.data_type {
            DataType::Decimal128(..) => {
                decimals::<Decimal128Type>(&totals, nulls, result, Self::to_i128)
            }
            _ => decimals::<Decimal256Type>(&totals, nulls, result, Some),
        }
    }

    fn averages(
        totals: Vec<Self>,
        counts: &[u64],
        nulls: Option<NullBuffer>,
        result: &TotalResult,
    ) -> Result<ArrayRef> {
        let factor = Self::from_i128(10_i128.pow(result.more_digits));
        let rounded = totals.iter().zip(counts).map(|(&total, &count)| {
            let divisor = Self::from_i128(count.max(1).into());
            let scaled = total.checked_mul(factor);
            let quotient = scaled.and_then(|it| rounded_quotient(it, divisor).ok());
            quotient.ok_or_else(|| result.out_of_range(TOO_LONG))
        });
        Self::sums(rounded.collect::<Result<_>>()?, nulls, result)
    }
}

fn decimals<T: DecimalType + ArrowPrimitiveType>(
    totals: &[i256],
    nulls: Option<NullBuffer>,
    result: &TotalResult,
    fitted: impl Fn(i256) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let (DataType::Decimal128(precision, _) | DataType::Decimal256(precision, _)) =
        result.data_type
    else {
        return exec_err!("a total as {}", result.data_type);
    };
    let fits = |it: &T::Native| T::is_valid_decimal_precision(*it, precision);
    let values = totals.iter().map(|&total| {
        let value = fitted(total).filter(fits);
        value.ok_or_else(|| result.out_of_range(TOO_LONG))
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    let values = PrimitiveArray::<T>::new(values.into(), nulls);
    Ok(Arc::new(values.with_data_type(result.data_type.clone())))
}
