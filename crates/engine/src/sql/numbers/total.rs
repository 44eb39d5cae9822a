//! SUM and AVG of integers: a total of 128 bits, which holds more rows than there can be, and is checked once.
//!
//! This file has the results and the accumulators of one group; `totals` has those of many.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;

use super::fault::NumberFault;

/// The type of a total in a state: 128 bits.
pub(super) const TOTAL: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

/// What is made of a total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TotalResult {
    pub average: bool,
    /// The type of a sum: BIGINT, or BIGINT UNSIGNED.
    pub data_type: DataType,
    /// The aggregate as SQL, for its errors.
    pub text: String,
}

impl TotalResult {
    /// The result of `count` integers of this total; NULL for none.
    fn of(&self, total: i128, count: u64) -> Result<ScalarValue> {
        let any = count > 0;
        match (self.average, &self.data_type) {
            (true, _) => Ok(ScalarValue::Float64(any.then(|| average(total, count)))),
            (false, DataType::UInt64) => {
                let sum = any.then(|| self.fitted(total)).transpose()?;
                Ok(ScalarValue::UInt64(sum))
            }
            (false, _) => {
                let sum = any.then(|| self.fitted(total)).transpose()?;
                Ok(ScalarValue::Int64(sum))
            }
        }
    }

    /// The total as an integer of the result's type.
    pub fn fitted<N: TryFrom<i128>>(&self, total: i128) -> Result<N> {
        let fitted = N::try_from(total);
        fitted.map_err(|_| NumberFault::OutOfRange.error(&self.data_type, &self.text, total))
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

/// Calls `add` for each value that is not NULL, of integers or totals.
fn for_each(array: &ArrayRef, mut add: impl FnMut(i128)) -> Result<()> {
    fn each<T: ArrowPrimitiveType<Native: Into<i128>>>(
        array: &ArrayRef,
        add: &mut impl FnMut(i128),
    ) {
        let array: &PrimitiveArray<T> = array.as_primitive();
        match array.null_count() {
            0 => array.values().iter().for_each(|&value| add(value.into())),
            _ => array.iter().flatten().for_each(|value| add(value.into())),
        }
    }
    match array.data_type() {
        DataType::Int8 => each::<Int8Type>(array, &mut add),
        DataType::Int16 => each::<Int16Type>(array, &mut add),
        DataType::Int32 => each::<Int32Type>(array, &mut add),
        DataType::Int64 => each::<Int64Type>(array, &mut add),
        DataType::UInt8 => each::<UInt8Type>(array, &mut add),
        DataType::UInt16 => each::<UInt16Type>(array, &mut add),
        DataType::UInt32 => each::<UInt32Type>(array, &mut add),
        DataType::UInt64 => each::<UInt64Type>(array, &mut add),
        DataType::Decimal128(..) => each::<Decimal128Type>(array, &mut add),
        other => return exec_err!("a total of {other}"),
    }
    Ok(())
}

fn total_scalar(total: Option<i128>) -> ScalarValue {
    ScalarValue::Decimal128(total, DECIMAL128_MAX_PRECISION, 0)
}

/// The total of one group.
#[derive(Debug)]
pub(super) struct GroupTotal {
    result: TotalResult,
    total: i128,
    count: u64,
}

impl GroupTotal {
    pub fn new(result: TotalResult) -> Self {
        Self {
            result,
            total: 0,
            count: 0,
        }
    }
}

impl Accumulator for GroupTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count += (values[0].len() - values[0].null_count()) as u64;
        for_each(&values[0], |value| self.total += value)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count -= (values[0].len() - values[0].null_count()) as u64;
        for_each(&values[0], |value| self.total -= value)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.result.of(self.total, self.count)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    /// As that of `totals`.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = total_scalar((self.count > 0).then_some(self.total));
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
        for_each(totals, |total| self.total += total)
    }
}

/// The total of the distinct integers of one group.
#[derive(Debug)]
pub(super) struct DistinctTotal {
    result: TotalResult,
    /// How often each integer is there.
    integers: HashMap<i128, u64>,
}

impl DistinctTotal {
    pub fn new(result: TotalResult) -> Self {
        Self {
            result,
            integers: HashMap::new(),
        }
    }
}

impl Accumulator for DistinctTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each(&values[0], |value| {
            *self.integers.entry(value).or_default() += 1;
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each(&values[0], |value| {
            if let Some(count) = self.integers.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.integers.remove(&value);
                }
            }
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let count = self.integers.len() as u64;
        self.result.of(self.integers.keys().sum(), count)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.integers.capacity() * size_of::<(i128, u64)>()
    }

    /// One list of the integers.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let integers = self.integers.keys().map(|&it| total_scalar(Some(it)));
        let list = ScalarValue::new_list_nullable(&integers.collect::<Vec<_>>(), &TOTAL);
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
