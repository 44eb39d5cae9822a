//! The program under test: started on a folder, killed or ended, and what it told.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// `headwater run`, on the pipeline of a folder.
pub struct Program {
    child: Child,
    errors: PathBuf,
}

impl Program {
    /// Starts it; what it tells goes to a file.
    pub fn start(folder: &Path, workers: u64) -> Self {
        let errors = folder.join("errors.txt");
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command
            .arg("run")
            .arg(folder.join("pipeline.sql"))
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--workers", &workers.to_string(), "--log", "info"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).unwrap());
        let child = command.spawn().unwrap();
        Self { child, errors }
    }

    /// What it told so far.
    pub fn told(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Whether it had something to do again.
    pub fn has_recovered(&self) -> bool {
        let told = self.told();
        told.contains("fed again from the log") || told.contains("are cut off")
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it, which nobody else may have done before.
    pub fn kill(&mut self) {
        assert_eq!(self.ended(), None, "it ended by itself: {}", self.told());
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}: {}", self.told());
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.told());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
