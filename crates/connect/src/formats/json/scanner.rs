//! A position in a run of JSON frames, and the tokens that can be read from it.
//!
//! The scanner sees the whole run but stops at the end of its frame: reading eight or sixteen bytes
//! at a time may look into the next frame, and every token checks that it ended within its own.
//! The run is valid UTF-8, at least within this frame; that was checked before.

use std::borrow::Cow;

use super::super::fault::DecodeFault;
use super::super::number::{self, Number, word};

/// The deepest nesting that is skipped: one bit each in a `u128`.
const DEPTH_MAX: u32 = 128;

pub(super) struct JsonScanner<'a> {
    buf: &'a [u8],
    /// The next byte to read; at most `end` after every successful call.
    pub(super) at: usize,
    /// The end of the frame; at most the length of `buf`.
    end: usize,
}

impl<'a> JsonScanner<'a> {
    pub(super) fn new(buf: &'a [u8], at: usize, end: usize) -> Self {
        debug_assert!(at <= end && end <= buf.len());
        Self { buf, at, end }
    }

    /// The bytes from `start` up to here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.buf[start..self.at]
    }

    /// Whether `text` comes next, within the frame.
    #[inline]
    pub(super) fn starts_with(&self, text: &[u8]) -> bool {
        self.buf[self.at..self.end].starts_with(text)
    }

    /// The byte at any position of the run, or 0 beyond it.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.buf.get(at).copied().unwrap_or(0)
    }

    /// The well-formed value at `at`; what is left of the frame if it is not one.
    pub(super) fn value_at(&self, at: usize) -> &'a [u8] {
        let mut scan = JsonScanner { at, ..*self };
        scan.skip_rest_if_malformed();
        scan.since(at)
    }

    /// Moves past the value that is next, or to the end of the frame.
    pub(super) fn skip_rest_if_malformed(&mut self) {
        if self.skip_value().is_err() {
            self.at = self.end;
        }
    }

    /// Moves to the end of the frame, which must be one value and blanks.
    pub(super) fn whole_value(&mut self) -> Result<(), DecodeFault> {
        self.blanks();
        if self.at_end() {
            return Err(DecodeFault::Empty);
        }
        self.skip_value()?;
        self.blanks();
        if self.at_end() {
            Ok(())
        } else {
            Err(DecodeFault::Trailing)
        }
    }

    /// Whether the frame has this many bytes more.
    #[inline(always)]
    pub(super) fn holds(&self, length: usize) -> bool {
        self.end - self.at.min(self.end) >= length
    }

    /// Whether the next 16 bytes equal `text` under `mask`; `None` where they cannot be looked at.
    #[inline(always)]
    pub(super) fn matches(&self, text: [u64; 2], mask: [u64; 2]) -> Option<bool> {
        let next = self.buf.get(self.at..)?.first_chunk::<16>()?;
        let (low, high) = next.split_at(8);
        let low = u64::from_le_bytes(low.try_into().ok()?) ^ text[0];
        let high = u64::from_le_bytes(high.try_into().ok()?) ^ text[1];
        Some((low & mask[0]) | (high & mask[1]) == 0)
    }

    /// The next byte, or 0, which no token has, at the end.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        if self.at < self.end {
            self.buf[self.at]
        } else {
            0
        }
    }

    #[inline(always)]
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.end
    }

    #[inline(always)]
    pub(super) fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// Takes `byte`, or fails with `fault`, or with `Ended` at the end.
    #[inline(always)]
    pub(super) fn expect(&mut self, byte: u8, fault: DecodeFault) -> Result<(), DecodeFault> {
        if self.peek() != byte {
            return Err(if self.at_end() {
                DecodeFault::Ended
            } else {
                fault
            });
        }
        self.at += 1;
        Ok(())
    }

    /// Takes `word`, which starts with the byte that is next.
    #[inline]
    pub(super) fn literal(&mut self, word: &[u8]) -> Result<(), DecodeFault> {
        if !self.starts_with(word) {
            return Err(DecodeFault::NoValue);
        }
        self.at += word.len();
        Ok(())
    }

    /// A number, or a string that holds nothing but one.
    #[inline(always)]
    pub(super) fn numeric(&mut self) -> Result<Number<'a>, DecodeFault> {
        match self.peek() {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => {
                let (number, end) = number::scan(self.buf, self.at + 1).ok_or(DecodeFault::Type)?;
                if end >= self.end || self.buf[end] != b'"' {
                    return Err(DecodeFault::Type);
                }
                self.at = end + 1;
                Ok(number)
            }
            _ => Err(DecodeFault::Type),
        }
    }

    /// The float that is next, of which `numeric` said `fault`: NaN or an infinity in a string.
    #[cold]
    pub(super) fn non_finite(&mut self, fault: DecodeFault) -> Result<f64, DecodeFault> {
        if self.peek() != b'"' {
            return Err(fault);
        }
        number::non_finite(&self.string()?).ok_or(fault)
    }

    #[inline(always)]
    pub(super) fn number(&mut self) -> Result<Number<'a>, DecodeFault> {
        let (number, end) = number::scan(self.buf, self.at).ok_or(DecodeFault::BadNumber)?;
        if end > self.end {
            return Err(DecodeFault::Ended);
        }
        self.at = end;
        Ok(number)
    }

    /// Moves to the quote, backslash or control character that is next in a string.
    #[inline(always)]
    fn special(&mut self) -> Result<u8, DecodeFault> {
        while let Some(word) = word(self.buf, self.at) {
            let found = specials(word);
            if found != 0 {
                self.at += (found.trailing_zeros() / 8) as usize;
                return self.special_here();
            }
            self.at += 8;
        }
        while self
            .buf
            .get(self.at)
            .is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20))
        {
            self.at += 1;
        }
        self.special_here()
    }

    #[inline(always)]
    fn special_here(&self) -> Result<u8, DecodeFault> {
        match self.peek() {
            _ if self.at_end() => Err(DecodeFault::Ended),
            0..0x20 => Err(DecodeFault::ControlCharacter),
            byte => Ok(byte),
        }
    }

    /// Appends the content of the string whose opening quote is next.
    #[inline(always)]
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> Result<(), DecodeFault> {
        self.at += 1;
        let start = self.at;
        if self.special()? == b'"' {
            append(self.buf, start, self.at - start, out);
            self.at += 1;
            return Ok(());
        }
        self.escaped_into(start, out)
    }

    /// Appends a string from `start` on, which is at its first backslash now.
    #[cold]
    fn escaped_into(&mut self, start: usize, out: &mut Vec<u8>) -> Result<(), DecodeFault> {
        out.extend_from_slice(self.since(start));
        loop {
            let start = self.at;
            if self.special()? == b'"' {
                out.extend_from_slice(self.since(start));
                self.at += 1;
                return Ok(());
            }
            out.extend_from_slice(self.since(start));
            let unescaped = self.escape()?.ok_or(DecodeFault::LoneSurrogate)?;
            out.extend_from_slice(unescaped.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// The content of the string whose opening quote is next.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, DecodeFault> {
        self.at += 1;
        let start = self.at;
        if self.special()? == b'"' {
            let content = self.since(start);
            self.at += 1;
            return Ok(Cow::Borrowed(content));
        }
        let mut content = Vec::new();
        self.escaped_into(start, &mut content)?;
        Ok(Cow::Owned(content))
    }

    /// The character that the escape here means; `None` for half of a surrogate pair.
    fn escape(&mut self) -> Result<Option<char>, DecodeFault> {
        self.at += 1;
        let escape = self.peek();
        self.at += 1;
        Ok(Some(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(DecodeFault::BadEscape),
        }))
    }

    fn unicode_escape(&mut self) -> Result<Option<char>, DecodeFault> {
        let high = self.four_hex()?;
        if !(0xd800..0xdc00).contains(&high) || !self.starts_with(b"\\u") {
            return Ok(char::from_u32(high));
        }
        let before = self.at;
        self.at += 2;
        let low = self.four_hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            self.at = before;
            return Ok(None);
        }
        Ok(char::from_u32(
            0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00),
        ))
    }

    fn four_hex(&mut self) -> Result<u32, DecodeFault> {
        let digits = self.buf[self.at..self.end]
            .first_chunk::<4>()
            .ok_or(DecodeFault::Ended)?;
        let add = |value: u32, byte: &u8| Some(value * 16 + char::from(*byte).to_digit(16)?);
        let value = digits
            .iter()
            .try_fold(0, add)
            .ok_or(DecodeFault::BadEscape)?;
        self.at += 4;
        Ok(value)
    }

    #[inline]
    fn skip_string(&mut self) -> Result<(), DecodeFault> {
        self.at += 1;
        while self.special()? == b'\\' {
            self.escape()?;
        }
        self.at += 1;
        Ok(())
    }

    /// Moves past the value that is next, of any kind, and checks that it is one.
    #[inline]
    pub(super) fn skip_value(&mut self) -> Result<(), DecodeFault> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'{' | b'[' => self.skip_nested(),
            _ if self.at_end() => Err(DecodeFault::Ended),
            _ => Err(DecodeFault::NoValue),
        }
    }

    fn skip_nested(&mut self) -> Result<(), DecodeFault> {
        // Bit 0: whether the innermost open value is an object.
        let (mut objects, mut depth) = (0_u128, 0);
        loop {
            // A value is next.
            match self.peek() {
                open @ (b'{' | b'[') => {
                    if depth == DEPTH_MAX {
                        return Err(DecodeFault::TooDeep);
                    }
                    self.at += 1;
                    self.blanks();
                    if self.peek() == open + 2 {
                        self.at += 1;
                    } else {
                        depth += 1;
                        objects = objects << 1 | u128::from(open == b'{');
                        if open == b'{' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                _ => self.skip_value()?,
            }
            // A value has ended: so may those around it.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.blanks();
                let in_object = objects & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        self.blanks();
                        if in_object {
                            self.skip_key()?;
                        }
                        break;
                    }
                    b'}' if in_object => self.at += 1,
                    b']' if !in_object => self.at += 1,
                    _ if self.at_end() => return Err(DecodeFault::Ended),
                    _ => return Err(DecodeFault::NoComma),
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Moves past a key and its colon, up to the value.
    fn skip_key(&mut self) -> Result<(), DecodeFault> {
        if self.peek() != b'"' {
            return Err(if self.at_end() {
                DecodeFault::Ended
            } else {
                DecodeFault::NoKey
            });
        }
        self.skip_string()?;
        self.blanks();
        self.expect(b':', DecodeFault::NoColon)?;
        self.blanks();
        Ok(())
    }
}

/// Marks with its high bit the first byte that is a quote, a backslash or below a blank. Bytes after
/// it may be marked wrongly.
#[inline(always)]
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero_in(word ^ (ONES * b'"' as u64));
    let backslash = zero_in(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGH
}

/// Appends `buf[start..start + length]`; short pieces by one copy of a fixed size.
#[inline(always)]
fn append(buf: &[u8], start: usize, length: usize, out: &mut Vec<u8>) {
    match buf.get(start..).and_then(<[u8]>::first_chunk::<16>) {
        Some(chunk) if length <= 16 => {
            let end = out.len() + length;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => out.extend_from_slice(&buf[start..start + length]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &str) -> Result<usize, DecodeFault> {
        let mut scan = JsonScanner::new(text.as_bytes(), 0, text.len());
        scan.skip_value().map(|()| scan.at)
    }

    #[test]
    fn values_are_skipped_whole() {
        for text in [
            "1",
            "-0.5e+3",
            "true",
            "null",
            "\"a\\u00e9\\\"b\"",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1, [2, {\"a\" : [ ]}], \"]\"]",
            "{\"a\":{\"b\":[1,2]},\"c\":\"}\"}",
        ] {
            assert_eq!(skip(text), Ok(text.len()), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (text, fault) in [
            ("", DecodeFault::Ended),
            ("[", DecodeFault::Ended),
            ("{\"a\"", DecodeFault::Ended),
            ("\"a", DecodeFault::Ended),
            ("[1", DecodeFault::Ended),
            ("[1 2]", DecodeFault::NoComma),
            ("[1}", DecodeFault::NoComma),
            ("{1:2}", DecodeFault::NoKey),
            ("{\"a\" 1}", DecodeFault::NoColon),
            ("[1,]", DecodeFault::NoValue),
            ("{\"a\":1,}", DecodeFault::NoKey),
            ("nul", DecodeFault::NoValue),
            ("01", DecodeFault::BadNumber),
            ("\"\\x\"", DecodeFault::BadEscape),
            ("\"\\u12g4\"", DecodeFault::BadEscape),
            ("NaN", DecodeFault::NoValue),
            ("\"a\nb\"", DecodeFault::ControlCharacter),
        ] {
            assert_eq!(skip(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(skip(&nested(128)), Ok(256));
        assert_eq!(skip(&nested(129)), Err(DecodeFault::TooDeep));
        assert_eq!(skip(&"[".repeat(1_000_000)), Err(DecodeFault::TooDeep));
    }

    #[test]
    fn a_token_may_not_reach_into_the_next_frame() {
        for (text, end) in [
            ("12345678901234567890", 3),
            ("\"abcdefghijkl\"", 5),
            ("true", 2),
            ("[1]", 2),
        ] {
            let mut scan = JsonScanner::new(text.as_bytes(), 0, end);
            assert!(scan.skip_value().is_err(), "{text}");
        }
    }

    #[test]
    fn specials_are_found_at_every_position() {
        for special in [b'"', b'\\', 0, 0x1f] {
            for position in 0..8 {
                for filler in [b'a', b' ', b'!', b'#', 0x7f, 0x80, 0xff, b']', b'['] {
                    let mut bytes = [filler; 8];
                    bytes[position] = special;
                    let found = specials(u64::from_le_bytes(bytes));
                    assert_eq!(found.trailing_zeros() / 8, position as u32);
                }
            }
        }
        assert_eq!(
            specials(u64::from_le_bytes([
                0x80, 0xff, b' ', b'!', b'~', 0x7f, 0xa2, 0xdc
            ])),
            0
        );
    }
}
