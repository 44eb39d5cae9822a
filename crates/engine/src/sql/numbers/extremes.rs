//! MIN and MAX of floats for many groups: by their total order, in which NaN is the greatest.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray,
};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;

use super::totals::kept_nulls;

/// The least or the greatest canonical float of each group, which is also its state.
pub(super) struct Extremes<T: ArrowPrimitiveType, const GREATEST: bool> {
    /// No float comes after it.
    last: T::Native,
    values: Vec<T::Native>,
    /// The groups that had a value.
    nulls: NullState,
}

impl<T: ArrowPrimitiveType, const GREATEST: bool> Extremes<T, GREATEST> {
    /// `last`: the value that every other replaces.
    pub fn new(last: T::Native) -> Self {
        Self {
            last,
            values: Vec::new(),
            nulls: NullState::new(),
        }
    }
}

impl<T, const GREATEST: bool> GroupsAccumulator for Extremes<T, GREATEST>
where
    T: ArrowPrimitiveType + Send,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.values.resize(groups, self.last);
        let extremes = &mut self.values;
        let values = values[0].as_primitive::<T>();
        self.nulls
            .accumulate(group_indices, values, filter, groups, |group, value| {
                let extreme = &mut extremes[group];
                let replaces = match GREATEST {
                    true => value.is_gt(*extreme),
                    false => value.is_lt(*extreme),
                };
                if replaces {
                    *extreme = value;
                }
            });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let values = emit_to.take_needed(&mut self.values);
        let nulls = self.nulls.build(emit_to);
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        self.update_batch(states, group_indices, None, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let nulls = kept_nulls(values.nulls(), filter);
        let state = PrimitiveArray::<T>::new(values.values().clone(), nulls);
        Ok(vec![Arc::new(state)])
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.nulls.size()
    }
}
