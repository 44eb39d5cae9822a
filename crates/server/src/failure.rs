//! Why a command ends without success, and with which exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// What the user gave is wrong: the text for them, several lines if it is drawn. Exit code 1.
    Input(String),
    /// Something failed while it ran. Exit code 3.
    Runtime(String),
}

impl Failure {
    /// What the user gave is wrong.
    pub fn input(what: impl Display) -> Self {
        Self::Input(format!("error: {what}"))
    }

    /// Something failed while it ran.
    pub fn runtime(what: impl Display) -> Self {
        Self::Runtime(format!("error: {what}"))
    }

    /// Tells the user; returns the exit code.
    pub fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::Input(text) => (text, 1),
            Self::Runtime(text) => (text, 3),
        };
        say(text.trim_end());
        ExitCode::from(code)
    }
}

/// A line on the standard error output; if nobody can hear it there is nobody to tell.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
