//! Decodes bad rows again, one frame at a time.
//!
//! A frame that could not be decoded when it came may be decoded later, with other options of its format.
//! [`Again`], made of the source as it is now, returns its rows in the source's columns, or why it is still
//! bad. A frame of which only a part was kept stays bad whatever the format is now. What comes before the
//! first frame only, such as a header, was not kept, so a format that needs it makes no rows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::formats::{Decoder, Frames};
use crate::gather::panic_message;
use crate::overlong::{FrameTooLong, is_truncated};
use crate::{Bad, Blueprint, Result, metadata_columns};

/// Decodes single frames as a source would now.
pub struct Again<'a> {
    source: &'a dyn Blueprint,
    decoder: Box<dyn Decoder>,
    columns: SchemaRef,
    max_frame: usize,
}

impl<'a> Again<'a> {
    /// A decoder for frames of this source; `None` if the source has no format.
    pub fn new(source: &'a dyn Blueprint) -> Result<Option<Self>> {
        let decoder = source.decoder()?;
        Ok(decoder.map(|decoder| Self {
            source,
            decoder,
            columns: source.schema(),
            max_frame: source.max_frame(),
        }))
    }

    /// The rows of a frame that was received at `arrival_us` (microseconds since 1970-01-01 UTC), at
    /// least one; or why it is still bad.
    pub fn decode(&mut self, bad: &Bad, arrival_us: i64) -> Result<RecordBatch, String> {
        if is_truncated(bad) {
            return Err("only a part of it was kept".to_owned());
        }
        let (length, max) = (bad.bytes.len(), self.max_frame);
        if length > max {
            return Err(FrameTooLong { length, max }.to_string());
        }
        let mut frames = Frames::default();
        frames.push(&bad.bytes);
        let decoder = self.decoder.as_mut();
        let decoded = match catch_unwind(AssertUnwindSafe(|| decoder.decode(&frames))) {
            Ok(decoded) => decoded,
            Err(panic) => {
                let why = format!("the decoder panicked: {}", panic_message(&*panic));
                return Err(self.replace_decoder(why));
            }
        };
        if let Some(still) = decoded.bad.into_iter().next() {
            return Err(still.reason);
        }
        if decoded.rows.num_rows() == 0 {
            return Err("it holds no row".to_owned());
        }
        metadata_columns::add(&decoded.rows, &self.columns, arrival_us, None)
            .map_err(|error| error.to_string())
    }

    /// Replaces a decoder that panicked, whose state may be half written. Returns why it panicked.
    fn replace_decoder(&mut self, why: String) -> String {
        match self.source.decoder() {
            Ok(Some(decoder)) => {
                self.decoder = decoder;
                why
            }
            Ok(None) => why,
            Err(error) => format!("{why}; {error}"),
        }
    }
}

#[cfg(all(test, feature = "file"))]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;
    use crate::scripted::source_spec;
    use crate::{SourceSpec, overlong};

    fn spec(format: &str, columns: Vec<Field>) -> SourceSpec {
        let options = [("format", format.into()), ("path", "x".into())];
        source_spec("file", &options, Some(Arc::new(Schema::new(columns)))).unwrap()
    }

    fn bad(bytes: &[u8]) -> Bad {
        Bad {
            bytes: bytes.to_vec(),
            reason: "it was bad".to_owned(),
        }
    }

    #[test]
    fn what_can_be_decoded_now_is_a_row_with_its_metadata_columns() {
        let arrival = DataType::Timestamp(TimeUnit::Microsecond, None);
        let columns = vec![
            Field::new("n", DataType::Int64, false),
            Field::new("_arrival", arrival, false),
        ];
        let spec = spec("json", columns);
        let mut again = Again::new(&spec).unwrap().unwrap();
        let rows = again.decode(&bad(br#"{"n": 3}"#), 7).unwrap();
        assert_eq!(rows.schema(), Blueprint::schema(&spec));
        assert_eq!(rows.num_rows(), 1);
        assert!(again.decode(&bad(b"{"), 7).is_err());
    }

    #[test]
    fn a_truncated_frame_stays_bad() {
        let spec = spec("text", vec![Field::new("line", DataType::Utf8, false)]);
        let mut again = Again::new(&spec).unwrap().unwrap();
        assert!(again.decode(&bad(b"whole"), 0).is_ok());
        let truncated = overlong(b"the beginning", 5_000, 1_000);
        let reason = again.decode(&truncated, 0).unwrap_err();
        assert!(reason.contains("only a part"), "{reason}");
        assert!(again.decode(&overlong(b"all", 3, 2), 0).is_ok());
        assert!(again.decode(&bad(b""), 0).is_err());
    }
}
