//! How long an interval is, by which it is compared: a month is 30 days and a day 24 hours, as in PostgreSQL.

use std::sync::Arc;

use arrow::array::{AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::in_form_of;

const DAYS_OF_MONTH: i128 = 30;
const DAY_NANOSECONDS: i128 = 86_400 * 1_000_000_000;
/// Of 2^31 months and days, and 2^63 nanoseconds, there is room.
const LENGTH: DataType = DataType::Decimal128(38, 0);

/// The nanoseconds of an interval, or of the difference of two timestamps.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IntervalLength(Signature);

/// The length of `interval`.
pub(super) fn length_of(interval: Expr) -> Expr {
    let function = IntervalLength(Signature::any(1, Volatility::Immutable));
    ScalarUDF::from(function).call(vec![interval])
}

/// Whether values of this type have a length.
pub(super) fn has_length(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

impl ScalarUDFImpl for IntervalLength {
    fn name(&self) -> &str {
        "__interval_length"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(LENGTH)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let argument = &arguments.args[0];
        let intervals = match argument {
            ColumnarValue::Array(intervals) => Arc::clone(intervals),
            ColumnarValue::Scalar(interval) => ScalarValue::to_array(interval)?,
        };
        let parts = cast(&intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let parts = parts.as_primitive::<IntervalMonthDayNanoType>();
        let lengths: Decimal128Array = parts.unary(|part| {
            let days = i128::from(part.months) * DAYS_OF_MONTH + i128::from(part.days);
            days * DAY_NANOSECONDS + i128::from(part.nanoseconds)
        });
        in_form_of(argument, Arc::new(lengths.with_data_type(LENGTH)))
    }
}
