//! Every example runs, and prints what its folder says.
//!
//! Those in Rust are compiled in and run here; those in SQL are run by the program. All stay on this
//! machine. A live example shows other values each time, so of its rows the columns and their types are
//! compared.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "../../../examples/incremental-sync/main.rs"]
mod incremental_sync;
#[path = "../../../examples/live-stream/main.rs"]
mod live_stream;
#[path = "../../../examples/source-lifecycle/main.rs"]
mod source_lifecycle;
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

/// A running program; killed if the test ends before it does.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a file with the program.
fn pipeline(file: &Path) -> (Program, impl Iterator<Item = Value> + use<>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(["run", "--in-memory"]).arg(file).stdout(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let out = BufReader::new(program.stdout.take().unwrap());
    let rows = out
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    (Program(program), rows)
}

/// Ends the program as Ctrl-C does.
fn end(mut program: Program) {
    kill_process(Pid::from_child(&program.0), Signal::INT).unwrap();
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
}

/// The columns of a row, and what kind of value each has.
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
    let (program, mut rows) = pipeline(&examples().join("hello/pipeline.sql"));
    let mut shapes: Vec<_> = expected("hello/expected.ndjson")
        .lines()
        .map(|line| shape(&serde_json::from_str(line).unwrap()))
        .collect();
    // Rows of both streams come; how many of one come before the first of the other is not said.
    while !shapes.is_empty() {
        let row = rows.next().unwrap();
        shapes.retain(|expected| *expected != shape(&row));
    }
    end(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(websocket::serve(listener, Duration::ZERO, events));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.sql");
    let sql = expected("websocket/pipeline.sql").replace("127.0.0.1:9443", &here);
    std::fs::write(&file, sql).unwrap();
    let rows: Vec<Value> = expected("websocket/expected.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (program, seen) = pipeline(&file);
    let count = rows.len();
    let (seen, program) =
        tokio::task::spawn_blocking(move || (seen.take(count).collect::<Vec<_>>(), program))
            .await
            .unwrap();
    assert_eq!(seen, rows);

    for trade in expected("websocket/trades.ndjson").lines() {
        let trade: Value = serde_json::from_str(trade).unwrap();
        let number = |name: &str| trade[name].as_str().unwrap().parse::<f64>().unwrap();
        let event: Value = serde_json::from_str(&received.recv().await.unwrap()).unwrap();
        let sent =
            serde_json::json!({"symbol": trade["s"], "price": number("p"), "volume": number("q")});
        assert_eq!(event, sent);
    }
    tokio::task::spawn_blocking(|| end(program)).await.unwrap();
}
