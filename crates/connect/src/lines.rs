//! Splits a stream of bytes into lines, whatever the blocks it comes in.
//!
//! A line ends with LF or CR LF, which are not part of it. What follows the last line end is kept
//! until more comes, or until [`LineSplitter::finish`] says that nothing will. A line longer than the limit
//! is not collected: its length is counted, and its start handed out when it ends. The byte order mark that
//! some programs put before a text is skipped where the caller says that the text begins.

use memchr::memchr;

use crate::formats::Frames;
use crate::{Bad, overlong};

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

pub(crate) struct LineSplitter {
    /// The longest line that is a frame, in bytes.
    max: usize,
    /// The start of the line that has not ended; at most `max + 5` bytes: room for a line of the
    /// longest length with a mark and its CR, and for one byte more that shows that it is longer.
    partial: Vec<u8>,
    /// The length of that line so far, bytes.
    length: u64,
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
    /// Splits into lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            partial: Vec::new(),
            length: 0,
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

    /// Moves the lines of `block` to `frames` until all of it is taken or an overlong line has ended.
    /// Returns the number of bytes taken, and that line.
    pub fn take(&mut self, block: &[u8], frames: &mut Frames) -> (usize, Option<OverlongLine>) {
        let mut at = 0;
        if self.length > 0 {
            let Some(end) = memchr(b'\n', block) else {
                self.keep(block);
                return (block.len(), None);
            };
            self.keep(&block[..end]);
            at = end + 1;
            if let Some(mut overlong) = self.end_partial(frames) {
                overlong.taken += 1;
                return (at, Some(overlong));
            }
        }
        while let Some(length) = memchr(b'\n', &block[at..]) {
            let line = self.without_mark(without_cr(&block[at..at + length]));
            at += length + 1;
            if line.len() > self.max {
                let start = line[..self.max].to_vec();
                let overlong = OverlongLine {
                    start,
                    length: line.len() as u64,
                    taken: length as u64 + 1,
                };
                return (at, Some(overlong));
            }
            frames.push(line);
        }
        self.keep(&block[at..]);
        (block.len(), None)
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
        let length = std::mem::take(&mut self.length);
        let whole = length == self.partial.len() as u64;
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
