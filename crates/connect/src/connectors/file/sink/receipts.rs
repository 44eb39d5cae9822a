//! A file sink that crashes and continues from a receipt writes the bytes of a run without a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use proptest::prelude::*;

use crate::scripted::sink_spec;
use crate::{Error, Receipt, Sink};

/// A file with a header, which must come once.
fn sink(path: &Path, append: bool) -> Box<dyn Sink> {
    let columns = vec![
        Field::new("n", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
    ];
    let options = [
        ("path", path.to_str().unwrap().into()),
        ("append", append.into()),
        ("format", "csv".into()),
        ("header", true.into()),
    ];
    sink_spec("file", &options, columns).sink().unwrap()
}

/// One row with a text of `width` bytes.
fn row(number: usize, width: usize) -> RecordBatch {
    let number: ArrayRef = Arc::new(Int64Array::from(vec![number as i64]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(width)]));
    RecordBatch::try_from_iter([("n", number), ("text", text)]).unwrap()
}

#[derive(Debug, Clone)]
enum SinkStep {
    /// A row of this width.
    Write(usize),
    Flush,
    /// The process dies and starts again from one of the last synced receipts, counted backwards.
    Crash {
        back: usize,
    },
    /// What was written so far is saved.
    Save,
}

fn steps() -> impl Strategy<Value = Vec<SinkStep>> {
    let step = prop_oneof![
        6 => (0..300_usize).prop_map(SinkStep::Write),
        1 => (30_000..70_000_usize).prop_map(SinkStep::Write),
        2 => Just(SinkStep::Flush),
        2 => Just(SinkStep::Save),
        2 => (0..4_usize).prop_map(|back| SinkStep::Crash { back }),
    ];
    prop::collection::vec(step, 0..60)
}

/// Plays `steps`; after each crash the rows that the receipt does not cover are written again.
async fn play(path: &Path, append: bool, steps: &[SinkStep]) {
    let mut current = sink(path, append);
    current.open(None).await.unwrap();
    let mut rows: Vec<usize> = Vec::new();
    let mut saved = vec![(current.receipt(), 0)];
    for step in steps {
        match step {
            SinkStep::Write(width) => {
                current.write(&row(rows.len(), *width)).await.unwrap();
                rows.push(*width);
            }
            SinkStep::Flush => current.flush().await.unwrap(),
            SinkStep::Save => {
                let covered = rows.len() - current.unsent() as usize;
                saved.push((current.receipt(), covered));
                current.sync().await.unwrap();
            }
            SinkStep::Crash { back } => {
                saved.truncate(saved.len().saturating_sub(*back).max(1));
                let (receipt, covered) = saved.last().unwrap().clone();
                drop(current);
                current = sink(path, append);
                current.open(receipt).await.unwrap();
                for (number, width) in rows.iter().enumerate().skip(covered) {
                    current.write(&row(number, *width)).await.unwrap();
                }
            }
        }
    }
    current.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn crashes_change_no_byte(
        steps in steps(),
        append: bool,
        before in prop_oneof![Just(""), Just("n,text\n7,before\n")],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [crashing, calm] = ["crashing", "calm"].map(|name| folder.path().join(name));
        let without = steps.iter().filter(|step| !matches!(step, SinkStep::Crash { .. }));
        let without: Vec<SinkStep> = without.cloned().collect();
        for (path, steps) in [(&crashing, &steps), (&calm, &without)] {
            std::fs::write(path, before).unwrap();
            runtime.block_on(play(path, append, steps));
        }
        let [crashing, calm] = [crashing, calm].map(|path| std::fs::read(path).unwrap());
        prop_assert!(crashing == calm, "{} bytes, not {}", crashing.len(), calm.len());
    }
}

/// A file with two rows, and the receipt behind them.
async fn written() -> (tempfile::TempDir, PathBuf, Receipt) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut sink = sink(&path, true);
    sink.open(None).await.unwrap();
    sink.write(&row(1, 3)).await.unwrap();
    sink.write(&row(2, 3)).await.unwrap();
    sink.flush().await.unwrap();
    let receipt = sink.receipt().unwrap();
    sink.close().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"n,text\n1,xxx\n2,xxx\n");
    (folder, path, receipt)
}

async fn refused(path: &Path, receipt: Receipt) -> Error {
    let before = std::fs::read(path).ok();
    let error = sink(path, false).open(Some(receipt)).await.unwrap_err();
    assert_eq!(std::fs::read(path).ok(), before, "nothing was changed");
    assert_eq!(error.retry(), crate::Retry::Fatal);
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("restore the file"))
    );
    error
}

#[tokio::test]
async fn a_file_that_lost_bytes_is_refused() {
    let (_folder, path, receipt) = written().await;
    std::fs::write(&path, "n,text\n1,xxx\n").unwrap();
    let error = refused(&path, receipt.clone()).await.to_string();
    let expected = format!(
        "cannot continue writing to {}: it has 13 bytes, it had 19",
        path.display()
    );
    assert_eq!(error, expected);
    std::fs::remove_file(&path).unwrap();
    let error = refused(&path, receipt).await.to_string();
    assert!(error.ends_with("it is gone, it had 19 bytes"), "{error}");
}

#[tokio::test]
async fn another_file_is_refused_and_a_copy_is_not() {
    let (folder, path, receipt) = written().await;
    for other in ["n,TEXT\n1,xxx\n2,xxx\n", "n,text\n1,xxx\n2,xxy\nmore"] {
        std::fs::write(&path, other).unwrap();
        let error = refused(&path, receipt.clone()).await.to_string();
        assert!(error.contains("it is another file"), "{error}");
    }
    let copy = folder.path().join("copy");
    std::fs::write(&copy, "n,text\n1,xxx\n2,xxx\n3,to").unwrap();
    std::fs::rename(&copy, &path).unwrap();
    let mut sink = sink(&path, false);
    sink.open(Some(receipt)).await.unwrap();
    sink.write(&row(3, 1)).await.unwrap();
    sink.close().await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes, b"n,text\n1,xxx\n2,xxx\n3,x\n");
}

#[tokio::test]
async fn a_receipt_of_something_else_is_refused() {
    let (_folder, path, _) = written().await;
    let error = refused(&path, Receipt(serde_json::json!({"offset": 3}))).await;
    assert!(
        error
            .to_string()
            .contains("it is not the receipt of a file"),
        "{error}"
    );
}
