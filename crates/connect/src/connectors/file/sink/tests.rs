//! What a file sink writes, refuses and recovers from.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use tokio::fs::OpenOptions;

use super::*;
use crate::SinkSpec;
use crate::line_buffer::WRITE_AT;
use crate::scripted::sink_spec;

fn spec(path: &Path, append: bool) -> SinkSpec {
    let options = [
        ("path", path.to_str().unwrap().into()),
        ("append", append.into()),
        ("format", "text".into()),
    ];
    sink_spec(
        "file",
        &options,
        vec![Field::new("line", DataType::Utf8, false)],
    )
}

fn sink(path: &Path, append: bool) -> Box<dyn Sink> {
    spec(path, append).sink().unwrap()
}

fn rows(line: &str) -> RecordBatch {
    let column: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![line]));
    RecordBatch::try_from_iter([("line", column)]).unwrap()
}

async fn write(path: &Path, append: bool, line: &str) {
    let mut sink = sink(path, append);
    sink.open(None).await.unwrap();
    sink.write(&rows(line)).await.unwrap();
    sink.close().await.unwrap();
}

#[tokio::test]
async fn a_file_is_added_to_or_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    write(&path, true, "a").await;
    write(&path, true, "b").await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
    write(&path, false, "c").await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "c\n");
}

/// Each would truncate what the other wrote, and then refuse the file.
#[tokio::test]
async fn a_file_has_one_sink_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut first = sink(&path, true);
    first.open(None).await.unwrap();
    first.write(&rows("a")).await.unwrap();
    first.flush().await.unwrap();
    for append in [true, false] {
        let error = sink(&path, append).open(None).await.unwrap_err();
        let target = path.display();
        let expected = format!("cannot write {target}: another sink or program is writing it");
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.retry(), crate::Retry::Fatal);
        assert!(error.hint().is_some_and(|hint| hint.contains("of its own")));
    }
    let receipt = first.receipt();
    // As after a crash: it was not closed.
    drop(first);
    let mut again = sink(&path, true);
    again.open(receipt.clone()).await.unwrap();
    again.close().await.unwrap();
    sink(&path, true).open(receipt).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n");
}

#[tokio::test]
async fn a_missing_folder_is_reported() {
    let path = Path::new("/nowhere at all/out");
    let error = sink(path, true).validate().await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot look into /nowhere at all: "),
        "{error}"
    );
    let error = sink(path, true).open(None).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot open /nowhere at all/out: "),
        "{error}"
    );
    let error = sink(Path::new("/tmp"), true)
        .validate()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot write /tmp: "), "{error}");
}

/// A failed write leaves half a line behind; the next one begins where the last whole one ended.
#[tokio::test]
async fn a_torn_line_is_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    std::fs::write(&path, "whole\n").unwrap();
    let mut open = begin(&path, true).await.unwrap();
    std::fs::write(&path, "whole\nto").unwrap();
    open.torn = true;
    open.write(&path, b"torn\n").await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ntorn\n");
    assert_eq!((open.position.length, open.torn), (11, false));
}

#[tokio::test]
async fn a_file_that_goes_while_it_is_written_is_reported() {
    type Harm = fn(&Path) -> std::io::Result<()>;
    let harms: [(Harm, &str); 3] = [
        (
            |path| std::fs::remove_file(path),
            "it was removed, it had 6 bytes",
        ),
        (
            |path| {
                std::fs::rename(path, path.with_extension("1"))?;
                std::fs::write(path, "another\n")
            },
            "another file has taken its name",
        ),
        (
            |path| std::fs::write(path, "w"),
            "it was truncated to 1 bytes, it had 6",
        ),
    ];
    for (harm, expected) in harms {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "whole\n").unwrap();
        let mut open = begin(&path, true).await.unwrap();
        harm(&path).unwrap();
        let error = open.write(&path, b"more\n").await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(error.retry(), crate::Retry::Fatal);
        assert_eq!(open.position.length, 6, "nothing counts as written");
    }
}

#[tokio::test]
async fn a_batch_that_was_not_written_can_be_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    std::fs::write(&path, "").unwrap();
    let spec = spec(&path, true);
    let args = spec.args().unwrap();
    let options = args.options.get().unwrap();
    // A file opened for reading: every write fails.
    let file = File::open(&path).await.unwrap();
    let id = file_id(&file.metadata().await.unwrap());
    let mut sink = FileSink {
        options,
        buffer: LineBuffer::new(args.encoder.unwrap()),
        open: Some(OpenFile::new(file, id, FilePosition::default())),
    };
    let nothing = sink.receipt();
    let large = "x".repeat(WRITE_AT);
    sink.write(&rows(&large)).await.unwrap();
    for _ in 0..2 {
        let error = sink.write(&rows("next")).await.unwrap_err();
        assert_eq!(error.retry(), crate::Retry::Backoff);
        assert_eq!((sink.receipt(), sink.unsent()), (nothing.clone(), 1));
    }
    let mut how = OpenOptions::new();
    let writable = how.append(true).open(&path).await.unwrap();
    sink.open.as_mut().unwrap().file = writable;
    sink.write(&rows("next")).await.unwrap();
    sink.close().await.unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        format!("{large}\nnext\n")
    );
}
