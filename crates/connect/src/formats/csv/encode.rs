//! Rows into records: one field per column, in quotes where it would be read as something else.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::data_type::is_binary;
use super::super::{Encoder, Frames, time};
use super::{CsvEncoderOptions, Dialect};
use crate::{Error, Result};

/// Encodes `csv`: a frame is a record without the line's end.
pub(super) struct CsvEncoder {
    dialect: Dialect,
    null: Vec<u8>,
    /// Whether the header is still to be written.
    header: bool,
}

impl CsvEncoder {
    pub(super) fn new(options: &CsvEncoderOptions) -> Self {
        Self {
            dialect: Dialect::new(options.delimiter, options.quote),
            null: options.null.clone().into_bytes(),
            header: options.header,
        }
    }

    fn write_header(&mut self, rows: &RecordBatch, out: &mut Frames) {
        for (at, field) in rows.schema_ref().fields().iter().enumerate() {
            if at > 0 {
                out.bytes.push(self.dialect.delimiter);
            }
            self.write_field(field.name().as_bytes(), &mut out.bytes);
        }
        out.ends.push(out.bytes.len());
    }

    /// Writes a value, in quotes where it would otherwise be read as something else.
    fn write_field(&self, value: &[u8], out: &mut Vec<u8>) {
        let Dialect { delimiter, quote } = self.dialect;
        let special =
            |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
        if value != self.null && !value.is_empty() && !value.iter().any(special) {
            return out.extend_from_slice(value);
        }
        out.push(quote);
        for part in value.split_inclusive(|byte| *byte == quote) {
            out.extend_from_slice(part);
            if part.ends_with(&[quote]) {
                out.push(quote);
            }
        }
        out.push(quote);
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> Result<()> {
        let failed = |error: ArrowError| Error::Encode {
            format: "csv",
            reason: error.to_string(),
        };
        let options = FormatOptions::default();
        let cells = rows
            .columns()
            .iter()
            .map(|column| Cells::new(column, &options));
        let cells = cells.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        if self.header {
            self.write_header(rows, out);
        }
        let mut value = Vec::new();
        for row in 0..rows.num_rows() {
            for (at, cells) in cells.iter().enumerate() {
                if at > 0 {
                    out.bytes.push(self.dialect.delimiter);
                }
                value.clear();
                match cells.write(row, &mut value).map_err(failed)? {
                    true => self.write_field(&value, &mut out.bytes),
                    false => out.bytes.extend_from_slice(&self.null),
                }
            }
            out.ends.push(out.bytes.len());
        }
        // Not before: a batch that fails is encoded a second time, and its header with it.
        self.header = false;
        Ok(())
    }

    fn resume(&mut self) {
        self.header = false;
    }
}

/// The values of a column, as text.
struct Cells<'a> {
    nulls: Option<NullBuffer>,
    kind: CellKind<'a>,
}

enum CellKind<'a> {
    Date(&'a ArrayRef),
    Timestamp(ArrayRef, TimeUnit),
    Binary(ArrayRef),
    Other(ArrayFormatter<'a>),
}

impl<'a> Cells<'a> {
    fn new(array: &'a ArrayRef, options: &FormatOptions<'a>) -> Result<Self, ArrowError> {
        let kind = match array.data_type() {
            DataType::Date32 => CellKind::Date(array),
            DataType::Timestamp(unit, _) => {
                CellKind::Timestamp(cast(array, &DataType::Int64)?, *unit)
            }
            bytes if is_binary(bytes) => CellKind::Binary(cast(array, &DataType::Binary)?),
            _ => CellKind::Other(ArrayFormatter::try_new(array, options)?),
        };
        Ok(Self {
            nulls: array.logical_nulls(),
            kind,
        })
    }

    /// Appends the value; `false` if it is NULL.
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<bool, ArrowError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(false);
        }
        match &self.kind {
            CellKind::Date(array) => {
                let days = array.as_primitive::<Date32Type>().value(row);
                time::write_date(days.into(), out);
            }
            CellKind::Timestamp(array, unit) => {
                let value = array.as_primitive::<Int64Type>().value(row);
                time::write_timestamp(value, *unit, out);
            }
            CellKind::Binary(array) => {
                let value = array.as_binary::<i32>().value(row);
                out.extend_from_slice(BASE64.encode(value).as_bytes());
            }
            CellKind::Other(shown) => {
                let value = shown.value(row).try_to_string()?;
                out.extend_from_slice(value.as_bytes());
            }
        }
        Ok(true)
    }
}
