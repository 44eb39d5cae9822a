//! How a running pipeline ends: signals, and a reader that goes away.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal};

use crate::support::{Lines, Program, headwater, rows, until, with_input};

/// A running pipeline whose source is a shell script with a child process.
pub struct Family {
    program: Program,
    /// The script and its child.
    pids: Vec<Pid>,
    lines: Lines,
}

impl Family {
    /// Waits for the first two lines of the script, which are its pid and that of its child.
    pub fn start(folder: &Path, script: &str) -> Self {
        let file = folder.join("pipeline.sql");
        let script = script.replace('\'', "''");
        let sql = format!(
            "CREATE SOURCE family (line VARCHAR) WITH (connector = 'process', shell = true, command = '{script}');"
        );
        std::fs::write(&file, sql).unwrap();
        let mut command = headwater(&["run", file.to_str().unwrap()]);
        let mut program = Program::start(command.stderr(Stdio::inherit()));
        let lines = program.lines();
        let pid = |awaited| {
            let row: serde_json::Value = serde_json::from_str(&lines.next(awaited)).unwrap();
            Pid::from_raw(row["line"].as_str().unwrap().parse().unwrap()).unwrap()
        };
        let pids = vec![pid("the pid of the script"), pid("the pid of its child")];
        Self {
            program,
            pids,
            lines,
        }
    }

    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// The exit code of the program, whose source has left no process behind.
    fn exit_code(self) -> Option<i32> {
        let Self {
            program,
            pids,
            lines: _open,
        } = self;
        exit_code(program, pids)
    }
}

fn exit_code(mut program: Program, pids: Vec<Pid>) -> Option<i32> {
    let code = program.wait().code();
    for pid in pids {
        until(&format!("the end of {pid:?}"), || !runs(pid));
    }
    code
}

/// Whether a process runs: a zombie does not.
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
    for (signal, code) in [(Signal::INT, 0), (Signal::TERM, 0), (Signal::HUP, 129)] {
        let folder = tempfile::tempdir().unwrap();
        let family = Family::start(folder.path(), "sleep 1000 & echo $$; echo $!; wait");
        family.signal(signal);
        assert_eq!(family.exit_code(), Some(code), "{signal:?}");
    }
}

#[test]
fn rows_that_have_arrived_are_processed_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap 'echo last; exit 0' TERM; echo $$; echo $$; while :; do sleep 0.01; done";
    let family = Family::start(folder.path(), script);
    family.signal(Signal::TERM);
    assert_eq!(family.lines.next("the last row"), "{\"line\":\"last\"}");
    assert_eq!(family.exit_code(), Some(0));
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The script ignores the request to end, and prints a line when it comes.
    let script = "trap 'echo asked' TERM; echo $$; echo $$; while :; do sleep 0.01; done";
    let family = Family::start(folder.path(), script);
    family.signal(Signal::INT);
    let row = family.lines.next("the row that shows the first signal");
    assert_eq!(row, "{\"line\":\"asked\"}");
    family.signal(Signal::INT);
    assert_eq!(family.exit_code(), Some(130));
}

#[test]
fn a_closed_output_ends_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$; echo $$; while :; do echo more; done";
    let Family {
        program,
        pids,
        lines,
    } = Family::start(folder.path(), script);
    drop(lines);
    assert_eq!(exit_code(program, pids), Some(0));
}

#[test]
fn the_shell_closes_its_folder_at_a_signal() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let mut command = headwater(&["sql", "--data", &data]);
        let mut program = Program::start(command.stdin(Stdio::piped()));
        let lines = program.lines();
        program.type_in("CREATE SOURCE s (n BIGINT);\nSELECT 1 AS one;\n");
        assert_eq!(lines.next("an answer"), "{\"one\":1}");
        program.signal(signal);
        assert_eq!(program.wait().code(), Some(code), "{signal:?}");
        let shown = rows(with_input(&["sql", "--data", &data], "SHOW SOURCES;"));
        assert!(shown.contains("\"name\":\"s\""), "{shown}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("endless.sql");
    let sql = "CREATE SOURCE s (n BIGINT) WITH (connector = 'generate', rows_per_second = 1000); SUBSCRIBE TO s;";
    std::fs::write(&file, sql).unwrap();
    let mut program = Program::start(&mut headwater(&["sql", file.to_str().unwrap()]));
    let (lines, errors) = (program.lines(), program.error_lines());
    assert_eq!(lines.next("a row"), "{\"n\":0}");
    drop(lines);
    assert_eq!(program.wait().code(), Some(0));
    assert!(errors.is_over(), "it says nothing of that");
}
