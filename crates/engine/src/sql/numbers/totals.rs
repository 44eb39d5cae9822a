//! SUM and AVG of integers for many groups.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Float64Array,
    Int64Array, PrimitiveArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, Decimal128Type, UInt64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;

use super::total::{TOTAL, TotalResult, average};

/// An integer that is added to a total.
pub(super) trait Addend: Copy + Into<i128> {
    /// The low 64 bits of a sum, and whether they have overflowed: then the high bits change by
    /// [`Self::carry`].
    fn add_to(self, low: i64) -> (i64, bool);

    fn carry(self) -> i64;
}

macro_rules! signed {
    ($($integer:ty),+) => {$(
        impl Addend for $integer {
            #[inline(always)]
            fn add_to(self, low: i64) -> (i64, bool) {
                low.overflowing_add(i64::from(self))
            }

            fn carry(self) -> i64 {
                if self < 0 { -1 } else { 1 }
            }
        }
    )+};
}

macro_rules! unsigned {
    ($($integer:ty),+) => {$(
        impl Addend for $integer {
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

signed!(i8, i16, i32, i64);
unsigned!(u8, u16, u32, u64);

/// A total of 128 bits for each group: `high * 2^64 + low`.
#[derive(Default)]
struct WideTotals {
    low: Vec<i64>,
    /// Empty until the first total needs it, as hardly any ever does.
    high: Vec<i64>,
}

impl WideTotals {
    #[inline(always)]
    fn add(&mut self, group: usize, value: impl Addend) {
        let low = &mut self.low[group];
        let (sum, overflows) = value.add_to(*low);
        *low = sum;
        if overflows {
            self.add_high(group, value.carry());
        }
    }

    fn add_total(&mut self, group: usize, total: i128) {
        let low = total as i64;
        self.add(group, low);
        let high = (total - i128::from(low)) >> 64;
        if high != 0 {
            self.add_high(group, high as i64);
        }
    }

    #[cold]
    fn add_high(&mut self, group: usize, high: i64) {
        self.high.resize(self.low.len(), 0);
        self.high[group] += high;
    }

    /// The totals in 64 bits, if all of them fit.
    fn take_narrow(&mut self, emit_to: EmitTo) -> std::result::Result<Vec<i64>, Vec<i128>> {
        let low = emit_to.take_needed(&mut self.low);
        if self.high.is_empty() {
            return Ok(low);
        }
        self.high.resize(low.len() + self.low.len(), 0);
        let high = emit_to.take_needed(&mut self.high);
        let both = low.iter().zip(&high);
        Err(both
            .map(|(&low, &high)| (i128::from(high) << 64) + i128::from(low))
            .collect())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<i128> {
        let narrow = self.take_narrow(emit_to);
        narrow.map_or_else(|wide| wide, |it| it.into_iter().map(i128::from).collect())
    }
}

/// The totals of integers of type `T`; for averages their counts too.
///
/// The state of a group is its total, for averages after its count. A total cannot overflow, so neither the
/// order of the rows nor how they are divided changes it.
pub(super) struct Totals<T, const AVERAGE: bool> {
    result: TotalResult,
    totals: WideTotals,
    counts: Vec<u64>,
    /// The groups that had a value.
    nulls: NullState,
    of: PhantomData<T>,
}

impl<T, const AVERAGE: bool> Totals<T, AVERAGE> {
    pub fn new(result: TotalResult) -> Self {
        Self {
            result,
            totals: WideTotals::default(),
            counts: Vec::new(),
            nulls: NullState::new(),
            of: PhantomData,
        }
    }

    fn resize(&mut self, groups: usize) {
        self.totals.low.resize(groups, 0);
        if AVERAGE {
            self.counts.resize(groups, 0);
        }
    }

    fn sums(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = self.totals.take_narrow(emit_to);
        let nulls = self.nulls.build(emit_to);
        let unsigned = self.result.data_type == DataType::UInt64;
        let wide = match totals {
            Ok(narrow) if !unsigned => return Ok(Arc::new(Int64Array::new(narrow.into(), nulls))),
            Ok(narrow) => narrow.into_iter().map(i128::from).collect(),
            Err(wide) => wide,
        };
        let wide = wide.into_iter();
        if unsigned {
            let sums: Vec<u64> = wide
                .map(|total| self.result.fitted(total))
                .collect::<Result<_>>()?;
            return Ok(Arc::new(UInt64Array::new(sums.into(), nulls)));
        }
        let sums: Vec<i64> = wide
            .map(|total| self.result.fitted(total))
            .collect::<Result<_>>()?;
        Ok(Arc::new(Int64Array::new(sums.into(), nulls)))
    }

    fn averages(&mut self, emit_to: EmitTo) -> ArrayRef {
        let totals = self.totals.take(emit_to);
        let counts = emit_to.take_needed(&mut self.counts);
        let nulls = self.nulls.build(emit_to);
        let averages = totals.iter().zip(&counts);
        // Without a value the average is NULL.
        let averages = averages.map(|(&total, &count)| average(total, count.max(1)));
        let averages: Vec<f64> = averages.collect();
        Arc::new(Float64Array::new(averages.into(), nulls))
    }
}

fn state_of(
    counts: Option<Vec<u64>>,
    totals: Vec<i128>,
    nulls: Option<NullBuffer>,
) -> Vec<ArrayRef> {
    let mut state: Vec<ArrayRef> = Vec::with_capacity(2);
    if let Some(counts) = counts {
        state.push(Arc::new(UInt64Array::new(counts.into(), nulls.clone())));
    }
    let totals = Decimal128Array::new(totals.into(), nulls).with_data_type(TOTAL);
    state.push(Arc::new(totals));
    state
}

impl<T, const AVERAGE: bool> GroupsAccumulator for Totals<T, AVERAGE>
where
    T: ArrowPrimitiveType<Native: Addend> + Send,
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
        match AVERAGE {
            true => Ok(self.averages(emit_to)),
            false => self.sums(emit_to),
        }
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals = self.totals.take(emit_to);
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
        let totals = totals.as_primitive::<Decimal128Type>();
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
        let totals = values.values().iter().map(|&value| value.into()).collect();
        let counts = AVERAGE.then(|| vec![1; values.len()]);
        Ok(state_of(counts, totals, nulls))
    }

    fn size(&self) -> usize {
        let words =
            self.totals.low.capacity() + self.totals.high.capacity() + self.counts.capacity();
        words * size_of::<u64>() + self.nulls.size()
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
