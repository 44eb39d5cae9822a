//! A machine that gives too little: threads, memory, open files, the length of a file. The program says what
//! is missing, and ends with 3 or waits, as where the disk is full.

use std::fs::File;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Program, headwater, output, rows};
use crate::{TICKS, pipeline};

/// Counts the rows of the source `ticks`.
const COUNTED: &str = "CREATE VIEW v AS SELECT count(*) AS n FROM ticks; SELECT n FROM v;";

/// The binary under `ulimit`, with these arguments.
fn limited(limit: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_headwater")).args(arguments);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Checks that a start failed with one sentence that names the limit to raise.
#[track_caller]
fn assert_one_sentence(code: i32, errors: &str, limit: &str) {
    assert_eq!(code, 3, "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("error: cannot start: "), "{errors}");
    assert!(errors.contains(limit), "{errors}");
}

#[test]
fn a_start_without_files_says_so() {
    let (folder, file) = pipeline(&format!("{TICKS}{COUNTED}"));
    let data = folder.path().join("data").display().to_string();
    let mut refused = 0;
    for files in 4..64 {
        let arguments = ["run", "--data", &data, &file];
        let (code, out, errors) = output(&mut limited(&format!("-n {files}"), &arguments));
        match code {
            0 => assert_eq!(out, "{\"n\":25}\n", "{files} files: {errors}"),
            code => {
                refused += 1;
                assert_one_sentence(code, &errors, "ulimit -n");
            }
        }
    }
    assert!((1..59).contains(&refused), "{refused}");
}

#[test]
fn a_start_without_memory_says_so() {
    let (_folder, file) = pipeline(&format!("{TICKS}{COUNTED}"));
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_headwater")).unwrap();
    let mut refused = 0;
    for mebibytes in (binary.len() >> 20..2_000).step_by(100).skip(1) {
        let limit = format!("-v {}", mebibytes << 10);
        let (code, out, errors) = output(&mut limited(&limit, &["run", "--in-memory", &file]));
        match code {
            0 => assert_eq!(out, "{\"n\":25}\n", "{mebibytes} MiB: {errors}"),
            code => {
                refused += 1;
                assert_one_sentence(code, &errors, "ulimit -v");
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_start_without_threads_says_so() {
    if !rustix::process::getuid().is_root() {
        // Only root can become a user who has no other process.
        return;
    }
    // The user may not read the folder of the binary, but execute what is open.
    let binary = File::open(env!("CARGO_BIN_EXE_headwater")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=54321", "--clear-groups", "prlimit", "--nproc=4"]);
    command.args(["/proc/self/fd/0", "tap", "--", "true"]);
    command
        .stdin(binary)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (code, _, errors) = output(&mut command);
    assert_one_sentence(code, &errors, "ulimit -u");
    assert!(errors.contains("there can be 3 "), "{errors}");
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let ticks = TICKS.replace("rows = 25", "rows = 200000");
    let (folder, file) = pipeline(&format!("{ticks}{COUNTED}"));
    let data = folder.path().join("data").display().to_string();
    let arguments = ["run", "--data", &data, &file];
    let mut command = limited("-f 1000", &arguments);
    let mut program = Program::start(&mut command);
    let errors = program.error_lines();
    while !errors
        .next("the log of a file that may not grow")
        .contains("File too large")
    {}
    program.signal(Signal::TERM);
    assert!(program.wait().code().is_some(), "no signal has killed it");
    let shown = rows(output(&mut headwater(&arguments)));
    assert_eq!(shown, "{\"n\":200000}\n");
}
