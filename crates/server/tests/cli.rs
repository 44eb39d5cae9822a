//! The program as its users meet it: what it prints, how it ends, and what it leaves behind.
//!
//! A test waits for what it needs, a line or the end of the program, and never for a time to pass; a
//! program that hangs is the test runner's to end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn headwater(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs with `sql` on the standard input.
fn with_input(arguments: &[&str], sql: &str) -> (i32, String, String) {
    let mut command = headwater(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that ends before it has read everything closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(sql.as_bytes());
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

const TICKS: &str =
    "CREATE SOURCE ticks (n BIGINT, k VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at)
    WITH (connector = 'generate', rows = 25, rows_per_second = 0);\n";

#[test]
fn a_pipeline_whose_input_ends_gives_everything_and_ends() {
    let sql = format!(
        "{TICKS} CREATE STREAM w AS SELECT window_start, count(*) AS n FROM ticks
         GROUP BY TUMBLE(at, INTERVAL '1 millisecond');"
    );
    let (code, rows, errors) = with_input(&["run", "-"], &sql);
    assert_eq!((code, errors.as_str()), (0, ""));
    let rows: Vec<&str> = rows.lines().collect();
    // 10,000 events a second when there is no rate: ten in a millisecond, the last window closed by the end.
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[0], r#"{"window_start":"2026-01-01T00:00:00Z","n":10}"#);
    assert!(rows[2].ends_with(r#""n":5}"#), "{}", rows[2]);
}

#[test]
fn what_the_file_asks_for_is_shown() {
    let views = format!(
        "{TICKS} CREATE VIEW v AS SELECT k, count(*) AS n FROM ticks GROUP BY k;
         CREATE STREAM even AS SELECT n FROM ticks WHERE n % 12 = 0;"
    );
    let run = |rest: &str| {
        let (code, rows, errors) = with_input(&["run", "-"], &format!("{views}{rest}"));
        assert_eq!((code, errors.as_str()), (0, ""), "{rest}");
        rows
    };
    assert_eq!(run(""), "{\"n\":0}\n{\"n\":12}\n{\"n\":24}\n");
    let answer = "{\"keys\":10,\"rows\":25}\n";
    assert_eq!(
        run("SELECT count(*) AS keys, sum(n) AS rows FROM v;"),
        answer
    );
    let two = run("SUBSCRIBE TO even; SUBSCRIBE TO v;");
    assert_eq!(
        two.lines()
            .filter(|row| row.starts_with(r#"{"_stream":"even","n":"#))
            .count(),
        3
    );
    let sum: i64 = two
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap())
        .filter(|row| row["_stream"] == "v")
        .map(|row| row["n"].as_i64().unwrap() * row["_diff"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, 25, "changes add up to the result");
    let sink = run("CREATE SINK out FROM even WITH (connector = 'stdout');");
    assert_eq!(
        sink, "{\"n\":0}\n{\"n\":12}\n{\"n\":24}\n",
        "printed once, by the sink"
    );
    assert!(run("SHOW STREAMS; SUBSCRIBE TO even;").starts_with("{\"name\":\"even\","));
}

#[test]
fn all_errors_are_drawn_and_nothing_starts() {
    let folder = tempfile::tempdir().unwrap();
    let touched = folder.path().join("touched");
    let sql = format!(
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'touch {}');
CREATE SOURCE s (a BIGINT) WITH (connector = 'generate', sede = 1, rows = 'x');
CREATE STREAM x AS SELECT prise FROM p;
",
        touched.display()
    );
    for command in ["run", "check"] {
        let (code, out, errors) = with_input(&[command, "-"], &sql);
        assert_eq!((code, out.as_str()), (1, ""), "{errors}");
        for expected in [
            "[42704] Error: option \"sede\" is unknown",
            "Error: option \"rows\" must be a whole number, it is 'x'",
            "[42703] Error: no field named prise",
            "<stdin>:3:27",
            "──┬──",
        ] {
            assert!(errors.contains(expected), "{expected} in {errors}");
        }
        assert!(!errors.contains('\x1b'), "no colors in a pipe");
    }
    assert!(!touched.exists());
}

#[test]
fn check_tells_what_cannot_be_reached() {
    let absent =
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'no-such-program');";
    let (code, out, errors) = with_input(&["check", "-"], &format!("{TICKS}{absent}"));
    assert_eq!(code, 1);
    assert!(
        out.contains("ok     source ticks") && out.contains("ok     source p"),
        "{out}"
    );
    assert!(
        errors.starts_with("error: p: ") && errors.contains("no-such-program"),
        "{errors}"
    );
    let (code, out, errors) = with_input(&["check", "-"], TICKS);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        out.contains("ok     ticks: what it connects to can be reached"),
        "{out}"
    );
}

#[test]
fn a_source_that_fails_for_good_is_a_failure() {
    let absent =
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'no-such-program');";
    let (code, _, errors) = with_input(&["run", "-"], absent);
    assert_eq!(code, 3, "{errors}");
    assert!(
        errors.contains("error: source p failed: ") && errors.contains("no-such-program"),
        "{errors}"
    );
}

#[test]
fn files_and_command_lines_can_be_wrong() {
    let (code, _, errors) = output(&mut headwater(&["run", "no-such-file.sql"]));
    assert_eq!(code, 1);
    assert!(
        errors.starts_with("error: cannot read no-such-file.sql: "),
        "{errors}"
    );
    assert_eq!(output(&mut headwater(&["run"])).0, 2);
    assert_eq!(output(&mut headwater(&["run", "x", "--workers", "0"])).0, 2);
    assert_eq!(output(&mut headwater(&["run", "x", "--log", "lo=ud"])).0, 2);
    let mut command = headwater(&["run", "-"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"SELECT '\xff'")
        .unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        ended.stderr,
        b"error: <stdin> is not UTF-8 from byte 8 on\n"
    );
}

/// A pipeline whose command has a child of its own, both of which tell who they are; its first two
/// rows have come.
struct Running {
    program: Child,
    family: Vec<Pid>,
    rest: BufReader<std::process::ChildStdout>,
}

/// `ready` is what the command says after its pids, a line each.
fn running(folder: &std::path::Path, script: &str) -> Running {
    let file = folder.join("pipeline.sql");
    let script = script.replace('\'', "''");
    let sql = format!(
        "CREATE SOURCE family (line VARCHAR) WITH (connector = 'process', shell = true, command = '{script}');"
    );
    std::fs::write(&file, sql).unwrap();
    let mut command = headwater(&["run", file.to_str().unwrap()]);
    let mut program = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut rest = BufReader::new(program.stdout.take().unwrap());
    let family = (0..2).map(|_| {
        let mut row = String::new();
        rest.read_line(&mut row).unwrap();
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        Pid::from_raw(row["line"].as_str().unwrap().parse().unwrap()).unwrap()
    });
    let family = family.collect();
    Running {
        program,
        family,
        rest,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.program);
        kill_process(pid, signal).unwrap();
    }

    /// A killed process takes a moment to go; one that goes on running is found.
    fn assert_no_child_is_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        for child in &self.family {
            while runs(*child) {
                assert!(Instant::now() < deadline, "{child:?} still runs");
                std::thread::yield_now();
            }
        }
    }
}

/// Whether a process runs: one that has ended, and of which its parent has not taken note, does not.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // `pid (name) state ...`, and the name may hold anything.
    let state = stat
        .ok()
        .and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    state.is_some_and(|state| !['Z', 'X'].contains(&state))
}

#[test]
fn ctrl_c_and_sigterm_end_every_child() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let mut running = running(folder.path(), "sleep 1000 & echo $$; echo $!; wait");
        running.signal(signal);
        assert_eq!(
            running.program.wait().unwrap().code(),
            Some(0),
            "{signal:?}"
        );
        running.assert_no_child_is_left();
    }
}

#[test]
fn what_has_arrived_is_processed_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap 'echo last; exit 0' TERM; echo $$; echo $$; while :; do sleep 0.01; done";
    let mut running = running(folder.path(), script);
    running.signal(Signal::TERM);
    let mut row = String::new();
    running.rest.read_line(&mut row).unwrap();
    assert_eq!(row, "{\"line\":\"last\"}\n");
    assert_eq!(running.program.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The command refuses to end, and says when it was asked to.
    let script = "trap 'echo asked' TERM; echo $$; echo $$; while :; do sleep 0.01; done";
    let mut running = running(folder.path(), script);
    running.signal(Signal::INT);
    let mut row = String::new();
    running.rest.read_line(&mut row).unwrap();
    assert_eq!(row, "{\"line\":\"asked\"}\n");
    running.signal(Signal::INT);
    assert_eq!(running.program.wait().unwrap().code(), Some(130));
    running.assert_no_child_is_left();
}

#[test]
fn a_reader_that_goes_away_ends_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$; echo $$; while :; do echo more; done";
    let mut running = running(folder.path(), script);
    drop(std::mem::replace(&mut running.rest, {
        // Another pipe, so that the first is closed.
        let mut other = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(other.stdout.take().unwrap());
        other.wait().unwrap();
        out
    }));
    assert_eq!(running.program.wait().unwrap().code(), Some(0));
    running.assert_no_child_is_left();
}

#[test]
fn the_shell_reads_a_pipe() {
    let sql = format!("{TICKS}\nSHOW SOURCES;\nDESCRIBE\n  ticks;\nSELECT 1 + 1 AS two;");
    let (code, rows, errors) = with_input(&["sql"], &sql);
    assert_eq!((code, errors.as_str()), (0, ""));
    let rows: Vec<&str> = rows.lines().collect();
    assert!(
        rows[0].starts_with("{\"name\":\"ticks\",\"connector\":\"generate\""),
        "{rows:?}"
    );
    assert_eq!(
        rows[3],
        r#"{"column":"at","type":"Timestamp(µs)","nullable":"yes","event_time":"yes"}"#
    );
    assert_eq!(rows[4], r#"{"two":2}"#);
    let (code, rows, errors) = with_input(&["sql"], "SELECT 1 AS one;\nSELECT nope;\nSELECT 2;");
    assert_eq!((code, rows.as_str()), (1, "{\"one\":1}\n"));
    assert!(errors.contains("nope"), "{errors}");
}

#[test]
fn the_output_of_a_command_is_tapped() {
    let script = r"echo out; echo err >&2; printf '\377\0'";
    let command = headwater(&["tap", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(command.status.code(), Some(0));
    let mut lines: Vec<&[u8]> = command.stdout.split(|byte| *byte == b'\n').collect();
    lines.sort();
    assert_eq!(lines, [b"".as_slice(), b"err", b"out", b"\xff\0"]);
    let (code, _, errors) = output(&mut headwater(&["tap", "--", "sh", "-c", "exit 3"]));
    assert_eq!(code, 3);
    assert!(errors.contains("3"), "{errors}");
}

#[test]
fn a_source_of_a_file_is_tapped() {
    let sql = r#"CREATE SOURCE a (n BIGINT) WITH (connector = 'process', mode = 'once',
            format = 'json', command = 'echo ''{"n": 1, "more": 2}''');
        CREATE SOURCE b (line VARCHAR) WITH (connector = 'process', command = 'no-such-program');
        CREATE SOURCE c (n BIGINT) WITH (connector = 'generate');
        CREATE SOURCE d (n BIGINT);"#;
    let tap = |source: &[&str]| with_input(&[&["tap", "-"], source].concat(), sql);
    assert_eq!(
        tap(&["a"]),
        (0, "{\"n\": 1, \"more\": 2}\n".to_owned(), String::new())
    );
    let (code, _, errors) = tap(&[]);
    assert_eq!(code, 1);
    assert_eq!(
        errors,
        "error: say which source of <stdin>; there are: a, b, c, d\n"
    );
    let (code, _, errors) = tap(&["c"]);
    assert_eq!(
        (code, errors.as_str()),
        (
            1,
            "error: source \"c\" has no raw bytes: its connector makes rows\n"
        )
    );
    let (code, _, errors) = tap(&["d"]);
    assert_eq!(
        (code, errors.as_str()),
        (
            1,
            "error: source \"d\" has no raw bytes: your code pushes its rows\n"
        )
    );
    assert_eq!(tap(&["b"]).0, 3);
}

#[test]
fn connectors_are_explained() {
    let (code, list, _) = output(&mut headwater(&["connectors"]));
    assert_eq!(code, 0);
    assert!(list.contains("websocket    source, sink"), "{list}");
    let (code, help, _) = output(&mut headwater(&["connectors", "websocket"]));
    assert_eq!(code, 0);
    for expected in [
        "  url (",
        "Options that every source has:",
        "  buffer_size (integer, default 65536)",
    ] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    let (code, _, errors) = output(&mut headwater(&["connectors", "webscoket"]));
    assert_eq!(code, 1);
    assert!(errors.contains("webscoket"), "{errors}");
}
