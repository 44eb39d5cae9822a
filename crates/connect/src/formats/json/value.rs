//! How one JSON value becomes one value of a column.
//!
//! `null` is NULL. A numeric column takes a number, or a string with nothing but a number in it, as
//! exchanges send prices. A VARCHAR takes a string, and the raw text of an object or array. A
//! TIMESTAMP takes RFC 3339 text or a number since 1970 in the unit of the options; a DATE takes
//! `YYYY-MM-DD` or a number of days; a BINARY takes base64. Everything else is of the wrong type.

use super::super::column::{Column, Values};
use super::super::fault::Fault;
use super::scan::Scan;

impl Column {
    /// Appends the value that is next in `scan`. After a fault the column may hold a part of the
    /// value, or one value too many: truncate it.
    #[inline(always)]
    pub(super) fn json(&mut self, scan: &mut Scan<'_>) -> Result<(), Fault> {
        if scan.peek() == b'n' {
            scan.literal(b"null")?;
            return self.null();
        }
        match &mut self.values {
            Values::Text(values) => {
                match scan.peek() {
                    b'"' => scan.string_into(&mut values.bytes)?,
                    b'{' | b'[' => {
                        let start = scan.at;
                        scan.skip_value()?;
                        values.bytes.extend_from_slice(scan.since(start));
                    }
                    _ => return Err(Fault::Type),
                }
                values.end_value()
            }
            Values::Float64(values) => {
                values.push(scan.numeric()?.float64()?);
                Ok(())
            }
            Values::Integer { values, min, max } => {
                values.push(scan.numeric()?.whole_within(*min, *max)?);
                Ok(())
            }
            Values::Timestamp { .. } if scan.peek() != b'"' => self.values.number(scan.numeric()?),
            values => values.json(scan),
        }
    }
}

impl Values {
    /// The types that are not worth a place in every loop.
    fn json(&mut self, scan: &mut Scan<'_>) -> Result<(), Fault> {
        match self {
            Self::Boolean(values) => match scan.peek() {
                b't' => scan.literal(b"true").map(|()| values.push(true)),
                b'f' => scan.literal(b"false").map(|()| values.push(false)),
                _ => Err(Fault::Type),
            },
            Self::Date(_) | Self::Timestamp { .. } if scan.peek() == b'"' => {
                self.text(&scan.string()?)
            }
            Self::Binary(_) if scan.peek() == b'"' => self.text(&scan.string()?),
            Self::Binary(_) => Err(Fault::Type),
            Self::List { ends, items } => {
                list(items, scan)?;
                ends.push(i32::try_from(items.len()).map_err(|_| Fault::TooLarge)?);
                Ok(())
            }
            Self::Struct(object) if scan.peek() == b'{' => object.append(scan),
            Self::Struct(_) => Err(Fault::Type),
            _ => self.number(scan.numeric()?),
        }
    }
}

/// Appends the items of the array that is next.
fn list(items: &mut Column, scan: &mut Scan<'_>) -> Result<(), Fault> {
    scan.expect(b'[', Fault::Type)?;
    scan.blanks();
    if scan.peek() == b']' {
        scan.at += 1;
        return Ok(());
    }
    loop {
        items.json(scan)?;
        scan.blanks();
        match scan.peek() {
            b',' => scan.at += 1,
            b']' => {
                scan.at += 1;
                return Ok(());
            }
            _ if scan.at_end() => return Err(Fault::Ended),
            _ => return Err(Fault::NoComma),
        }
        scan.blanks();
    }
}
