//! The numbers of keys, which come as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::groups::Grouping;

/// An empty map from keys to their numbers; `None` if there are no key columns.
pub(super) fn new_keys(schema: &SchemaRef) -> Result<Option<Box<dyn GroupValues>>> {
    let new = || new_group_values(Arc::clone(schema), &GroupOrdering::None);
    (!schema.fields().is_empty()).then(new).transpose()
}

/// Takes all keys out of a map, a column for each key column.
pub(super) fn take_keys(
    values: &mut Option<Box<dyn GroupValues>>,
    schema: &SchemaRef,
) -> Result<Vec<ArrayRef>> {
    match values {
        Some(values) if !values.is_empty() => {
            let groups = values.len();
            let keys = values.emit(EmitTo::All)?;
            // Taking the keys out leaves their hashes in the map of several columns.
            values.clear_shrink(groups);
            Ok(keys)
        }
        _ => {
            let fields = schema.fields().iter();
            Ok(fields.map(|it| new_empty_array(it.data_type())).collect())
        }
    }
}

/// Numbers keys in the order in which they first come.
pub(crate) struct KeyNumbers {
    values: Option<Box<dyn GroupValues>>,
    schema: SchemaRef,
}

impl KeyNumbers {
    pub(super) fn new(grouping: &Grouping) -> Result<Self> {
        Self::of(Arc::clone(&grouping.key_schema))
    }

    /// For keys with these columns.
    pub fn of(schema: SchemaRef) -> Result<Self> {
        Ok(Self {
            values: new_keys(&schema)?,
            schema,
        })
    }

    /// The number of keys so far; without key columns there is one group.
    pub fn count(&self) -> usize {
        self.values.as_ref().map_or(1, |keys| keys.len())
    }

    /// The number of the key of each row.
    pub fn number(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
        let mut numbers = vec![0; rows];
        if let Some(values) = &mut self.values {
            values.intern(keys, &mut numbers)?;
        }
        Ok(numbers)
    }

    /// Takes the keys out in the order of their numbers, and begins again with none.
    pub fn take(&mut self) -> Result<Vec<ArrayRef>> {
        take_keys(&mut self.values, &self.schema)
    }
}
