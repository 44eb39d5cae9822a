//! Dead letters: rows that could not be read or written, with why, as rows of another stream.
//!
//! A source or sink makes a [`DeadLetter`] of such a row and gives it to a [`DeadLetters`], which the
//! engine provides: it knows the stream. A dead letter that cannot be delivered is never lost silently: the
//! sender retries a few times, then writes it into the log with the row, and counts it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;

use crate::Error;
use crate::formats::{self, Encoder, Frames};
use crate::options::check;

/// A row that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The bytes as they came from a source; a row on its way to a sink as a JSON object.
    pub original_event: Vec<u8>,
    /// Why it failed, as a sentence.
    pub error_message: String,
    /// The kind of failure, see [`Error::name`].
    pub error_type: String,
    /// When it was given up, in microseconds since 1970-01-01 UTC.
    pub timestamp_us: i64,
    /// The number of attempts, at least 1.
    pub attempt_count: u32,
    /// The stream that the row belongs to.
    pub stream_name: String,
}

/// A stream that takes dead letters. Thread-safe.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Takes all of them in order, or none and returns why. Waits while the stream is full.
    async fn take(&self, dead_letters: &[DeadLetter]) -> Result<(), String>;
}

impl DeadLetter {
    /// The columns that a dead-letter stream has.
    pub fn schema() -> SchemaRef {
        let column = |name: &str, kind: DataType| Field::new(name, kind, false);
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        Arc::new(Schema::new(vec![
            column("original_event", DataType::Binary),
            column("error_message", DataType::Utf8),
            column("error_type", DataType::Utf8),
            column("timestamp", time),
            column("attempt_count", DataType::Int32),
            column("stream_name", DataType::Utf8),
        ]))
    }

    /// Dead letters as rows of [`schema`](Self::schema). Fails only above 2 GiB in one column.
    pub fn rows(dead_letters: &[Self]) -> Result<RecordBatch, Error> {
        let text = |of: fn(&Self) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(dead_letters.iter().map(of)))
        };
        let events = dead_letters
            .iter()
            .map(|letter| letter.original_event.as_slice());
        let times = dead_letters.iter().map(|letter| letter.timestamp_us);
        let attempts = dead_letters.iter().map(|letter| letter.attempt_count);
        let attempts = attempts.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        let times = TimestampMicrosecondArray::from_iter_values(times);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BinaryArray::from_iter_values(events)),
            text(|letter| &letter.error_message),
            text(|letter| &letter.error_type),
            Arc::new(times),
            Arc::new(Int32Array::from_iter_values(attempts)),
            text(|letter| &letter.stream_name),
        ];
        RecordBatch::try_new(Self::schema(), columns).map_err(|error| Error::Encode {
            format: "dead letters",
            reason: error.to_string(),
        })
    }
}

/// Each row as a JSON object. A row that the format cannot write becomes an object of texts, so every row
/// has bytes to find it by.
pub fn originals(rows: &RecordBatch) -> Vec<Vec<u8>> {
    let mut encoder = json(rows);
    let original = |at: usize| {
        let row = rows.slice(at, 1);
        let mut frames = Frames::default();
        let encoded = encoder
            .as_mut()
            .is_some_and(|it| it.encode(&row, &mut frames).is_ok());
        match frames.iter().next() {
            Some(frame) if encoded => frame.to_vec(),
            _ => shown(&row),
        }
    };
    (0..rows.num_rows()).map(original).collect()
}

fn json(rows: &RecordBatch) -> Option<Box<dyn Encoder>> {
    let format = formats::format("json")?;
    let options = check::<()>("", format.encoder_options.as_slice(), &[]).ok()?;
    format.encoder?(rows.schema(), &options).ok()
}

/// One row, each value as Arrow displays it, or Arrow's error.
fn shown(row: &RecordBatch) -> Vec<u8> {
    let options = FormatOptions::default();
    let value = |column: &ArrayRef| {
        if column.is_null(0) {
            return serde_json::Value::Null;
        }
        let shown = ArrayFormatter::try_new(column, &options);
        let shown = shown.and_then(|shown| shown.value(0).try_to_string());
        shown.unwrap_or_else(|error| error.to_string()).into()
    };
    let schema = row.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    let object: serde_json::Map<_, _> = names.zip(row.columns().iter().map(value)).collect();
    serde_json::Value::Object(object).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};

    use super::*;

    fn texts(rows: &RecordBatch) -> Vec<String> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        originals(rows).into_iter().map(text).collect()
    }

    #[test]
    fn rows_are_json() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a\"b", ""]));
        let rows = RecordBatch::try_from_iter([("n", number), ("t", text)]).unwrap();
        assert_eq!(
            texts(&rows),
            [r#"{"n":1,"t":"a\"b"}"#, r#"{"n":null,"t":""}"#]
        );
    }

    #[test]
    fn what_has_no_json_is_shown() {
        let kind = DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth);
        let months = arrow::array::new_null_array(&kind, 1);
        let rows = RecordBatch::try_from_iter([("m", months)]).unwrap();
        assert_eq!(String::from_utf8(shown(&rows)).unwrap(), r#"{"m":null}"#);
        let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let rows = RecordBatch::try_from_iter([("n", number)]).unwrap();
        assert_eq!(String::from_utf8(shown(&rows)).unwrap(), r#"{"n":"7"}"#);
    }

    #[test]
    fn dead_letters_are_rows() {
        let letter = DeadLetter {
            original_event: b"{}".to_vec(),
            error_message: "no".into(),
            error_type: "io".into(),
            timestamp_us: 5,
            attempt_count: u32::MAX,
            stream_name: "s".into(),
        };
        let rows = DeadLetter::rows(&[letter]).unwrap();
        assert_eq!(rows.schema(), DeadLetter::schema());
        assert_eq!(rows.column(0).as_binary::<i32>().value(0), b"{}");
        assert_eq!(
            rows.column(4)
                .as_primitive::<arrow::datatypes::Int32Type>()
                .value(0),
            i32::MAX
        );
    }
}
