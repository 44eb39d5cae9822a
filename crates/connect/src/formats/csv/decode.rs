//! Records into columns, with or without a header.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};

use super::super::column::{ColumnBuilder, RowBuilder};
use super::super::column_names::ColumnNames;
use super::super::data_type::is_text;
use super::super::fault::{DecodeFault, show};
use super::super::{Decoded, Decoder, Frames, bad, decoded, not_utf8};
use super::record::CsvRecord;
use super::{CsvOptions, Dialect, RecordEnd};
use crate::{Bad, Error, Result};

pub(super) struct CsvDecoder {
    schema: SchemaRef,
    rows: RowBuilder,
    names: ColumnNames,
    dialect: Dialect,
    null: Vec<u8>,
    /// The column of each field, if it has one; `None` before the header.
    targets: Option<Vec<Option<usize>>>,
    has_header: bool,
    record: CsvRecord,
    bad: Vec<Bad>,
    warnings: Vec<String>,
}

impl CsvDecoder {
    pub(super) fn new(schema: SchemaRef, options: &CsvOptions) -> Result<Self> {
        let has_parts = |field: &&FieldRef| {
            matches!(field.data_type(), DataType::List(_) | DataType::Struct(_))
        };
        if let Some(field) = schema.fields().iter().find(has_parts) {
            return Err(Error::UnusableColumn {
                column: field.name().clone(),
                reason: "a field of CSV has no parts".to_owned(),
            });
        }
        let by_position = (0..schema.fields().len()).map(Some).collect();
        Ok(Self {
            rows: RowBuilder::new(schema.fields(), options.timestamp_unit)?,
            names: ColumnNames::new(schema.fields()),
            schema,
            dialect: Dialect::new(options.delimiter, options.quote),
            null: options.null.clone().into_bytes(),
            targets: (!options.header).then_some(by_position),
            has_header: options.header,
            record: CsvRecord::default(),
            bad: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn frame(&mut self, frame: &[u8]) {
        if let Err(error) = std::str::from_utf8(frame) {
            return self.bad.push(bad(frame, not_utf8(error)));
        }
        let mut record = std::mem::take(&mut self.record);
        let (mut at, mut any) = (0, false);
        while at < frame.len() {
            if let Some(blank) = blank_line(&frame[at..]) {
                at += blank;
                continue;
            }
            any = true;
            let read = record.read(&frame[at..], self.dialect);
            let length = *read.as_ref().unwrap_or(&(frame.len() - at));
            let text = frame[at..at + length].trim_ascii_end();
            let reason = match read {
                Ok(_) if self.has_header && self.take_header(&record) => None,
                Ok(_) => self.row(&record).err(),
                Err(what) => Some(format!("malformed CSV: {what}")),
            };
            self.bad.extend(reason.map(|reason| bad(text, reason)));
            at += length;
        }
        self.record = record;
        if !any {
            self.bad.push(bad(frame, "the frame is empty".to_owned()));
        }
    }

    /// Whether the record is a header; if it is, the columns of the records behind it follow it.
    fn take_header(&mut self, record: &CsvRecord) -> bool {
        let names = record.fields().map(|(name, _)| name);
        let targets: Vec<_> = names.map(|name| self.column(name)).collect();
        let named = targets.iter().flatten().count();
        let distinct = targets.iter().flatten().collect::<BTreeSet<_>>().len();
        let is_header = match self.targets {
            None => named > 0 && named == distinct,
            Some(_) => named == targets.len() && named == distinct,
        };
        if is_header {
            self.warn_of_unnamed(&targets);
            self.targets = Some(targets);
        }
        is_header
    }

    /// Notes the columns that a header does not name.
    fn warn_of_unnamed(&mut self, targets: &[Option<usize>]) {
        for (number, field) in self.schema.fields().iter().enumerate() {
            if !targets.contains(&Some(number)) {
                let name = field.name();
                self.warnings.push(match field.is_nullable() {
                    true => format!("the header does not name the column {name}, which is NULL"),
                    false => format!(
                        "the header does not name the column {name}, which is NOT NULL: every record is bad"
                    ),
                });
            }
        }
    }

    fn column(&mut self, name: &[u8]) -> Option<usize> {
        self.names.find(name.trim_ascii()).map(|(column, _)| column)
    }

    /// Appends the record as a row. After an error, which is the reason, there is no new row.
    fn row(&mut self, record: &CsvRecord) -> Result<(), String> {
        let done = self.fill(record);
        match done {
            Ok(()) => self.rows.end_row(),
            Err(_) => self.rows.truncate(self.rows.len()),
        }
        done
    }

    /// Why the first record is not a header.
    fn no_header(&mut self, record: &CsvRecord) -> String {
        let mut seen = Vec::new();
        for (name, _) in record.fields() {
            let column = self.column(name);
            if column.is_some() && seen.contains(&column) {
                let name = show(name);
                return format!("a header was expected, but two fields name the column {name}");
            }
            seen.push(column);
        }
        let first = record.fields().next().map_or(&b""[..], |(field, _)| field);
        let first = show(first);
        format!("a header was expected, but no column is named {first}")
    }

    fn fill(&mut self, record: &CsvRecord) -> Result<(), String> {
        let Some(targets) = &self.targets else {
            return Err(self.no_header(record));
        };
        let (has, takes) = (record.len(), targets.len());
        if has != takes {
            let (plural, are) = (
                if has == 1 { "" } else { "s" },
                if takes == 1 { "is" } else { "are" },
            );
            let columns = if takes == 1 { "column" } else { "columns" };
            let takes = match self.has_header {
                true => format!("the header names {takes}"),
                false => format!("there {are} {takes} {columns}"),
            };
            return Err(format!("the record has {has} field{plural}, {takes}"));
        }
        let reason = |fault: DecodeFault, column: &ColumnBuilder, text: &[u8]| {
            fault.of_column(column.field.name(), column.field.data_type(), text)
        };
        for ((text, quoted), target) in record.fields().zip(targets) {
            let Some(target) = *target else { continue };
            let column = &mut self.rows.columns[target];
            // An empty string is a value where NULL is not.
            let takes_null = column.field.is_nullable() || !is_text(column.field.data_type());
            let done = match !quoted && text == self.null && takes_null {
                true => column.null(),
                false => column.field(text),
            };
            done.map_err(|fault| reason(fault, column, text))?;
        }
        let row = self.rows.len();
        let columns = self.rows.columns.iter_mut();
        for column in columns.filter(|column| column.len() == row) {
            let done = column.null();
            done.map_err(|_| reason(DecodeFault::Missing, column, b""))?;
        }
        Ok(())
    }
}

/// The length of the blank line at the start of `text`, if there is one.
fn blank_line(text: &[u8]) -> Option<usize> {
    match text {
        [b'\n', ..] | [b'\r'] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn record_end(&self) -> Option<RecordEnd> {
        Some(RecordEnd::new(self.dialect))
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        frames.iter().for_each(|frame| self.frame(frame));
        let rows = self.rows.batch(&self.schema);
        decoded(rows, std::mem::take(&mut self.bad), frames, &self.schema)
    }
}
