//! Every connector passes the suite of `headwater_connect::conform`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use headwater_connect::conform::{self, SinkCase, SourceCase};
use headwater_connect::options::Given;
use headwater_connect::{Blueprint, Connectors, Sink};

/// Makes its rows by itself, as fast as they are taken.
struct Generate;

#[async_trait]
impl SourceCase for Generate {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        let columns = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let options = [Given::new("rows_per_second", 0)];
        let spec = Connectors::builtin().source("generate", &options, Some(Arc::new(columns)), &[]);
        Arc::new(spec.unwrap_or_else(|rejection| panic!("{rejection}")))
    }

    async fn produce(&self, _: Range<u64>) {}

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        let column = rows.column(0).as_primitive::<Int64Type>();
        column
            .values()
            .iter()
            .map(|&number| number as u64)
            .collect()
    }
}

#[tokio::test]
async fn generate() {
    conform::source(&Generate).await;
}

/// Writes numbers into a file, another one for each check.
struct FileSink {
    folder: tempfile::TempDir,
    files: AtomicU32,
}

impl FileSink {
    fn path(&self) -> PathBuf {
        self.folder
            .path()
            .join(self.files.load(Relaxed).to_string())
    }
}

#[async_trait]
impl SinkCase for FileSink {
    async fn fresh(&self) -> Box<dyn Sink> {
        self.files.fetch_add(1, Relaxed);
        let columns = self.rows(0..0).schema();
        let path = self.path();
        let options = [
            Given::new("path", path.to_str().unwrap()),
            Given::new("format", "text"),
        ];
        let spec = Connectors::builtin().sink("file", &options, columns, &[]);
        let spec = spec.unwrap_or_else(|rejection| panic!("{rejection}"));
        spec.sink().unwrap()
    }

    fn rows(&self, numbers: Range<u64>) -> RecordBatch {
        let column = StringArray::from_iter_values(numbers.map(|number| number.to_string()));
        let column: ArrayRef = Arc::new(column);
        RecordBatch::try_from_iter([("line", column)]).unwrap()
    }

    async fn received(&self) -> Vec<u64> {
        let lines = std::fs::read_to_string(self.path()).unwrap_or_default();
        lines.lines().map(|line| line.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn file_sink() {
    let folder = tempfile::tempdir().unwrap();
    conform::sink(&FileSink {
        folder,
        files: AtomicU32::new(0),
    })
    .await;
}
