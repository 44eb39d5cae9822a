//! Splits a stream of bytes into lines, whatever the blocks it comes in.
//!
//! A line ends with LF or CR LF, which are not part of it. What follows the last line end is kept
//! until more comes, or until [`LineSplitter::finish`] says that nothing will. A line longer than the limit
//! is not collected: its length is counted, and its start handed out when it ends. The byte order mark that
//! some programs put before a text is skipped where the caller says that the text begins.
//!
//! A format may have line ends within a frame, as CSV has in quotes. Then a frame is as many lines as its
//! [`RecordEnd`] says; here "line" means all of them. When they are longer than the limit, they end with the
//! next line end: a quote that is never closed costs no more than one overlong line.

use memchr::memchr;

use crate::formats::{Frames, RecordEnd};
use crate::{Bad, overlong};

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How bytes are cut into frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// The longest line that is a frame, in bytes.
    pub max: usize,
    /// Finds the end of a frame that may have line ends in it.
    pub record_end: Option<RecordEnd>,
}

impl From<usize> for Framing {
    fn from(max: usize) -> Self {
        let record_end = None;
        Self { max, record_end }
    }
}

pub(crate) struct LineSplitter {
    /// The longest line that is a frame, in bytes.
    max: usize,
    record_end: Option<RecordEnd>,
    /// The start of the line that has not ended; at most `max + 5` bytes: room for a line of the
    /// longest length with a mark and its CR, and for one byte more that shows that it is longer.
    partial: Vec<u8>,
    /// The length of that line so far, bytes.
    length: u64,
    /// Where in `partial` the text behind its last line end begins.
    last_line: usize,
    /// Whether the next line that ends is the first one of a text.
    first: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) struct OverlongLine {
    /// Its first bytes: as many as the longest line may have.
    pub start: Vec<u8>,
    /// The length of the line, bytes.
    pub length: u64,
    /// The bytes of the stream that it took: its length, and its line end.
    pub taken: u64,
}

impl OverlongLine {
    /// The bad row for this line, where the longest frame has `max` bytes.
    pub(crate) fn into_bad(self, max: usize) -> Bad {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        overlong(&self.start, length, max)
    }
}

impl LineSplitter {
    pub fn new(framing: impl Into<Framing>) -> Self {
        let Framing { max, record_end } = framing.into();
        Self {
            max,
            record_end,
            partial: Vec::new(),
            length: 0,
            last_line: 0,
            first: false,
        }
    }

    /// Marks what comes next as the start of a text: a byte order mark there is not part of its first
    /// line.
    pub fn begin(&mut self) {
        self.first = true;
    }

    /// Bytes taken of the line that has not ended.
    pub fn pending(&self) -> u64 {
        self.length
    }

    /// Whether the line that has not ended can end only where its quote is closed.
    pub fn is_open(&self) -> bool {
        let Some(mut record_end) = self.record_end.filter(|_| !self.is_cut()) else {
            return false;
        };
        record_end.is_at(&self.partial[self.last_line..]);
        self.length > 0 && record_end.is_open()
    }

    /// Moves the lines of `block` to `frames` until all of it is taken or an overlong line has ended.
    /// Returns the number of bytes taken, and that line.
    pub fn take(&mut self, block: &[u8], frames: &mut Frames) -> (usize, Option<OverlongLine>) {
        // Where the line begins, and the text behind the last line end in it.
        let (mut start, mut last_line) = (0, 0);
        while let Some(length) = memchr(b'\n', &block[last_line..]) {
            let end = last_line + length;
            last_line = end + 1;
            let overlong = if self.length > 0 {
                self.keep(&block[start..end]);
                start = last_line;
                if !self.partial_ends() {
                    self.keep(b"\n");
                    self.last_line = self.partial.len();
                    continue;
                }
                let overlong = self.end_partial(frames);
                overlong.map(|long| OverlongLine {
                    taken: long.taken + 1,
                    ..long
                })
            } else {
                if !self.ends(&block[start..end], end - length - start) {
                    continue;
                }
                let line = &block[start..end];
                start = last_line;
                self.end_whole(line, frames)
            };
            if overlong.is_some() {
                return (start, overlong);
            }
        }
        if self.length == 0 {
            self.last_line = last_line - start;
        }
        self.keep(&block[start..]);
        (block.len(), None)
    }

    /// Whether the line ends here, of which the text behind the last line end begins at `last_line`.
    fn ends(&mut self, line: &[u8], last_line: usize) -> bool {
        let Some(record_end) = &mut self.record_end else {
            return true;
        };
        let text = match last_line == 0 && self.first {
            true => unmarked(line),
            false => &line[last_line..],
        };
        let ends = record_end.is_at(text) || line.len() > self.max;
        if ends {
            record_end.begin();
        }
        ends
    }

    fn partial_ends(&mut self) -> bool {
        if self.is_cut() {
            return true;
        }
        let partial = std::mem::take(&mut self.partial);
        let ends = self.ends(&partial, self.last_line);
        self.partial = partial;
        ends
    }

    /// Whether `partial` does not hold all of the line.
    fn is_cut(&self) -> bool {
        self.length > self.partial.len() as u64
    }

    fn end_whole(&mut self, line: &[u8], frames: &mut Frames) -> Option<OverlongLine> {
        let taken = line.len() as u64 + 1;
        let line = self.without_mark(without_cr(line));
        if line.len() > self.max {
            let start = line[..self.max].to_vec();
            let length = line.len() as u64;
            return Some(OverlongLine {
                start,
                length,
                taken,
            });
        }
        frames.push(line);
        None
    }

    /// Ends the line that has not ended, if there is one.
    pub fn finish(&mut self, frames: &mut Frames) -> Option<OverlongLine> {
        if self.first && self.partial == MARK {
            // An empty text has no line.
            self.partial.clear();
            (self.length, self.first) = (0, false);
        }
        match self.length {
            0 => None,
            _ => self.end_partial(frames),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = self.max.saturating_add(5) - self.partial.len();
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_partial(&mut self, frames: &mut Frames) -> Option<OverlongLine> {
        let whole = !self.is_cut();
        let length = std::mem::take(&mut self.length);
        self.last_line = 0;
        if let Some(record_end) = &mut self.record_end {
            record_end.begin();
        }
        let partial = std::mem::take(&mut self.partial);
        let line = if whole {
            without_cr(&partial)
        } else {
            &partial
        };
        let marked = line.len();
        let line = self.without_mark(line);
        let mark = (marked - line.len()) as u64;
        let overlong = if line.len() > self.max {
            let start = line[..self.max].to_vec();
            Some(OverlongLine {
                start,
                length: if whole {
                    line.len() as u64
                } else {
                    length - mark
                },
                taken: length,
            })
        } else {
            frames.push(line);
            None
        };
        self.partial = partial;
        self.partial.clear();
        overlong
    }

    fn without_mark<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        match std::mem::take(&mut self.first) {
            true => unmarked(line),
            false => line,
        }
    }
}

/// The first line of a text, without its line end; `None` if it does not end.
#[cfg(feature = "file")]
pub(crate) fn first_line(text: &[u8], framing: Framing) -> Option<&[u8]> {
    let text = unmarked(text);
    let mut record_end = framing.record_end;
    let mut last_line = 0;
    for end in memchr::memchr_iter(b'\n', text) {
        let ends = |it: &mut RecordEnd| it.is_at(&text[last_line..end]);
        if record_end.as_mut().is_none_or(ends) {
            return Some(&text[..end]);
        }
        last_line = end + 1;
    }
    None
}

/// The text without the byte order mark before it.
pub(crate) fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines of `text` in blocks of these lengths; an overlong one as `length:start`.
    fn split(max: usize, blocks: &[&[u8]]) -> Vec<String> {
        split_by(LineSplitter::new(max), blocks)
    }

    fn split_by(mut lines: LineSplitter, blocks: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut frames = Frames::default();
        let mut drain =
            |frames: &mut Frames, overlong: Option<OverlongLine>| {
                found.extend(
                    frames
                        .iter()
                        .map(|line| String::from_utf8_lossy(line).into_owned()),
                );
                frames.clear();
                found.extend(overlong.map(|line| {
                    format!("{}:{}", line.length, String::from_utf8_lossy(&line.start))
                }));
            };
        for block in blocks {
            let mut rest = *block;
            while !rest.is_empty() {
                let (taken, overlong) = lines.take(rest, &mut frames);
                drain(&mut frames, overlong);
                rest = &rest[taken..];
            }
        }
        let overlong = lines.finish(&mut frames);
        drain(&mut frames, overlong);
        assert_eq!(lines.pending(), 0);
        found
    }

    #[test]
    fn lines_end_with_lf_or_cr_lf_or_not_at_all() {
        assert_eq!(
            split(9, &[b"a\nb\r\n\n\r\nc\rd\ne"]),
            ["a", "b", "", "", "c\rd", "e"]
        );
        assert_eq!(split(9, &[b"a", b"b\r", b"\nc", b"\n"]), ["ab", "c"]);
    }

    #[test]
    fn overlong_lines_are_handed_out_in_their_place() {
        let text = b"abc\nabcd\nab\nabcdef\r\nabc\r\n";
        assert_eq!(split(3, &[text]), ["abc", "4:abc", "ab", "6:abc", "abc"]);
        assert_eq!(split(0, &[b"\na\n"]), ["", "1:"]);
    }

    #[test]
    fn a_mark_before_the_text_is_left_out_and_counted() {
        let text = |blocks: &[&[u8]]| {
            let mut lines = LineSplitter::new(3);
            lines.begin();
            split_by(lines, blocks)
        };
        let (mark, nothing): (_, [&str; 0]) = ("\u{feff}", []);
        let marked = format!("{mark}abc\r\n{mark}\nd").into_bytes();
        let expected = ["abc", mark, "d"];
        assert_eq!(text(&[&marked]), expected);
        for cut in 1..marked.len() {
            assert_eq!(text(&[&marked[..cut], &marked[cut..]]), expected, "{cut}");
        }
        assert_eq!(text(&[mark.as_bytes(), b"abcd\n"]), ["4:abc"]);
        assert_eq!(text(&[mark.as_bytes(), b"abcdefghi\n"]), ["9:abc"]);
        assert_eq!(text(&[mark.as_bytes(), b"\nx"]), ["", "x"]);
        assert_eq!(text(&[mark.as_bytes()]), nothing);
        assert_eq!(split(3, &[&marked[..6], b"\n"]), ["6:\u{feff}"]);
        let mut lines = LineSplitter::new(3);
        lines.begin();
        let taken = lines.take(b"\xef\xbb\xbfabcd\n", &mut Frames::default());
        assert_eq!(taken.1.map(|long| long.taken), Some(8));
    }

    #[test]
    fn an_overlong_line_counts_the_bytes_it_took() {
        let mut frames = Frames::default();
        for (blocks, taken) in [
            (vec![&b"abcde\nx"[..]], 6),
            (vec![b"abcde\r\nx"], 7),
            (vec![b"abc", b"de\r", b"\nx"], 7),
        ] {
            let mut lines = LineSplitter::new(3);
            let found = blocks
                .iter()
                .find_map(|block| lines.take(block, &mut frames).1);
            assert_eq!(found.unwrap().taken, taken);
        }
        let mut lines = LineSplitter::new(3);
        lines.take(b"abcde", &mut frames);
        assert_eq!(lines.finish(&mut frames).unwrap().taken, 5);
    }

    /// The records of CSV, in blocks cut at every place.
    fn records(max: usize, text: &[u8]) -> Vec<String> {
        let schema = crate::formats::tests::text_schema("v");
        let csv = crate::formats::tests::decoder("csv", schema, &serde_json::Value::Null);
        let record_end = csv.unwrap().record_end();
        let framing = Framing { max, record_end };
        let splitter = || {
            let mut lines = LineSplitter::new(framing);
            lines.begin();
            lines
        };
        let whole = split_by(splitter(), &[text]);
        for cut in 1..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(split_by(splitter(), &[head, tail]), whole, "{cut}");
        }
        whole
    }

    #[test]
    fn a_record_has_line_ends_in_its_quotes() {
        assert_eq!(
            records(99, b"a,\"b\nc\"\r\nd,\"e\"\"\n\"\"\",f\n\"\",\"\n\"\n"),
            ["a,\"b\nc\"", "d,\"e\"\"\n\"\"\",f", "\"\",\"\n\""]
        );
        assert_eq!(records(99, b"a\"b\nc,d\"\ne\n"), ["a\"b", "c,d\"", "e"]);
        assert_eq!(records(99, b"\"a\"b\n\"c\n"), ["\"a\"b", "\"c\n"]);
        assert_eq!(
            records(99, "\u{feff}\"a\nb\"\nc\n".as_bytes()),
            ["\"a\nb\"", "c"]
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_ends_with_the_line_beyond_the_limit() {
        assert_eq!(
            records(8, b"\"ab\ncd\nefgh\nij\n\"k\nl\"\n"),
            ["11:\"ab\ncd\ne", "ij", "\"k\nl\""]
        );
        assert_eq!(records(4, b"\"abcdefghijklmn\"\nx\n"), ["16:\"abc", "x"]);
    }

    #[test]
    fn only_a_quote_keeps_a_line_open() {
        let schema = crate::formats::tests::text_schema("v");
        let csv = crate::formats::tests::decoder("csv", schema, &serde_json::Value::Null);
        let record_end = csv.unwrap().record_end();
        let mut frames = Frames::default();
        for (text, open) in [
            ("a,\"b", true),
            ("\"a\n", true),
            ("\"a\nb\"", false),
            ("a", false),
            ("", false),
        ] {
            let mut lines = LineSplitter::new(Framing { max: 9, record_end });
            lines.take(text.as_bytes(), &mut frames);
            assert_eq!(lines.is_open(), open, "{text}");
        }
    }

    proptest! {
        #[test]
        fn blocks_do_not_matter(
            text in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..60),
            cuts in prop::collection::vec(0..60_usize, 0..6),
            max in 1..6_usize,
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let blocks: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let whole = split(max, &[&text]);
            let lengths = |lines: &[String]| lines.len();
            let cut = split(max, &blocks);
            prop_assert_eq!(lengths(&cut), lengths(&whole));
            let same = cut.iter().zip(&whole).all(|(cut, whole)| {
                cut == whole || (cut.contains(':') && whole.contains(':'))
            });
            prop_assert!(same, "{:?} {:?}", cut, whole);
        }

        #[test]
        fn memory_is_bounded(blocks in prop::collection::vec("[a]{0,50}", 0..20), max in 0..10_usize) {
            let mut lines = LineSplitter::new(max);
            let total: usize = blocks.iter().map(String::len).sum();
            for block in &blocks {
                lines.take(block.as_bytes(), &mut Frames::default());
            }
            prop_assert!(lines.partial.len() <= max + 5);
            prop_assert_eq!(lines.pending(), total as u64);
        }
    }
}
