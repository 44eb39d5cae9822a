//! The program as its users meet it: what it prints, how it ends, and what it leaves behind.
//!
//! A test waits for what it needs, a line or the end of the program, and never for a time to pass; a
//! program that hangs is the test runner's to end.

mod given;

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

/// A folder with `pipeline.sql`: the rows of a file, counted in a view, and written to `out`.
fn kept_pipeline() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sql = format!(
        "CREATE SOURCE numbers (n BIGINT) WITH (connector = 'file', path = '{}', follow = false, format = 'json');
         CREATE STREAM live;
         ATTACH SOURCE numbers TO STREAM live;
         START STREAM live;
         CREATE VIEW total AS SELECT COUNT(*) AS rows, SUM(n) AS sum FROM numbers;
         CREATE SINK out FROM (SELECT n FROM numbers) WITH (connector = 'file', path = '{}', format = 'json');
         SELECT rows, sum FROM total;",
        path("in"),
        path("out")
    );
    std::fs::write(folder.path().join("pipeline.sql"), sql).unwrap();
    std::fs::write(folder.path().join("in"), "{\"n\": 1}\n{\"n\": 2}\n").unwrap();
    folder
}

/// Runs `pipeline.sql` of a folder.
fn run_in(folder: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let file = folder.join("pipeline.sql");
    output(headwater(&["run", file.to_str().unwrap()]).args(arguments))
}

fn append(path: &std::path::Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_pipeline_that_runs_again_goes_on_where_it_was() {
    let folder = kept_pipeline();
    let first = (0, "{\"rows\":2,\"sum\":3}\n".to_owned(), String::new());
    assert_eq!(run_in(folder.path(), &[]), first);
    assert!(
        folder.path().join("headwater-data").is_dir(),
        "beside the file"
    );
    append(&folder.path().join("in"), "{\"n\": 4}\n");
    let second = (0, "{\"rows\":3,\"sum\":7}\n".to_owned(), String::new());
    assert_eq!(run_in(folder.path(), &["--workers", "2"]), second);
    let out = std::fs::read_to_string(folder.path().join("out")).unwrap();
    assert_eq!(out, "{\"n\":1}\n{\"n\":2}\n{\"n\":4}\n", "each row once");
    // Another folder knows nothing of it.
    let other = folder.path().join("other");
    let anew = run_in(folder.path(), &["--data", other.to_str().unwrap()]);
    assert_eq!(anew, second);
    let out = std::fs::read_to_string(folder.path().join("out")).unwrap();
    assert_eq!(out.lines().count(), 6);
}

#[test]
fn in_memory_nothing_is_kept() {
    let folder = kept_pipeline();
    for _ in 0..2 {
        let (code, rows, errors) = run_in(folder.path(), &["--in-memory"]);
        assert_eq!((code, errors.as_str()), (0, ""));
        assert_eq!(rows, "{\"rows\":2,\"sum\":3}\n");
    }
    assert!(!folder.path().join("headwater-data").exists());
    let both = run_in(folder.path(), &["--in-memory", "--data", "x"]);
    assert_eq!(both.0, 2);
}

#[test]
fn what_is_no_more_in_the_file_goes_on_and_is_told() {
    let folder = kept_pipeline();
    let data = folder.path().join("headwater-data");
    assert_eq!(run_in(folder.path(), &[]).0, 0);
    let file = folder.path().join("pipeline.sql");
    let sql = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, sql.split("CREATE VIEW").next().unwrap()).unwrap();
    let (code, _, errors) = run_in(folder.path(), &[]);
    assert_eq!(code, 0, "{errors}");
    let (name, data) = (file.display(), data.display().to_string());
    assert_eq!(
        errors,
        format!(
            "warning: sink out is not in {name} and goes on running; DROP SINK out in `headwater sql --data {data}` ends it\n\
             warning: view total is not in {name} and goes on running; DROP VIEW total in `headwater sql --data {data}` ends it\n"
        )
    );
    let dropped = with_input(&["sql", "--data", &data], "DROP SINK out; DROP VIEW total;");
    assert_eq!((dropped.0, dropped.2.as_str()), (0, ""));
    assert_eq!(run_in(folder.path(), &[]).2, "");
}

#[test]
fn a_data_folder_has_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path(), "echo $$; echo $$; sleep 1000");
    let data = folder.path().join("headwater-data");
    let (code, _, errors) = with_input(&["sql", "--data", data.to_str().unwrap()], "SELECT 1;");
    assert_eq!(code, 3);
    let told = format!("{}", data.display());
    assert!(
        errors.starts_with("error: ") && errors.contains(&told),
        "{errors}"
    );
    running.signal(Signal::TERM);
}

#[test]
fn check_can_require_a_guarantee() {
    let file =
        "CREATE SOURCE f (n BIGINT) WITH (connector = 'file', path = '/tmp/in', format = 'json');
        CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'cat');
        CREATE STREAM q AS SELECT n FROM f;";
    let sink =
        "CREATE SINK o FROM q WITH (connector = 'file', path = '/tmp/out', format = 'json');";
    let check =
        |required: &str, sql: String| with_input(&["check", "-", "--require", required], &sql);
    let without_p = file.replace(
        "CREATE SOURCE p (line VARCHAR) WITH (connector = 'process', command = 'cat');",
        "",
    );
    let (code, out, errors) = check("exactly-once", format!("{without_p}{sink}"));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.ends_with("ok     o: exactly-once\n"), "{out}");
    let (code, out, errors) = check("at-least-once", format!("{file}{sink}"));
    assert_eq!(code, 1);
    assert!(out.ends_with("ok     o: exactly-once\n"), "{out}");
    let weakest = "error: p is at-most-once, not at-least-once; its weakest link is source p: process cannot go back";
    assert!(errors.starts_with(weakest), "{errors}");
    let stdout = "CREATE SINK o FROM q WITH (connector = 'stdout');";
    let (code, _, errors) = check("exactly-once", format!("{without_p}{stdout}"));
    assert_eq!(code, 1);
    assert!(
        errors.contains("o is at-least-once, not exactly-once; its weakest link is sink o: "),
        "{errors}"
    );
    assert_eq!(check("always", String::new()).0, 2);
}

#[test]
fn the_past_of_a_pipeline_that_has_ended_can_be_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.sql");
    let sql = format!(
        "{TICKS} CREATE STREAM w AS SELECT window_start, count(*) AS n FROM ticks
         GROUP BY TUMBLE(at, INTERVAL '1 millisecond');"
    );
    std::fs::write(&file, sql).unwrap();
    let file = file.to_str().unwrap();
    let (code, without, errors) = output(&mut headwater(&["replay", file, "ticks", "w"]));
    assert_eq!((code, without.as_str()), (1, ""), "{errors}");
    assert!(errors.contains("--data"), "{errors}");

    let (code, live, _) = output(&mut headwater(&["run", file]));
    assert_eq!(code, 0);
    let (code, again, errors) = output(&mut headwater(&["replay", file, "ticks", "w"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(again, live);
    let (code, _, errors) = output(&mut headwater(&["replay", file, "ticks", "nothing"]));
    assert_eq!(code, 1);
    assert!(errors.contains("nothing"), "{errors}");
}

#[test]
fn rows_that_could_not_be_decoded_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.csv"), "1\nx\n3\n").unwrap();
    let file = folder.path().join("p.sql");
    let sql = format!(
        "CREATE SOURCE t (a INT) WITH (connector = 'file', format = 'csv', follow = false, path = '{}');
         CREATE VIEW n AS SELECT COUNT(*) AS n FROM t; SUBSCRIBE TO n;",
        folder.path().join("in.csv").display()
    );
    std::fs::write(&file, sql).unwrap();
    let run = || output(&mut headwater(&["run", file.to_str().unwrap()]));
    let (code, _, errors) = run();
    let told = "warning: 1 rows of t could not be decoded: they are in t__bad\n";
    assert_eq!((code, errors.as_str()), (0, told));
    let (code, _, errors) = run();
    assert_eq!((code, errors.as_str()), (0, ""), "it was told before");
}
