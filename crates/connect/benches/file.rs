//! Reading a file of lines with `format = 'text'`, beside `wc -l` and `cat` over the same file.
//!
//! `cargo bench -p headwater-connect --bench file [MiB]` writes a file of log lines of 60 to 140 bytes
//! into the temporary folder, so that it lies in memory, and reads it to its end: through the source,
//! the decoder and the lane, counting the rows that arrive. All in one run, the best of several passes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use headwater_connect::options::Given;
use headwater_connect::{Care, Connectors, Item, SourceHandle};
use tokio_util::sync::CancellationToken;

const PASSES: usize = 5;

fn write_lines(path: &Path, length: u64) -> u64 {
    let file = std::fs::File::create(path).expect("the temporary folder can be written to");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    let (mut written, mut lines) = (0, 0_u64);
    while written < length {
        let filler = "-".repeat((lines * 7 % 80) as usize);
        let line = format!(
            "2026-01-01T00:00:00Z host service[{:06}]: message {filler}\n",
            lines % 1_000_000
        );
        file.write_all(line.as_bytes()).expect("there is room");
        written += line.len() as u64;
        lines += 1;
    }
    file.flush().expect("there is room");
    lines
}

/// Reads the file through the source and counts rows.
fn ours(path: &Path, threads: usize) -> (Duration, u64) {
    let runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        _ => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    };
    runtime.expect("a runtime").block_on(async {
        let path = path.to_str().expect("the path is UTF-8");
        let given = [Given::new("path", path), Given::new("follow", false)];
        let spec = Connectors::builtin().source("file", &given, None, &[]);
        let spec = spec.unwrap_or_else(|rejection| panic!("{rejection}"));
        let handle = SourceHandle::new(std::sync::Arc::new(spec), None, Care::default());
        let (lane, mut items) = tokio::sync::mpsc::channel(4);
        let started = Instant::now();
        handle
            .start(&CancellationToken::new(), Some(Box::new(lane)))
            .expect("it starts");
        let mut rows = 0;
        while let Some(item) = items.recv().await {
            if let Item::Rows(delivery) = item {
                rows += delivery.rows.num_rows() as u64;
            }
        }
        (started.elapsed(), rows)
    })
}

fn theirs(program: &str, argument: &str, path: &Path) -> Duration {
    let started = Instant::now();
    let mut command = Command::new(program);
    command.args([argument]).arg(path).stdout(Stdio::null());
    let status = command.status().expect("every Linux has it");
    assert!(status.success());
    started.elapsed()
}

fn main() {
    let mib = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(512_u64);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lines.log");
    let lines = write_lines(&path, mib << 20);
    let speed = |time: Duration| (mib << 20) as f64 / 1e6 / time.as_secs_f64();
    let best = |run: &dyn Fn() -> Duration| (0..PASSES).map(|_| run()).min().unwrap_or_default();
    println!("{lines} lines, {mib} MiB");
    for threads in [1, 2] {
        let time = best(&|| {
            let (time, rows) = ours(&path, threads);
            assert_eq!(rows, lines, "every line arrives once");
            time
        });
        println!(
            "{:<28} {:>8.0} MB/s",
            format!("file source, {threads} worker(s)"),
            speed(time)
        );
    }
    for (program, argument) in [("wc", "-l"), ("cat", "--")] {
        let time = best(&|| theirs(program, argument, &path));
        println!(
            "{:<28} {:>8.0} MB/s",
            format!("{program} {argument}"),
            speed(time)
        );
    }
}
