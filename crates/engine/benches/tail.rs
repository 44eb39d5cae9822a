//! Following a file with `format = 'text'` into a COUNT: MB/s, beside `wc -l` and `cat`.
//!
//! A file of log lines of 60 to 140 bytes is written into the temporary folder, so that it is in
//! the page cache; the connector `file` follows it, and a view counts its lines on one worker. The time runs
//! from CREATE SOURCE until the view has counted the last line. `wc -l` and `cat` of the same file
//! into /dev/null start a process each time. Rounds alternate and medians count.
//!
//! Run: `cargo bench -p headwater --bench tail`; `HEADWATER_BENCH_MIB` (default 1,024) and
//! `HEADWATER_BENCH_ROUNDS` (default 5) set its size.

mod trades;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use headwater::arrow::array::cast::AsArray;
use headwater::arrow::datatypes::Int64Type;
use headwater::{Db, Event};
use trades::{median, median_ratio, setting};

/// Writes at least this number of bytes; returns the number of lines.
fn write_lines(path: &Path, bytes: usize) -> i64 {
    let file = std::fs::File::create(path).expect("a folder that can be written to");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    let (mut written, mut lines) = (0, 0);
    while written < bytes {
        let filler = "-".repeat((lines * 7 % 80) as usize);
        let line = format!("2026-01-01T00:00:00Z host service[{lines:09}]: message {filler}\n");
        file.write_all(line.as_bytes()).expect("room for the file");
        written += line.len();
        lines += 1;
    }
    file.flush().expect("room for the file");
    lines
}

/// Seconds until all lines are counted.
fn engine(path: &Path, lines: i64) -> f64 {
    let db = Db::builder().workers(1).in_memory().expect("one thread");
    let start = Instant::now();
    db.execute(&format!(
        "CREATE SOURCE lines (line VARCHAR) WITH (connector = 'file', path = '{}', format = 'text');
         CREATE VIEW counted AS SELECT COUNT(*) AS n FROM lines",
        path.display()
    ))
    .expect("a source and a view");
    for event in db.subscribe_batches("counted").expect("its results") {
        let Event::Rows(rows) = event.expect("results") else {
            continue;
        };
        let counts = rows.column(0).as_primitive::<Int64Type>();
        let counted = counts.values().iter().copied().max().unwrap_or(0);
        assert!(counted <= lines, "{counted} of {lines} lines");
        if counted == lines {
            break;
        }
    }
    start.elapsed().as_secs_f64()
}

/// Seconds that a program takes with the file.
fn program(name: &str, arguments: &[&str], path: &Path) -> f64 {
    let start = Instant::now();
    let mut command = Command::new(name);
    command.args(arguments).arg(path).stdout(Stdio::null());
    let status = command.status().expect("every Linux has it");
    assert!(status.success(), "{name} failed");
    start.elapsed().as_secs_f64()
}

fn main() {
    let rounds = setting("HEADWATER_BENCH_ROUNDS", 5);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lines.log");
    let lines = write_lines(&path, setting("HEADWATER_BENCH_MIB", 1_024) << 20);
    let bytes = std::fs::metadata(&path)
        .expect("the file just written")
        .len();
    let megabytes = bytes as f64 / 1e6;
    let mut speeds = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        speeds[0].push(megabytes / engine(&path, lines));
        speeds[1].push(megabytes / program("wc", &["-l"], &path));
        speeds[2].push(megabytes / program("cat", &[], &path));
    }
    println!("a file of {megabytes:.0} MB, {lines} lines, median of {rounds} rounds");
    let names = [
        "headwater, file source and COUNT",
        "wc -l",
        "cat > /dev/null",
    ];
    for (name, theirs) in names.iter().zip(&speeds) {
        let ratio = median_ratio(&speeds[0], theirs);
        println!(
            "  {name:<34} {:>7.0} MB/s  ratio {ratio:.2}",
            median(theirs)
        );
    }
}
