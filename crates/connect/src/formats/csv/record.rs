//! Cuts text into the fields of one record.

use super::Dialect;

/// The fields of one record.
#[derive(Default)]
pub(super) struct CsvRecord {
    /// The fields back to back, without their quotes.
    bytes: Vec<u8>,
    /// Where each ends, and whether it was quoted.
    ends: Vec<(usize, bool)>,
}

impl CsvRecord {
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, &(end, quoted))| (&self.bytes[start..end], quoted))
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Reads the record at the start of `text`; returns its length with the line's end, or what is
    /// wrong with it.
    pub(super) fn read(&mut self, text: &[u8], dialect: Dialect) -> Result<usize, &'static str> {
        self.bytes.clear();
        self.ends.clear();
        let mut at = 0;
        loop {
            let quoted = text.get(at) == Some(&dialect.quote);
            at = match quoted {
                true => self.quoted(text, at + 1, dialect.quote)?,
                false => self.plain(text, at, dialect.delimiter),
            };
            self.ends.push((self.bytes.len(), quoted));
            match text[at..] {
                [] => return Ok(at),
                [b'\n', ..] => return Ok(at + 1),
                [b'\r', b'\n', ..] => return Ok(at + 2),
                [b'\r'] => return Ok(at + 1),
                [next, ..] if next == dialect.delimiter => at += 1,
                _ => return Err("something follows the closing quote of a field"),
            }
        }
    }

    /// Takes the field from `start` to the next delimiter or line end, and returns where that is.
    fn plain(&mut self, text: &[u8], start: usize, delimiter: u8) -> usize {
        let rest = &text[start..];
        let mut length = memchr::memchr2(delimiter, b'\n', rest).unwrap_or(rest.len());
        if rest[..length].ends_with(b"\r") && rest.get(length) != Some(&delimiter) {
            length -= 1;
        }
        self.bytes.extend_from_slice(&rest[..length]);
        start + length
    }

    /// Takes the field that starts behind its opening quote, and returns where it has ended.
    fn quoted(&mut self, text: &[u8], mut at: usize, quote: u8) -> Result<usize, &'static str> {
        loop {
            let length = memchr::memchr(quote, &text[at..])
                .ok_or("the quote of a field is not closed before the frame ends")?;
            self.bytes.extend_from_slice(&text[at..at + length]);
            at += length + 1;
            if text.get(at) != Some(&quote) {
                return Ok(at);
            }
            self.bytes.push(quote);
            at += 1;
        }
    }
}
