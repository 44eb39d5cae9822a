//! Columns by name, as keys of objects and fields of headers name them.
//!
//! A name belongs to the column of exactly this name, otherwise to the only column that differs in the
//! case of ASCII letters alone.

use std::collections::HashMap;

use arrow::datatypes::Fields;

pub(super) struct ColumnNames {
    exact: HashMap<Box<[u8]>, usize>,
    /// By name in lower case; `None` where several columns share it.
    folded: HashMap<Box<[u8]>, Option<usize>>,
    /// The name that is looked up, in lower case.
    lower: Vec<u8>,
}

impl ColumnNames {
    pub(super) fn new(fields: &Fields) -> Self {
        let (mut exact, mut folded) = (HashMap::new(), HashMap::new());
        for (column, field) in fields.iter().enumerate() {
            let name = field.name().as_bytes();
            exact.insert(Box::from(name), column);
            let same = folded.entry(name.to_ascii_lowercase().into_boxed_slice());
            same.and_modify(|column| *column = None)
                .or_insert(Some(column));
        }
        Self {
            exact,
            folded,
            lower: Vec::new(),
        }
    }

    /// The column that `name` belongs to, and whether it is of exactly this name.
    pub(super) fn find(&mut self, name: &[u8]) -> Option<(usize, bool)> {
        if let Some(&column) = self.exact.get(name) {
            return Some((column, true));
        }
        self.lower.clear();
        self.lower.extend_from_slice(name);
        self.lower.make_ascii_lowercase();
        let column = *self.folded.get(&self.lower[..])?;
        column.map(|column| (column, false))
    }
}
