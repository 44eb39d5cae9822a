//! Text and bytes: the frame itself is the value of the only column.
//!
//! As the frames of a run lie back to back, decoding is one copy and one check for UTF-8 of all of
//! them together. `text` needs a VARCHAR or BINARY column; a frame that is not UTF-8 is bad in the
//! first and fine in the second. `bytes` needs a BINARY column. An empty frame is an empty value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::data_type::{is_binary, is_text};
use super::{Decoded, Decoder, Encoder, Format, Frames, bad, decoded, not_utf8};
use crate::{Error, Result};

/// Each frame is the value of a VARCHAR or BINARY column.
pub const FORMAT: Format = Format {
    name: "text",
    summary: "each frame is the text of one column",
    decoder_options: None,
    encoder_options: None,
    columns: Some(|| column("line", DataType::Utf8)),
    decoder: Some(|schema, _| Ok(Box::new(TextDecoder::new(schema, false)?))),
    encoder: Some(|schema, _| Ok(Box::new(TextEncoder::new(&schema, false)?))),
};

/// Each frame is the value of a BINARY column.
pub const BYTES: Format = Format {
    name: "bytes",
    summary: "each frame is the bytes of one column",
    decoder_options: None,
    encoder_options: None,
    columns: Some(|| column("bytes", DataType::Binary)),
    decoder: Some(|schema, _| Ok(Box::new(TextDecoder::new(schema, true)?))),
    encoder: Some(|schema, _| Ok(Box::new(TextEncoder::new(&schema, true)?))),
};

fn column(name: &str, data_type: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, data_type, false)]))
}

/// Decodes `text` and `bytes`.
struct TextDecoder {
    schema: SchemaRef,
    /// Whether the column takes only UTF-8.
    checked: bool,
}

impl TextDecoder {
    /// For a schema of one column, BINARY or, unless `bytes`, VARCHAR.
    fn new(schema: SchemaRef, bytes: bool) -> Result<Self> {
        let (format, kind) = match bytes {
            true => ("bytes", "BINARY"),
            false => ("text", "VARCHAR or BINARY"),
        };
        let field = only_column(format, schema.fields())?;
        let checked = !is_binary(field.data_type());
        if checked && (bytes || !is_text(field.data_type())) {
            let reason = format!("format {format} fills one column, {kind}");
            return Err(unusable(field, reason));
        }
        Ok(Self { schema, checked })
    }

    fn array(&self, frames: &Frames) -> Result<ArrayRef, ArrowError> {
        let mut offsets = Vec::with_capacity(frames.len() + 1);
        offsets.push(0);
        for &end in &frames.ends {
            offsets.push(i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let bytes = Buffer::from(&frames.bytes[..]);
        let array: ArrayRef = match self.checked {
            true => Arc::new(StringArray::try_new(offsets, bytes, None)?),
            false => Arc::new(BinaryArray::try_new(offsets, bytes, None)?),
        };
        cast(&array, self.schema.field(0).data_type())
    }

    fn batch(&self, frames: &Frames) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(frames.len()));
        let column = self.array(frames)?;
        RecordBatch::try_new_with_options(self.schema.clone(), vec![column], &options)
    }

    /// Decodes frames of which at least one is not UTF-8.
    #[cold]
    fn decode_some(&self, frames: &Frames) -> Decoded {
        let (mut good, mut malformed) = (Frames::default(), Vec::new());
        for frame in frames.iter() {
            match std::str::from_utf8(frame) {
                Ok(_) => good.push(frame),
                Err(error) => malformed.push(bad(frame, not_utf8(error))),
            }
        }
        decoded(self.batch(&good), malformed, frames, &self.schema)
    }
}

impl Decoder for TextDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        match self.batch(frames) {
            Err(_) if self.checked => self.decode_some(frames),
            rows => decoded(rows, Vec::new(), frames, &self.schema),
        }
    }
}

/// Encodes `text` and `bytes`: each row's only value, NULL as nothing.
struct TextEncoder {
    format: &'static str,
}

impl TextEncoder {
    /// For rows of one column: of any type, or with `bytes` BINARY.
    fn new(schema: &SchemaRef, bytes: bool) -> Result<Self> {
        let format = if bytes { "bytes" } else { "text" };
        let field = only_column(format, schema.fields())?;
        if bytes && !is_binary(field.data_type()) {
            return Err(unusable(field, "format bytes writes BINARY".to_owned()));
        }
        Ok(Self { format })
    }
}

impl Encoder for TextEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> Result<()> {
        let format = self.format;
        let failed = |error: ArrowError| Error::Encode {
            format,
            reason: error.to_string(),
        };
        let column = only_column(format, rows.columns())?;
        if is_binary(column.data_type()) || is_text(column.data_type()) {
            let column = cast(column, &DataType::Binary).map_err(failed)?;
            let values = column.as_binary::<i32>();
            values
                .iter()
                .for_each(|value| out.push(value.unwrap_or_default()));
            return Ok(());
        }
        let options = FormatOptions::default();
        let shown = ArrayFormatter::try_new(column, &options).map_err(failed)?;
        for row in 0..rows.num_rows() {
            let value = shown.value(row).try_to_string().map_err(failed)?;
            out.push(if column.is_null(row) {
                b""
            } else {
                value.as_bytes()
            });
        }
        Ok(())
    }
}

fn only_column<'a, T>(format: &'static str, columns: &'a [T]) -> Result<&'a T> {
    match columns {
        [column] => Ok(column),
        _ => Err(Error::ColumnCount {
            format,
            needs: 1,
            has: columns.len(),
        }),
    }
}

fn unusable(field: &Field, reason: String) -> Error {
    Error::UnusableColumn {
        column: field.name().clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use serde_json::Value;

    use super::super::tests::{decoder, encoder, frames};
    use super::*;

    fn schema(data_type: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("line", data_type, false)]))
    }

    fn values(rows: &RecordBatch) -> Vec<Vec<u8>> {
        let column = cast(rows.column(0), &DataType::Binary).unwrap();
        column
            .as_binary::<i32>()
            .iter()
            .map(|value| value.unwrap().to_vec())
            .collect()
    }

    #[test]
    fn every_frame_is_a_value_of_every_fitting_type() {
        let texts: &[&[u8]] = &[b"one", b"", "zw\u{f6}lf".as_bytes()];
        for (format, data_type) in [
            ("text", DataType::Utf8),
            ("text", DataType::LargeUtf8),
            ("text", DataType::Utf8View),
            ("text", DataType::Binary),
            ("bytes", DataType::Binary),
            ("bytes", DataType::BinaryView),
        ] {
            let schema = schema(data_type);
            let decoded = decoder(format, schema.clone(), &Value::Null)
                .unwrap()
                .decode(&frames(texts));
            assert_eq!(decoded.bad, []);
            assert_eq!(decoded.rows.schema(), schema);
            assert_eq!(values(&decoded.rows), texts);
            let mut out = Frames::default();
            encoder(format, &schema, &Value::Null)
                .unwrap()
                .encode(&decoded.rows, &mut out)
                .unwrap();
            assert_eq!(out.iter().collect::<Vec<_>>(), texts);
        }
    }

    #[test]
    fn invalid_utf8_is_bad_in_text_and_fine_in_binary() {
        // The last two are halves of one character: valid together, not apart.
        let texts: &[&[u8]] = &[b"one", b"a\xffb", b"two", b"\xc3", b"\xa9"];
        let decoded = decoder("text", schema(DataType::Utf8), &Value::Null)
            .unwrap()
            .decode(&frames(texts));
        assert_eq!(values(&decoded.rows), [b"one", b"two"]);
        let bad: Vec<_> = decoded
            .bad
            .iter()
            .map(|bad| (&bad.bytes[..], &bad.reason[..]))
            .collect();
        let reason = [
            "not UTF-8 at byte 1",
            "not UTF-8 at byte 0",
            "not UTF-8 at byte 0",
        ];
        assert_eq!(
            bad,
            [
                (texts[1], reason[0]),
                (texts[3], reason[1]),
                (texts[4], reason[2])
            ]
        );
        let halves = decoder("text", schema(DataType::Utf8), &Value::Null).unwrap();
        let halves = { halves }.decode(&frames(&texts[3..]));
        assert_eq!((halves.rows.num_rows(), halves.bad.len()), (0, 2));
        let binary = decoder("text", schema(DataType::Binary), &Value::Null).unwrap();
        assert_eq!({ binary }.decode(&frames(texts)).rows.num_rows(), 5);
    }

    #[test]
    fn other_columns_are_refused() {
        let refuse = |format: &str, schema: SchemaRef| {
            decoder(format, schema, &Value::Null)
                .err()
                .unwrap()
                .to_string()
        };
        let two = Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Utf8, true),
        ]);
        assert_eq!(
            refuse("text", Arc::new(two)),
            "format text takes 1 column, not 2"
        );
        assert_eq!(
            refuse("text", schema(DataType::Int64)),
            "column \"line\" cannot be used here: format text fills one column, VARCHAR or BINARY"
        );
        assert_eq!(
            refuse("bytes", schema(DataType::Utf8)),
            "column \"line\" cannot be used here: format bytes fills one column, BINARY"
        );
    }
}
