//! CSV as RFC 4180 has it, with any one-byte delimiter and quote.
//!
//! A frame holds one record or several. Columns are filled by position, or by the names in a header.
//! NULL (nothing between two delimiters) and the empty string (`""`) differ only in their quotes, which
//! a CSV library does not report: that is why the splitting is done here, in `record.rs`.
//!
//! A record ends at a line end outside of quotes; `record_end.rs` finds it for the sources that cut bytes
//! into frames.
//!
//! With `header = true` the first record of all must name columns. Names of no column are skipped,
//! columns without a name are NULL, of which a warning tells, and a later record whose every field is the
//! name of another column is a header again: each of several files may have one. A record with more fields
//! than the header, or than there are columns, is bad, and so is one with fewer.

mod decode;
mod encode;
mod record;
mod record_end;
mod value;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use self::decode::CsvDecoder;
use self::encode::CsvEncoder;
pub use self::record_end::RecordEnd;
use super::{EpochUnit, Format};
use crate::options::{Checked, Objection, OptionSet, Options};

/// Records of fields, with a header or without.
pub const FORMAT: Format = Format {
    name: "csv",
    summary: "records of fields, columns by position or by a header; one with too few or too many is a bad row",
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
    /// Whether the first record names the columns; one like it that comes later, as in the next file, counts
    /// from there. Names that are no columns are passed over. A declared column that it does not name is
    /// NULL, which `system.errors` reports once a file.
    #[serde(default)]
    header: bool,
    /// What separates two fields: one ASCII character, or '\t' for a tab.
    #[serde(default = "comma")]
    delimiter: Mark,
    /// What encloses a field that has a delimiter or a line end in it: one ASCII character. A quote that
    /// is never closed ends with the line in which its record becomes longer than `max_frame`; the whole
    /// is one bad row.
    #[serde(default = "quote")]
    quote: Mark,
    /// The text that means NULL where it has no quotes around it.
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
    /// What separates two fields: one ASCII character, or '\t' for a tab.
    #[serde(default = "comma")]
    delimiter: Mark,
    /// What encloses a field that has a delimiter in it: one ASCII character.
    #[serde(default = "quote")]
    quote: Mark,
    /// How NULL is written.
    #[serde(default)]
    null: String,
}

impl Options for CsvEncoderOptions {
    fn objections(&self) -> Vec<Objection> {
        distinct(self.delimiter, self.quote)
    }
}

/// Whether frames are CSV whose first record names the columns. A source that resumes in the middle of
/// its input must decode the first record again.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "char")]
struct Mark(u8);

fn comma() -> Mark {
    Mark(b',')
}

fn quote() -> Mark {
    Mark(b'"')
}

impl From<Mark> for char {
    fn from(mark: Mark) -> Self {
        mark.0.into()
    }
}

impl TryFrom<String> for Mark {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_bytes() {
            b"\\t" => Ok(Self(b'\t')),
            [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Ok(Self(*byte)),
            _ => Err(format!("{text:?} is not one ASCII character")),
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

impl Dialect {
    fn new(delimiter: Mark, quote: Mark) -> Self {
        Self {
            delimiter: delimiter.0,
            quote: quote.0,
        }
    }
}

#[cfg(test)]
mod tests;
