//! How one field of CSV becomes one value of a column.
//!
//! A BOOLEAN takes `true`, `t`, `yes`, `1` and their opposites, a float also `nan` and `inf`. Blanks
//! around a value count only in a VARCHAR. Everything else is as in JSON strings.

use super::super::column::{ColumnBuilder, ColumnValues};
use super::super::fault::DecodeFault;
use super::super::number;

impl ColumnBuilder {
    /// Appends the value of a field. After a fault the column may hold a part of the value:
    /// truncate it.
    pub(super) fn field(&mut self, text: &[u8]) -> Result<(), DecodeFault> {
        match &mut self.values {
            ColumnValues::Boolean(values) => values.push(boolean(text).ok_or(DecodeFault::Type)?),
            ColumnValues::Float32(values) => values.push(match number::non_finite(text) {
                Some(value) => value as f32,
                None => number::field(text).ok_or(DecodeFault::Type)?.float32()?,
            }),
            ColumnValues::Float64(values) => values.push(match number::non_finite(text) {
                Some(value) => value,
                None => number::field(text).ok_or(DecodeFault::Type)?.float64()?,
            }),
            ColumnValues::Text(values) => {
                values.bytes.extend_from_slice(text);
                return values.end_value();
            }
            ColumnValues::Binary(_) | ColumnValues::Date(_) | ColumnValues::Timestamp { .. } => {
                return self.values.text(text.trim_ascii());
            }
            values => return values.number(number::field(text).ok_or(DecodeFault::Type)?),
        }
        Ok(())
    }
}

fn boolean(text: &[u8]) -> Option<bool> {
    let text = text.trim_ascii();
    let is = |words: &[&str]| {
        words
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    match () {
        () if is(&["true", "t", "yes", "1"]) => Some(true),
        () if is(&["false", "f", "no", "0"]) => Some(false),
        () => None,
    }
}
