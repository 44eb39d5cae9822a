//! `upper`, `lower` and `initcap`: one letter for each letter, whatever stands beside it, as in the locale C.UTF-8.
//!
//! DataFusion's `upper('ß')` is `SS`, and its `lower` writes the last `Σ` of a word as `ς`.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::in_form_of;
use super::to_text::texts;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LetterChange {
    Upper,
    Lower,
    /// The first letter of each word is an upper one.
    Words,
}

/// A function that changes the case of letters.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct LetterFunction {
    change: LetterChange,
    /// DataFusion's function, which is right, and fast, for ASCII.
    inner: Arc<ScalarUDF>,
}

impl LetterFunction {
    /// The function in the place of DataFusion's, if it is one of these.
    pub fn new(inner: &Arc<ScalarUDF>) -> Option<Self> {
        let change = match inner.name() {
            "upper" => LetterChange::Upper,
            "lower" => LetterChange::Lower,
            "initcap" => LetterChange::Words,
            _ => return None,
        };
        let inner = Arc::clone(inner);
        Some(Self { change, inner })
    }

    fn push(&self, text: &str, out: &mut String) {
        let mut in_word = false;
        for letter in text.chars() {
            let upper = match self.change {
                LetterChange::Upper => true,
                LetterChange::Lower => false,
                LetterChange::Words => !in_word,
            };
            out.push(if upper {
                upper_of(letter)
            } else {
                lower_of(letter)
            });
            in_word = letter.is_alphanumeric();
        }
    }
}

/// Unicode's simple mapping: `ß` has no upper letter, and of `ᾳ` it is one.
fn upper_of(letter: char) -> char {
    let mut mapped = letter.to_uppercase();
    match (mapped.next(), mapped.next(), letter) {
        (Some(single), None, _) => single,
        (.., '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}') => {
            char::from_u32(letter as u32 + 8).unwrap_or(letter)
        }
        (.., '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}') => {
            char::from_u32(letter as u32 + 9).unwrap_or(letter)
        }
        _ => letter,
    }
}

fn lower_of(letter: char) -> char {
    // Only of one letter are there two: of the Turkish I with a dot, a dot behind the i.
    letter.to_lowercase().next().unwrap_or(letter)
}

impl ScalarUDFImpl for LetterFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [of] = args.args.as_slice() else {
            return self.inner.invoke_with_args(args);
        };
        let values = of.to_array(1)?;
        let Some(values) = values.as_string_opt::<i32>() else {
            return self.inner.invoke_with_args(args);
        };
        if values.is_ascii() {
            return self.inner.invoke_with_args(args);
        }
        let changed = texts(values, |row, out| {
            self.push(values.value(row), out);
            Ok(())
        })?;
        in_form_of(of, Arc::new(changed))
    }
}
