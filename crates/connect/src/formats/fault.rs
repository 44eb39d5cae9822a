//! Why a value or a frame could not be decoded, in one byte.
//!
//! Decoders return these on their fast path, where a sentence would cost more than the row. Once it is
//! certain that the frame is bad, [`DecodeFault::of_column`] or [`DecodeFault::malformed`] makes the
//! sentence, which names the column and shows the value.

use arrow::datatypes::DataType;

use super::data_type::sql_name;
use crate::shown::excerpt;

/// The longest part of a value that an error shows, bytes.
const SHOWN_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum DecodeFault {
    // The frame is malformed.
    Empty,
    Ended,
    NoObject,
    NoKey,
    NoColon,
    NoComma,
    NoValue,
    BadNumber,
    BadEscape,
    LoneSurrogate,
    ControlCharacter,
    TooDeep,
    Trailing,
    // The value does not fit the column.
    Type,
    Range,
    Fraction,
    Null,
    Missing,
    Base64,
    TooLarge,
}

impl DecodeFault {
    /// What is wrong with the frame; `None` for a fault of a value.
    pub(super) fn malformed(self) -> Option<&'static str> {
        Some(match self {
            Self::Empty => "the frame is empty",
            Self::Ended => "the frame ends in the middle of a value",
            Self::NoObject => "an object was expected",
            Self::NoKey => "a key in double quotes was expected",
            Self::NoColon => "a colon was expected after the key",
            Self::NoComma => "a comma or the end of the object or array was expected",
            Self::NoValue => "a value was expected",
            Self::BadNumber => "a number is written wrongly",
            Self::BadEscape => "a string has an unknown escape",
            Self::LoneSurrogate => "a string escapes half of a surrogate pair",
            Self::ControlCharacter => "a string has an unescaped control character",
            Self::TooDeep => "values are nested more than 128 deep",
            Self::Trailing => "something follows the value",
            _ => return None,
        })
    }

    /// What is wrong with a column's value, as a sentence for a person.
    pub(super) fn of_column(self, name: &str, data_type: &DataType, value: &[u8]) -> String {
        let (kind, value) = (sql_name(data_type), show(value));
        match self {
            Self::Missing => {
                format!("column {name} is NOT NULL, and the frame has no value for it")
            }
            Self::Null => format!("column {name} is NOT NULL, and the value is null"),
            Self::Range => format!("column {name}: {value} is out of the range of {kind}"),
            Self::Fraction => format!("column {name}: {value} is not whole, as {kind} must be"),
            Self::Base64 => format!("column {name}: {value} is not base64"),
            Self::TooLarge => format!("column {name}: one batch cannot hold more than 2 GiB of it"),
            Self::LoneSurrogate => {
                format!("column {name}: {value} escapes half of a surrogate pair")
            }
            _ => format!("column {name}: {value} is not of type {kind}"),
        }
    }
}

/// The value as it arrived, cut to [`SHOWN_MAX`]; what is not UTF-8 or not printable is replaced.
pub(super) fn show(value: &[u8]) -> String {
    let shown = excerpt(value, SHOWN_MAX);
    if shown.is_empty() {
        "an empty value".to_owned()
    } else {
        shown
    }
}
