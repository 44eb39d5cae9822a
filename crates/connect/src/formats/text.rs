//! `text`: each frame is a row of one column, as it came.
//!
//! The frame must be UTF-8. A line end is not part of a frame, so nothing is cut off.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{Decoded, Decoder, Encoder, Format, Frames};
use crate::options::Checked;
use crate::{Bad, Error, Result};

/// The format `text`.
pub const FORMAT: Format = Format {
    name: "text",
    summary: "each frame is the text of one column",
    decoder_options: None,
    encoder_options: None,
    columns: Some(columns),
    decoder: Some(decoder),
    encoder: Some(encoder),
};

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]))
}

fn decoder(schema: SchemaRef, _: &Checked) -> Result<Box<dyn Decoder>> {
    fits(&schema)?;
    Ok(Box::new(Text { schema }))
}

fn encoder(schema: SchemaRef, _: &Checked) -> Result<Box<dyn Encoder>> {
    fits(&schema)?;
    Ok(Box::new(Text { schema }))
}

fn fits(schema: &SchemaRef) -> Result<()> {
    match schema.fields().iter().as_slice() {
        [only] if *only.data_type() == DataType::Utf8 => Ok(()),
        [] => Err(unusable("", "text needs one column of text, there is none")),
        [only] => Err(unusable(only.name(), "text needs a column of type VARCHAR")),
        [_, second, ..] => Err(unusable(second.name(), "text has one column")),
    }
}

fn unusable(column: &str, reason: &str) -> Error {
    Error::UnusableColumn {
        column: column.to_owned(),
        reason: reason.to_owned(),
    }
}

struct Text {
    schema: SchemaRef,
}

impl Decoder for Text {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        let mut column = StringBuilder::with_capacity(frames.len(), frames.bytes.len());
        let mut bad = Vec::new();
        for frame in frames.iter() {
            match std::str::from_utf8(frame) {
                Ok(text) => column.append_value(text),
                Err(error) => bad.push(Bad {
                    bytes: frame.to_vec(),
                    reason: error.to_string(),
                }),
            }
        }
        let column = Arc::new(column.finish());
        let rows = RecordBatch::try_new(self.schema.clone(), vec![column])
            .unwrap_or_else(|_| RecordBatch::new_empty(self.schema.clone()));
        Decoded { rows, bad }
    }
}

impl Encoder for Text {
    /// NULL is an empty frame.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> Result<()> {
        let column = rows.column(0).as_string_opt::<i32>().ok_or(Error::Encode {
            format: "text",
            reason: "the column is not text".to_owned(),
        })?;
        (0..column.len()).for_each(|row| match column.is_null(row) {
            true => out.push(b""),
            false => out.push(column.value(row).as_bytes()),
        });
        Ok(())
    }
}
