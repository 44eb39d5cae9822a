//! Why a command fails, and with which exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// What went wrong, as text for the user; several lines if it is drawn.
#[derive(Debug)]
pub enum CliError {
    /// The user's input is wrong: exit code 1.
    Input(String),
    /// Something failed at run time: exit code 3.
    Runtime(String),
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
        let (text, code) = match self {
            Self::Input(text) => (text, 1),
            Self::Runtime(text) => (text, 3),
        };
        print_error(text.trim_end());
        ExitCode::from(code)
    }
}

/// Prints a line on the standard error output, and ignores that it may be closed.
pub fn print_error(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
