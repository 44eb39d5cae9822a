//! SUM and AVG of integers and decimals for many groups.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal128Type, Decimal256Type, Int64Type, UInt64Type, i256,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;

use super::arithmetic::TOO_LONG;
use super::total::{TotalNumber, TotalResult};

/// The low bits of a total, half of them; the high bits count how often they have overflowed.
pub(super) trait LowBits: ArrowNativeType + Addend<Low = Self> {
    type Total: TotalNumber;
    type Arrow: ArrowPrimitiveType<Native = Self>;
    /// The type of a sum that is nothing but these bits.
    const SUM: Option<DataType> = None;

    /// `None` if the total is too great for its type.
    fn total(self, high: i64) -> Option<Self::Total>;

    fn split(total: Self::Total) -> (Self, i64);
}

impl LowBits for i64 {
    type Total = i128;
    type Arrow = Int64Type;
    const SUM: Option<DataType> = Some(DataType::Int64);

    fn total(self, high: i64) -> Option<i128> {
        Some((i128::from(high) << 64) + i128::from(self))
    }

    fn split(total: i128) -> (Self, i64) {
        let low = total as i64;
        (low, ((total - i128::from(low)) >> 64) as i64)
    }
}

impl LowBits for i128 {
    type Total = i256;
    type Arrow = Decimal128Type;

    fn total(self, high: i64) -> Option<i256> {
        // The sign of the low bits is a part of the high ones.
        let high = i128::from(high) + (self >> 127);
        Some(i256::from_parts(self as u128, high))
    }

    fn split(total: i256) -> (Self, i64) {
        let (low, high) = total.to_parts();
        let low = low as i128;
        (low, (high - (low >> 127)) as i64)
    }
}

impl LowBits for i256 {
    type Total = Self;
    type Arrow = Decimal256Type;

    fn total(self, high: i64) -> Option<Self> {
        (high == 0).then_some(self)
    }

    fn split(total: Self) -> (Self, i64) {
        (total, 0)
    }
}

/// A number that is added to a total.
pub(super) trait Addend: Copy {
    type Low: LowBits;

    /// The low bits of a sum, and whether they have overflowed: then the high bits change by
    /// [`Self::carry`].
    fn add_to(self, low: Self::Low) -> (Self::Low, bool);

    fn carry(self) -> i64;
}

macro_rules! signed {
    ($low:ty: $($integer:ty),+) => {$(
        impl Addend for $integer {
            type Low = $low;

            #[inline(always)]
            fn add_to(self, low: $low) -> ($low, bool) {
                low.overflowing_add(<$low>::from(self))
            }

            fn carry(self) -> i64 {
                if self < <$integer>::default() { -1 } else { 1 }
            }
        }
    )+};
}

macro_rules! unsigned {
    ($($integer:ty),+) => {$(
        impl Addend for $integer {
            type Low = i64;

            #[inline(always)]
            fn add_to(self, low: i64) -> (i64, bool) {
                low.overflowing_add_unsigned(u64::from(self))
            }

            fn carry(self) -> i64 {
                1
            }
        }
    )+};
}

signed!(i64: i8, i16, i32, i64);
signed!(i128: i128);
signed!(i256: i256);
unsigned!(u8, u16, u32, u64);

/// A total for each group.
#[derive(Default)]
struct WideTotals<L> {
    low: Vec<L>,
    /// Empty until the first total needs it, as hardly any ever does.
    high: Vec<i64>,
}

impl<L: LowBits> WideTotals<L> {
    #[inline(always)]
    fn add(&mut self, group: usize, value: impl Addend<Low = L>) {
        let low = &mut self.low[group];
        let (sum, overflows) = value.add_to(*low);
        *low = sum;
        if overflows {
            self.add_high(group, value.carry());
        }
    }

    fn add_total(&mut self, group: usize, total: L::Total) {
        let (low, high) = L::split(total);
        self.add(group, low);
        if high != 0 {
            self.add_high(group, high);
        }
    }

    #[cold]
    fn add_high(&mut self, group: usize, high: i64) {
        self.high.resize(self.low.len(), 0);
        self.high[group] += high;
    }

    /// The totals of these groups; the first that is too great for its type is `None`.
    fn take(&mut self, emit_to: EmitTo) -> Option<Vec<L::Total>> {
        let low = emit_to.take_needed(&mut self.low);
        if self.high.is_empty() {
            return low.into_iter().map(|low| low.total(0)).collect();
        }
        self.high.resize(low.len() + self.low.len(), 0);
        let high = emit_to.take_needed(&mut self.high);
        let both = low.into_iter().zip(high);
        both.map(|(low, high)| low.total(high)).collect()
    }
}

type LowOf<T> = <<T as ArrowPrimitiveType>::Native as Addend>::Low;
type SumsOf<T> = PrimitiveArray<<LowOf<T> as LowBits>::Arrow>;
type TotalOf<T> = <LowOf<T> as LowBits>::Total;

/// The totals of numbers of type `T`; for averages their counts too.
///
/// The state of a group is its total, for averages after its count. A total does not overflow, so neither the
/// order of the rows nor how they are divided changes it.
pub(super) struct Totals<T: ArrowPrimitiveType<Native: Addend>, const AVERAGE: bool> {
    result: TotalResult,
    totals: WideTotals<LowOf<T>>,
    counts: Vec<u64>,
    /// The groups that had a value.
    nulls: NullState,
}

impl<T: ArrowPrimitiveType<Native: Addend>, const AVERAGE: bool> Totals<T, AVERAGE> {
    pub fn new(result: TotalResult) -> Self {
        Self {
            result,
            totals: WideTotals::default(),
            counts: Vec::new(),
            nulls: NullState::new(),
        }
    }

    fn resize(&mut self, groups: usize) {
        self.totals.low.resize(groups, LowOf::<T>::default());
        if AVERAGE {
            self.counts.resize(groups, 0);
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> Result<Vec<TotalOf<T>>> {
        let totals = self.totals.take(emit_to);
        totals.ok_or_else(|| self.result.out_of_range(TOO_LONG))
    }
}

fn state_of<N: TotalNumber>(
    counts: Option<Vec<u64>>,
    totals: Vec<N>,
    nulls: Option<NullBuffer>,
) -> Vec<ArrayRef> {
    let mut state: Vec<ArrayRef> = Vec::with_capacity(2);
    if let Some(counts) = counts {
        state.push(Arc::new(UInt64Array::new(counts.into(), nulls.clone())));
    }
    let totals = PrimitiveArray::<N::Arrow>::new(totals.into(), nulls).with_data_type(N::TYPE);
    state.push(Arc::new(totals));
    state
}

impl<T, const AVERAGE: bool> GroupsAccumulator for Totals<T, AVERAGE>
where
    T: ArrowPrimitiveType<Native: Addend + Into<TotalOf<T>>> + Send,
    LowOf<T>: Send,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.resize(groups);
        let (totals, counts) = (&mut self.totals, &mut self.counts);
        let values = values[0].as_primitive::<T>();
        self.nulls
            .accumulate(group_indices, values, filter, groups, |group, value| {
                totals.add(group, value);
                if AVERAGE {
                    counts[group] += 1;
                }
            });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let are_sums = LowOf::<T>::SUM.as_ref() == Some(&self.result.data_type);
        if !AVERAGE && are_sums && self.totals.high.is_empty() {
            let sums = emit_to.take_needed(&mut self.totals.low);
            let nulls = self.nulls.build(emit_to);
            return Ok(Arc::new(SumsOf::<T>::new(sums.into(), nulls)));
        }
        let totals = self.take(emit_to)?;
        let nulls = self.nulls.build(emit_to);
        match AVERAGE {
            true => {
                let counts = emit_to.take_needed(&mut self.counts);
                TotalNumber::averages(totals, &counts, nulls, &self.result)
            }
            false => TotalNumber::sums(totals, nulls, &self.result),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = self.take(emit_to)?;
        let counts = AVERAGE.then(|| emit_to.take_needed(&mut self.counts));
        Ok(state_of(counts, totals, self.nulls.build(emit_to)))
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        let [counts @ .., totals] = states else {
            return exec_err!("totals without a state");
        };
        self.resize(groups);
        if let Some(counts) = counts.first() {
            let counts = counts.as_primitive::<UInt64Type>().iter();
            for (&group, count) in group_indices.iter().zip(counts) {
                self.counts[group] += count.unwrap_or_default();
            }
        }
        let merged = &mut self.totals;
        let totals = totals.as_primitive::<<TotalOf<T> as TotalNumber>::Arrow>();
        self.nulls
            .accumulate(group_indices, totals, None, groups, |group, total| {
                merged.add_total(group, total);
            });
        Ok(())
    }

    /// The state of each row as if it were a group of its own.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values: &PrimitiveArray<T> = values[0].as_primitive();
        let nulls = kept_nulls(values.nulls(), filter);
        let totals: Vec<TotalOf<T>> = values.values().iter().map(|&it| it.into()).collect();
        let counts = AVERAGE.then(|| vec![1; values.len()]);
        Ok(state_of(counts, totals, nulls))
    }

    fn size(&self) -> usize {
        let words = self.totals.high.capacity() + self.counts.capacity();
        let low = self.totals.low.capacity() * size_of::<LowOf<T>>();
        low + words * size_of::<u64>() + self.nulls.size()
    }
}

/// The NULLs of values, and of rows that a filter leaves out.
pub(super) fn kept_nulls(
    nulls: Option<&NullBuffer>,
    filter: Option<&BooleanArray>,
) -> Option<NullBuffer> {
    let kept = filter.map(|filter| NullBuffer::new(prep_null_mask_filter(filter).into_parts().0));
    NullBuffer::union(nulls, kept.as_ref())
}
