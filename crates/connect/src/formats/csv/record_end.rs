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
    ///
    /// Goes from quote to quote: one that opens a field is the first of the record or behind a delimiter.
    pub(crate) fn is_at(&mut self, line: &[u8]) -> bool {
        let Dialect { delimiter, quote } = self.dialect;
        let mut at = 0;
        while let Some(length) = memchr(quote, &line[at..]) {
            let found = at + length;
            at = found + 1;
            if !self.open {
                self.open = found == 0 || line[found - 1] == delimiter;
                continue;
            }
            match line.get(at) {
                Some(next) if *next == quote => at += 1,
                Some(next) if *next == delimiter => {
                    self.open = line.get(at + 1) == Some(&quote);
                    at += if self.open { 2 } else { 1 };
                }
                // The line ends, or it is malformed.
                _ => {
                    self.open = false;
                    return true;
                }
            }
        }
        !self.open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Field by field, as `record.rs` reads.
    fn ends(open: bool, line: &[u8]) -> (bool, bool) {
        let (mut open, mut at) = (open, 0);
        loop {
            if !open {
                if line.get(at) != Some(&b'"') {
                    match line[at..].iter().position(|byte| *byte == b',') {
                        Some(length) => at += length + 1,
                        None => return (true, false),
                    }
                    continue;
                }
                (open, at) = (true, at + 1);
            }
            let Some(length) = line[at..].iter().position(|byte| *byte == b'"') else {
                return (false, true);
            };
            at += length + 1;
            match line.get(at) {
                Some(b'"') => at += 1,
                Some(b',') => (open, at) = (false, at + 1),
                _ => return (true, false),
            }
        }
    }

    proptest! {
        #[test]
        fn quotes_alone_say_what_fields_say(open: bool, line in "[a,\"\r]{0,12}") {
            let dialect = Dialect { delimiter: b',', quote: b'"' };
            let mut end = RecordEnd { dialect, open };
            let found = end.is_at(line.as_bytes());
            prop_assert_eq!((found, end.is_open()), ends(open, line.as_bytes()));
        }
    }
}
