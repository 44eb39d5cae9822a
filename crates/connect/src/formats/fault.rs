//! Why a value or a frame could not be decoded, in one byte.
//!
//! Decoders return these on their fast path, where a sentence would cost more than the row. The
//! sentence is made by [`Fault::of_column`] or [`Fault::malformed`] once it is certain that the
//! frame is bad, and it names the column and shows the value.

use arrow::datatypes::DataType;

/// The longest part of a value that is shown, in bytes.
const SHOWN_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    // The frame is not in the format at all.
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

impl Fault {
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
        let kind = sql_name(data_type);
        match self {
            Self::Missing => {
                format!("column {name} is NOT NULL, and the frame has no value for it")
            }
            Self::Null => format!("column {name} is NOT NULL, and the value is null"),
            Self::Range => format!(
                "column {name}: {} is out of the range of {kind}",
                show(value)
            ),
            Self::Fraction => {
                format!(
                    "column {name}: {} is not whole, as {kind} must be",
                    show(value)
                )
            }
            Self::Base64 => format!("column {name}: {} is not base64", show(value)),
            Self::TooLarge => format!("column {name}: one batch cannot hold more than 2 GiB of it"),
            Self::LoneSurrogate => {
                format!(
                    "column {name}: {} escapes half of a surrogate pair",
                    show(value)
                )
            }
            _ => format!("column {name}: {} is no {kind}", show(value)),
        }
    }
}

/// The value as it came, shortened; what is not UTF-8 or not printable is replaced.
pub(super) fn show(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(&value[..value.len().min(SHOWN_MAX)]);
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().map(printable).collect();
    if value.len() > SHOWN_MAX {
        shown.push('…');
    }
    if shown.is_empty() {
        "an empty value".to_owned()
    } else {
        shown
    }
}

/// A type by the name users write in SQL.
pub(crate) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BINARY".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(..) => "TIMESTAMP".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(item) => format!("{}[]", sql_name(item.data_type())),
        DataType::Struct(_) => "STRUCT".to_owned(),
        other => other.to_string(),
    }
}
