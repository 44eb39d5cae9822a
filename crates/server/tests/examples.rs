//! Every example runs and prints what its folder says.
//!
//! The test compiles in those in Rust; the binary runs those in SQL. They use no network but loopback. A
//! live example shows other values each time, so the test compares the columns of its rows and their types.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lines, PATIENCE, Program, headwater};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

#[path = "../../../examples/incremental-sync/main.rs"]
mod incremental_sync;
#[path = "../../../examples/live-stream/main.rs"]
mod live_stream;
#[path = "../../../examples/source-lifecycle/main.rs"]
mod source_lifecycle;
mod support;
#[path = "../../../examples/typed-source/main.rs"]
mod typed_source;
#[path = "../../../examples/websocket/main.rs"]
mod websocket;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn expected(file: &str) -> String {
    std::fs::read_to_string(examples().join(file)).unwrap()
}

fn assert_prints(example: &str, run: impl FnOnce(&mut dyn Write)) {
    let mut printed = Vec::new();
    run(&mut printed);
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(printed, expected(&format!("{example}/expected.txt")));
}

#[test]
fn every_example_is_run_here() {
    let folders = std::fs::read_dir(examples()).unwrap();
    let names = folders.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let run = [
        "access-log",
        "hello",
        "incremental-sync",
        "live-stream",
        "source-lifecycle",
        "typed-source",
        "websocket",
    ];
    assert_eq!(names, run, "add a test for each example");
}

#[test]
fn source_lifecycle() {
    assert_prints("source-lifecycle", |out| {
        source_lifecycle::run(out).unwrap()
    });
}

#[test]
fn typed_source() {
    assert_prints("typed-source", |out| typed_source::run(out).unwrap());
}

#[test]
fn incremental_sync() {
    let folder = tempfile::tempdir().unwrap();
    assert_prints("incremental-sync", |out| {
        incremental_sync::run(folder.path(), out).unwrap()
    });
}

#[test]
fn live_stream() {
    assert_prints("live-stream", |out| live_stream::run(out).unwrap());
}

fn pipeline(file: &Path) -> (Program, Lines) {
    let mut command = headwater(&["run", "--in-memory"]);
    let mut program = Program::start(command.arg(file).stderr(Stdio::inherit()));
    let rows = program.lines();
    (program, rows)
}

fn next_rows(rows: &Lines, count: usize) -> Vec<Value> {
    (0..count).map(|_| next_row(rows)).collect()
}

fn next_row(rows: &Lines) -> Value {
    serde_json::from_str(&rows.next("a row of the example")).unwrap()
}

/// Ends the program as Ctrl-C does.
fn end(mut program: Program) {
    program.signal(Signal::INT);
    assert_eq!(program.wait().code(), Some(0));
}

/// The columns of a row with the type of each value.
fn shape(row: &Value) -> Vec<(String, &'static str)> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    let columns = row.as_object().unwrap().iter();
    columns
        .map(|(name, value)| (name.clone(), kind(value)))
        .collect()
}

#[test]
fn hello() {
    let (program, rows) = pipeline(&examples().join("hello/pipeline.sql"));
    let mut shapes: Vec<_> = expected("hello/expected.ndjson")
        .lines()
        .map(|line| shape(&serde_json::from_str(line).unwrap()))
        .collect();
    // The rows of the two streams come in no particular order.
    while !shapes.is_empty() {
        let row = shape(&next_row(&rows));
        shapes.retain(|expected| *expected != row);
    }
    end(program);
}

#[test]
fn access_log() {
    let mut command = headwater(&["run", "--in-memory", "examples/access-log/pipeline.sql"]);
    command.current_dir(examples().join(".."));
    let mut program = Program::start(command.stderr(Stdio::inherit()));
    let rows = program.lines();
    let mut expected: Vec<String> = expected("access-log/expected.ndjson")
        .lines()
        .map(str::to_owned)
        .collect();
    let mut found: Vec<String> = (0..expected.len())
        .map(|_| rows.next("a row of the example"))
        .collect();
    // The rows of the two streams come in no particular order.
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // The file is read to its end.
    assert_eq!(program.wait().code(), Some(0));
}

/// A pipeline of the example, and the server that it speaks to.
struct WebsocketExample {
    program: Program,
    lines: Lines,
    received: UnboundedReceiver<String>,
    /// Where its file is.
    _folder: TempDir,
}

impl WebsocketExample {
    async fn start(sql: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let (events, received) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(websocket::serve(listener, Duration::ZERO, events));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pipeline.sql");
        std::fs::write(&file, expected(sql).replace("127.0.0.1:9443", &here)).unwrap();
        let (program, lines) = pipeline(&file);
        Self {
            program,
            lines,
            received,
            _folder: folder,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket() {
    let rows: Vec<Value> = expected("websocket/expected.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut example = WebsocketExample::start("websocket/pipeline.sql").await;
    let (count, lines) = (rows.len(), example.lines);
    let (seen, _open) = tokio::task::spawn_blocking(move || (next_rows(&lines, count), lines))
        .await
        .unwrap();
    assert_eq!(seen, rows);

    for trade in expected("websocket/trades.ndjson").lines() {
        let trade: Value = serde_json::from_str(trade).unwrap();
        let number = |name: &str| trade[name].as_str().unwrap().parse::<f64>().unwrap();
        let event = tokio::time::timeout(PATIENCE, example.received.recv()).await;
        let event = event.expect("a trade at the sink's server").unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        let sent =
            serde_json::json!({"symbol": trade["s"], "price": number("p"), "volume": number("q")});
        assert_eq!(event, sent);
    }
    tokio::task::spawn_blocking(|| end(example.program))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn combined_stream() {
    let example = WebsocketExample::start("websocket/combined.sql").await;
    let mut expected: Vec<String> = expected("websocket/combined-expected.ndjson")
        .lines()
        .map(str::to_owned)
        .collect();
    let (count, lines) = (expected.len(), example.lines);
    let next = move || -> Vec<String> { (0..count).map(|_| lines.next("a row")).collect() };
    let mut found = tokio::task::spawn_blocking(next).await.unwrap();
    // The symbols of a second come in no particular order.
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    tokio::task::spawn_blocking(|| end(example.program))
        .await
        .unwrap();
}
