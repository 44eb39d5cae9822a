//! The pipeline under test: started on a folder, killed or ended, and its log.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;

use crate::support::{Program, headwater};

/// `headwater run` on the pipeline of a folder.
pub struct Pipeline {
    program: Program,
    errors: PathBuf,
}

impl Pipeline {
    /// Starts it; its log goes to a file.
    pub fn start(folder: &Path, workers: u64) -> Self {
        let errors = folder.join("errors.txt");
        let mut command = headwater(&["run"]);
        command
            .arg(folder.join("pipeline.sql"))
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--workers", &workers.to_string(), "--log", "info"])
            .stdout(Stdio::null())
            .stderr(File::create(&errors).unwrap());
        let program = Program::start(&mut command);
        Self { program, errors }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Whether it recovered rows from its log or truncated a file.
    pub fn has_recovered(&self) -> bool {
        let log = self.log();
        log.contains("from the log") || log.contains("written after the last checkpoint")
    }

    /// Its status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.program.ended()
    }

    /// Kills it; it must still run.
    pub fn kill(&mut self) {
        assert_eq!(self.ended(), None, "it ended by itself: {}", self.log());
        self.program.signal(Signal::KILL);
        let status = self.program.wait();
        assert_eq!(status.signal(), Some(9), "{status}: {}", self.log());
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) {
        self.program.signal(Signal::TERM);
        let status = self.program.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}
