//! `regexp_split_to_array` and `regexp_substr`, which DataFusion does not have.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use regex::Regex;

use super::of_arrays;
use super::regex_words::regex_of;
use crate::sql::SqlError;
use crate::sql::functions::{external, undefined_function};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RegexFunctionKind {
    /// The text between the matches.
    Split,
    /// The text that matches first, all of it.
    Substring,
}

/// A function of a text and a pattern, with the flag `i` perhaps.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct RegexFunction {
    kind: RegexFunctionKind,
    signature: Signature,
}

impl RegexFunction {
    pub fn all() -> [Self; 2] {
        use RegexFunctionKind::{Split, Substring};
        [Split, Substring].map(|kind| Self {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }

    fn compute(&self, arguments: &[ArrayRef]) -> Result<ArrayRef> {
        let column = |place: usize| arguments[place].as_string::<i32>();
        let (texts, patterns) = (column(0), column(1));
        let flags = arguments.get(2).map(|it| it.as_string::<i32>());
        let mut regexes = Regexes::default();
        let row = |row: usize, regexes: &mut Regexes| {
            let given = texts.is_valid(row)
                && patterns.is_valid(row)
                && flags.is_none_or(|it| it.is_valid(row));
            let flags = flags.filter(|_| given).map_or("", |it| it.value(row));
            let regex = given.then(|| regexes.get(patterns.value(row), flags));
            regex.transpose()
        };
        if self.kind == RegexFunctionKind::Substring {
            let mut found = StringBuilder::new();
            for number in 0..texts.len() {
                let regex = row(number, &mut regexes)?;
                let first = regex.and_then(|it| it.find(texts.value(number)));
                found.append_option(first.map(|it| it.as_str()));
            }
            return Ok(Arc::new(found.finish()));
        }
        let mut lists = ListBuilder::new(StringBuilder::new());
        for number in 0..texts.len() {
            let regex = row(number, &mut regexes)?;
            if let Some(regex) = &regex {
                split(texts, number, regex, lists.values());
            }
            lists.append(regex.is_some());
        }
        Ok(Arc::new(lists.finish()))
    }
}

/// The last regular expression, which is mostly the next one, too.
#[derive(Default)]
struct Regexes(Option<(String, String, Regex)>);

impl Regexes {
    fn get(&mut self, pattern: &str, flags: &str) -> Result<Regex> {
        if let Some((known, with, regex)) = &self.0
            && known == pattern
            && with == flags
        {
            return Ok(regex.clone());
        }
        if let Some(flag) = flags.chars().find(|flag| !matches!(flag, 'i' | 'c')) {
            let error = SqlError::not_built(format!("the flag {flag:?} of a regular expression"));
            return Err(external(error.hint("The flags are 'i' and 'c'.")));
        }
        let regex = regex_of(pattern, flags.ends_with('i'))?;
        self.0 = Some((pattern.to_owned(), flags.to_owned(), regex.clone()));
        Ok(regex)
    }
}

/// Appends what is between the matches. An empty one at an end, or just behind another, divides nothing.
fn split(texts: &StringArray, row: usize, regex: &Regex, parts: &mut StringBuilder) {
    let text = texts.value(row);
    let mut end = 0;
    for found in regex.find_iter(text) {
        if found.is_empty() && (found.start() == end || found.start() == text.len()) {
            continue;
        }
        parts.append_value(&text[end..found.start()]);
        end = found.end();
    }
    parts.append_value(&text[end..]);
}

impl ScalarUDFImpl for RegexFunction {
    fn name(&self) -> &str {
        match self.kind {
            RegexFunctionKind::Split => "regexp_split_to_array",
            RegexFunctionKind::Substring => "regexp_substr",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |it: &DataType| it.is_string() || it.is_null();
        match (2..=3).contains(&arguments.len()) && arguments.iter().all(is_text) {
            true => Ok(vec![DataType::Utf8; arguments.len()]),
            false => Err(external(undefined_function(self.name(), arguments))),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            RegexFunctionKind::Split => {
                DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
            }
            RegexFunctionKind::Substring => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        of_arrays(&args.args, |arguments| self.compute(arguments))
    }
}
