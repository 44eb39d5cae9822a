//! How one JSON value becomes one value of a column.
//!
//! `null` is NULL. A numeric column takes a number, or a string with nothing but a number in it, as
//! exchanges send prices; a float also the strings `NaN`, `Infinity` and `-Infinity`. A VARCHAR takes a
//! string, and the raw text of an object or array. A TIMESTAMP takes RFC 3339 text or a number since 1970 in
//! the unit of the options; a DATE takes `YYYY-MM-DD` or a number of days; a BINARY takes base64. Everything
//! else is of the wrong type.

use super::super::column::{ColumnBuilder, ColumnValues};
use super::super::fault::DecodeFault;
use super::object::ObjectReader;
use super::scanner::JsonScanner;

impl ColumnBuilder {
    /// Appends the value that is next in `scan`, of which `objects` reads the objects. After a fault
    /// the column may hold a part of the value, or one value too many: truncate it.
    #[inline(always)]
    pub(super) fn json(
        &mut self,
        objects: &mut ObjectReader,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        if scan.peek() == b'n' {
            scan.literal(b"null")?;
            return self.null();
        }
        match &mut self.values {
            ColumnValues::Text(values) => {
                match scan.peek() {
                    b'"' => scan.string_into(&mut values.bytes)?,
                    b'{' | b'[' => {
                        let start = scan.at;
                        scan.skip_value()?;
                        values.bytes.extend_from_slice(scan.since(start));
                    }
                    _ => return Err(DecodeFault::Type),
                }
                values.end_value()
            }
            ColumnValues::Float64(values) => {
                values.push(match scan.numeric() {
                    Ok(number) => number.float64()?,
                    Err(fault) => scan.non_finite(fault)?,
                });
                Ok(())
            }
            ColumnValues::Integer { values, min, max } => {
                values.push(scan.numeric()?.whole_within(*min, *max)?);
                Ok(())
            }
            ColumnValues::Timestamp { .. } if scan.peek() != b'"' => {
                self.values.number(scan.numeric()?)
            }
            values => values.json(objects, scan),
        }
    }
}

impl ColumnValues {
    /// The types that are too rare to be inlined into every loop.
    fn json(
        &mut self,
        objects: &mut ObjectReader,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        match self {
            Self::Boolean(values) => match scan.peek() {
                b't' => scan.literal(b"true").map(|()| values.push(true)),
                b'f' => scan.literal(b"false").map(|()| values.push(false)),
                _ => Err(DecodeFault::Type),
            },
            Self::Date(_) | Self::Timestamp { .. } if scan.peek() == b'"' => {
                self.text(&scan.string()?)
            }
            Self::Binary(_) if scan.peek() == b'"' => self.text(&scan.string()?),
            Self::Binary(_) => Err(DecodeFault::Type),
            Self::List { ends, items } => {
                list(items, objects, scan)?;
                ends.push(i32::try_from(items.len()).map_err(|_| DecodeFault::TooLarge)?);
                Ok(())
            }
            Self::Struct(rows) if scan.peek() == b'{' => objects.append(rows, scan),
            Self::Struct(_) => Err(DecodeFault::Type),
            Self::Float32(values) => {
                values.push(match scan.numeric() {
                    Ok(number) => number.float32()?,
                    Err(fault) => scan.non_finite(fault)? as f32,
                });
                Ok(())
            }
            _ => self.number(scan.numeric()?),
        }
    }
}

/// Appends the items of the array that is next.
fn list(
    items: &mut ColumnBuilder,
    objects: &mut ObjectReader,
    scan: &mut JsonScanner<'_>,
) -> Result<(), DecodeFault> {
    scan.expect(b'[', DecodeFault::Type)?;
    scan.blanks();
    if scan.peek() == b']' {
        scan.at += 1;
        return Ok(());
    }
    loop {
        items.json(objects, scan)?;
        scan.blanks();
        match scan.peek() {
            b',' => scan.at += 1,
            b']' => {
                scan.at += 1;
                return Ok(());
            }
            _ if scan.at_end() => return Err(DecodeFault::Ended),
            _ => return Err(DecodeFault::NoComma),
        }
        scan.blanks();
    }
}
