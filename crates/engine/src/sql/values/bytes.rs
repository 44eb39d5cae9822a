//! Bytes as PostgreSQL reads and writes them: the text of a BYTEA, and the formats of `encode` and `decode`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sql::{SqlError, sqlstate};

/// What begins the text of a BYTEA in hexadecimal digits.
const HEX_PREFIX: &str = "\\x";

/// The bytes that the text of a BYTEA stands for: `\x00ff`, or letters with `\\` and `\377` among them.
pub(super) fn read(text: &str) -> Result<Vec<u8>, SqlError> {
    match text.strip_prefix(HEX_PREFIX) {
        Some(digits) => BytesFormat::Hex.read(digits),
        None => BytesFormat::Escape.read(text),
    }
}

/// A format of bytes in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BytesFormat {
    Hex,
    Base64,
    Escape,
}

impl BytesFormat {
    pub fn named(name: &str) -> Result<Self, SqlError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "hex" => Self::Hex,
            "base64" => Self::Base64,
            "escape" => Self::Escape,
            _ => {
                let error = invalid(format!("unrecognized encoding: {name:?}"));
                return Err(error.hint("The encodings are 'hex', 'base64' and 'escape'."));
            }
        })
    }

    /// Appends the text of the bytes.
    pub fn write(self, bytes: &[u8], out: &mut String) {
        match self {
            Self::Hex => push_each(bytes, out, |byte, out| {
                // Writing to a string cannot fail.
                let _ = write!(out, "{byte:02x}");
            }),
            Self::Base64 => {
                /// Letters of a line, as MIME has them.
                const LINE: usize = 76;
                let text = STANDARD.encode(bytes);
                for line in text.as_bytes().chunks(LINE) {
                    out.extend(line.iter().map(|&letter| char::from(letter)));
                    // Behind a whole line, also the last.
                    out.push_str(if line.len() == LINE { "\n" } else { "" });
                }
            }
            Self::Escape => push_each(bytes, out, |byte, out| match byte {
                b'\\' => out.push_str("\\\\"),
                1..=0x7f => out.push(char::from(byte)),
                _ => {
                    let _ = write!(out, "\\{byte:03o}");
                }
            }),
        }
    }

    /// The bytes that the text stands for.
    pub fn read(self, text: &str) -> Result<Vec<u8>, SqlError> {
        match self {
            Self::Hex => read_hex(text),
            Self::Base64 => {
                let letters: Vec<u8> = text.bytes().filter(|it| !is_blank(*it)).collect();
                let read = STANDARD.decode(letters);
                read.map_err(|_| invalid(format!("{text:?} is no text in base64")))
            }
            Self::Escape => read_escaped(text).ok_or_else(|| {
                let message = format!("invalid input syntax for type bytea: {text:?}");
                SqlError::new(sqlstate::INVALID_TEXT, message).hint(
                    "Write a backslash twice, any byte as \\ooo in octal digits, or all as \\x and hexadecimal digits.",
                )
            }),
        }
    }
}

fn push_each(bytes: &[u8], out: &mut String, push: impl Fn(u8, &mut String)) {
    bytes.iter().for_each(|&byte| push(byte, out));
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(sqlstate::INVALID_PARAMETER, message)
}

fn read_hex(text: &str) -> Result<Vec<u8>, SqlError> {
    let mut digits = text.chars().filter(|it| !it.is_ascii_whitespace());
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let value = |digit: char| {
        let value = digit.to_digit(16).map(|it| it as u8);
        value.ok_or_else(|| invalid(format!("invalid hexadecimal digit: \"{digit}\"")))
    };
    while let Some(high) = digits.next() {
        let high = value(high)?;
        let low = digits
            .next()
            .ok_or_else(|| invalid("invalid hexadecimal data: odd number of digits"))?;
        bytes.push(high << 4 | value(low)?);
    }
    Ok(bytes)
}

fn read_escaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let (value, behind) = match (byte, behind) {
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    behind @ ..,
                ],
            ) => ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), behind),
            (b'\\', _) => return None,
            (plain, behind) => (plain, behind),
        };
        bytes.push(value);
        rest = behind;
    }
    Some(bytes)
}
