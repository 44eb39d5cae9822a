//! The Arrow type of each SQL type.
//!
//! | SQL | Arrow |
//! |---|---|
//! | `STRING` `VARCHAR` `TEXT` `CHAR` `JSON` `UUID` | `Utf8` |
//! | `TINYINT` `SMALLINT` `INT` `BIGINT`, and `UNSIGNED` | `Int8` ... `UInt64` |
//! | `REAL` `FLOAT` (up to 24 bits), `DOUBLE` `FLOAT(25..53)` | `Float32`, `Float64` |
//! | `DECIMAL(p, s)` | `Decimal128`, beyond 38 digits `Decimal256` |
//! | `BOOLEAN`, `DATE`, `BYTEA` `BLOB` `BYTES` `VARBINARY` | `Boolean`, `Date32`, `Binary` |
//! | `TIMESTAMP`, `TIMESTAMP(0, 3, 6, 9)` | `Timestamp`, microseconds by default |
//! | `TIMESTAMPTZ`, `TIMESTAMP WITH TIME ZONE` | the same in the zone `+00:00` |
//! | `TIME` | `Time64` in microseconds |
//! | `ARRAY<t>` `t[]`, `STRUCT<name t, ...>`, `MAP<k, v>` | `List`, `Struct`, `Map` |
//!
//! A length such as that of `VARCHAR(20)` is refused: nothing would enforce it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, StructField, TimezoneInfo,
};
use headwater_connect::time_unit;

use super::error::{Result, SqlError, sqlstate};
use super::suggest::did_you_mean;
use super::token_cursor::TokenCursor;

/// The names that a hint can suggest for a misspelt type.
const NAMES: &[&str] = &[
    "STRING",
    "VARCHAR",
    "TEXT",
    "CHAR",
    "JSON",
    "UUID",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "REAL",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "BOOLEAN",
    "BOOL",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "BYTES",
    "BYTEA",
    "BLOB",
    "VARBINARY",
    "ARRAY",
    "STRUCT",
    "MAP",
];

/// The zone that Arrow names in every TIMESTAMPTZ.
pub(super) const UTC: &str = "+00:00";

/// The type of an instant.
pub(super) fn timestamptz(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some(UTC.into()))
}

pub(super) fn read(cursor: &mut TokenCursor) -> Result<DataType> {
    let start = cursor.here();
    let sql = cursor.parse(|parser| parser.parse_data_type())?;
    let position = start.start..cursor.last().end;
    arrow_type(&sql).map_err(|error| error.at(position))
}

/// The Arrow type of a type in SQL.
pub(super) fn arrow_type(sql: &Sql) -> Result<DataType> {
    Ok(match sql {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::Date | Sql::Date32 => DataType::Date32,
        Sql::JSON | Sql::JSONB | Sql::Uuid => DataType::Utf8,
        Sql::Time(precision, zone) => time(sql, *precision, zone)?,
        Sql::Timestamp(precision, zone) => timestamp(sql, *precision, zone)?,
        Sql::Datetime(precision) | Sql::TimestampNtz(precision) => {
            timestamp(sql, *precision, &TimezoneInfo::None)?
        }
        Sql::Array(element) => list(sql, element)?,
        Sql::Struct(fields, _) => structure(sql, fields)?,
        Sql::Map(key, value) => map(key, value)?,
        Sql::Custom(name, arguments) if arguments.is_empty() => custom(&name.to_string())?,
        Sql::Nullable(_) => return Err(unknown(sql).hint("Columns are nullable unless NOT NULL.")),
        other => match integer(other)
            .or_else(|| text(other))
            .or_else(|| bytes(other))
        {
            Some(found) => found,
            None => number(other)?,
        },
    })
}

fn integer(sql: &Sql) -> Option<DataType> {
    Some(match sql {
        Sql::TinyInt(None) => DataType::Int8,
        Sql::TinyIntUnsigned(None) | Sql::UTinyInt | Sql::UInt8 => DataType::UInt8,
        Sql::SmallInt(None) | Sql::Int2(None) | Sql::Int16 => DataType::Int16,
        Sql::SmallIntUnsigned(None) | Sql::Int2Unsigned(None) | Sql::USmallInt | Sql::UInt16 => {
            DataType::UInt16
        }
        Sql::Int(None) | Sql::Integer(None) | Sql::Int4(None) | Sql::Int32 => DataType::Int32,
        Sql::IntUnsigned(None)
        | Sql::IntegerUnsigned(None)
        | Sql::Int4Unsigned(None)
        | Sql::UInt32 => DataType::UInt32,
        Sql::BigInt(None) | Sql::Int8(None) | Sql::Int64 => DataType::Int64,
        Sql::BigIntUnsigned(None) | Sql::Int8Unsigned(None) | Sql::UBigInt | Sql::UInt64 => {
            DataType::UInt64
        }
        _ => return None,
    })
}

fn text(sql: &Sql) -> Option<DataType> {
    let is_text = matches!(
        sql,
        Sql::String(None)
            | Sql::Varchar(None)
            | Sql::Text
            | Sql::Char(None)
            | Sql::Character(None)
            | Sql::CharacterVarying(None)
            | Sql::CharVarying(None)
            | Sql::Nvarchar(None)
            | Sql::Clob(None)
            | Sql::TinyText
            | Sql::MediumText
            | Sql::LongText
    );
    is_text.then_some(DataType::Utf8)
}

fn bytes(sql: &Sql) -> Option<DataType> {
    let is_bytes = matches!(
        sql,
        Sql::Bytes(None) | Sql::Bytea | Sql::Varbinary(None) | Sql::Binary(None) | Sql::Blob(None)
    );
    is_bytes.then_some(DataType::Binary)
}

fn number(sql: &Sql) -> Result<DataType> {
    Ok(match sql {
        Sql::Real | Sql::Float4 | Sql::Float32 => DataType::Float32,
        Sql::Float8 | Sql::Float64 | Sql::DoublePrecision | Sql::Double(ExactNumberInfo::None) => {
            DataType::Float64
        }
        // The standard's FLOAT(p) counts bits; DataFusion takes a bare FLOAT as single precision.
        Sql::Float(ExactNumberInfo::None | ExactNumberInfo::Precision(1..=24)) => DataType::Float32,
        Sql::Float(ExactNumberInfo::Precision(25..=53)) => DataType::Float64,
        Sql::Decimal(size) | Sql::Numeric(size) | Sql::Dec(size) => decimal(sql, size)?,
        _ => return Err(unknown(sql)),
    })
}

fn decimal(sql: &Sql, size: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match *size {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let out_of_range =
        |what: &str| SqlError::new(sqlstate::INVALID_PARAMETER, format!("type {sql}: {what}"));
    let (Ok(digits @ 1..=76), Ok(places)) = (u8::try_from(precision), i8::try_from(scale)) else {
        return Err(out_of_range("precision is from 1 to 76"));
    };
    if scale < 0 || scale.unsigned_abs() > precision {
        return Err(out_of_range("scale is from 0 to the precision"));
    }
    Ok(match digits {
        1..=38 => DataType::Decimal128(digits, places),
        _ => DataType::Decimal256(digits, places),
    })
}

fn timestamp(sql: &Sql, precision: Option<u64>, zone: &TimezoneInfo) -> Result<DataType> {
    let Some(unit) = time_unit::of_precision(precision.unwrap_or(6)) else {
        let message = format!("type {sql}: precision is 0, 3, 6 or 9");
        return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .hint("TIMESTAMP(3) counts milliseconds, TIMESTAMP(6) microseconds."));
    };
    Ok(match zone {
        TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => DataType::Timestamp(unit, None),
        TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => timestamptz(unit),
    })
}

fn time(sql: &Sql, precision: Option<u64>, zone: &TimezoneInfo) -> Result<DataType> {
    let plain = matches!(zone, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone);
    match precision {
        None | Some(6) if plain => Ok(DataType::Time64(TimeUnit::Microsecond)),
        _ => Err(unknown(sql).hint("TIME counts microseconds of a day without a time zone.")),
    }
}

fn list(sql: &Sql, element: &ArrayElemTypeDef) -> Result<DataType> {
    let element = match element {
        ArrayElemTypeDef::AngleBracket(element)
        | ArrayElemTypeDef::Parenthesis(element)
        | ArrayElemTypeDef::SquareBracket(element, None) => arrow_type(element)?,
        ArrayElemTypeDef::None => {
            return Err(unknown(sql).hint("Give the element type: ARRAY<BIGINT>."));
        }
        ArrayElemTypeDef::SquareBracket(_, Some(_)) => {
            return Err(unknown(sql).hint("An array has no declared length: BIGINT[]."));
        }
    };
    Ok(DataType::new_list(element, true))
}

fn structure(sql: &Sql, fields: &[StructField]) -> Result<DataType> {
    let mut read: Vec<Field> = Vec::with_capacity(fields.len());
    for field in fields {
        let Some(name) = &field.field_name else {
            return Err(unknown(sql).hint("Name every field: STRUCT<x BIGINT, y BIGINT>."));
        };
        if field.options.is_some() {
            return Err(unknown(sql));
        }
        if read.iter().any(|other| *other.name() == name.value) {
            let message = format!("field {:?} is declared twice", name.value);
            return Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message));
        }
        read.push(Field::new(
            &name.value,
            arrow_type(&field.field_type)?,
            true,
        ));
    }
    if read.is_empty() {
        return Err(unknown(sql).hint("List its fields: STRUCT<x BIGINT, y BIGINT>."));
    }
    Ok(DataType::Struct(Fields::from(read)))
}

fn map(key: &Sql, value: &Sql) -> Result<DataType> {
    let entries = Fields::from(vec![
        Field::new("key", arrow_type(key)?, false),
        Field::new("value", arrow_type(value)?, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    Ok(DataType::Map(Arc::new(entries), false))
}

/// The types that `sqlparser` has only a name for.
fn custom(name: &str) -> Result<DataType> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "LONG" => DataType::Int64,
        _ => {
            let message = format!("type {name} does not exist");
            return Err(SqlError::new(sqlstate::UNDEFINED_OBJECT, message)
                .maybe_hint(did_you_mean(name, NAMES)));
        }
    })
}

/// The error that a type of SQL is not supported.
fn unknown(sql: &Sql) -> SqlError {
    let written = sql.to_string();
    let bare = written.split('(').next().unwrap_or_default();
    let sized = written.len() != bare.len() && text_or_bytes_or_integer(bare);
    let error = SqlError::not_built(format_args!("type {written}"));
    if sized {
        return error.hint(format!(
            "Remove the length: {bare}. Nothing would enforce it."
        ));
    }
    error
}

fn text_or_bytes_or_integer(bare: &str) -> bool {
    [
        "CHAR", "TEXT", "STRING", "INT", "BINARY", "BLOB", "BYTES", "CLOB",
    ]
    .iter()
    .any(|part| bare.contains(part))
}
