//! What a reader of the standard output gets, and how the sink fails when the reader is gone.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use tokio::io::AsyncReadExt;

use super::*;
use crate::options::{Checked, check};

fn encoder() -> Box<dyn Encoder> {
    let format = crate::formats::format("text").unwrap();
    let none: Checked = check::<()>("stdout", &[], &[]).unwrap_or_else(|_| panic!());
    format.encoder.unwrap()(rows(&[]).schema(), &none).unwrap()
}

fn rows(lines: &[&str]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("line", DataType::Utf8, false)]);
    let column = Arc::new(StringArray::from(lines.to_vec()));
    RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap()
}

#[tokio::test]
async fn each_row_is_a_line_once_flushed() {
    let (out, mut reader) = tokio::io::duplex(1 << 20);
    let mut sink = Stdout::new(encoder(), out, false);
    sink.open(None).await.unwrap();
    sink.write(&rows(&["a", "b"])).await.unwrap();
    assert_eq!(sink.unsent(), 2);
    sink.flush().await.unwrap();
    assert_eq!(sink.unsent(), 0);
    let mut seen = [0; 4];
    reader.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"a\nb\n");
    sink.write(&rows(&["c"])).await.unwrap();
    sink.close().await.unwrap();
    drop(sink);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "c\n");
}

#[tokio::test]
async fn a_reader_that_is_gone_is_a_failure_for_good() {
    let (out, reader) = tokio::io::duplex(16);
    drop(reader);
    let mut sink = Stdout::new(encoder(), out, false);
    sink.write(&rows(&["a"])).await.unwrap();
    let error = sink.flush().await.unwrap_err();
    assert_eq!(error.retry(), Retry::Fatal);
    assert_eq!(sink.unsent(), 1, "nobody has it");
    assert_eq!(
        error.to_string(),
        "the standard output refused: broken pipe"
    );
}

#[tokio::test]
async fn a_terminal_gets_no_character_that_commands_it() {
    let (out, mut reader) = tokio::io::duplex(1 << 20);
    let mut sink = Stdout::new(encoder(), out, true);
    sink.write(&rows(&["\x1b]0;title\x07\u{202e}", "b"]))
        .await
        .unwrap();
    sink.close().await.unwrap();
    drop(sink);
    let mut seen = String::new();
    reader.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "\u{fffd}]0;title\u{fffd}\u{fffd}\nb\n");
}
