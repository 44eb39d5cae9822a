//! Rows for a pipe: one JSON object a line.
//!
//! Each subscription has a thread that waits for its rows and locks the shared output while it writes a
//! batch. It flushes the output when no further rows are ready. If several streams are shown, each
//! object names its stream under `_stream`. On a terminal no character commands it.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use headwater::connect::formats::{Encoder, Frames, format};
use headwater::connect::options::check;
use headwater::connect::shown::printable;
use headwater::{Event, Subscription};

use crate::error::CliError;

/// The output that the threads of all subscriptions share.
pub type SharedOutput = Arc<Mutex<dyn Write + Send>>;

pub struct JsonLines {
    encoder: Box<dyn Encoder>,
    frames: Frames,
    /// The beginning of each object: `{`, and `_stream` if there are several.
    start: Vec<u8>,
    text: Vec<u8>,
    out: SharedOutput,
    /// Whether `out` is a terminal.
    is_terminal: bool,
}

impl JsonLines {
    /// Writes to `out`, with the name of the `stream` in each object if there is one.
    pub fn new(out: SharedOutput, stream: Option<&str>) -> Result<Self, CliError> {
        let json = format("json").and_then(|json| Some((json.encoder?, json.encoder_options)));
        let (encoder, options) =
            json.ok_or_else(|| CliError::runtime("there is no format json"))?;
        let options = check::<()>("json", options.as_slice(), &[]);
        let options = options.map_err(|_| CliError::runtime("the format json needs options"))?;
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let start = stream.map(|name| {
            let name = serde_json::Value::from(name);
            format!("{{\"_stream\":{name},")
        });
        Ok(Self {
            encoder: encoder(schema, &options).map_err(CliError::runtime)?,
            frames: Frames::default(),
            start: start.unwrap_or_else(|| "{".to_owned()).into_bytes(),
            text: Vec::new(),
            out,
            is_terminal: io::stdout().is_terminal(),
        })
    }

    /// Writes the rows. Blocks while the pipe is full.
    pub fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        self.frames.clear();
        self.text.clear();
        self.encoder
            .encode(rows, &mut self.frames)
            .map_err(io::Error::other)?;
        for object in self.frames.iter() {
            self.text.extend_from_slice(&self.start);
            self.text.extend_from_slice(&object[1..]);
            self.text.push(b'\n');
        }
        if self.is_terminal {
            let text = String::from_utf8_lossy(&self.text);
            return self.lock(|out| out.write_all(printable(&text).as_bytes()));
        }
        self.lock(|out| out.write_all(&self.text))
    }

    pub fn flush(&self) -> io::Result<()> {
        self.lock(|out| out.flush())
    }

    fn lock(&self, act: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut *out)
    }

    /// Writes the rows of a subscription until it ends. Blocks.
    ///
    /// # Errors
    /// When the output cannot be written. A failed query ends the rows; the caller reports it.
    pub fn follow(&mut self, mut rows: Subscription) -> io::Result<()> {
        loop {
            let event = match rows.try_next() {
                Ok(None) => {
                    self.flush()?;
                    rows.next()
                }
                found => found.transpose(),
            };
            match event {
                Some(Ok(Event::Rows(batch))) => self.write(&batch)?,
                Some(Ok(Event::Missed { rows })) => {
                    tracing::warn!(rows, "the output is too slow: rows were missed")
                }
                Some(Ok(Event::Gap { rows, reason })) => {
                    tracing::warn!(rows, reason, "rows are missing");
                }
                Some(Err(_)) | None => return self.flush(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn written(stream: Option<&str>) -> String {
        let out = Arc::new(Mutex::new(Vec::new()));
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([("a", column)]).unwrap();
        JsonLines::new(out.clone(), stream)
            .unwrap()
            .write(&rows)
            .unwrap();
        String::from_utf8(out.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn each_row_is_an_object_on_a_line() {
        assert_eq!(written(None), "{\"a\":1}\n{\"a\":2}\n");
        let named = "{\"_stream\":\"s\\\"\",\"a\":1}\n{\"_stream\":\"s\\\"\",\"a\":2}\n";
        assert_eq!(written(Some("s\"")), named);
    }
}
