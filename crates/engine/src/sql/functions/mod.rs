//! Functions and operators that DataFusion has with another meaning than PostgreSQL.
//!
//! `to_char`, `to_timestamp` and `to_date` take PostgreSQL's patterns, and SIMILAR TO is its operator. The
//! optimizer replaces a call by one that holds the pattern as it was read, so a pattern is read once a plan,
//! and a wrong one is refused when the query is planned. So is the name of a time zone.
//!
//! ```text
//!   pattern_function ---> time_pattern ----> time_writer
//!                                      ----> time_reader --> time_scan --> found_time
//!                    ---> number_pattern --> number_writer
//!   similar_function ---> similar_to
//!   at_time_zone, date_trunc ---> crate::time_zone
//! ```

mod as_written;
mod at_time_zone;
mod date_trunc;
mod found_time;
mod number_pattern;
mod number_writer;
mod pattern_function;
mod similar_function;
mod similar_to;
mod time_pattern;
mod time_reader;
mod time_scan;
mod time_writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};

pub(super) use self::as_written::AS_WRITTEN;
use self::as_written::AsWritten;
pub(super) use self::at_time_zone::AT_TIME_ZONE;
use self::at_time_zone::AtTimeZone;
use self::date_trunc::DateTrunc;
use self::pattern_function::PatternFunction;
use self::similar_function::SimilarToRewrite;
use super::{SqlError, sqlstate};

/// Puts the functions of this module in the place of DataFusion's.
pub fn register(registry: &mut dyn FunctionRegistry) {
    for function in PatternFunction::all() {
        // It replaces the one of its name.
        let _ = registry.register_udf(Arc::new(ScalarUDF::from(function)));
    }
    let _ = registry.register_udf(Arc::new(ScalarUDF::from(AsWritten::default())));
    let _ = registry.register_udf(Arc::new(ScalarUDF::from(AtTimeZone::default())));
    if let Ok(inner) = registry.udf("date_trunc") {
        let _ = registry.register_udf(Arc::new(ScalarUDF::from(DateTrunc::new(inner))));
    }
    // Every registry of DataFusion takes rewrites.
    let _ = registry.register_function_rewrite(Arc::new(SimilarToRewrite));
}

/// The error that a function does not take arguments of these types.
pub(super) fn undefined_function(name: &str, arguments: &[DataType]) -> SqlError {
    let types: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let message = format!("function {name}({}) does not exist", types.join(", "));
    SqlError::new(sqlstate::UNDEFINED_FUNCTION, message)
}

/// The types that arguments of these become, as a function of DataFusion has it.
pub(super) fn coerced_by(
    function: &impl UDFCoercionExt,
    arguments: &[DataType],
) -> Result<Vec<DataType>> {
    let field = |it: &DataType| Arc::new(Field::new("argument", it.clone(), true));
    let fields: Vec<FieldRef> = arguments.iter().map(field).collect();
    let fields = fields_with_udf(&fields, function)?;
    Ok(fields.iter().map(|it| it.data_type().clone()).collect())
}

/// The error as DataFusion carries it; `explain` finds it there again.
pub(super) fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
