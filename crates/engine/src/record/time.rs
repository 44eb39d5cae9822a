//! Times as columns: microseconds since 1970-01-01 UTC unless a field declares another unit.
//!
//! SQL's `TIMESTAMP` is Arrow's timestamp in microseconds without a zone, and is taken to be UTC.
//! A column of another unit is converted on reading: a finer one is rounded down (also before
//! 1970), a value out of range is refused with its row.

use std::convert::identity;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, AsArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use headwater_connect::time_unit;

use super::codec::{
    Codec, InUnit, Moment, Plain, Refusal, Scalar, Values, dense, nulls, sparse, typed,
};
use super::number::primitives;

/// A point in time in whole microseconds since 1970-01-01 UTC; may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time this number of microseconds after 1970-01-01 UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01 UTC.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Rounded down to the microsecond; `None` beyond 292,000 years from 1970.
    pub fn from_system_time(time: SystemTime) -> Option<Self> {
        let micros = |d: Duration| i64::try_from(d.as_micros()).ok();
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => micros(after).map(Self),
            Err(e) => {
                let before = e.duration();
                let part = i64::from(!before.subsec_nanos().is_multiple_of(1_000));
                micros(before).map(|whole| Self(-whole - part))
            }
        }
    }

    /// The same time; `None` if the operating system cannot represent it.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_micros(self.0.unsigned_abs());
        match self.0 < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(distance),
            false => SystemTime::UNIX_EPOCH.checked_add(distance),
        }
    }
}

/// ISO 8601 in UTC, such as `2026-01-28T09:30:00.250Z`; the bare microseconds outside of the years
/// that the calendar can write.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match timestamp_us_to_datetime(self.0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S%.fZ")),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl Scalar for Timestamp {
    type Array = TimestampMicrosecondArray;

    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, None)
    }

    fn write<'a>(
        values: impl Values<'a, Self>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Refusal> {
        let micros = values.map(|value| value.map(|time| &time.0));
        Ok(Arc::new(primitives::<TimestampMicrosecondType>(
            micros, nulls, identity,
        )))
    }

    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
        in_unit(array)
    }

    fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
        Ok(Self(array.value(row)))
    }
}

impl Scalar for SystemTime {
    type Array = TimestampMicrosecondArray;

    fn data_type() -> DataType {
        Timestamp::data_type()
    }

    fn write<'a>(
        values: impl Values<'a, Self>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Refusal> {
        let micros = |(row, value): (usize, Option<&SystemTime>)| {
            let time = value.copied().unwrap_or(SystemTime::UNIX_EPOCH);
            let time =
                Timestamp::from_system_time(time).ok_or_else(|| out_of_range(row, "the time"))?;
            Ok(time.as_micros())
        };
        let micros: Vec<i64> = values
            .enumerate()
            .map(micros)
            .collect::<Result<_, Refusal>>()?;
        Ok(Arc::new(TimestampMicrosecondArray::new(
            micros.into(),
            nulls,
        )))
    }

    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
        in_unit(array)
    }

    fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
        let time = Timestamp(array.value(row));
        time.to_system_time()
            .ok_or_else(|| out_of_range(row, &time.to_string()))
    }
}

impl<U: ArrowTimestampType> Codec<i64> for InUnit<U> {
    type Array = PrimitiveArray<U>;
    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        U::DATA_TYPE
    }

    fn write<'a, R>(
        rows: &'a [R],
        field: impl Fn(&'a R) -> &'a i64 + Copy,
    ) -> Result<ArrayRef, Refusal> {
        Ok(Arc::new(primitives::<U>(
            dense(rows, field),
            None,
            identity,
        )))
    }

    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
        in_unit(&typed(array, U::DATA_TYPE))
    }

    fn get(array: &Self::Array, row: usize) -> Result<i64, Refusal> {
        Ok(array.value(row))
    }
}

impl<U: ArrowTimestampType> Codec<Option<i64>> for InUnit<U> {
    type Array = PrimitiveArray<U>;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        U::DATA_TYPE
    }

    fn write<'a, R>(
        rows: &'a [R],
        field: impl Fn(&'a R) -> &'a Option<i64> + Copy,
    ) -> Result<ArrayRef, Refusal> {
        let values = sparse(rows, field);
        Ok(Arc::new(primitives::<U>(
            values.clone(),
            nulls(values),
            identity,
        )))
    }

    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
        in_unit(&typed(array, U::DATA_TYPE))
    }

    fn get(array: &Self::Array, row: usize) -> Result<Option<i64>, Refusal> {
        use arrow::array::Array;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }
}

impl Moment<Timestamp> for Plain {
    fn micros(field: &Timestamp) -> Option<i64> {
        Some(field.0)
    }
}

impl Moment<SystemTime> for Plain {
    fn micros(field: &SystemTime) -> Option<i64> {
        Timestamp::from_system_time(*field).map(Timestamp::as_micros)
    }
}

impl<U: ArrowTimestampType> Moment<i64> for InUnit<U> {
    fn micros(field: &i64) -> Option<i64> {
        time_unit::convert(*field, U::UNIT, TimeUnit::Microsecond)
    }
}

impl<T: Scalar> Moment<Option<T>> for Plain
where
    Plain: Moment<T>,
{
    fn micros(field: &Option<T>) -> Option<i64> {
        field.as_ref().and_then(<Self as Moment<T>>::micros)
    }
}

impl<U: ArrowTimestampType> Moment<Option<i64>> for InUnit<U> {
    fn micros(field: &Option<i64>) -> Option<i64> {
        field.as_ref().and_then(<Self as Moment<i64>>::micros)
    }
}

/// A timestamp array of any unit, with or without a zone, in the unit of `U`.
fn in_unit<U: ArrowTimestampType>(array: &ArrayRef) -> Result<PrimitiveArray<U>, Refusal> {
    let DataType::Timestamp(unit, _) = array.data_type() else {
        return Err(Refusal::Type);
    };
    match unit {
        TimeUnit::Second => converted::<TimestampSecondType, U>(array),
        TimeUnit::Millisecond => converted::<TimestampMillisecondType, U>(array),
        TimeUnit::Microsecond => converted::<TimestampMicrosecondType, U>(array),
        TimeUnit::Nanosecond => converted::<TimestampNanosecondType, U>(array),
    }
}

fn converted<F: ArrowTimestampType, U: ArrowTimestampType>(
    array: &ArrayRef,
) -> Result<PrimitiveArray<U>, Refusal> {
    let from = array.as_primitive::<F>();
    if F::UNIT == U::UNIT {
        return Ok(from.reinterpret_cast());
    }
    let convert = |value| time_unit::convert(value, F::UNIT, U::UNIT).ok_or(());
    from.try_unary(convert).map_err(|()| {
        let lost = |value: Option<i64>| value.is_some_and(|value| convert(value).is_err());
        let row = from.iter().position(lost).unwrap_or_default();
        let value = format!("{} {} since 1970", from.value(row), F::UNIT);
        out_of_range(row, &value)
    })
}

fn out_of_range(row: usize, what: &str) -> Refusal {
    Refusal::Row(row, format!("{what} is out of range"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn system_times_round_down_to_microseconds(nanos in -1_000_000_000_000_i64..1_000_000_000_000) {
            let distance = Duration::from_nanos(nanos.unsigned_abs());
            let time = match nanos < 0 {
                true => SystemTime::UNIX_EPOCH - distance,
                false => SystemTime::UNIX_EPOCH + distance,
            };
            let micros = Timestamp::from_system_time(time).map(Timestamp::as_micros);
            prop_assert_eq!(micros, Some(nanos.div_euclid(1_000)));
        }
    }

    #[test]
    fn timestamps_are_shown_in_iso_8601() {
        assert_eq!(
            Timestamp::from_micros(1_700_000_000_250_000).to_string(),
            "2023-11-14T22:13:20.250Z"
        );
        assert_eq!(
            Timestamp::from_micros(-1).to_string(),
            "1969-12-31T23:59:59.999999Z"
        );
        assert_eq!(
            Timestamp::from_micros(i64::MIN).to_string(),
            "-9223372036854775808us"
        );
    }
}
