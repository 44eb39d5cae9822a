//! `date_trunc(unit, time, zone)`: the beginning of the hour, the day or another unit by the clocks of a zone.
//!
//! The local time is truncated by the function of two arguments. Within a day the clock is taken to go on as it
//! did, also in an hour that it shows twice; the beginning of a day or more is looked up in the zone.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::numeric::sub;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use headwater_connect::calendar::DAY_SECONDS;
use headwater_connect::time_unit;

use super::at_time_zone::{Shift, zone_of};
use super::{coerced_by, external};
use crate::sql::SqlError;
use crate::sql::types::timestamptz;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    /// The function of two arguments.
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl DateTrunc {
    pub fn new(inner: Arc<ScalarUDF>) -> Self {
        Self {
            inner,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// Truncates times of a column without a zone.
    fn local(
        &self,
        unit: &ColumnarValue,
        times: &ArrayRef,
        by: &ScalarFunctionArgs,
    ) -> Result<ArrayRef> {
        let field = Arc::new(Field::new("local", times.data_type().clone(), true));
        let truncated = self.inner.invoke_with_args(ScalarFunctionArgs {
            args: vec![unit.clone(), ColumnarValue::Array(Arc::clone(times))],
            arg_fields: vec![Arc::clone(&by.arg_fields[0]), Arc::clone(&field)],
            number_rows: times.len(),
            return_field: field,
            config_options: Arc::clone(&by.config_options),
        })?;
        truncated.into_array(times.len())
    }

    /// Instants, truncated by the clocks of a zone.
    fn at_zone(&self, arguments: &ScalarFunctionArgs) -> Result<ArrayRef> {
        let (unit, instants) = (&arguments.args[0], arguments.args[1].to_array(1)?);
        let ColumnarValue::Scalar(zone) = &arguments.args[2] else {
            let what = "a time zone of date_trunc() that is not a constant";
            return Err(external(SqlError::not_built(what).hint("Write its name.")));
        };
        let zone = zone_of(zone)?;
        let time_unit = unit_of(instants.data_type());
        let without_zone = DataType::Timestamp(time_unit, None);
        let shifted = Shift::new(instants.data_type()).by_zone(&instants, zone)?;
        let local = cast(&shifted, &without_zone)?;
        let truncated = self.local(unit, &local, arguments)?;
        if !self.is_within_day(unit, time_unit, arguments)? {
            return Shift::new(&without_zone).by_zone(&truncated, zone);
        }
        let integers = |times: &ArrayRef| cast(times, &DataType::Int64);
        let passed = sub(&shifted, &integers(&truncated)?)?;
        Ok(sub(&integers(&instants)?, &passed)?)
    }

    /// Whether a day has several of the units: the last one does not begin with the day.
    fn is_within_day(
        &self,
        unit: &ColumnarValue,
        of: TimeUnit,
        by: &ScalarFunctionArgs,
    ) -> Result<bool> {
        let last = DAY_SECONDS * time_unit::per_second(of) - 1;
        let last: ArrayRef = Arc::new(Int64Array::from(vec![last]));
        let last = cast(&last, &DataType::Timestamp(of, None))?;
        let begins = cast(&self.local(unit, &last, by)?, &DataType::Int64)?;
        Ok(begins.as_primitive::<Int64Type>().value(0) > 0)
    }
}

fn unit_of(time: &DataType) -> TimeUnit {
    match time {
        DataType::Timestamp(unit, _) => *unit,
        _ => TimeUnit::Microsecond,
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if let [unit, time, zone] = arguments
            && [unit, zone].iter().all(|it| it.is_string() || it.is_null())
            && (time.is_temporal() || time.is_string() || time.is_null())
        {
            let instant = timestamptz(unit_of(time));
            return Ok(vec![DataType::Utf8, instant, DataType::Utf8]);
        }
        coerced_by(self.inner.as_ref(), arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[1].clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match arguments.arg_fields {
            fields @ [_, instant, _] => {
                let nullable = fields.iter().any(|it| it.is_nullable());
                let data_type = instant.data_type().clone();
                Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
            }
            _ => self.inner.return_field_from_args(arguments),
        }
    }

    /// Refuses an unknown zone when the query is planned.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match args.get(2) {
            Some(Expr::Literal(zone, _)) => {
                zone_of(zone)?;
                Ok(ExprSimplifyResult::Original(args))
            }
            Some(_) => Ok(ExprSimplifyResult::Original(args)),
            None => self.inner.simplify(args, info),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if arguments.args.len() < 3 {
            return self.inner.invoke_with_args(arguments);
        }
        let instants = cast(&self.at_zone(&arguments)?, arguments.return_type())?;
        Ok(match &arguments.args[1] {
            ColumnarValue::Array(_) => ColumnarValue::Array(instants),
            ColumnarValue::Scalar(_) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&instants, 0)?)
            }
        })
    }
}
