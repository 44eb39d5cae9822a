//! Why a command fails, and with which exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use headwater::connect::shown::shown;
use tokio::signal::unix::SignalKind;

use crate::signals::exit_code;

/// What went wrong, as text for the user.
#[derive(Debug)]
pub enum CliError {
    /// Mistakes in SQL, drawn, with the colors of the terminal: exit code 1.
    Drawn(String),
    /// The user's input is wrong: exit code 1.
    Input(String),
    /// Something failed at run time: exit code 3.
    Runtime(String),
    /// The terminal hung up, and what ran has ended cleanly: the exit code is that of the signal.
    HungUp,
}

impl CliError {
    pub fn input(cause: impl Display) -> Self {
        Self::Input(format!("error: {cause}"))
    }

    pub fn runtime(cause: impl Display) -> Self {
        Self::Runtime(format!("error: {cause}"))
    }

    /// Prints the text on the standard error output and returns the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Drawn(text) => {
                // The standard error output may be closed.
                let _ = writeln!(io::stderr(), "{}", text.trim_end());
                ExitCode::from(1)
            }
            Self::Input(text) => {
                print_error(text.trim_end());
                ExitCode::from(1)
            }
            Self::Runtime(text) => {
                print_error(text.trim_end());
                ExitCode::from(3)
            }
            Self::HungUp => ExitCode::from(exit_code(SignalKind::hangup().as_raw_value())),
        }
    }
}

/// Prints a line on the standard error output, and ignores that it may be closed. What the line quotes
/// shows no secret of a URL and does not command the terminal.
pub fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{}", shown(line));
}

/// Prints panics as every other error: their messages may quote data.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        print_error(&format!("thread {thread:?}: {panic}{trace}"));
    }));
}
