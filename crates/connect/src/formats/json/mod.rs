//! JSON: objects into columns and back.
//!
//! A frame holds one object, which is one row, or an array of objects, which is a row each. Bytes go
//! straight into the vectors that become Arrow arrays: no tree, no tape, and in a source
//! whose objects look alike, no allocation per row.
//!
//! ```text
//!   frame --scan.rs: tokens--> object.rs: key -> column --value.rs: token -> value--> column
//! ```
//!
//! An object that is malformed, or has a value that does not fit its column, is bad, and says
//! why with the column and the value; of an array only that object is bad, unless the array itself is
//! malformed. The rows around it are not touched. `Infinity` and `NaN` are no JSON.

mod encode;
mod object;
mod scan;
mod template;
mod value;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use encode::{JsonEncoder, JsonEncoderOptions};
pub(super) use object::Object;

use self::scan::Scan;
use super::column::{Column, Values};
use super::fault::Fault;
use super::{Decoded, Decoder, Encoder, EpochUnit, Format, Frames, undecoded};
use crate::options::{Checked, OptionSet, Options};
use crate::{Bad, Result};

/// The format `json`.
pub const FORMAT: Format = Format {
    name: "json",
    summary: "an object is a row, an array of objects a row each; columns by name",
    decoder_options: Some(OptionSet::of::<JsonOptions>()),
    encoder_options: Some(OptionSet::of::<JsonEncoderOptions>()),
    columns: None,
    decoder: Some(|schema, options| Ok(Box::new(JsonDecoder::new(schema, options, false)?))),
    encoder: Some(encoder),
};

/// The format `ndjson`.
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

/// Decodes `json`, and `ndjson`, where a frame is any number of lines.
struct JsonDecoder {
    schema: SchemaRef,
    rows: Object,
    bad: Vec<Bad>,
    lines: bool,
}

impl JsonDecoder {
    /// For frames of one object or array, or with `lines` of any number of them in lines.
    fn new(schema: SchemaRef, options: &Checked, lines: bool) -> Result<Self> {
        let options: JsonOptions = options.get()?;
        let rows = Object::new(schema.fields(), options.timestamp_unit)?;
        Ok(Self {
            schema,
            rows,
            bad: Vec::new(),
            lines,
        })
    }

    fn lines(&mut self, run: &[u8], start: usize, end: usize, valid: bool) {
        let mut from = start;
        let mut any = false;
        while from < end {
            let to = memchr::memchr(b'\n', &run[from..end]).map_or(end, |at| from + at);
            if !run[from..to].trim_ascii().is_empty() {
                any = true;
                self.frame(run, from, to, valid);
            }
            from = to + 1;
        }
        if !any {
            self.malformed(&run[start..end], Fault::Empty, 0);
        }
    }

    #[inline(always)]
    fn frame(&mut self, run: &[u8], start: usize, end: usize, valid: bool) {
        if !valid && let Err(error) = std::str::from_utf8(&run[start..end]) {
            let reason = format!("not UTF-8 at byte {}", error.valid_up_to());
            return self.bad.push(Bad {
                bytes: run[start..end].to_vec(),
                reason,
            });
        }
        let row = self.rows.len();
        let mut scan = Scan::new(run, start, end);
        if scan.peek() == b'{'
            && self.rows.append(&mut scan).is_ok()
            && (scan.at == end || run[scan.at..end].trim_ascii_start().is_empty())
        {
            return;
        }
        self.rows.truncate(row);
        self.odd_frame(run, start, end);
    }

    /// A frame that is not simply one good object: an array, or bad, or with blanks before it.
    #[cold]
    fn odd_frame(&mut self, run: &[u8], start: usize, end: usize) {
        let mut scan = Scan::new(run, start, end);
        scan.blanks();
        let first = scan.at;
        if let Err(fault) = scan.whole_value() {
            return self.malformed(&run[start..end], fault, scan.at - start);
        }
        let mut scan = Scan::new(run, first, end);
        match scan.peek() {
            b'[' => self.array(&mut scan),
            _ => self.object(&mut scan),
        }
    }

    /// The objects of a well-formed array.
    fn array(&mut self, scan: &mut Scan<'_>) {
        scan.at += 1;
        scan.blanks();
        while !matches!(scan.peek(), b']' | 0) {
            self.object(scan);
            scan.blanks();
            if scan.peek() == b',' {
                scan.at += 1;
                scan.blanks();
            }
        }
    }

    /// A well-formed value: a row if it is an object whose values fit.
    fn object(&mut self, scan: &mut Scan<'_>) {
        let start = scan.at;
        let fault = match scan.peek() {
            b'{' => self.rows.append(scan).err(),
            _ => Some(Fault::NoObject),
        };
        let Some(fault) = fault else { return };
        scan.at = start;
        scan.skip_rest_if_malformed();
        let bytes = scan.since(start).to_vec();
        let reason = match self.rows.failed().filter(|_| fault != Fault::NoObject) {
            Some((column, at)) => reason(fault, column.field.name(), column, scan, at),
            None => fault.malformed().unwrap_or("not readable").to_owned(),
        };
        self.bad.push(Bad { bytes, reason });
    }

    fn malformed(&mut self, frame: &[u8], fault: Fault, at: usize) {
        let what = fault.malformed().unwrap_or("not readable");
        let reason = match fault {
            Fault::Empty => what.to_owned(),
            _ => format!("malformed JSON at byte {}: {what}", at.min(frame.len())),
        };
        self.bad.push(Bad {
            bytes: frame.to_vec(),
            reason,
        });
    }

    /// The rows read so far, as a batch. Every column has one value per row.
    fn batch(&mut self) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let (_, columns) = self.rows.finish();
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

/// Why the value at `at` does not fit `column`, whose path from the top is `name`.
fn reason(fault: Fault, name: &str, column: &Column, scan: &Scan<'_>, at: usize) -> String {
    match &column.values {
        Values::Struct(object) => {
            if let Some((inner, inner_at)) = object.failed().filter(|(_, inner)| *inner >= at) {
                let name = format!("{name}.{}", inner.field.name());
                return reason(fault, &name, inner, scan, inner_at);
            }
        }
        Values::List { items, .. } if scan.byte(at) == b'[' => {
            let name = format!("{name}[]");
            if let Values::Struct(_) = &items.values {
                return reason(fault, &name, items, scan, at);
            }
            return fault.of_column(&name, items.field.data_type(), scan.value_at(at));
        }
        _ => {}
    }
    fault.of_column(name, column.field.data_type(), scan.value_at(at))
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        // All at once is several times faster than one by one.
        let valid = std::str::from_utf8(&frames.bytes).is_ok();
        let mut start = 0;
        for &end in &frames.ends {
            match self.lines {
                true => self.lines(&frames.bytes, start, end, valid),
                false => self.frame(&frames.bytes, start, end, valid),
            }
            start = end;
        }
        match self.batch() {
            Ok(rows) => Decoded {
                rows,
                bad: std::mem::take(&mut self.bad),
            },
            Err(error) => undecoded(frames, &self.schema, &error),
        }
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
