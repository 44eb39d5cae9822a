//! Every connector passes the suite of `headwater_connect::conform`.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use headwater_connect::conform::{self, SinkCase, SourceCase};
use headwater_connect::options::Given;
use headwater_connect::{Blueprint, Connectors, Guarantee, Sink, SinkSpec};
use rustix::process::{Pid, Signal, kill_process};

fn blueprint(
    connector: &str,
    options: &[Given<()>],
    columns: Option<Schema>,
) -> Arc<dyn Blueprint> {
    let spec = Connectors::builtin().source(connector, options, columns.map(Arc::new), &[]);
    Arc::new(spec.unwrap_or_else(|rejection| panic!("{rejection}")))
}

/// Makes its rows by itself, as fast as they are taken.
struct Generate;

#[async_trait]
impl SourceCase for Generate {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        let columns = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let options = [Given::new("rows_per_second", 0)];
        blueprint("generate", &options, Some(columns))
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

/// Makes people, whose ids count from 1,000.
struct Nexmark;

#[async_trait]
impl SourceCase for Nexmark {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        let options = [
            Given::new("rows_per_second", 0),
            Given::new("kind", "nexmark"),
            Given::new("table", "person"),
        ];
        blueprint("generate", &options, None)
    }

    async fn produce(&self, _: Range<u64>) {}

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        let ids = rows.column_by_name("id").unwrap();
        let ids = ids.as_primitive::<Int64Type>().values();
        ids.iter().map(|&id| id as u64 - 1_000).collect()
    }
}

#[tokio::test]
async fn nexmark() {
    conform::source(&Nexmark).await;
}

/// Writes numbers into a file, another one for each check.
struct FileSink {
    folder: tempfile::TempDir,
    files: AtomicU32,
}

impl FileSink {
    fn path(&self) -> PathBuf {
        let file = self.files.load(Relaxed).to_string();
        self.folder.path().join(file)
    }

    fn spec(&self) -> SinkSpec {
        let columns = self.rows(0..0).schema();
        let path = self.path();
        let options = [
            Given::new("path", path.to_str().unwrap()),
            Given::new("format", "text"),
        ];
        let spec = Connectors::builtin().sink("file", &options, columns, &[]);
        spec.unwrap_or_else(|rejection| panic!("{rejection}"))
    }
}

#[async_trait]
impl SinkCase for FileSink {
    async fn fresh(&self) -> Box<dyn Sink> {
        self.files.fetch_add(1, Relaxed);
        self.again().await
    }

    async fn again(&self) -> Box<dyn Sink> {
        self.spec().sink().unwrap()
    }

    fn guarantee(&self) -> Guarantee {
        self.spec().guarantee()
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

/// Follows a file with `tail`, another one for each check.
struct Process {
    folder: tempfile::TempDir,
    files: AtomicU32,
}

impl Process {
    fn path(&self, name: &str) -> PathBuf {
        let file = self.files.load(Relaxed);
        self.folder.path().join(format!("{file}.{name}"))
    }
}

#[async_trait]
impl SourceCase for Process {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        self.files.fetch_add(1, Relaxed);
        let (data, pid) = (self.path("data"), self.path("pid"));
        std::fs::write(&data, "").unwrap();
        let script = format!(
            "echo $$ > {}; exec tail -n +1 -f {}",
            pid.display(),
            data.display()
        );
        let options = [
            Given::new("command", script.as_str()),
            Given::new("shell", true),
        ];
        blueprint("process", &options, None)
    }

    async fn produce(&self, rows: Range<u64>) {
        append(&self.path("data"), rows);
    }

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        numbers(rows)
    }

    async fn cut(&self) -> bool {
        let pid = std::fs::read_to_string(self.path("pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).is_ok()
    }
}

#[tokio::test]
async fn process() {
    conform::source(&Process {
        folder: tempfile::tempdir().unwrap(),
        files: AtomicU32::new(0),
    })
    .await;
}

/// Follows a file with a command that prints its cursor and continues from it.
struct Continued(Process);

#[async_trait]
impl SourceCase for Continued {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        self.0.files.fetch_add(1, Relaxed);
        let data = self.0.path("data");
        std::fs::write(&data, "").unwrap();
        let script = format!(
            "exec tail -n +$((${{HEADWATER_CURSOR:--1}} + 2)) -f {}",
            data.display()
        );
        let options = [
            Given::new("command", script.as_str()),
            Given::new("shell", true),
            Given::new("cursor_field", "n"),
            Given::new("format", "json"),
        ];
        let columns = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        blueprint("process", &options, Some(columns))
    }

    async fn produce(&self, rows: Range<u64>) {
        append_lines(&self.0.path("data"), rows, |n| format!("{{\"n\": {n}}}\n"));
    }

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        Generate.numbers(rows)
    }
}

#[tokio::test]
async fn process_with_a_cursor() {
    conform::source(&Continued(Process {
        folder: tempfile::tempdir().unwrap(),
        files: AtomicU32::new(0),
    }))
    .await;
}

/// Adds a line for each number.
fn append(path: &Path, rows: Range<u64>) {
    append_lines(path, rows, |number| format!("{number}\n"));
}

fn append_lines(path: &Path, rows: Range<u64>, line: impl FnMut(u64) -> String) {
    let lines: String = rows.map(line).collect();
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

/// The lines, which are numbers.
fn numbers(rows: &RecordBatch) -> Vec<u64> {
    let lines = rows.column(0).as_string::<i32>().iter().flatten();
    lines.map(|line| line.parse().unwrap()).collect()
}

/// Follows a file that grows, another one for each check.
struct FileSource {
    folder: tempfile::TempDir,
    files: AtomicU32,
}

impl FileSource {
    fn path(&self) -> PathBuf {
        let file = self.files.load(Relaxed);
        self.folder.path().join(format!("{file}.log"))
    }
}

#[async_trait]
impl SourceCase for FileSource {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        self.files.fetch_add(1, Relaxed);
        let path = self.path();
        let options = [Given::new("path", path.to_str().unwrap())];
        blueprint("file", &options, None)
    }

    async fn produce(&self, rows: Range<u64>) {
        append(&self.path(), rows);
    }

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        numbers(rows)
    }
}

#[tokio::test]
async fn file_source() {
    conform::source(&FileSource {
        folder: tempfile::tempdir().unwrap(),
        files: AtomicU32::new(0),
    })
    .await;
}
