//! Bad rows for frames larger than the limit, of which only the first bytes are kept.
//!
//! A bad row is stored as bytes and a sentence. Whether its frame was kept whole follows from the length
//! in that sentence, so it is written and read in one place, here.

use std::fmt;

use crate::Bad;

/// The largest copy of an overlong frame that is kept, in bytes.
pub const BAD_COPY_MAX: usize = 64 << 10;

/// The reason of a frame above the limit. Its text is stored, and must not change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FrameTooLong {
    pub length: usize,
    pub max: usize,
}

const BEFORE: &str = "the frame has ";
const BETWEEN: &str = " bytes, the largest taken has ";

impl fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, max } = self;
        write!(f, "{BEFORE}{length}{BETWEEN}{max}")
    }
}

impl FrameTooLong {
    fn parse(reason: &str) -> Option<Self> {
        let (length, max) = reason.strip_prefix(BEFORE)?.split_once(BETWEEN)?;
        let (length, max) = (length.parse().ok()?, max.parse().ok()?);
        Some(Self { length, max })
    }
}

/// The bad row for a frame of `length` bytes, of which `start` is at hand.
///
/// For a source that did not keep the whole frame; [`Output::frame`](crate::Output::frame) does it by
/// itself.
pub fn overlong(start: &[u8], length: usize, max_frame: usize) -> Bad {
    let max = max_frame;
    Bad {
        bytes: start[..start.len().min(BAD_COPY_MAX)].to_vec(),
        reason: FrameTooLong { length, max }.to_string(),
    }
}

/// Whether only a part of the frame was kept, or nothing, so that it cannot be decoded again.
pub(crate) fn is_truncated(bad: &Bad) -> bool {
    let reason = FrameTooLong::parse(&bad.reason);
    bad.bytes.is_empty() || reason.is_some_and(|reason| reason.length > bad.bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_reason_is_read_as_it_is_written() {
        let reason = FrameTooLong { length: 5, max: 4 };
        let text = "the frame has 5 bytes, the largest taken has 4";
        assert_eq!(reason.to_string(), text);
        assert_eq!(FrameTooLong::parse(text), Some(reason));
        assert_eq!(FrameTooLong::parse("the frame has no bytes"), None);
    }

    #[test]
    fn a_frame_is_truncated_if_bytes_are_missing() {
        let kept = |start: &[u8], length| overlong(start, length, 2);
        assert!(is_truncated(&kept(b"abc", 4)));
        assert!(is_truncated(&kept(b"", 4)));
        assert!(!is_truncated(&kept(b"abcd", 4)));
    }
}
