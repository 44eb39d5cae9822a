//! `date_trunc`, `date_bin` and `date_part` as functions over columns.
//!
//! DataFusion computes the first two in nanoseconds, which end in 1677 and 2262, and gives NULL or fails beyond.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use super::in_form_of;
use super::interval_parts::{IntervalPart, refuse_part_of_interval};
use super::time_bin::{TimeBin, length};
use super::time_parts::{SecondPart, Truncation, YearPart, refuse_part_of_date};
use crate::sql::functions::{external, undefined_function};
use crate::sql::{SqlError, sqlstate};

const MICROSECOND: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeFunctionKind {
    Trunc,
    Bin,
    Part,
}

/// A function of a time in UTC; those of other time zones, and of a TIME, are left to DataFusion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct TimeFunction {
    kind: TimeFunctionKind,
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl TimeFunction {
    pub const PART: &str = "date_part";

    /// The function in the place of DataFusion's, if it is one of these.
    pub fn new(inner: &Arc<ScalarUDF>) -> Option<Self> {
        let kind = match inner.name() {
            "date_trunc" => TimeFunctionKind::Trunc,
            "date_bin" => TimeFunctionKind::Bin,
            Self::PART => TimeFunctionKind::Part,
            _ => return None,
        };
        Some(Self {
            kind,
            inner: Arc::clone(inner),
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }

    fn coerced(&self, place: usize, argument: &DataType) -> DataType {
        use TimeFunctionKind::{Bin, Part, Trunc};
        let is_time = place > 0;
        match (self.kind, argument) {
            (Bin, DataType::Interval(_) | DataType::Utf8) if !is_time => {
                DataType::Interval(IntervalUnit::MonthDayNano)
            }
            (Trunc | Bin, DataType::Date32) if is_time => MICROSECOND,
            (Trunc | Bin | Part, DataType::Utf8 | DataType::Null) if is_time => MICROSECOND,
            _ => argument.clone(),
        }
    }

    fn takes(&self, arguments: &[DataType]) -> bool {
        use DataType::{Date32, Duration, Interval, Time32, Time64, Timestamp, Utf8};
        match (self.kind, arguments) {
            (TimeFunctionKind::Bin, [Interval(_), time, origin @ ..]) => {
                let is_time = |it: &DataType| matches!(it, Timestamp(..) | Time32(_) | Time64(_));
                is_time(time) && origin.len() < 2 && origin.iter().all(is_time)
            }
            (TimeFunctionKind::Trunc, [Utf8, Timestamp(..) | Time32(_) | Time64(_)]) => true,
            (TimeFunctionKind::Part, [Utf8, time]) => matches!(
                time,
                Timestamp(..) | Date32 | Time32(_) | Time64(_) | Interval(_) | Duration(_)
            ),
            _ => false,
        }
    }

    /// Refuses a wrong first argument when the call is planned.
    fn check(&self, first: Option<&ScalarValue>, time: &DataType) -> Result<(), SqlError> {
        match (self.kind, first) {
            (TimeFunctionKind::Bin, Some(ScalarValue::IntervalMonthDayNano(Some(stride)))) => {
                length(*stride).map(|_| ())
            }
            (TimeFunctionKind::Part, Some(part)) => match part.try_as_str().flatten() {
                Some(part) => {
                    refuse_part_of_date(part, time)?;
                    refuse_part_of_interval(part, time)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The result for UTC; `None` if DataFusion's is right.
    fn computed(&self, args: &[ColumnarValue], times: &ArrayRef) -> Result<Option<ArrayRef>> {
        let first = match &args[0] {
            ColumnarValue::Scalar(value) => value,
            ColumnarValue::Array(_) => {
                let what = format!("{}() of a first argument that is not constant", self.name());
                return Err(external(SqlError::not_built(what)));
            }
        };
        match (self.kind, first.try_as_str().flatten()) {
            (TimeFunctionKind::Part, Some(part)) => part_of(part, times),
            (TimeFunctionKind::Trunc, Some(unit)) => match utc_unit(times.data_type()) {
                Some(per) => {
                    let truncation = Truncation::new(unit, per).map_err(external)?;
                    in_units(times, |time| truncation.apply(time)).map(Some)
                }
                None => Ok(None),
            },
            (TimeFunctionKind::Bin, _) => match utc_unit(times.data_type()) {
                Some(per) => {
                    let Some(bin) = TimeBin::new(first, args.get(2), per)? else {
                        let null = ScalarValue::try_from(times.data_type())?;
                        return Ok(Some(null.to_array_of_size(times.len())?));
                    };
                    in_units(times, |time| bin.apply(time)).map(Some)
                }
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

/// The part of times or intervals; `None` if DataFusion's is right.
fn part_of(part: &str, times: &ArrayRef) -> Result<Option<ArrayRef>> {
    if is_interval(times.data_type()) {
        return IntervalPart::of(part)
            .map_err(external)?
            .of_intervals(times);
    }
    match (SecondPart::of(part), YearPart::of(part)) {
        (Some(part), _) => part.of_times(times),
        (None, Some(part)) => part.of_times(times),
        (None, None) => Ok(None),
    }
}

/// The type of a part that DataFusion's function does not have, or has as another type.
fn part_type(part: &str, of: &DataType) -> Option<DataType> {
    let has_fraction = match is_interval(of) {
        true => IntervalPart::of(part).ok()?.has_fraction(),
        false if YearPart::of(part).is_some() => false,
        false => SecondPart::of(part).is_some().then_some(true)?,
    };
    Some(match has_fraction {
        true => DataType::Float64,
        false => DataType::Int32,
    })
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// The unit of a timestamp in UTC.
fn utc_unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, None) => Some(*unit),
        DataType::Timestamp(unit, Some(zone)) if matches!(&**zone, "UTC" | "+00:00" | "Z") => {
            Some(*unit)
        }
        _ => None,
    }
}

/// Times of the same type that are computed of each time; `None` of a time is out of range.
fn in_units(times: &ArrayRef, one: impl Fn(i64) -> Option<i64>) -> Result<ArrayRef> {
    let numbers = cast(times, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let results: PrimitiveArray<Int64Type> = numbers.try_unary(|time| {
        one(time).ok_or_else(|| {
            external(SqlError::new(
                sqlstate::DATETIME_OVERFLOW,
                "timestamp out of range",
            ))
        })
    })?;
    let results: ArrayRef = Arc::new(results);
    Ok(cast(&results, times.data_type())?)
}

impl ScalarUDFImpl for TimeFunction {
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
        let coerced = arguments.iter().enumerate();
        let coerced: Vec<_> = coerced.map(|(at, it)| self.coerced(at, it)).collect();
        if self.takes(&coerced) {
            return Ok(coerced);
        }
        Err(external(undefined_function(self.name(), arguments)))
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let first = args.scalar_arguments.first().copied().flatten();
        let time = &args.arg_fields[1];
        self.check(first, time.data_type()).map_err(external)?;
        let part = first.and_then(|it| it.try_as_str().flatten());
        if self.kind == TimeFunctionKind::Part
            && let Some(data_type) = part.and_then(|part| part_type(part, time.data_type()))
        {
            let field = Field::new(self.name(), data_type, time.is_nullable());
            return Ok(Arc::new(field));
        }
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [_, time, ..] = args.args.as_slice() else {
            return self.inner.invoke_with_args(args);
        };
        let times = time.to_array(1)?;
        let Some(result) = self.computed(&args.args, &times)? else {
            return self.inner.invoke_with_args(args);
        };
        in_form_of(time, result)
    }
}
