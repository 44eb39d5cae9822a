//! Rows for a pipe: a JSON object a line, each batch written as a whole.
//!
//! Each subscription has a thread that waits for its rows; the standard output is one, and taken for a
//! batch at a time. It is flushed whenever no further rows are there. When several things are shown
//! each object says of which it is a row, under `_stream`.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use headwater::connect::formats::{Encoder, Frames, format};
use headwater::connect::options::check;
use headwater::{Event, Subscription};

use crate::failure::Failure;

/// Where lines go; shared by all that write.
pub type Out = Arc<Mutex<dyn Write + Send>>;

/// Writes rows as lines.
pub struct Lines {
    encoder: Box<dyn Encoder>,
    frames: Frames,
    /// What each object begins with.
    start: Vec<u8>,
    text: Vec<u8>,
    out: Out,
}

impl Lines {
    /// Writes to `out`; `stream` is told with each row if it is not the only one.
    pub fn new(out: Out, stream: Option<&str>) -> Result<Self, Failure> {
        let json = format("json").and_then(|json| Some((json.encoder?, json.encoder_options)));
        let (encoder, options) = json.ok_or_else(|| Failure::runtime("there is no format json"))?;
        let options = check::<()>("json", options.as_slice(), &[]);
        let options = options.map_err(|_| Failure::runtime("the format json needs options"))?;
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let start = stream.map(|name| {
            let name = serde_json::Value::from(name);
            format!("{{\"_stream\":{name},")
        });
        Ok(Self {
            encoder: encoder(schema, &options).map_err(Failure::runtime)?,
            frames: Frames::default(),
            start: start.unwrap_or_else(|| "{".to_owned()).into_bytes(),
            text: Vec::new(),
            out,
        })
    }

    /// Writes the rows. Blocks while nobody reads the pipe.
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
        self.lock(|out| out.write_all(&self.text))
    }

    /// Pushes out what is buffered.
    pub fn flush(&self) -> io::Result<()> {
        self.lock(|out| out.flush())
    }

    fn lock(&self, act: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut *out)
    }

    /// Writes all that a subscription gives, to its end. Blocks.
    ///
    /// # Errors
    /// When nobody reads any more. A query that failed is told of elsewhere.
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
                Some(Ok(Event::Missed { rows })) => tracing::warn!(rows, "rows were missed"),
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
        Lines::new(out.clone(), stream)
            .unwrap()
            .write(&rows)
            .unwrap();
        String::from_utf8(out.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn an_object_a_line() {
        assert_eq!(written(None), "{\"a\":1}\n{\"a\":2}\n");
        let named = "{\"_stream\":\"s\\\"\",\"a\":1}\n{\"_stream\":\"s\\\"\",\"a\":2}\n";
        assert_eq!(written(Some("s\"")), named);
    }
}
