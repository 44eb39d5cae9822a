//! Frames into rows: one object, an array of them, or lines.

use arrow::datatypes::SchemaRef;

use super::super::column::{ColumnBuilder, ColumnValues, RowBuilder};
use super::super::fault::DecodeFault;
use super::super::{Decoded, Decoder, Frames, bad, decoded, not_utf8};
use super::JsonOptions;
use super::object::ObjectReader;
use super::scanner::JsonScanner;
use crate::options::Checked;
use crate::{Bad, Result};

/// The largest number of bad elements of one array that are bad rows of their own.
const BAD_ELEMENTS_MAX: usize = 1_000;

/// Decodes `json`, and `ndjson`, where a frame is any number of lines.
pub(super) struct JsonDecoder {
    schema: SchemaRef,
    rows: RowBuilder,
    objects: ObjectReader,
    bad: Vec<Bad>,
    lines: bool,
}

impl JsonDecoder {
    /// For frames of one object or array, or with `lines` of any number of them in lines.
    pub(super) fn new(schema: SchemaRef, options: &Checked, lines: bool) -> Result<Self> {
        let options: JsonOptions = options.get()?;
        Ok(Self {
            rows: RowBuilder::new(schema.fields(), options.timestamp_unit)?,
            objects: ObjectReader::new(schema.fields()),
            schema,
            bad: Vec::new(),
            lines,
        })
    }

    fn lines(&mut self, run: &[u8], start: usize, end: usize, valid: bool) {
        let mut from = start;
        let mut any = false;
        while from < end {
            let to = memchr::memchr(b'\n', &run[from..end]).map_or(end, |at| from + at);
            if !run[from..to].trim_ascii().is_empty() {
                any = true;
                self.frame(run, from, to, valid);
            }
            from = to + 1;
        }
        if !any {
            self.malformed(&run[start..end], DecodeFault::Empty, 0);
        }
    }

    #[inline(always)]
    fn frame(&mut self, run: &[u8], start: usize, end: usize, valid: bool) {
        if !valid && let Err(error) = std::str::from_utf8(&run[start..end]) {
            return self.bad.push(bad(&run[start..end], not_utf8(error)));
        }
        let row = self.rows.len();
        let mut scan = JsonScanner::new(run, start, end);
        if scan.peek() == b'{'
            && self.objects.append(&mut self.rows, &mut scan).is_ok()
            && (scan.at == end || run[scan.at..end].trim_ascii_start().is_empty())
        {
            return;
        }
        self.rows.truncate(row);
        self.odd_frame(run, start, end);
    }

    /// A frame that is not simply one good object: an array, or bad, or with blanks before it.
    #[cold]
    fn odd_frame(&mut self, run: &[u8], start: usize, end: usize) {
        let mut scan = JsonScanner::new(run, start, end);
        scan.blanks();
        let first = scan.at;
        if let Err(fault) = scan.whole_value() {
            return self.malformed(&run[start..end], fault, scan.at - start);
        }
        let mut scan = JsonScanner::new(run, first, end);
        match scan.peek() {
            b'[' => self.array(&mut scan),
            _ => self.object(&mut scan),
        }
    }

    /// The objects of a well-formed array. An array of many tiny elements that are bad would become a bad row
    /// of a hundred bytes for each; so from a number on they are one bad row, an array of them.
    fn array(&mut self, scan: &mut JsonScanner<'_>) {
        let alone = self.bad.len() + BAD_ELEMENTS_MAX;
        let (mut further, mut count) = (None, 0_u64);
        scan.at += 1;
        scan.blanks();
        while !matches!(scan.peek(), b']' | 0) {
            self.object(scan);
            if self.bad.len() > alone
                && let Some(Bad { bytes, reason }) = self.bad.pop()
            {
                let (together, _) = further.get_or_insert_with(|| (Vec::new(), reason));
                together.push(if count == 0 { b'[' } else { b',' });
                together.extend_from_slice(&bytes);
                count += 1;
            }
            scan.blanks();
            if scan.peek() == b',' {
                scan.at += 1;
                scan.blanks();
            }
        }
        if let Some((mut bytes, reason)) = further {
            bytes.push(b']');
            let reason =
                format!("{count} further elements of an array are bad, the first: {reason}");
            self.bad.push(Bad { bytes, reason });
        }
    }

    /// A well-formed value: a row if it is an object whose values fit.
    fn object(&mut self, scan: &mut JsonScanner<'_>) {
        let start = scan.at;
        let fault = match scan.peek() {
            b'{' => self.objects.append(&mut self.rows, scan).err(),
            _ => Some(DecodeFault::NoObject),
        };
        let Some(fault) = fault else { return };
        scan.at = start;
        scan.skip_rest_if_malformed();
        let failed = self
            .objects
            .failed()
            .filter(|_| fault != DecodeFault::NoObject);
        let reason = match failed {
            Some((index, at)) => {
                let column = &self.rows.columns[index];
                let objects = self.objects.in_column(index);
                reason(fault, column.field.name(), column, objects, scan, at)
            }
            None => fault.malformed().unwrap_or("not readable").to_owned(),
        };
        self.bad.push(bad(scan.since(start), reason));
    }

    fn malformed(&mut self, frame: &[u8], fault: DecodeFault, at: usize) {
        let what = fault.malformed().unwrap_or("not readable");
        let reason = match fault {
            DecodeFault::Empty => what.to_owned(),
            _ => format!("malformed JSON at byte {}: {what}", at.min(frame.len())),
        };
        self.bad.push(bad(frame, reason));
    }
}

/// Why the value at `at` does not fit `column`, whose path from the top is `name`, and whose objects
/// `objects` has read.
fn reason(
    fault: DecodeFault,
    name: &str,
    column: &ColumnBuilder,
    objects: &ObjectReader,
    scan: &JsonScanner<'_>,
    at: usize,
) -> String {
    match &column.values {
        ColumnValues::Struct(rows) => {
            if let Some((index, inner_at)) = objects.failed().filter(|(_, inner)| *inner >= at) {
                let inner = &rows.columns[index];
                let name = format!("{name}.{}", inner.field.name());
                return reason(
                    fault,
                    &name,
                    inner,
                    objects.in_column(index),
                    scan,
                    inner_at,
                );
            }
        }
        ColumnValues::List { items, .. } if scan.byte(at) == b'[' => {
            let name = format!("{name}[]");
            if let ColumnValues::Struct(_) = &items.values {
                return reason(fault, &name, items, objects, scan, at);
            }
            return fault.of_column(&name, items.field.data_type(), scan.value_at(at));
        }
        _ => {}
    }
    fault.of_column(name, column.field.data_type(), scan.value_at(at))
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        // All at once is several times faster than one by one.
        let valid = std::str::from_utf8(&frames.bytes).is_ok();
        let mut start = 0;
        for &end in &frames.ends {
            match self.lines {
                true => self.lines(&frames.bytes, start, end, valid),
                false => self.frame(&frames.bytes, start, end, valid),
            }
            start = end;
        }
        self.objects.end_run();
        let rows = self.rows.batch(&self.schema);
        decoded(rows, std::mem::take(&mut self.bad), frames, &self.schema)
    }
}
