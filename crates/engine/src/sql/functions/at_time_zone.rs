//! `time AT TIME ZONE zone`, which the parser reads as `timezone(zone, time)`, as PostgreSQL does.
//!
//! A TIMESTAMP is the time that the clocks of the zone show, and becomes the instant, a TIMESTAMPTZ. A
//! TIMESTAMPTZ becomes what they show then, a TIMESTAMP.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use headwater_connect::time_unit;

use super::{external, undefined_function};
use crate::sql::types::timestamptz;
use crate::sql::{SqlError, sqlstate, time_zone};
use crate::time_zone::{TimeZone, ZoneClock};

/// The name of the function, which is PostgreSQL's.
pub(in crate::sql) const AT_TIME_ZONE: &str = "timezone";

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AtTimeZone {
    signature: Signature,
    /// The zone, once the call was planned.
    planned: Option<TimeZone>,
}

impl Default for AtTimeZone {
    fn default() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
            planned: None,
        }
    }
}

/// The type in which a value is converted: dates and texts are those of instants, as in PostgreSQL.
fn time_type(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Timestamp(..) => Some(of.clone()),
        DataType::Date32 | DataType::Null => Some(timestamptz(TimeUnit::Microsecond)),
        text if text.is_string() => Some(timestamptz(TimeUnit::Microsecond)),
        _ => None,
    }
}

/// The zone of a name, or the error that there is none.
pub(super) fn zone_named(name: &str) -> Result<TimeZone> {
    TimeZone::named(name).ok_or_else(|| external(time_zone::unknown(name)))
}

/// The zone of a constant; `None` for NULL.
pub(super) fn zone_of(value: &ScalarValue) -> Result<Option<TimeZone>> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(it)) if it.months == 0 && it.days == 0 => {
            Ok(Some(TimeZone::Offset(it.nanoseconds / 1_000_000_000)))
        }
        ScalarValue::IntervalMonthDayNano(Some(_)) => {
            let message = "an interval as a time zone must not include months or days";
            Err(external(SqlError::new(
                sqlstate::INVALID_PARAMETER,
                message,
            )))
        }
        other => other.try_as_str().flatten().map(zone_named).transpose(),
    }
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        AT_TIME_ZONE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let is_zone = |of: &DataType| of.is_string() || of.is_null() || *of == INTERVAL;
        match arguments {
            [zone, time] if is_zone(zone) => match time_type(time) {
                Some(DataType::Timestamp(unit, None)) => return Ok(timestamptz(unit)),
                Some(DataType::Timestamp(unit, Some(_))) => {
                    return Ok(DataType::Timestamp(unit, None));
                }
                _ => {}
            },
            _ => {}
        }
        let error = undefined_function(AT_TIME_ZONE, arguments);
        Err(external(
            error.hint("Write timestamp AT TIME ZONE 'Europe/Berlin'."),
        ))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|it| it.data_type().clone())
            .collect();
        let nullable = args.arg_fields.iter().any(|it| it.is_nullable());
        let field = Field::new(self.name(), self.return_type(&types)?, nullable);
        Ok(Arc::new(field))
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let zone = match (&self.planned, args.first()) {
            (None, Some(Expr::Literal(zone, _))) => zone_of(zone)?,
            _ => None,
        };
        if zone.is_none() {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let planned = ScalarUDF::from(Self {
            planned: zone,
            ..self.clone()
        });
        let call = ScalarFunction::new_udf(Arc::new(planned), args);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = arguments
            .args
            .iter()
            .all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let times = arguments.args[1].to_array(if scalar { 1 } else { arguments.number_rows })?;
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let times = match time_type(times.data_type()) {
            Some(time_type) => cast_with_options(&times, &time_type, &strict)?,
            None => times,
        };
        let shift = Shift::new(times.data_type());
        let shifted = match (&self.planned, &arguments.args[0]) {
            (Some(zone), _) => shift.by_zone(&times, Some(*zone))?,
            (None, ColumnarValue::Scalar(zone)) => shift.by_zone(&times, zone_of(zone)?)?,
            (None, ColumnarValue::Array(zones)) => shift.by_row(&times, zones)?,
        };
        let shifted = cast(&shifted, arguments.return_field.data_type())?;
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&shifted, 0)?),
            false => ColumnarValue::Array(shifted),
        })
    }
}

/// From instants to local times, or back.
pub(super) struct Shift {
    per_second: i64,
    to_local: bool,
}

impl Shift {
    /// From times of a type to what AT TIME ZONE makes of them.
    pub fn new(times: &DataType) -> Self {
        let (unit, to_local) = match times {
            DataType::Timestamp(unit, zone) => (*unit, zone.is_some()),
            _ => (TimeUnit::Microsecond, true),
        };
        Self {
            per_second: time_unit::per_second(unit),
            to_local,
        }
    }

    /// As integers; NULL without a zone.
    pub fn by_zone(&self, times: &ArrayRef, zone: Option<TimeZone>) -> Result<ArrayRef> {
        let Some(zone) = zone else {
            return Ok(Arc::new(Int64Array::new_null(times.len())));
        };
        let mut clock = ZoneClock::new(zone);
        let times = cast(times, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let shifted = times.values().iter().enumerate().map(|(row, time)| {
            // What is behind a NULL may be out of range.
            match times.is_valid(row) {
                true => self.value(&mut clock, *time),
                false => Ok(0),
            }
        });
        let shifted: Vec<i64> = shifted.collect::<Result<_>>()?;
        Ok(Arc::new(Int64Array::new(
            shifted.into(),
            times.nulls().cloned(),
        )))
    }

    fn by_row(&self, times: &ArrayRef, zones: &ArrayRef) -> Result<ArrayRef> {
        if *zones.data_type() == INTERVAL {
            let what = "a time zone that is an interval and not a constant";
            return Err(external(SqlError::not_built(what).hint("Write its name.")));
        }
        let zones = cast(zones, &DataType::Utf8)?;
        let times = cast(times, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>().iter();
        // Equal zones often follow each other.
        let mut last: Option<(&str, ZoneClock)> = None;
        let shifted = times.zip(zones.as_string::<i32>()).map(|row| {
            let (Some(time), Some(name)) = row else {
                return Ok(None);
            };
            let (_, clock) = match &mut last {
                Some(known) if known.0 == name => known,
                other => other.insert((name, ZoneClock::new(zone_named(name)?))),
            };
            self.value(clock, time).map(Some)
        });
        Ok(Arc::new(shifted.collect::<Result<Int64Array>>()?))
    }

    fn value(&self, clock: &mut ZoneClock, time: i64) -> Result<i64> {
        let seconds = time.div_euclid(self.per_second);
        let offset = match self.to_local {
            true => clock.offset_at(seconds),
            false => clock.instant_of(seconds).saturating_sub(seconds),
        };
        let offset = offset.checked_mul(self.per_second);
        let shifted = offset.and_then(|offset| time.checked_add(offset));
        shifted.ok_or_else(out_of_range)
    }
}

fn out_of_range() -> datafusion::error::DataFusionError {
    external(SqlError::new(
        sqlstate::DATETIME_OVERFLOW,
        "timestamp out of range",
    ))
}
