//! Types, text and times as PostgreSQL has them, where DataFusion's are others.
//!
//! ```text
//!   sql_types       the types of a CAST          TIMESTAMP is microseconds; VARCHAR(n) has a length
//!   common_types    what two arguments become    a DECIMAL beside a DOUBLE, a DATE beside a TIMESTAMP or INTERVAL
//!   interval_length what intervals are compared by    a day is 24 hours
//!   from_text, to_text                           what a cast reads and writes
//!   time_function   date_trunc, date_bin, date_part     in the unit of the column, so that no year is too far
//!   bytes, byte_function                         the text of a BYTEA; length, substring, encode and their like of bytes
//!   number_function mod, div, sign, width_bucket
//!   regex_words     the regular expressions of ~ and regexp_replace
//!   letters         upper, lower, initcap        letter by letter
//! ```

mod byte_function;
mod bytes;
mod common_types;
pub(super) mod from_text;
mod interval_length;
mod interval_parts;
mod letters;
mod number_function;
mod regex_function;
mod regex_words;
mod sql_types;
mod sql_words;
mod time_bin;
mod time_function;
mod time_parts;
pub(super) mod to_text;

use arrow::array::ArrayRef;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

pub(super) use byte_function::ByteFunction;
pub(super) use common_types::CommonTypes;
pub(super) use letters::LetterFunction;
pub(super) use number_function::NumberFunction;
pub(super) use regex_function::RegexFunction;
pub(super) use sql_types::{SqlTypes, length_of};
pub(super) use sql_words::SqlWords;
pub(super) use time_function::TimeFunction;

/// What `compute` makes of arguments as columns of one length: a constant if all of them are constants.
pub(super) fn of_arrays(
    arguments: &[ColumnarValue],
    compute: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let is_column = |it: &ColumnarValue| matches!(it, ColumnarValue::Array(_));
    let any_column = arguments.iter().any(is_column);
    let result = compute(&ColumnarValue::values_to_arrays(arguments)?)?;
    Ok(match any_column {
        true => ColumnarValue::Array(result),
        false => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
    })
}

/// The result as a constant if the argument is one.
pub(super) fn in_form_of(argument: &ColumnarValue, result: ArrayRef) -> Result<ColumnarValue> {
    Ok(match argument {
        ColumnarValue::Array(_) => ColumnarValue::Array(result),
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
    })
}
