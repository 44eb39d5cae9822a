//! SUM and AVG of integers and decimals: a total that holds more rows than there can be, and is checked once.
//!
//! A total of integers has 128 bits, one of decimals 256. This file has the accumulators of one group and the
//! results of integers; `decimal_total` has those of decimals, and `totals` the accumulators of many groups.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, PrimitiveArray,
    UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeType, DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Int8Type, Int16Type,
    Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;

use super::arithmetic::TOO_LONG;
use super::fault::ValueFault;

/// An integer that is wide enough for a total.
pub(super) trait TotalNumber: ArrowNativeType + Display + Eq + Hash {
    type Arrow: ArrowPrimitiveType<Native = Self> + Send;
    /// The type of a total in a state; it may have more digits.
    const TYPE: DataType;

    /// `None` if it is too great after all.
    fn sum(self, other: Self) -> Option<Self>;

    fn difference(self, other: Self) -> Option<Self>;

    /// Calls `each` for each value that is not NULL, of arguments or totals.
    fn for_each(array: &ArrayRef, each: impl FnMut(Self)) -> Result<()>;

    fn sums(totals: Vec<Self>, nulls: Option<NullBuffer>, result: &TotalResult)
    -> Result<ArrayRef>;

    /// Without values a count is 0, and the average counts for nothing.
    fn averages(
        totals: Vec<Self>,
        counts: &[u64],
        nulls: Option<NullBuffer>,
        result: &TotalResult,
    ) -> Result<ArrayRef>;
}

/// What is made of a total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TotalResult {
    pub average: bool,
    /// The type of the result.
    pub data_type: DataType,
    /// Digits after the point that an average of decimals has more than they have.
    pub more_digits: u32,
    /// The aggregate as SQL, for its errors.
    pub text: String,
}

impl TotalResult {
    /// The result of `count` values of this total; NULL for none.
    fn of<N: TotalNumber>(&self, total: N, count: u64) -> Result<ScalarValue> {
        if count == 0 {
            return ScalarValue::try_from(&self.data_type);
        }
        let result = match self.average {
            true => N::averages(vec![total], &[count], None, self)?,
            false => N::sums(vec![total], None, self)?,
        };
        ScalarValue::try_from_array(&result, 0)
    }

    pub fn out_of_range(&self, total: impl Display) -> DataFusionError {
        ValueFault::OutOfRange.error(&self.data_type, &self.text, total)
    }
}

impl TotalNumber for i128 {
    type Arrow = Decimal128Type;
    const TYPE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

    fn sum(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }

    fn difference(self, other: Self) -> Option<Self> {
        self.checked_sub(other)
    }

    fn for_each(array: &ArrayRef, mut each: impl FnMut(Self)) -> Result<()> {
        match array.data_type() {
            DataType::Int8 => each_of::<Int8Type, _>(array, &mut each),
            DataType::Int16 => each_of::<Int16Type, _>(array, &mut each),
            DataType::Int32 => each_of::<Int32Type, _>(array, &mut each),
            DataType::Int64 => each_of::<Int64Type, _>(array, &mut each),
            DataType::UInt8 => each_of::<UInt8Type, _>(array, &mut each),
            DataType::UInt16 => each_of::<UInt16Type, _>(array, &mut each),
            DataType::UInt32 => each_of::<UInt32Type, _>(array, &mut each),
            DataType::UInt64 => each_of::<UInt64Type, _>(array, &mut each),
            DataType::Decimal128(..) => each_of::<Decimal128Type, _>(array, &mut each),
            other => return exec_err!("a total of {other}"),
        }
        Ok(())
    }

    fn sums(
        totals: Vec<Self>,
        nulls: Option<NullBuffer>,
        result: &TotalResult,
    ) -> Result<ArrayRef> {
        fn fitted<N: TryFrom<i128>>(totals: Vec<i128>, result: &TotalResult) -> Result<Vec<N>> {
            let fitted = |total| N::try_from(total).map_err(|_| result.out_of_range(total));
            totals.into_iter().map(fitted).collect()
        }
        Ok(match result.data_type {
            DataType::UInt64 => Arc::new(UInt64Array::new(fitted(totals, result)?.into(), nulls)),
            _ => Arc::new(Int64Array::new(fitted(totals, result)?.into(), nulls)),
        })
    }

    fn averages(
        totals: Vec<Self>,
        counts: &[u64],
        nulls: Option<NullBuffer>,
        _: &TotalResult,
    ) -> Result<ArrayRef> {
        let averages = totals.iter().zip(counts);
        let averages = averages.map(|(&total, &count)| average(total, count.max(1)));
        let averages: Vec<f64> = averages.collect();
        Ok(Arc::new(Float64Array::new(averages.into(), nulls)))
    }
}

pub(super) fn each_of<T: ArrowPrimitiveType<Native: Into<N>>, N>(
    array: &ArrayRef,
    each: &mut impl FnMut(N),
) {
    let array: &PrimitiveArray<T> = array.as_primitive();
    match array.null_count() {
        0 => array.values().iter().for_each(|&value| each(value.into())),
        _ => array.iter().flatten().for_each(|value| each(value.into())),
    }
}

/// The double nearest to `total / count`, rounded once; `count` is not 0.
pub(super) fn average(total: i128, count: u64) -> f64 {
    /// Bits of the mantissa of a double: it represents every integer that fits into them.
    const EXACT: u32 = 53;
    let (size, divisor) = (total.unsigned_abs(), u128::from(count));
    if size < 1 << EXACT && count < 1 << EXACT {
        return total as f64 / count as f64;
    }
    // A quotient of at least two bits more than a double has, the last of which stands for all that follow:
    // so the conversion rounds it as it would round all of them.
    let bits = |it: u128| u128::BITS - it.leading_zeros();
    let shift = (EXACT + 3 + bits(divisor)).saturating_sub(bits(size));
    let shifted = size << shift;
    let quotient = (shifted / divisor) | u128::from(shifted % divisor != 0);
    let value = quotient as f64 / (1_u128 << shift) as f64;
    if total < 0 { -value } else { value }
}

fn total_scalar<N: TotalNumber>(total: Option<N>) -> Result<ScalarValue> {
    ScalarValue::new_primitive::<N::Arrow>(total, &N::TYPE)
}

/// The total of one group.
#[derive(Debug)]
pub(super) struct GroupTotal<N> {
    result: TotalResult,
    /// `None` once it was too great.
    total: Option<N>,
    count: u64,
}

impl<N: TotalNumber> GroupTotal<N> {
    pub fn new(result: TotalResult) -> Self {
        Self {
            result,
            total: Some(N::default()),
            count: 0,
        }
    }

    fn total(&self) -> Result<N> {
        self.total.ok_or_else(|| self.result.out_of_range(TOO_LONG))
    }

    fn change(&mut self, array: &ArrayRef, by: impl Fn(N, N) -> Option<N>) -> Result<()> {
        N::for_each(array, |value| {
            self.total = self.total.and_then(|total| by(total, value))
        })
    }
}

impl<N: TotalNumber> Accumulator for GroupTotal<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count += (values[0].len() - values[0].null_count()) as u64;
        self.change(&values[0], N::sum)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count -= (values[0].len() - values[0].null_count()) as u64;
        self.change(&values[0], N::difference)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.result.of(self.total()?, self.count)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    /// As that of `totals`.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = (self.count > 0).then(|| self.total()).transpose()?;
        let total = total_scalar(total)?;
        Ok(match self.result.average {
            true => vec![ScalarValue::UInt64(Some(self.count)), total],
            false => vec![total],
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts @ .., totals] = states else {
            return exec_err!("a total without a state");
        };
        match counts.first() {
            Some(counts) => {
                let counts = arrow::compute::sum(counts.as_primitive::<UInt64Type>());
                self.count += counts.unwrap_or_default();
            }
            None => self.count += (totals.len() - totals.null_count()) as u64,
        }
        self.change(totals, N::sum)
    }
}

/// The total of the distinct values of one group.
#[derive(Debug)]
pub(super) struct DistinctTotal<N> {
    result: TotalResult,
    /// How often each value is there.
    values: HashMap<N, u64>,
}

impl<N> DistinctTotal<N> {
    pub fn new(result: TotalResult) -> Self {
        Self {
            result,
            values: HashMap::new(),
        }
    }
}

impl<N: TotalNumber> Accumulator for DistinctTotal<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        N::for_each(&values[0], |value| {
            *self.values.entry(value).or_default() += 1;
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        N::for_each(&values[0], |value| {
            if let Some(count) = self.values.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.values.remove(&value);
                }
            }
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let count = self.values.len() as u64;
        let mut keys = self.values.keys();
        let total = keys.try_fold(N::default(), |total, &value| total.sum(value));
        let total = total.ok_or_else(|| self.result.out_of_range(TOO_LONG))?;
        self.result.of(total, count)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<(N, u64)>()
    }

    /// One list of the values.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.values.keys().map(|&it| total_scalar(Some(it)));
        let values = values.collect::<Result<Vec<_>>>()?;
        let list = ScalarValue::new_list_nullable(&values, &N::TYPE);
        Ok(vec![ScalarValue::List(list)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        lists
            .iter()
            .flatten()
            .try_for_each(|list| self.update_batch(&[list]))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// How far `float` is from `total / count`, times `count` and a power of two; the quotient is between
    /// 2^10 and 2^60.
    fn distance(float: f64, total: i128, count: u64) -> u128 {
        let scale = 1_i128 << 43;
        let scaled = (float * scale as f64) as i128;
        (total * scale - scaled * i128::from(count)).unsigned_abs()
    }

    #[test]
    fn an_average_is_the_nearest_double() {
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..20_000 {
            let (most_count, most) = (random.random_range(1..20), random.random_range(11..60));
            let count = random.random_range(1..1_u64 << most_count);
            let quotient = random.random_range(1_i128 << 10..1 << most);
            let sign = if random.random_bool(0.5) { -1 } else { 1 };
            let total =
                sign * (quotient * i128::from(count) + i128::from(random.random_range(0..count)));
            let nearest = average(total, count);
            let off = distance(nearest, total, count);
            for other in [nearest.next_up(), nearest.next_down()] {
                let farther = distance(other, total, count);
                assert!(off <= farther, "{total} / {count} is not {nearest}");
                let even = nearest.to_bits().is_multiple_of(2);
                assert!(
                    off < farther || even,
                    "{total} / {count} is halfway, not {nearest}"
                );
            }
        }
    }

    #[test]
    fn averages_at_the_limits() {
        let greatest = i128::from(i64::MAX);
        assert_eq!(average(-1, 2), -0.5);
        assert_eq!(average(0, 7), 0.0);
        assert_eq!(average(greatest * (1 << 60), 1 << 60), greatest as f64);
        assert_eq!(average(1, u64::MAX), 1.0 / u64::MAX as f64);
        assert_eq!(average(i128::MIN, 1), i128::MIN as f64);
    }
}
