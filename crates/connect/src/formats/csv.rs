//! CSV as RFC 4180 has it, with any one-byte delimiter and quote.
//!
//! A frame holds one record or several. Columns are filled by position, or by the names in a header.
//! Only because quotes are seen can NULL (nothing between two delimiters) and the empty string (`""`)
//! be told apart, which is why the splitting is done here.
//!
//! With `header = true` the first record ever seen must name columns. Names of no column are skipped,
//! columns without a name are NULL, and a record whose every field is the name of another column is a
//! header again, wherever it stands: each of several files may have one. A record with more fields
//! than the header, or than there are columns, is bad; one with fewer has NULL in the rest.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::column::Column;
use super::fault::{Fault, show};
use super::{Decoded, Decoder, Encoder, EpochUnit, Format, Frames, time, undecoded};
use crate::options::{Checked, Objection, OptionSet, Options};
use crate::{Bad, Error, Result};

/// The format `csv`.
pub const FORMAT: Format = Format {
    name: "csv",
    summary: "records of fields; columns by position or by a header",
    decoder_options: Some(OptionSet::of::<CsvOptions>()),
    encoder_options: Some(OptionSet::of::<CsvEncoderOptions>()),
    columns: None,
    decoder: Some(|schema, options| Ok(Box::new(CsvDecoder::new(schema, &options.get()?)?))),
    encoder: Some(|_, options| Ok(Box::new(CsvEncoder::new(&options.get()?)))),
};

/// How CSV is read.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CsvOptions {
    /// Whether the first record names the columns.
    #[serde(default)]
    header: bool,
    /// What stands between two fields: one ASCII character, or '\t' for a tab.
    #[serde(default = "comma")]
    delimiter: Mark,
    /// What stands around a field that has a delimiter in it: one ASCII character.
    #[serde(default = "quote")]
    quote: Mark,
    /// The text that means NULL where it stands without quotes; nothing unless said otherwise.
    #[serde(default)]
    null: String,
    /// What a number in a TIMESTAMP column counts since 1970-01-01 UTC: seconds, milliseconds,
    /// microseconds or nanoseconds.
    #[serde(default)]
    timestamp_unit: EpochUnit,
}

impl Options for CsvOptions {
    fn objections(&self) -> Vec<Objection> {
        distinct(self.delimiter, self.quote)
    }
}

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CsvEncoderOptions {
    /// Whether the first line names the columns.
    #[serde(default)]
    header: bool,
    /// What stands between two fields: one ASCII character, or '\t' for a tab.
    #[serde(default = "comma")]
    delimiter: Mark,
    /// What stands around a field that has a delimiter in it: one ASCII character.
    #[serde(default = "quote")]
    quote: Mark,
    /// How NULL is written; nothing unless said otherwise.
    #[serde(default)]
    null: String,
}

impl Options for CsvEncoderOptions {
    fn objections(&self) -> Vec<Objection> {
        distinct(self.delimiter, self.quote)
    }
}

/// Whether frames are CSV whose first record names the columns. A source that goes on in the middle of
/// its input must tell the first record again.
pub(crate) fn has_header(options: &Checked) -> bool {
    options
        .get::<CsvOptions>()
        .is_ok_and(|options| options.header)
}

fn distinct(delimiter: Mark, quote: Mark) -> Vec<Objection> {
    let same = (delimiter == quote).then(|| Objection {
        options: vec!["delimiter", "quote"],
        reason: "delimiter and quote must be different".to_owned(),
    });
    same.into_iter().collect()
}

/// One ASCII character, no line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u8);

fn comma() -> Mark {
    Mark(b',')
}

fn quote() -> Mark {
    Mark(b'"')
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(self.0.into())
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_bytes() {
            b"\\t" => Ok(Self(b'\t')),
            [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Ok(Self(*byte)),
            _ => Err(de::Error::custom(format!(
                "{text:?} is not one ASCII character"
            ))),
        }
    }
}

impl JsonSchema for Mark {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mark".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "character", "x-example": "';'" })
    }
}

/// The two bytes that CSV is made of.
#[derive(Debug, Clone, Copy)]
struct Dialect {
    delimiter: u8,
    quote: u8,
}

/// The fields of one record.
#[derive(Default)]
struct Record {
    /// The fields back to back, without their quotes.
    bytes: Vec<u8>,
    /// Where each ends, and whether it was quoted.
    ends: Vec<(usize, bool)>,
}

impl Record {
    fn fields(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, &(end, quoted))| (&self.bytes[start..end], quoted))
    }

    /// Reads the record at the start of `text`; returns its length with the line's end, or what is
    /// wrong with it.
    fn read(&mut self, text: &[u8], dialect: Dialect) -> Result<usize, &'static str> {
        self.bytes.clear();
        self.ends.clear();
        let mut at = 0;
        loop {
            let quoted = text.get(at) == Some(&dialect.quote);
            at = match quoted {
                true => self.quoted(text, at + 1, dialect.quote)?,
                false => self.plain(text, at, dialect.delimiter),
            };
            self.ends.push((self.bytes.len(), quoted));
            match text[at..] {
                [] => return Ok(at),
                [b'\n', ..] => return Ok(at + 1),
                [b'\r', b'\n', ..] => return Ok(at + 2),
                [b'\r'] => return Ok(at + 1),
                [next, ..] if next == dialect.delimiter => at += 1,
                _ => return Err("something follows the closing quote of a field"),
            }
        }
    }

    /// Takes the field from `start` to the next delimiter or line end, and returns where that is.
    fn plain(&mut self, text: &[u8], start: usize, delimiter: u8) -> usize {
        let rest = &text[start..];
        let mut length = memchr::memchr2(delimiter, b'\n', rest).unwrap_or(rest.len());
        if rest[..length].ends_with(b"\r") && rest.get(length) != Some(&delimiter) {
            length -= 1;
        }
        self.bytes.extend_from_slice(&rest[..length]);
        start + length
    }

    /// Takes the field that starts behind its opening quote, and returns where it has ended.
    fn quoted(&mut self, text: &[u8], mut at: usize, quote: u8) -> Result<usize, &'static str> {
        loop {
            let length = memchr::memchr(quote, &text[at..])
                .ok_or("the quote of a field is not closed before the frame ends")?;
            self.bytes.extend_from_slice(&text[at..at + length]);
            at += length + 1;
            if text.get(at) != Some(&quote) {
                return Ok(at);
            }
            self.bytes.push(quote);
            at += 1;
        }
    }
}

/// Decodes `csv`.
struct CsvDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    dialect: Dialect,
    null: Vec<u8>,
    /// The column of each field; `None` until the header has come.
    places: Option<Vec<Option<usize>>>,
    has_header: bool,
    record: Record,
    bad: Vec<Bad>,
}

impl CsvDecoder {
    fn new(schema: SchemaRef, options: &CsvOptions) -> Result<Self> {
        let column = |field: &arrow::datatypes::FieldRef| match field.data_type() {
            DataType::List(_) | DataType::Struct(_) => Err(Error::UnusableColumn {
                column: field.name().clone(),
                reason: "a field of CSV has no parts".to_owned(),
            }),
            _ => Column::new(field.clone(), options.timestamp_unit),
        };
        let columns = schema
            .fields()
            .iter()
            .map(column)
            .collect::<Result<Vec<_>>>()?;
        let by_position = (0..columns.len()).map(Some).collect();
        Ok(Self {
            schema,
            columns,
            rows: 0,
            dialect: Dialect {
                delimiter: options.delimiter.0,
                quote: options.quote.0,
            },
            null: options.null.clone().into_bytes(),
            places: (!options.header).then_some(by_position),
            has_header: options.header,
            record: Record::default(),
            bad: Vec::new(),
        })
    }

    fn frame(&mut self, frame: &[u8]) {
        if let Err(error) = std::str::from_utf8(frame) {
            return self.bad(frame, format!("not UTF-8 at byte {}", error.valid_up_to()));
        }
        let mut record = std::mem::take(&mut self.record);
        let (mut at, mut any) = (0, false);
        while at < frame.len() {
            if let Some(blank) = blank_line(&frame[at..]) {
                at += blank;
                continue;
            }
            any = true;
            let read = record.read(&frame[at..], self.dialect);
            let length = *read.as_ref().unwrap_or(&(frame.len() - at));
            let text = frame[at..at + length].trim_ascii_end();
            match read {
                Ok(_) if self.has_header && self.take_header(&record) => {}
                Ok(_) => self
                    .row(&record)
                    .unwrap_or_else(|reason| self.bad(text, reason)),
                Err(what) => self.bad(text, format!("malformed CSV: {what}")),
            }
            at += length;
        }
        self.record = record;
        if !any {
            self.bad(frame, "the frame is empty".to_owned());
        }
    }

    /// Whether the record is a header; if so it is followed from now on.
    fn take_header(&mut self, record: &Record) -> bool {
        let places: Vec<_> = record.fields().map(|(name, _)| self.place(name)).collect();
        let named = places.iter().flatten().count();
        let distinct = places
            .iter()
            .flatten()
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        let is_header = match self.places {
            None => named > 0 && named == distinct,
            Some(_) => named == places.len() && named == distinct,
        };
        if is_header {
            self.places = Some(places);
        }
        is_header
    }

    /// The column of this name: exactly, or the only one that differs in case alone.
    fn place(&self, name: &[u8]) -> Option<usize> {
        let name = name.trim_ascii();
        let names = || {
            self.columns
                .iter()
                .map(|column| column.field.name().as_bytes())
        };
        let exact = names().position(|column| column == name);
        let mut folded = (0..)
            .zip(names())
            .filter(|(_, column)| column.eq_ignore_ascii_case(name));
        exact.or_else(|| {
            folded
                .next()
                .filter(|_| folded.next().is_none())
                .map(|(at, _)| at)
        })
    }

    /// Appends the record as a row. After an error, which is the reason, there is no new row.
    fn row(&mut self, record: &Record) -> Result<(), String> {
        let done = self.fill(record);
        match done {
            Ok(()) => self.rows += 1,
            Err(_) => self
                .columns
                .iter_mut()
                .for_each(|column| column.truncate(self.rows)),
        }
        done
    }

    /// Why a record is no header.
    fn no_header(&self, record: &Record) -> String {
        let mut seen = Vec::new();
        for (name, _) in record.fields() {
            let place = self.place(name);
            if place.is_some() && seen.contains(&place) {
                let name = show(name);
                return format!("a header was expected, but two fields name the column {name}");
            }
            seen.push(place);
        }
        let first = record.fields().next().map_or(&b""[..], |(field, _)| field);
        let first = show(first);
        format!("a header was expected, but no column is named {first}")
    }

    fn fill(&mut self, record: &Record) -> Result<(), String> {
        let Some(places) = &self.places else {
            return Err(self.no_header(record));
        };
        let (has, takes) = (record.ends.len(), places.len());
        if has > takes {
            return Err(format!(
                "the record has {has} fields, there are {takes} columns"
            ));
        }
        for ((text, quoted), place) in record.fields().zip(places) {
            let Some(place) = *place else { continue };
            let column = &mut self.columns[place];
            let null =
                !quoted && text == self.null && (column.field.is_nullable() || !is_text(column));
            let done = if null {
                column.null()
            } else {
                column.field(text)
            };
            done.map_err(|fault| {
                fault.of_column(column.field.name(), column.field.data_type(), text)
            })?;
        }
        for column in self
            .columns
            .iter_mut()
            .filter(|column| column.len() == self.rows)
        {
            let done = column.null();
            done.map_err(|_| {
                Fault::Missing.of_column(column.field.name(), column.field.data_type(), b"")
            })?;
        }
        Ok(())
    }

    fn bad(&mut self, bytes: &[u8], reason: String) {
        self.bad.push(Bad {
            bytes: bytes.to_vec(),
            reason,
        });
    }

    fn batch(&mut self) -> Result<RecordBatch, ArrowError> {
        let options =
            RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let columns = self.columns.iter_mut().map(Column::finish).collect();
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

/// An empty string is a value where NULL is not.
fn is_text(column: &Column) -> bool {
    matches!(
        column.field.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// The length of the blank line at the start of `text`, if there is one.
fn blank_line(text: &[u8]) -> Option<usize> {
    match text {
        [b'\n', ..] | [b'\r'] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        frames.iter().for_each(|frame| self.frame(frame));
        match self.batch() {
            Ok(rows) => Decoded {
                rows,
                bad: std::mem::take(&mut self.bad),
            },
            Err(error) => undecoded(frames, &self.schema, &error),
        }
    }
}

/// Encodes `csv`: a frame is a record without the line's end.
struct CsvEncoder {
    dialect: Dialect,
    null: Vec<u8>,
    /// Whether the header is still to be written.
    header: bool,
}

impl CsvEncoder {
    fn new(options: &CsvEncoderOptions) -> Self {
        Self {
            dialect: Dialect {
                delimiter: options.delimiter.0,
                quote: options.quote.0,
            },
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
        // Not before: a batch that fails is given again, and so must be the header.
        self.header = false;
        Ok(())
    }

    fn resume(&mut self) {
        self.header = false;
    }
}

/// The values of a column, as text.
struct Cells<'a> {
    nulls: Option<arrow::buffer::NullBuffer>,
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
                CellKind::Timestamp(arrow::compute::cast(array, &DataType::Int64)?, *unit)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                CellKind::Binary(arrow::compute::cast(array, &DataType::Binary)?)
            }
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
                let days = array
                    .as_primitive::<arrow::datatypes::Date32Type>()
                    .value(row);
                time::write_date(days.into(), out);
            }
            CellKind::Timestamp(array, unit) => {
                let value = array
                    .as_primitive::<arrow::datatypes::Int64Type>()
                    .value(row);
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

#[cfg(test)]
mod tests;
