//! Rows into JSON: one object per row, one key per column, NULL written out.
//!
//! Numbers are written so that they read back as the same value. NaN and the infinities, which JSON does
//! not have, are strings as in PostgreSQL, or null if the options say so; a DECIMAL is a number with all its
//! digits; BINARY is base64; DATE is `YYYY-MM-DD`; TIMESTAMP is RFC 3339 in UTC, or a number if the options
//! say so; lists and structs are arrays and objects. Any other type is written as the text that Arrow shows
//! for it.

use std::io::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, ListArray,
    PrimitiveArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, FieldRef, Fields, Float32Type, Float64Type, Int64Type, TimeUnit,
    UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::data_type::{is_binary, is_text};
use super::super::{Encoder, EpochUnit, Frames, time};
use crate::options::Options;
use crate::{Error, Result, time_unit};

/// How JSON is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JsonEncoderOptions {
    /// How timestamps are written: 'iso' is RFC 3339 text in UTC, the others a number of these units
    /// since 1970-01-01 UTC.
    timestamps: Timestamps,
    /// How NaN and the infinities are written, which JSON does not have: 'string' is "NaN", "Infinity" and
    /// "-Infinity", which a column of floats reads back; 'null' is null.
    non_finite: NonFinite,
}

/// How a float that JSON has no number for is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum NonFinite {
    #[default]
    String,
    Null,
}

impl Options for JsonEncoderOptions {}

/// How a timestamp is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Timestamps {
    #[default]
    Iso,
    S,
    Ms,
    Us,
    Ns,
}

impl Timestamps {
    fn epoch(self) -> Option<EpochUnit> {
        match self {
            Self::Iso => None,
            Self::S => Some(EpochUnit::S),
            Self::Ms => Some(EpochUnit::Ms),
            Self::Us => Some(EpochUnit::Us),
            Self::Ns => Some(EpochUnit::Ns),
        }
    }
}

/// A frame is an object without a line break in it, in `json` and in `ndjson`.
pub(super) struct JsonEncoder {
    style: JsonStyle,
}

/// How values that have several forms are written.
#[derive(Clone, Copy)]
struct JsonStyle {
    epoch: Option<EpochUnit>,
    non_finite: NonFinite,
}

impl JsonEncoder {
    pub(super) fn new(options: &JsonEncoderOptions) -> Self {
        Self {
            style: JsonStyle {
                epoch: options.timestamps.epoch(),
                non_finite: options.non_finite,
            },
        }
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> Result<()> {
        let failed = |error: ArrowError| Error::Encode {
            format: "json",
            reason: error.to_string(),
        };
        let columns = members(rows.schema_ref().fields(), rows.columns(), self.style);
        let columns = columns.map_err(failed)?;
        for row in 0..rows.num_rows() {
            write_object(&columns, row, &mut out.bytes).map_err(failed)?;
            out.ends.push(out.bytes.len());
        }
        Ok(())
    }
}

/// A column of an object, with the text before each of its values: `,"price":`.
struct Member {
    before: Vec<u8>,
    column: JsonColumn,
}

struct JsonColumn {
    nulls: Option<NullBuffer>,
    values: JsonValues,
}

/// The values of a column, in the type they are written from.
enum JsonValues {
    Null,
    Boolean(BooleanArray),
    Integer(PrimitiveArray<Int64Type>),
    Unsigned(PrimitiveArray<UInt64Type>),
    Float32(PrimitiveArray<Float32Type>, NonFinite),
    Float64(PrimitiveArray<Float64Type>, NonFinite),
    Text(StringArray),
    Binary(BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Timestamp(PrimitiveArray<Int64Type>, TimeUnit, Option<EpochUnit>),
    Decimal(Decimal128Array),
    List(ListArray, Box<JsonColumn>),
    Struct(Vec<Member>),
    /// Written as the text that Arrow shows.
    Other(ArrayRef),
}

fn members(
    fields: &Fields,
    columns: &[ArrayRef],
    style: JsonStyle,
) -> Result<Vec<Member>, ArrowError> {
    let member = |(at, (field, column)): (usize, (&FieldRef, &ArrayRef))| {
        let mut before = vec![if at == 0 { b'{' } else { b',' }];
        write_text(field.name(), &mut before)?;
        before.push(b':');
        Ok(Member {
            before,
            column: JsonColumn::new(column, style)?,
        })
    };
    fields.iter().zip(columns).enumerate().map(member).collect()
}

impl JsonColumn {
    fn new(array: &ArrayRef, style: JsonStyle) -> Result<Self, ArrowError> {
        let nulls = array.logical_nulls();
        Ok(Self {
            nulls,
            values: JsonValues::new(array, style)?,
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        self.values.write(row, out)
    }
}

impl JsonValues {
    fn new(array: &ArrayRef, style: JsonStyle) -> Result<Self, ArrowError> {
        let as_type = |data_type: &DataType| cast(array, data_type);
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Integer(as_type(&DataType::Int64)?.as_primitive().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(as_type(&DataType::UInt64)?.as_primitive().clone())
            }
            DataType::Float16 | DataType::Float32 => {
                let values = as_type(&DataType::Float32)?.as_primitive().clone();
                Self::Float32(values, style.non_finite)
            }
            DataType::Float64 => Self::Float64(array.as_primitive().clone(), style.non_finite),
            text if is_text(text) => Self::Text(as_type(&DataType::Utf8)?.as_string().clone()),
            DataType::FixedSizeBinary(_) => {
                Self::Binary(as_type(&DataType::Binary)?.as_binary().clone())
            }
            bytes if is_binary(bytes) => {
                Self::Binary(as_type(&DataType::Binary)?.as_binary().clone())
            }
            DataType::Date32 => Self::Date(array.as_primitive().clone()),
            DataType::Timestamp(unit, _) => {
                let values = as_type(&DataType::Int64)?.as_primitive().clone();
                Self::Timestamp(values, *unit, style.epoch)
            }
            DataType::Decimal128(..) => Self::Decimal(array.as_primitive().clone()),
            DataType::List(_) => {
                let list = array.as_list::<i32>().clone();
                let items = JsonColumn::new(list.values(), style)?;
                Self::List(list, Box::new(items))
            }
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => {
                return Self::new(&as_type(&DataType::List(item.clone()))?, style);
            }
            DataType::Struct(fields) => {
                let columns: &StructArray = array.as_struct();
                Self::Struct(members(fields, columns.columns(), style)?)
            }
            DataType::Dictionary(_, values) => return Self::new(&as_type(values)?, style),
            _ => Self::Other(array.clone()),
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(values) => {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
            }
            Self::Integer(values) => write_plain(&values.value(row), out)?,
            Self::Unsigned(values) => write_plain(&values.value(row), out)?,
            Self::Float32(values, non_finite) => {
                let value = values.value(row);
                match value.is_finite() {
                    true => write_plain(&value, out)?,
                    false => non_finite.write(value.into(), out),
                }
            }
            Self::Float64(values, non_finite) => {
                let value = values.value(row);
                match value.is_finite() {
                    true => write_plain(&value, out)?,
                    false => non_finite.write(value, out),
                }
            }
            Self::Text(values) => write_text(values.value(row), out)?,
            Self::Binary(values) => {
                out.push(b'"');
                out.extend_from_slice(BASE64.encode(values.value(row)).as_bytes());
                out.push(b'"');
            }
            Self::Date(values) => {
                out.push(b'"');
                time::write_date(values.value(row).into(), out);
                out.push(b'"');
            }
            Self::Timestamp(values, unit, None) => {
                out.push(b'"');
                time::write_timestamp(values.value(row), *unit, out);
                out.push(b'"');
            }
            Self::Timestamp(values, unit, Some(epoch)) => {
                let value = time_unit::convert_wide(values.value(row), *unit, epoch.unit());
                write_plain(&value, out)?;
            }
            Self::Decimal(values) => {
                out.extend_from_slice(values.value_as_string(row).as_bytes());
            }
            Self::List(list, items) => write_list(list, items, row, out)?,
            Self::Struct(members) => write_object(members, row, out)?,
            Self::Other(array) => {
                let shown = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                write_text(&shown.value(row).try_to_string()?, out)?;
            }
        }
        Ok(())
    }
}

impl NonFinite {
    fn write(self, value: f64, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Null => b"null",
            Self::String if value.is_nan() => b"\"NaN\"",
            Self::String if value > 0.0 => b"\"Infinity\"",
            Self::String => b"\"-Infinity\"",
        });
    }
}

fn write_object(members: &[Member], row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    if members.is_empty() {
        out.push(b'{');
    }
    for member in members {
        out.extend_from_slice(&member.before);
        member.column.write(row, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_list(
    list: &ListArray,
    items: &JsonColumn,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let offsets = list.value_offsets();
    out.push(b'[');
    for item in offsets[row]..offsets[row + 1] {
        if item > offsets[row] {
            out.push(b',');
        }
        items.write(item as usize, out)?;
    }
    out.push(b']');
    Ok(())
}

/// A number as the shortest text that reads back as the same.
fn write_plain<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    serde_json::to_writer(out.by_ref(), value)
        .map_err(|error| ArrowError::ExternalError(error.into()))
}

/// Text in quotes, with what JSON does not allow in them escaped.
fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    write_plain(&text, out)
}
