//! Casts from text: what Arrow cannot read is read again or refused with the code that PostgreSQL gives.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, Int64Array, PrimitiveArray,
    StringArray,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit};
use datafusion::error::Result;
use headwater_connect::calendar::DAY_SECONDS;
use headwater_connect::time_unit::{per_second, precision};

use super::bytes;
use crate::canonical::Canonical;
use crate::sql::numbers::{ValueFault, or_null};

/// Whether [`read`] reads values of a type.
pub(in crate::sql) fn reads(to: &DataType) -> bool {
    let is_time = matches!(
        to,
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_) | DataType::Interval(_)
    );
    is_time || to.is_numeric() || matches!(to, DataType::Boolean | DataType::Binary)
}

/// The values that the texts are, with NULL for those that are none.
pub(in crate::sql) fn read(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if *to == DataType::Binary {
        let texts = or_null(texts, &DataType::Utf8)?;
        let read = texts.as_string::<i32>().iter();
        let read = read.map(|text| text.and_then(|text| bytes::read(text).ok()));
        return Ok(Arc::new(read.collect::<BinaryArray>()));
    }
    let values = or_null(texts, to)?;
    let repair: fn(&str) -> Option<String> = match to {
        DataType::Float32 => return in_range::<Float32Type>(texts, &values),
        DataType::Float64 => return in_range::<Float64Type>(texts, &values),
        DataType::Decimal128(..) | DataType::Decimal256(..) => without_exponent,
        DataType::Timestamp(..) => usual_time,
        DataType::Date32 => |text| (text.trim() != text).then(|| text.trim().to_owned()),
        DataType::Time64(unit) => return within_day(&values, *unit),
        _ => return Ok(values),
    };
    if values.null_count() == texts.null_count() {
        return rounded(texts, values);
    }
    let texts = or_null(texts, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut any = false;
    let repaired = texts.iter().enumerate().map(|(row, text)| {
        let better = text.filter(|_| values.is_null(row)).and_then(repair);
        any |= better.is_some();
        better.or_else(|| text.map(str::to_owned))
    });
    let repaired: StringArray = repaired.collect();
    match any {
        true => {
            let repaired: ArrayRef = Arc::new(repaired);
            rounded(&repaired, or_null(&repaired, to)?)
        }
        false => rounded(&(Arc::new(texts.clone()) as ArrayRef), values),
    }
}

/// Timestamps rounded up where a text has more digits of a second than the type, which Arrow cuts off.
fn rounded(texts: &ArrayRef, times: ArrayRef) -> Result<ArrayRef> {
    /// `YYYY-MM-DD HH:MM:SS` and the point.
    const WITHOUT_FRACTION: usize = 20;
    let DataType::Timestamp(unit, _) = *times.data_type() else {
        return Ok(times);
    };
    let digits = precision(unit) as usize;
    let texts = or_null(texts, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let is_long = |text: &str| text.len() > WITHOUT_FRACTION + digits;
    if !texts.iter().flatten().any(is_long) {
        return Ok(times);
    }
    let next_digit = |text: &str| Some(text.split_once('.')?.1.as_bytes().get(digits)?.to_owned());
    let numbers = or_null(&times, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>().iter().zip(texts);
    let numbers = numbers.map(|(time, text)| {
        let up = text
            .and_then(next_digit)
            .is_some_and(|it| matches!(it, b'5'..=b'9'));
        time?.checked_add(up.into())
    });
    let numbers: ArrayRef = Arc::new(numbers.collect::<Int64Array>());
    or_null(&numbers, times.data_type())
}

/// The floats as canonical ones, with NULL for what only rounding has made infinite or zero.
fn in_range<T>(texts: &ArrayRef, floats: &ArrayRef) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: Canonical + Into<f64>>,
{
    let numbers = floats.as_primitive::<T>();
    let is_odd = |it: f64| !it.is_finite() || it == 0.0;
    if !numbers.values().iter().any(|&it| is_odd(it.into())) {
        return Ok(Arc::clone(floats));
    }
    let texts = or_null(texts, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let checked = numbers.iter().enumerate().map(|(row, float)| {
        let float = float?;
        let mantissa = |it: &u8| !b"eE".contains(it);
        let text = || texts.value(row).bytes().take_while(mantissa);
        let wrong = match float.into() {
            0.0 => text().any(|it| matches!(it, b'1'..=b'9')),
            double => double.is_infinite() && text().any(|it| it.is_ascii_digit()),
        };
        (!wrong).then(|| float.canonical())
    });
    let checked: PrimitiveArray<T> = checked.collect();
    Ok(Arc::new(checked))
}

/// The times of day, with NULL for those at the end of the day and behind it, which Arrow makes of `23:59:60`.
fn within_day(times: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef> {
    let end = DAY_SECONDS * per_second(unit);
    let numbers = or_null(times, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let within: Int64Array = numbers.unary_opt(|it| (it < end).then_some(it));
    let within: ArrayRef = Arc::new(within);
    or_null(&within, times.data_type())
}

/// Why the text is no value of the type.
pub(in crate::sql) fn fault(text: &str, to: &DataType) -> ValueFault {
    let text = text.trim();
    match to {
        DataType::Interval(_) => ValueFault::InvalidTime,
        DataType::Binary if text.starts_with("\\x") => ValueFault::InvalidHex,
        DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_) => {
            let is_mark = |it: u8| it.is_ascii_digit() || b" -:.+TZ".contains(&it);
            let looks_right = text.bytes().all(is_mark) && text.contains(['-', ':']);
            match looks_right && text.starts_with(|it: char| it.is_ascii_digit()) {
                true => ValueFault::TimeOutOfRange,
                false => ValueFault::InvalidTime,
            }
        }
        to if to.is_integer() && is_integer(text) => ValueFault::OutOfRange,
        to if !to.is_integer() && to.is_numeric() && text.parse::<f64>().is_ok() => {
            ValueFault::OutOfRange
        }
        _ => ValueFault::InvalidText,
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())
}

/// Writes `1.5e2` as `150`, which Arrow reads.
fn without_exponent(text: &str) -> Option<String> {
    const EXPONENT_MAX: i32 = 100;
    let (mantissa, exponent) = text.trim().split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = is_integer(&format!("{whole}{fraction}0"));
    if exponent.abs() > EXPONENT_MAX || !is_number {
        return None;
    }
    // Zeros on both sides, so that the point can move.
    let shift = exponent.unsigned_abs() as usize;
    let zeros = "0".repeat(shift);
    let padded = format!("{zeros}{whole}{fraction}{zeros}");
    let point = zeros.len() + whole.len();
    let point = if exponent < 0 {
        point - shift
    } else {
        point + shift
    };
    Some(format!("{sign}0{}.{}", &padded[..point], &padded[point..]))
}

/// A time with blanks around it, without seconds or at 24:00:00, in words that Arrow reads.
fn usual_time(text: &str) -> Option<String> {
    let mut time = text.trim().to_owned();
    if let Some((_, of_day)) = time.split_once([' ', 'T'])
        && let [a, b, b':', c, d] = of_day.as_bytes()
        && [a, b, c, d].into_iter().all(u8::is_ascii_digit)
    {
        time.push_str(":00");
    }
    if let Some((date, rest)) = time.split_once("24:00:00")
        && date.ends_with([' ', 'T'])
        && rest.trim_start_matches('.').trim_matches('0').is_empty()
    {
        // The midnight at the end of the day.
        time = format!("{date}23:59:60");
    }
    (time != text).then_some(time)
}
