//! The log: on the standard error output, and held back while a table is on the screen.
//!
//! A line that appears in the middle of a table that is drawn over and over would tear it. So while a
//! [`Hold`] lives, lines collect, and whoever draws puts them above the table.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;

/// Lines that are held back; `None` while none are.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a filter from the command line.
pub fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Starts logging: as the command line says, else as `RUST_LOG` says, else warnings.
pub fn start(asked: Option<&str>) {
    let wanted = asked.map(str::to_owned).or(std::env::var("RUST_LOG").ok());
    let filter = wanted.and_then(|text| EnvFilter::try_new(text).ok());
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("warn")))
        .with_ansi(crate::terminal::colors(&io::stderr()))
        .with_writer(|| Lines)
        // To tell of a log that cannot be written it would panic.
        .log_internal_errors(false)
        .init();
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            Some(lines) => lines.extend_from_slice(bytes),
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Holds lines back as long as it lives.
pub struct Hold(());

impl Hold {
    /// Holds lines back from now on.
    pub fn new() -> Self {
        held().get_or_insert_default();
        Self(())
    }

    /// The lines since the last call.
    pub fn take(&self) -> Vec<u8> {
        held().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(lines) = held().take() {
            // The last words; if nobody can hear them there is nobody to tell.
            let _ = io::stderr().write_all(&lines);
        }
    }
}
