//! Objects into rows: which key belongs to which column, found by guessing right.
//!
//! Objects of one source nearly always have the same keys in the same order with the same blanks. So
//! the first object is remembered as a *template*: for every key the exact bytes from the comma (or
//! brace) before it to the first byte of its value, and its column. The next object is expected to
//! look the same, and comparing 16 bytes finds a key. A key that is not where it is expected is read
//! and looked up, and guessing goes on behind it; after many wrong guesses in a row the template is
//! learnt from another object.
//!
//! Guessing never changes the answer. A key belongs to the column that [`ColumnNames`] finds; a key of
//! exactly the column's name wins wherever it is, and among equal ones the last. What cannot be decided
//! while guessing is decided by reading the object a second time without a template.

use std::borrow::Cow;

use arrow::datatypes::{DataType, Fields};

use super::super::column::RowBuilder;
use super::super::column_names::ColumnNames;
use super::super::fault::DecodeFault;
use super::scanner::JsonScanner;
use super::template::{Lesson, Slot, Template};

/// Reads the objects of one level into rows.
pub(super) struct ObjectReader {
    names: ColumnNames,
    template: Template,
    /// Values under inexact names, to be read when the object ends: column, start in the run.
    deferred: Vec<(usize, usize)>,
    /// The column and the start of the last value that failed in this run.
    failed: Option<(usize, usize)>,
    /// For each column the reader of the objects in it or in its lists.
    nested: Vec<ObjectReader>,
}

/// The columns of the objects in a column; none if there are no objects in it.
fn fields_in(data_type: &DataType) -> Fields {
    match data_type {
        DataType::Struct(fields) => fields.clone(),
        DataType::List(items) => fields_in(items.data_type()),
        _ => Fields::empty(),
    }
}

impl ObjectReader {
    pub(super) fn new(fields: &Fields) -> Self {
        let nested = |data_type| Self::new(&fields_in(data_type));
        Self {
            names: ColumnNames::new(fields),
            template: Template::default(),
            deferred: Vec::new(),
            failed: None,
            nested: fields
                .iter()
                .map(|field| nested(field.data_type()))
                .collect(),
        }
    }

    /// The column whose value made the last `append` fail, and where in the run the value starts.
    pub(super) fn failed(&self) -> Option<(usize, usize)> {
        self.failed
    }

    /// The reader of the objects in a column.
    pub(super) fn in_column(&self, index: usize) -> &Self {
        &self.nested[index]
    }

    /// Forgets what failed: positions in the next run mean something else.
    pub(super) fn end_run(&mut self) {
        self.failed = None;
        self.nested.iter_mut().for_each(Self::end_run);
    }

    fn slot(&mut self, key: &[u8]) -> Slot {
        match self.names.find(key) {
            Some((column, true)) => Slot::Exact(column),
            Some((column, false)) => Slot::Folded(column),
            None => Slot::Skip,
        }
    }

    /// Appends the object that starts here as a row. After a fault there is no new row.
    #[inline]
    pub(super) fn append(
        &mut self,
        rows: &mut RowBuilder,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        let (start, row) = (scan.at, rows.len());
        let guessing = self.template.is_learnt();
        let mut done = if guessing {
            self.guess(rows, scan)
        } else {
            self.read(rows, scan)
        };
        if done.is_err() && guessing {
            rows.truncate(row);
            scan.at = start;
            done = self.read(rows, scan);
        }
        match done {
            Ok(()) => rows.end_row(),
            Err(_) => rows.truncate(row),
        }
        done
    }

    /// Reads an object along the template.
    #[inline(always)]
    fn guess(
        &mut self,
        rows: &mut RowBuilder,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        let row = rows.len();
        let (mut next, mut filled, mut missed) = (0, 0, false);
        self.deferred.clear();
        loop {
            let slot = match self.template.take(next, scan) {
                Some(slot) => {
                    next += 1;
                    slot
                }
                None if next > 0 && scan.peek() == b'}' => {
                    scan.at += 1;
                    break;
                }
                None => {
                    let Some(key) = key(scan, next == 0 && !missed)? else {
                        break;
                    };
                    missed = true;
                    next = self.template.find(next, &key).map_or(next, |at| at + 1);
                    match self.slot(&key) {
                        // Under its exact name or under another: only reading knows.
                        Slot::Folded(column) if rows.columns[column].len() > row => {
                            return Err(DecodeFault::Missing);
                        }
                        slot => slot,
                    }
                }
            };
            let (Slot::Exact(index) | Slot::Alone(index)) = slot else {
                self.pass(slot, scan)?;
                continue;
            };
            let column = &mut rows.columns[index];
            if column.len() > row {
                if slot == Slot::Alone(index) {
                    // It is not alone this time; only reading without a template knows which wins.
                    return Err(DecodeFault::Missing);
                }
                column.truncate(row);
                filled -= 1;
            }
            column.json(&mut self.nested[index], scan)?;
            filled += 1;
        }
        self.template.judge(missed);
        if filled == rows.columns.len() {
            Ok(())
        } else {
            self.complete(rows, 0, scan)
        }
    }

    /// Reads an object key by key, and learns the template if there is none.
    fn read(
        &mut self,
        rows: &mut RowBuilder,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        let object = scan.at;
        let mut lesson = (!self.template.is_learnt()).then(Lesson::default);
        self.deferred.clear();
        self.failed = None;
        let mut first = true;
        loop {
            let before = scan.at;
            let Some(key) = key(scan, first)? else { break };
            first = false;
            let slot = self.slot(&key);
            if let Some(lesson) = &mut lesson {
                lesson.add(scan.since(before), &key, slot);
            }
            match slot {
                Slot::Exact(column) => self.value(column, rows, scan)?,
                slot => self.pass(slot, scan)?,
            }
        }
        self.complete(rows, object, scan)?;
        if let Some(lesson) = lesson {
            self.template.learn(lesson);
        }
        Ok(())
    }

    /// Moves past a value that is not read, or not yet.
    #[inline]
    fn pass(&mut self, slot: Slot, scan: &mut JsonScanner<'_>) -> Result<(), DecodeFault> {
        if let Slot::Folded(column) | Slot::Alone(column) = slot {
            self.deferred.push((column, scan.at));
        }
        scan.skip_value()
    }

    /// Gives a value to the columns that have none when the object, which started at `object`, ends.
    #[cold]
    fn complete(
        &mut self,
        rows: &mut RowBuilder,
        object: usize,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        let (end, row) = (scan.at, rows.len());
        self.read_deferred(rows, scan)?;
        scan.at = end;
        for (index, column) in rows.columns.iter_mut().enumerate() {
            if column.len() == row && column.null().is_err() {
                self.failed = Some((index, object));
                return Err(DecodeFault::Missing);
            }
        }
        Ok(())
    }

    /// Reads the last value under each inexact name of which the object has no exact name.
    fn read_deferred(
        &mut self,
        rows: &mut RowBuilder,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        while let Some((column, start)) = self.deferred.pop() {
            if rows.columns[column].len() == rows.len() {
                scan.at = start;
                self.value(column, rows, scan)?;
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        index: usize,
        rows: &mut RowBuilder,
        scan: &mut JsonScanner<'_>,
    ) -> Result<(), DecodeFault> {
        let row = rows.len();
        let column = &mut rows.columns[index];
        if column.len() > row {
            column.truncate(row);
        }
        let start = scan.at;
        column
            .json(&mut self.nested[index], scan)
            .inspect_err(|_| self.failed = Some((index, start)))
    }
}

/// Reads the key that is next and moves to its value; `None` at the end of the object.
pub(super) fn key<'a>(
    scan: &mut JsonScanner<'a>,
    first: bool,
) -> Result<Option<Cow<'a, [u8]>>, DecodeFault> {
    scan.blanks();
    if first {
        scan.expect(b'{', DecodeFault::NoObject)?;
        scan.blanks();
    }
    match scan.peek() {
        b'}' => {
            scan.at += 1;
            return Ok(None);
        }
        b',' if !first => scan.at += 1,
        _ if first => {}
        _ if scan.at_end() => return Err(DecodeFault::Ended),
        _ => return Err(DecodeFault::NoComma),
    }
    scan.blanks();
    if scan.peek() != b'"' {
        return Err(if scan.at_end() {
            DecodeFault::Ended
        } else {
            DecodeFault::NoKey
        });
    }
    let key = scan.string()?;
    scan.blanks();
    scan.expect(b':', DecodeFault::NoColon)?;
    scan.blanks();
    Ok(Some(key))
}
