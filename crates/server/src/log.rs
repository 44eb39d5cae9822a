//! The program's log: on the standard error output, and held back while a table is on the screen. A line
//! shows no secret of a URL, does not command the terminal, and what it quotes begins no line of its own.
//!
//! A log line in the middle of a table that is redrawn in place would tear it. So while a [`LogBuffer`]
//! exists it collects the lines, and the screen prints them above the table.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater::connect::shown::{REPLACED, printable, without_url_secrets};
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
    let filter = filter.unwrap_or_else(|| EnvFilter::new("warn"));
    // It logs requests and messages as they are sent, with their secrets.
    let filter = match "tungstenite=warn".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(crate::terminal::colors(&io::stderr()))
        .with_writer(|| ScreenLog)
        // It would report a log that cannot be written with `eprintln!`, which panics then.
        .log_internal_errors(false)
        .init();
}

struct ScreenLog;

impl Write for ScreenLog {
    /// Takes one event, as the formatter writes it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let event = clean(&String::from_utf8_lossy(bytes));
        match buffered().as_mut() {
            Some(lines) => lines.extend_from_slice(event.as_bytes()),
            None => io::stderr().write_all(event.as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event for the terminal: its further lines are indented. The colors of the formatter stay, which
/// escapes those of the data.
fn clean(event: &str) -> String {
    let event = without_url_secrets(event);
    let mut parts = event.trim_end().split('\x1b');
    let mut clean = printable(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let code = part.trim_start_matches(|it: char| it.is_ascii_digit() || "[;".contains(it));
        clean.push(match part.starts_with('[') && code.starts_with('m') {
            true => '\x1b',
            false => REPLACED,
        });
        clean += &printable(part);
    }
    clean.replace('\n', "\n    ") + "\n"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_entry_whatever_it_quotes() {
        for (event, expected) in [
            ("WARN x\n", "WARN x\n"),
            (
                "WARN x\n2026 ERROR forged\n",
                "WARN x\n    2026 ERROR forged\n",
            ),
            (
                "\x1b[33mWARN\x1b[0m \x1b]0;x\x07\n",
                "\x1b[33mWARN\x1b[0m \u{fffd}]0;x\u{fffd}\n",
            ),
            ("\u{202e}ws://u:p@h/?k=v\n", "\u{fffd}ws://***@h/?k=***\n"),
        ] {
            assert_eq!(clean(event), expected);
        }
    }
}
