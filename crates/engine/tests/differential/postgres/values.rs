//! Rows on their way to PostgreSQL and back.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::TextRows;
use super::dialect::Columns;
use super::notes::{Key, is_off};
use crate::batch::Table;
use crate::data::per_second;

/// Days from 1970 to the first day of the year 1, and to the last of 9999.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// PostgreSQL's name of a type that it has, or the nearest one.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "numeric(20)".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Date32 => "date".into(),
        DataType::Decimal128(precision, scale) => format!("numeric({precision}, {scale})"),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        _ => "text".into(),
    }
}

fn numbers(column: &ArrayRef) -> impl Iterator<Item = i64> {
    let numbers = cast_with_options(column, &DataType::Int64, &CastOptions::default());
    let numbers = numbers.expect("a time is a number");
    let numbers: &Int64Array = numbers.as_primitive();
    numbers.iter().flatten().collect::<Vec<_>>().into_iter()
}

/// Why PostgreSQL cannot hold the values of a column, or may not yet be asked about them.
fn problem(column: &ArrayRef) -> Option<Key> {
    match column.data_type() {
        DataType::UInt64 => Some("unsigned"),
        DataType::Date32 => numbers(column)
            .any(|day| !DAYS.contains(&day))
            .then_some("calendar"),
        data_type @ DataType::Timestamp(..) => {
            let second = per_second(data_type);
            let fine = second > 1_000_000 && numbers(column).any(|at| at % 1_000 != 0);
            let outside = |at: i64| !DAYS.contains(&at.div_euclid(second).div_euclid(86_400));
            match fine {
                true => Some("nanoseconds"),
                false => numbers(column).any(outside).then_some("calendar"),
            }
        }
        DataType::List(_) => Some("lists"),
        _ => None,
    }
}

/// The statements that give PostgreSQL a table of a name, and the columns it must not be asked about.
pub fn upload(table: &Table) -> (String, Columns) {
    let mut blocked: Vec<(String, Key)> = Vec::new();
    for (at, field) in table.schema.fields().iter().enumerate() {
        let columns = table.batches.iter().map(|batch| batch.column(at));
        let problem = columns.filter_map(problem).find(|key| is_off(key));
        let unknown = matches!(field.data_type(), DataType::List(_)).then_some("lists");
        blocked.extend(problem.or(unknown).map(|key| (field.name().clone(), key)));
    }
    let names = table.schema.fields().iter();
    let names = names.map(|it| format!("{} {}", it.name(), type_name(it.data_type())));
    let names: Vec<_> = names.collect();
    let mut text = format!(
        "CREATE TEMP TABLE {0} ({1});\nCOPY {0} FROM STDIN;\n",
        table.name,
        names.join(", ")
    );
    for batch in &table.batches {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().zip(batch.schema_ref().fields());
            let values = values.map(|(column, field)| {
                let is_blocked = blocked.iter().any(|(name, _)| name == field.name());
                let value = if is_blocked { None } else { write(column, row) };
                value.map_or_else(|| "\\N".into(), |value| escape(&value))
            });
            let _ = writeln!(text, "{}", values.collect::<Vec<_>>().join("\t"));
        }
    }
    text.push_str("\\.");
    let fields = table.schema.fields().iter();
    let fitting = fields.filter(|it| it.data_type().is_unsigned_integer());
    let columns = Columns {
        blocked,
        unsigned: fitting.map(|it| it.name().clone()).collect(),
    };
    (text, columns)
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
    text
}

fn write(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    let float = match column.data_type() {
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row),
        _ => {
            let options = FormatOptions::default();
            let text = ArrayFormatter::try_new(column, &options).expect("a known type");
            return Some(text.value(row).to_string());
        }
    };
    // With an exponent it is short. PostgreSQL would write -0, which is 0 here.
    Some(format!("{:e}", float + 0.0))
}

/// PostgreSQL's rows as columns of these types.
pub fn read(rows: &TextRows, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let texts = rows.iter().map(|row| row[at].as_deref());
        let column = column(&texts.collect::<Vec<_>>(), field.data_type());
        column.map_err(|text| {
            let (name, data_type) = (field.name(), field.data_type());
            format!("  PostgreSQL has {text:?} for {name}, which is {data_type} here")
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    // Whether a column may be NULL does not matter here.
    let fields = schema.fields().iter();
    let fields = fields.map(|it| it.as_ref().clone().with_nullable(true));
    let schema = datafusion::arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(|error| format!("  {error}"))
}

/// Whether a NUMERIC has digits beyond the scale of our DECIMAL, which `read` rounds away.
pub fn has_more_digits(rows: &TextRows, schema: &SchemaRef) -> bool {
    schema.fields().iter().enumerate().any(|(at, field)| {
        let DataType::Decimal128(_, scale) = field.data_type() else {
            return false;
        };
        let digits = |text: &str| {
            let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
            fraction.trim_end_matches('0').len()
        };
        let texts = rows.iter().filter_map(|row| row[at].as_deref());
        texts.map(digits).max() > usize::try_from(*scale).ok()
    })
}

/// Texts as values of a type, or the first text that is not one.
pub fn column(texts: &[Option<&str>], data_type: &DataType) -> Result<ArrayRef, String> {
    fn parsed<T>(
        texts: &[Option<&str>],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<Option<T>>, String> {
        let values = texts.iter().map(|text| match text {
            Some(text) => parse(text).map(Some).ok_or_else(|| (*text).to_owned()),
            None => Ok(None),
        });
        values.collect()
    }
    let plain: ArrayRef = match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let values = parsed(texts, |text| text.parse::<f64>().ok())?;
            Arc::new(Float64Array::from(values))
        }
        DataType::Boolean => {
            let known = |text: &str| {
                [("t", true), ("f", false)]
                    .into_iter()
                    .find(|it| it.0 == text)
            };
            let values = parsed(texts, |text| known(text).map(|it| it.1))?;
            Arc::new(BooleanArray::from(values))
        }
        DataType::Date32 => {
            let values = parsed(texts, |text| i32::try_from(day(text)?).ok())?;
            Arc::new(datafusion::arrow::array::Int32Array::from(values))
        }
        DataType::Timestamp(..) => {
            let values = parsed(texts, |text| instant(text, per_second(data_type)))?;
            Arc::new(Int64Array::from(values))
        }
        DataType::List(item) => return list(texts, item),
        DataType::Null => return Ok(new_null_array(data_type, texts.len())),
        _ => Arc::new(StringArray::from(texts.to_vec())),
    };
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(&plain, data_type, &strict).map_err(|error| error.to_string())
}

/// `{a,"b c",NULL}`: an array of one dimension.
fn list(
    texts: &[Option<&str>],
    item: &datafusion::arrow::datatypes::FieldRef,
) -> Result<ArrayRef, String> {
    let mut all = Vec::new();
    let mut lengths = Vec::new();
    for text in texts {
        let before = all.len();
        all.extend(text.map(elements).unwrap_or_default());
        lengths.push(all.len() - before);
    }
    let all: Vec<_> = all.iter().map(Option::as_deref).collect();
    let values = column(&all, item.data_type())?;
    let nulls: NullBuffer = texts.iter().map(Option::is_some).collect();
    let offsets = OffsetBuffer::from_lengths(lengths);
    let item = Arc::new(item.as_ref().clone().with_nullable(true));
    Ok(Arc::new(ListArray::new(item, offsets, values, Some(nulls))))
}

fn elements(text: &str) -> Vec<Option<String>> {
    let inner = text.trim_start_matches('{');
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut elements, mut element) = (Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    let mut letters = inner.chars();
    let mut push = |element: &mut String, was_quoted: &mut bool| {
        let is_null = element == "NULL" && !*was_quoted;
        elements.push((!is_null).then(|| std::mem::take(element)));
        element.clear();
        *was_quoted = false;
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => element.extend(letters.next()),
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => push(&mut element, &mut was_quoted),
            other => element.push(other),
        }
    }
    if !inner.is_empty() {
        push(&mut element, &mut was_quoted);
    }
    elements
}

/// The text without ` BC`, and whether that was there.
fn era(text: &str) -> (&str, bool) {
    let before = text.strip_suffix(" BC");
    (before.unwrap_or(text), before.is_some())
}

/// Days since 1970 of `YYYY-MM-DD`, in the proleptic Gregorian calendar; the year 1 BC is 0.
fn day(text: &str) -> Option<i64> {
    let (text, is_before) = era(text);
    let mut parts = text.split('-').map(str::parse::<i64>);
    let (year, month, day) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    if parts.next().is_some() {
        return None;
    }
    let year = if is_before { 1 - year } else { year };
    // The year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`, with or without `+00`, in units of a part of a second.
fn instant(text: &str, per_second: i64) -> Option<i64> {
    let (text, is_before) = era(text);
    let (date, time) = text.split_once(' ')?;
    let date = format!("{date}{}", if is_before { " BC" } else { "" });
    let time = time.strip_suffix("+00").unwrap_or(time);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut seconds = day(&date)? * 24 * 60 * 60;
    for (part, unit) in clock.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i64>().ok()? * unit;
    }
    let nanos = format!("{fraction:0<9}").parse::<i64>().ok()?;
    let unit = 1_000_000_000 / per_second;
    // What our type cannot hold is a difference, not to be rounded away.
    (nanos % unit == 0).then_some(seconds.checked_mul(per_second)? + nanos / unit)
}
