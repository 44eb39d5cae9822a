//! Casts to text: floats, times and intervals as PostgreSQL writes them, and texts cut to a length.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit,
};
use datafusion::error::Result;
use headwater_connect::calendar::{DAY_SECONDS, civil_from_days};
use headwater_connect::time_unit::{per_second, precision};

/// Whether [`written`] writes values of a type otherwise than Arrow.
pub(in crate::sql) fn writes(from: &DataType) -> bool {
    use DataType::{Binary, Date32, Duration, Float32, Float64, Interval, Time64, Timestamp};
    matches!(
        from,
        Binary | Float32 | Float64 | Date32 | Time64(_) | Timestamp(..) | Interval(_) | Duration(_)
    )
}

/// The values as texts; NULL for bytes that are none.
pub(in crate::sql) fn written(values: &ArrayRef) -> Result<ArrayRef> {
    /// Decimal exponents from which on PostgreSQL writes one: digits that the type holds for certain.
    const EXPONENT_F32: i32 = 6;
    const EXPONENT_F64: i32 = 15;
    Ok(match values.data_type() {
        DataType::Float32 => floats::<Float32Type>(values, EXPONENT_F32)?,
        DataType::Float64 => floats::<Float64Type>(values, EXPONENT_F64)?,
        DataType::Date32 => {
            let days = values.as_primitive::<Date32Type>();
            Arc::new(texts(values, |row, out| {
                let era = push_date(days.value(row).into(), out);
                out.push_str(era);
                Ok(())
            })?)
        }
        DataType::Timestamp(unit, zone) => {
            let zone = if zone.is_some() { "+00" } else { "" };
            each(values, |time, out| push_timestamp(time, *unit, zone, out))?
        }
        DataType::Time64(unit) => each(values, |time, out| push_time(time, *unit, out))?,
        DataType::Duration(unit) => {
            let day = DAY_SECONDS * per_second(*unit);
            each(values, |span, out| {
                push_interval(0, span / day, span % day, *unit, out);
            })?
        }
        DataType::Interval(_) => {
            let whole = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let intervals = whole.as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(texts(values, |row, out| {
                let it = intervals.value(row);
                let unit = TimeUnit::Nanosecond;
                push_interval(it.months.into(), it.days.into(), it.nanoseconds, unit, out);
                Ok(())
            })?)
        }
        DataType::Binary => {
            let bytes = values.as_binary::<i32>().iter();
            let texts = bytes.map(|it| it.and_then(|it| std::str::from_utf8(it).ok()));
            Arc::new(texts.collect::<StringArray>())
        }
        _ => cast(values, &DataType::Utf8)?,
    })
}

/// The texts of times that are numbers.
fn each(times: &ArrayRef, push: impl Fn(i64, &mut String)) -> Result<ArrayRef> {
    let numbers = cast(times, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok(Arc::new(texts(times, |row, out| {
        push(numbers.value(row), out);
        Ok(())
    })?))
}

/// The texts with at most this many characters.
pub(in crate::sql) fn shortened(values: &ArrayRef, length: usize) -> Result<ArrayRef> {
    let texts = cast(values, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    if texts.iter().flatten().all(|text| text.len() <= length) {
        return Ok(Arc::new(texts.clone()));
    }
    let cut = |text| -> &str {
        let end = str::char_indices(text).nth(length);
        end.map_or(text, |(end, _)| &text[..end])
    };
    let shortened: StringArray = texts.iter().map(|text| text.map(cut)).collect();
    Ok(Arc::new(shortened))
}

/// One text for each value that is not NULL; `write` appends that of a row.
pub(in crate::sql) fn texts(
    values: &dyn Array,
    mut write: impl FnMut(usize, &mut String) -> Result<()>,
) -> Result<StringArray> {
    let mut texts = StringBuilder::with_capacity(values.len(), values.len() * 16);
    let mut text = String::new();
    for row in 0..values.len() {
        if values.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        write(row, &mut text)?;
        texts.append_value(&text);
    }
    Ok(texts.finish())
}

fn floats<T>(values: &ArrayRef, exponent_from: i32) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: std::fmt::LowerExp>,
{
    let numbers: &PrimitiveArray<T> = values.as_primitive();
    let mut shortest = String::new();
    Ok(Arc::new(texts(values, |row, out| {
        shortest.clear();
        // Writing to a string cannot fail.
        let _ = write!(shortest, "{:e}", numbers.value(row));
        push_float(&shortest, exponent_from, out);
        Ok(())
    })?))
}

/// Appends a float that is given as the shortest digits which are no other float: `-1.25e-7`.
fn push_float(shortest: &str, exponent_from: i32, out: &mut String) {
    let (sign, number) = match shortest.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", shortest),
    };
    out.push_str(sign);
    let Some((mantissa, exponent)) = number.split_once('e') else {
        return out.push_str(if number == "inf" { "Infinity" } else { number });
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (first, rest) = mantissa.split_at(1);
    let rest = rest.trim_start_matches('.');
    let places = exponent.unsigned_abs() as usize;
    match exponent {
        _ if exponent < -4 || exponent >= exponent_from => {
            out.push_str(mantissa);
            // Writing to a string cannot fail.
            let _ = write!(out, "e{}{places:02}", if exponent < 0 { '-' } else { '+' });
        }
        ..0 => {
            out.push_str("0.");
            out.extend((1..places).map(|_| '0'));
            out.push_str(first);
            out.push_str(rest);
        }
        _ => {
            out.push_str(first);
            let (whole, fraction) = rest.split_at(places.min(rest.len()));
            out.push_str(whole);
            out.extend((whole.len()..places).map(|_| '0'));
            if !fraction.is_empty() {
                out.push('.');
                out.push_str(fraction);
            }
        }
    }
}

/// Appends `YYYY-MM-DD`; returns what follows a date before Christ.
fn push_date(days: i64, out: &mut String) -> &'static str {
    let (year, month, day) = civil_from_days(days);
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    era
}

/// Appends `YYYY-MM-DD HH:MM:SS`, with as many digits of fraction as are needed.
fn push_timestamp(value: i64, unit: TimeUnit, zone: &str, out: &mut String) {
    let units = per_second(unit);
    let (seconds, fraction) = (value.div_euclid(units), value.rem_euclid(units));
    let era = push_date(seconds.div_euclid(DAY_SECONDS), out);
    out.push(' ');
    push_time(
        seconds.rem_euclid(DAY_SECONDS) * units + fraction,
        unit,
        out,
    );
    out.push_str(zone);
    out.push_str(era);
}

/// Appends `HH:MM:SS`, with as many digits of fraction as are needed; the hours may be more than a day has.
fn push_time(time: i64, unit: TimeUnit, out: &mut String) {
    let units = per_second(unit);
    let (seconds, fraction) = (time / units, time % units);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let digits = precision(unit) as usize;
        let _ = write!(out, ".{fraction:0digits$}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Appends `1 year 2 mons 3 days 04:05:06`, without the parts that are 0.
fn push_interval(months: i64, days: i64, time: i64, unit: TimeUnit, out: &mut String) {
    let start = out.len();
    let mut negative = false;
    let parts = [(months / 12, "year"), (months % 12, "mon"), (days, "day")];
    for (count, name) in parts.into_iter().filter(|(count, _)| *count != 0) {
        let blank = if out.len() > start { " " } else { "" };
        // What follows a negative part has a sign.
        let sign = if negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let _ = write!(out, "{blank}{sign}{count} {name}{plural}");
        negative = count < 0;
    }
    if time != 0 || out.len() == start {
        out.push_str(if out.len() > start { " " } else { "" });
        match (time < 0, negative) {
            (true, _) => out.push('-'),
            (false, true) => out.push('+'),
            (false, false) => {}
        }
        push_time(time.saturating_abs(), unit, out);
    }
}
