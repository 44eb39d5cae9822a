//! What goes wrong with a number: it does not fit its type, or something is divided by zero.

use std::fmt::Display;

use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;

use crate::sql::{SqlError, sqlstate};

/// Why an operation has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFault {
    OutOfRange,
    DivisionByZero,
}

impl NumberFault {
    /// The error: `expression` is the SQL that was computed, `values` what it was computed of.
    pub fn error(
        self,
        data_type: &DataType,
        expression: &str,
        values: impl Display,
    ) -> DataFusionError {
        let (state, message) = match self {
            Self::OutOfRange => {
                let message = format!("{} out of range", name(data_type));
                (sqlstate::NUMERIC_VALUE_OUT_OF_RANGE, message)
            }
            Self::DivisionByZero => (sqlstate::DIVISION_BY_ZERO, "division by zero".to_owned()),
        };
        let message = format!("{message} in {expression}: {values}");
        DataFusionError::External(Box::new(SqlError::new(state, message)))
    }
}

/// The name that a type of numbers has in SQL.
pub(super) fn name(data_type: &DataType) -> String {
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
        other => other.to_string(),
    }
}
