//! Types, text and times as PostgreSQL has them, where DataFusion's are others.
//!
//! ```text
//!   sql_types       the types of a CAST          TIMESTAMP is microseconds; VARCHAR(n) has a length
//!   common_types    what two arguments become    a DECIMAL beside a DOUBLE, a DATE beside a TIMESTAMP or INTERVAL
//!   interval_length what intervals are compared by    a day is 24 hours
//!   from_text, to_text                           what a cast reads and writes
//!   time_function   date_trunc, date_bin, date_part     in the unit of the column, so that no year is too far
//!   regex_words     the regular expressions of ~ and regexp_replace
//!   letters         upper, lower, initcap        letter by letter
//! ```

mod common_types;
pub(super) mod from_text;
mod interval_length;
mod letters;
mod regex_words;
mod sql_types;
mod time_bin;
mod time_function;
mod time_parts;
pub(super) mod to_text;

use arrow::array::ArrayRef;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

pub(super) use common_types::CommonTypes;
pub(super) use letters::LetterFunction;
pub(super) use sql_types::{SqlTypes, length_of};
pub(super) use time_function::TimeFunction;

/// The result as a constant if the argument is one.
pub(super) fn in_form_of(argument: &ColumnarValue, result: ArrayRef) -> Result<ColumnarValue> {
    Ok(match argument {
        ColumnarValue::Array(_) => ColumnarValue::Array(result),
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
    })
}
