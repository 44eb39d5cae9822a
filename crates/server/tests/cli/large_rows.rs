//! Rows of many sizes through a connector and its log, while the program is killed.
//!
//! With `HEADWATER_LARGE_ROWS=1` there are more of them, up to 64 MiB.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Program, headwater, until, with_input};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The size of the rows, and their number.
fn ladder() -> Vec<(usize, usize)> {
    let mut ladder = vec![
        (1, 2_000),
        (KIB, 2_000),
        (16 * KIB, 800),
        (MIB, 8),
        (8 * MIB, 2),
    ];
    if std::env::var_os("HEADWATER_LARGE_ROWS").is_some() {
        ladder.extend([(16 * KIB, 20_000), (64 * MIB - 64, 4)]);
    }
    ladder
}

/// Writes the rows as JSON; returns what the sink must write of them.
fn write_input(path: &Path) -> String {
    let (mut input, mut expected) = (String::new(), String::new());
    let sizes = ladder().into_iter();
    let sizes = sizes.flat_map(|(size, rows)| std::iter::repeat_n(size, rows));
    for (n, size) in sizes.enumerate() {
        writeln!(input, r#"{{"n":{n},"body":"{}"}}"#, "x".repeat(size)).unwrap();
        writeln!(expected, r#"{{"n":{n},"size":{size}}}"#).unwrap();
    }
    std::fs::write(path, input).unwrap();
    expected
}

fn start(folder: &Path) -> Program {
    let mut command = headwater(&["run"]);
    command
        .arg(folder.join("pipeline.sql"))
        .arg("--data")
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Program::start(&mut command)
}

#[test]
fn rows_of_all_sizes_come_once_whenever_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let expected = write_input(&path("in.ndjson"));
    let sql = format!(
        "CREATE SOURCE s (n BIGINT NOT NULL, body VARCHAR NOT NULL) WITH (connector = 'file', path = '{}',
            format = 'json', follow = false, max_frame = '64 MiB', checkpoint_interval = '100 ms');
         CREATE STREAM t AS SELECT n, LENGTH(body) AS size FROM s;
         CREATE SINK k FROM t WITH (connector = 'file', path = '{}', format = 'json')",
        path("in.ndjson").display(),
        path("out.ndjson").display()
    );
    std::fs::write(path("pipeline.sql"), sql).unwrap();
    let written = || std::fs::read_to_string(path("out.ndjson")).unwrap_or_default();
    for part in 1..4 {
        let mut program = start(folder.path());
        until("rows, or the end", || {
            program.ended().is_some() || written().len() >= expected.len() * part / 4
        });
        if program.ended().is_none() {
            program.signal(Signal::KILL);
        }
        program.wait();
    }
    let status = start(folder.path()).wait();
    assert_eq!(status.code(), Some(0));
    let written = written();
    assert!(
        written == expected,
        "{} bytes of {}",
        written.len(),
        expected.len()
    );
}

/// A process cannot go back: each time that the program was away is a gap, from the last row to the start.
#[test]
fn each_kill_leaves_a_gap() {
    const KILLS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE SOURCE s (line VARCHAR) WITH (connector = 'process', shell = true,
            command = 'while true; do echo x; sleep 0.01; done');
         CREATE VIEW v AS SELECT COUNT(*) AS rows FROM s";
    let log = folder.path().join("data/log/s");
    let length = || {
        let files = std::fs::read_dir(&log).into_iter().flatten().flatten();
        let lengths = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        lengths.sum::<u64>()
    };
    std::fs::write(folder.path().join("pipeline.sql"), sql).unwrap();
    for _ in 0..KILLS {
        let mut program = start(folder.path());
        let mut seen = Vec::new();
        until("new rows", || {
            if seen.last() != Some(&length()) {
                seen.push(length());
            }
            seen.len() > 6
        });
        program.signal(Signal::KILL);
        program.wait();
    }
    let data = folder.path().join("data");
    let gaps = with_input(
        &["sql", "--data", data.to_str().unwrap()],
        r#"SELECT COUNT(*) AS gaps FROM system.gaps WHERE "from" < "to""#,
    );
    assert_eq!(gaps.1, format!("{{\"gaps\":{KILLS}}}\n"), "{}", gaps.2);
}
