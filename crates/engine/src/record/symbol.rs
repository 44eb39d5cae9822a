//! A short text stored inside its record: no allocation, no pointer, `Copy`.
//!
//! A record whose texts are symbols is pushed without an allocation, and its column is written by
//! copying `N` bytes at a time, whatever the length:
//!
//! ```text
//!   bytes  A A P L 0 0 0 0     zeros after the text, so that derived Eq, Ord and Hash are the text's
//!   len    4
//! ```

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use arrow::array::{ArrayRef, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::codec::{Refusal, Scalar, Values};
use super::text::{room, text, text_views};

/// A text of at most `N` bytes of UTF-8, stored inline; `N` is at most 255.
///
/// ```
/// use headwater::Symbol;
///
/// let symbol: Symbol<8> = "AAPL".parse()?;
/// assert_eq!(symbol, "AAPL");
/// assert_eq!(size_of_val(&symbol), 9);
/// assert!(Symbol::<4>::new("GOOGL").is_err());
/// # Ok::<(), headwater::SymbolTooLong>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol<const N: usize> {
    /// UTF-8 in `..len`, zeros from there on.
    bytes: [u8; N],
    len: u8,
}

/// A text that is longer than its [`Symbol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} has {} bytes, the symbol holds {limit}", .text.len())]
pub struct SymbolTooLong {
    /// The text that does not fit.
    pub text: String,
    /// The `N` of the symbol, in bytes.
    pub limit: usize,
}

impl<const N: usize> Symbol<N> {
    /// A symbol that holds a copy of the text.
    ///
    /// # Errors
    ///
    /// When the text has more than `N` bytes; it is never truncated.
    pub fn new(text: &str) -> Result<Self, SymbolTooLong> {
        const { assert!(N <= u8::MAX as usize, "a Symbol holds at most 255 bytes") };
        let mut symbol = Self::default();
        let Some(bytes) = symbol.bytes.get_mut(..text.len()) else {
            let text = text.to_owned();
            return Err(SymbolTooLong { text, limit: N });
        };
        bytes.copy_from_slice(text.as_bytes());
        symbol.len = text.len() as u8;
        Ok(symbol)
    }

    /// The text without the zeros after it.
    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..usize::from(self.len)];
        // `bytes` came from a `str` of exactly this length, so the default is never taken.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl<const N: usize> Scalar for Symbol<N> {
    type Array = StringViewArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn write<'a>(
        values: impl Values<'a, Self>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Refusal> {
        let empty = Self::default();
        let lengths = values
            .clone()
            .map(|value| value.map_or(0, |symbol| usize::from(symbol.len)));
        let mut joined = room(lengths)?;
        joined.bytes.reserve(N);
        for value in values {
            let symbol = value.unwrap_or(&empty);
            let end = joined.bytes.len() + usize::from(symbol.len);
            // Copies all N bytes and truncates: a copy of fixed length is a few moves, not a call.
            joined.bytes.extend_from_slice(&symbol.bytes);
            joined.bytes.truncate(end);
            joined.offsets.push(end as i32);
        }
        text(joined, nulls)
    }

    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
        text_views(array)
    }

    fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
        Self::new(array.value(row)).map_err(|e| Refusal::Row(row, e.to_string()))
    }
}

impl<const N: usize> Default for Symbol<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Deref for Symbol<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> FromStr for Symbol<N> {
    type Err = SymbolTooLong;

    fn from_str(text: &str) -> Result<Self, SymbolTooLong> {
        Self::new(text)
    }
}

impl<const N: usize> PartialEq<str> for Symbol<N> {
    fn eq(&self, text: &str) -> bool {
        self.bytes[..usize::from(self.len)] == *text.as_bytes()
    }
}

impl<const N: usize> PartialEq<&str> for Symbol<N> {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

impl<const N: usize> fmt::Debug for Symbol<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for Symbol<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_behave_as_their_text() {
        let symbol: Symbol<8> = "AAPL".parse().unwrap();
        assert_eq!(format!("{symbol:>6}|{symbol:?}"), "  AAPL|\"AAPL\"");
        assert!(symbol == *"AAPL" && symbol != "AAP" && symbol.starts_with("AA"));
        assert_eq!(Symbol::<8>::default(), "");
        assert!(Symbol::<8>::new("AA").unwrap() < symbol && symbol < Symbol::new("B").unwrap());
        assert_eq!(Symbol::<3>::new("€").unwrap(), "€");
        let expected = "\"NINELETTR\" has 9 bytes, the symbol holds 8";
        assert_eq!(
            Symbol::<8>::new("NINELETTR").unwrap_err().to_string(),
            expected
        );
    }
}
