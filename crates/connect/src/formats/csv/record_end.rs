//! Finds where a record ends that may have line ends within quotes.

use memchr::memchr;

use super::Dialect;

/// Goes through a text line by line. As in `record.rs`, a quote opens a field only at its start.
#[derive(Debug, Clone, Copy)]
pub struct RecordEnd {
    dialect: Dialect,
    /// Whether the lines so far end within quotes.
    open: bool,
}

impl RecordEnd {
    pub(super) fn new(dialect: Dialect) -> Self {
        let open = false;
        Self { dialect, open }
    }

    /// Whether the lines so far end within quotes.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// What comes next is the start of a record.
    pub(crate) fn begin(&mut self) {
        self.open = false;
    }

    /// Whether the record ends with this line, which is given without its LF.
    pub(crate) fn is_at(&mut self, line: &[u8]) -> bool {
        let Dialect { delimiter, quote } = self.dialect;
        if !self.open && memchr(quote, line).is_none() {
            return true;
        }
        let mut at = 0;
        loop {
            if !self.open {
                self.open = line.get(at) == Some(&quote);
                if !self.open {
                    match memchr(delimiter, &line[at..]) {
                        Some(length) => at += length + 1,
                        None => return true,
                    }
                    continue;
                }
                at += 1;
            }
            let Some(length) = memchr(quote, &line[at..]) else {
                return false;
            };
            at += length + 1;
            if line.get(at) == Some(&quote) {
                at += 1;
                continue;
            }
            self.open = false;
            match line.get(at) {
                Some(next) if *next == delimiter => at += 1,
                // The line ends, or it is malformed.
                _ => return true,
            }
        }
    }
}
