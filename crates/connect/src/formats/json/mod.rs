//! JSON: objects into columns and back.
//!
//! A frame holds one object, which is one row, or an array of objects, which is a row each. Bytes go
//! straight into the vectors that become Arrow arrays: no tree, no tape, and in a source
//! whose objects look alike, no allocation per row.
//!
//! ```text
//!   frame --scanner.rs: tokens--> object.rs: key -> column --value.rs: token -> value--> column
//! ```
//!
//! An object that is malformed, or has a value that does not fit its column, is bad; the reason names
//! the column and shows the value. In an array only that object is bad, unless the array itself is
//! malformed. The rows around it are not touched. `Infinity` and `NaN` are not JSON.

mod decode;
mod encode;
#[cfg(feature = "websocket")]
mod field;
mod object;
mod scanner;
mod template;
mod value;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::decode::JsonDecoder;
use self::encode::{JsonEncoder, JsonEncoderOptions};
#[cfg(feature = "websocket")]
pub(crate) use self::field::json_field;
use super::{Encoder, EpochUnit, Format};
use crate::Result;
use crate::options::{Checked, OptionSet, Options};

/// One object or an array of objects per frame.
pub const FORMAT: Format = Format {
    name: "json",
    summary: "an object is a row, an array of objects a row each; columns by name",
    decoder_options: Some(OptionSet::of::<JsonOptions>()),
    encoder_options: Some(OptionSet::of::<JsonEncoderOptions>()),
    columns: None,
    decoder: Some(|schema, options| Ok(Box::new(JsonDecoder::new(schema, options, false)?))),
    encoder: Some(encoder),
};

/// Any number of lines of JSON per frame.
pub const NDJSON: Format = Format {
    name: "ndjson",
    summary: "as json, with any number of lines in a frame",
    decoder: Some(|schema, options| Ok(Box::new(JsonDecoder::new(schema, options, true)?))),
    ..FORMAT
};

fn encoder(_: SchemaRef, options: &Checked) -> Result<Box<dyn Encoder>> {
    Ok(Box::new(JsonEncoder::new(&options.get()?)))
}

/// How JSON is read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct JsonOptions {
    /// What a number in a TIMESTAMP column counts since 1970-01-01 UTC: seconds, milliseconds,
    /// microseconds or nanoseconds.
    timestamp_unit: EpochUnit,
}

impl Options for JsonOptions {}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
