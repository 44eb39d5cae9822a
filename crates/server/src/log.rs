//! The program's log: on the standard error output, and held back while a table is on the screen.
//!
//! A log line in the middle of a table that is redrawn in place would tear it. So while a [`LogBuffer`]
//! exists it collects the lines, and the screen prints them above the table.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;

/// The lines that wait; `None` while there is no [`LogBuffer`].
static BUFFERED: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn buffered() -> MutexGuard<'static, Option<Vec<u8>>> {
    BUFFERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parses the value of `--log`.
pub fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Starts logging with the filter of the command line, else that of `RUST_LOG`, else `warn`.
pub fn start(asked: Option<&str>) {
    let wanted = asked.map(str::to_owned).or(std::env::var("RUST_LOG").ok());
    let filter = wanted.and_then(|text| EnvFilter::try_new(text).ok());
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("warn")))
        .with_ansi(crate::terminal::colors(&io::stderr()))
        .with_writer(|| ScreenLog)
        // It would report a log that cannot be written with `eprintln!`, which panics then.
        .log_internal_errors(false)
        .init();
}

struct ScreenLog;

impl Write for ScreenLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match buffered().as_mut() {
            Some(lines) => lines.extend_from_slice(bytes),
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Holds log lines back until it is dropped.
pub struct LogBuffer(());

impl LogBuffer {
    pub fn new() -> Self {
        buffered().get_or_insert_default();
        Self(())
    }

    /// Removes and returns the lines that wait.
    pub fn take(&self) -> Vec<u8> {
        buffered().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        if let Some(lines) = buffered().take() {
            // The standard error output may be closed; there is nowhere else to report that.
            let _ = io::stderr().write_all(&lines);
        }
    }
}
