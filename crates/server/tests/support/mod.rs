//! The headwater binary under test. No wait hangs: after [`PATIENCE`] the test fails and says what it awaited.

#![allow(dead_code)] // Each test program uses a part of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest wait, far above what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `is_done` returns true.
#[track_caller]
pub fn until(awaited: &str, mut is_done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_done() {
        let waited = began.elapsed();
        assert!(waited < PATIENCE, "waited {PATIENCE:?} for {awaited}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A command that runs the binary, with a captured output and no input.
pub fn headwater(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(arguments).env_remove("RUST_LOG");
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output and standard error output of a command.
type Output = (i32, String, String);

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    let (code, out, errors) = output_bytes(command, b"");
    (code, text(out), text(errors))
}

/// The rows of a command that must succeed without a warning.
#[track_caller]
pub fn rows((code, rows, errors): Output) -> String {
    assert_eq!((code, errors.as_str()), (0, ""));
    rows
}

/// Checks that a command fails with this exit code, and that its errors contain these parts.
#[track_caller]
pub fn assert_fails((code, _, errors): Output, expected: i32, parts: &[&str]) {
    assert_eq!(code, expected, "{errors}");
    for part in parts {
        assert!(errors.contains(part), "{part:?} is not in {errors}");
    }
}

/// Runs the binary with `sql` on the standard input.
pub fn with_input(arguments: &[&str], sql: &str) -> Output {
    let mut command = headwater(arguments);
    let (code, out, errors) = output_bytes(command.stdin(Stdio::piped()), sql.as_bytes());
    (code, text(out), text(errors))
}

/// [`output`] as bytes, with `input` on a piped standard input.
pub fn output_bytes(command: &mut Command, input: &[u8]) -> (i32, Vec<u8>, Vec<u8>) {
    let mut program = Program::start(command);
    let out = program.0.stdout.take().map(read_all);
    let errors = program.0.stderr.take().map(read_all);
    if let Some(mut stdin) = program.0.stdin.take() {
        // A program that ends before it has read everything closes the pipe.
        let _ = stdin.write_all(input);
    }
    let status = program.wait();
    let bytes = |pipe: Option<Receiver<Vec<u8>>>| match pipe {
        Some(pipe) => pipe.recv_timeout(PATIENCE).expect("the pipe is closed"),
        None => Vec::new(),
    };
    (status.code().expect("no signal"), bytes(out), bytes(errors))
}

fn read_all(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        send.send(bytes)
    });
    receive
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A running program; killed if the test ends before it does.
pub struct Program(Child);

impl Program {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// The lines of its standard output.
    pub fn lines(&mut self) -> Lines {
        lines_of(self.0.stdout.take().unwrap())
    }

    /// The lines of its standard error output.
    pub fn error_lines(&mut self) -> Lines {
        lines_of(self.0.stderr.take().unwrap())
    }

    /// Writes to its standard input, which stays open.
    pub fn type_in(&mut self, text: &str) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Its status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        until("the end of the program", || {
            ended = self.ended();
            ended.is_some()
        });
        ended.expect("it has ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Lines {
    // Bounded, so that a program that nobody reads blocks.
    let (send, receive) = sync_channel(16);
    spawn(move || {
        BufReader::new(pipe)
            .lines()
            .try_for_each(|line| send.send(line.unwrap()).map_err(drop))
    });
    Lines(receive)
}

/// Lines of a pipe, which is closed after this is dropped.
pub struct Lines(Receiver<String>);

impl Lines {
    /// Whether the pipe is closed without a further line. Blocks until one or the other.
    pub fn is_over(&self) -> bool {
        self.0.recv_timeout(PATIENCE).is_err()
    }

    #[track_caller]
    pub fn next(&self, awaited: &str) -> String {
        let line = self.0.recv_timeout(PATIENCE);
        line.unwrap_or_else(|why| panic!("waited {PATIENCE:?} for {awaited}: {why}"))
    }
}
