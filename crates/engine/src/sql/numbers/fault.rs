//! What goes wrong with a value: it does not fit its type, it is none of it, or a function has no result for it.

use std::fmt::Display;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::DataFusionError;
use headwater_connect::time_unit::precision;

use crate::sql::{SqlError, sqlstate};

/// Why an expression has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum ValueFault {
    OutOfRange,
    DivisionByZero,
    /// The argument of a function is beyond those that it is defined for.
    InputOutOfRange,
    LogarithmOfZero,
    LogarithmOfNegative,
    RootOfNegative,
    ZeroToNegative,
    ComplexPower,
    /// A text that is no value of the type.
    InvalidText,
    /// A text of bytes in digits that are not hexadecimal, or an odd number of them.
    InvalidHex,
    /// Bytes that are no text.
    NotUtf8,
    /// A text that is no date or time.
    InvalidTime,
    /// A text of a date or time that there is not.
    TimeOutOfRange,
}

impl ValueFault {
    /// The error: `expression` is the SQL that was computed, `values` what it was computed of.
    pub fn error(
        self,
        data_type: &DataType,
        expression: &str,
        values: impl Display,
    ) -> DataFusionError {
        let (state, message) = self.in_words();
        let message = match self {
            Self::OutOfRange | Self::TimeOutOfRange => format!("{} {message}", name(data_type)),
            Self::InvalidText | Self::InvalidTime => format!("{message} {}", name(data_type)),
            _ => message.to_owned(),
        };
        let message = format!("{message} in {expression}: {values}");
        DataFusionError::External(Box::new(SqlError::new(state, message)))
    }

    fn in_words(self) -> (&'static str, &'static str) {
        use sqlstate::{INVALID_LOGARITHM, INVALID_POWER, NUMERIC_VALUE_OUT_OF_RANGE};
        match self {
            Self::OutOfRange => (NUMERIC_VALUE_OUT_OF_RANGE, "out of range"),
            Self::InputOutOfRange => (NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range"),
            Self::DivisionByZero => (sqlstate::DIVISION_BY_ZERO, "division by zero"),
            Self::LogarithmOfZero => (INVALID_LOGARITHM, "cannot take logarithm of zero"),
            Self::LogarithmOfNegative => (
                INVALID_LOGARITHM,
                "cannot take logarithm of a negative number",
            ),
            Self::RootOfNegative => (
                INVALID_POWER,
                "cannot take square root of a negative number",
            ),
            Self::ZeroToNegative => (
                INVALID_POWER,
                "zero raised to a negative power is undefined",
            ),
            Self::ComplexPower => (
                INVALID_POWER,
                "a negative number raised to a non-integer power is complex",
            ),
            Self::InvalidText => (sqlstate::INVALID_TEXT, "invalid input syntax for type"),
            Self::InvalidHex => (sqlstate::INVALID_PARAMETER, "invalid hexadecimal digits"),
            Self::NotUtf8 => (
                sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
                "bytes are no text in UTF-8",
            ),
            Self::InvalidTime => (
                sqlstate::INVALID_DATETIME_FORMAT,
                "invalid input syntax for type",
            ),
            Self::TimeOutOfRange => (sqlstate::DATETIME_OVERFLOW, "out of range"),
        }
    }
}

/// The name that a type of numbers has in SQL.
pub(crate) fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt8 => "tinyint unsigned".into(),
        DataType::UInt16 => "smallint unsigned".into(),
        DataType::UInt32 => "integer unsigned".into(),
        DataType::UInt64 => "bigint unsigned".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision}, {scale})")
        }
        DataType::Boolean => "boolean".into(),
        DataType::Utf8 => "varchar".into(),
        DataType::Binary => "bytea".into(),
        DataType::Date32 => "date".into(),
        DataType::Time64(_) => "time".into(),
        DataType::Interval(_) => "interval".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp".into(),
        DataType::Timestamp(unit, None) => format!("timestamp({})", precision(*unit)),
        other => other.to_string(),
    }
}
