//! Objects into columns: which key belongs to which column, found by guessing right.
//!
//! Objects of one source nearly always have the same keys in the same order with the same blanks. So
//! the first object is remembered as a *template*: for every key the exact bytes from the comma (or
//! brace) before it to the first byte of its value, and its column. The next object is expected to
//! look the same, and comparing 16 bytes finds a key. A key that is not where it is expected is read
//! and looked up, and guessing goes on behind it; when guesses fail again and again the template
//! is learnt anew.
//!
//! Guessing never changes the answer. A key belongs to the column of exactly its name, otherwise to
//! the only column that differs in the case of ASCII letters alone; the exact one wins wherever it
//! stands, and among equal ones the last. What cannot be decided while guessing is decided
//! by reading the object again without a template.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, Fields};

use super::super::EpochUnit;
use super::super::column::Column;
use super::super::fault::Fault;
use super::scan::Scan;
use super::template::{Lesson, Slot, Template};
use crate::Result;

/// The rows of one level of objects, as columns of equal length (but while a row is being read).
pub(in super::super) struct Object {
    columns: Vec<Column>,
    rows: usize,
    names: Names,
    template: Template,
    /// Values under inexact names, to be read when the object ends: column, start in the run.
    deferred: Vec<(usize, usize)>,
    /// The column and the place of the last value that failed.
    failed: Option<(usize, usize)>,
}

/// Columns by name.
struct Names {
    exact: HashMap<Box<[u8]>, usize>,
    /// By name in lower case; `None` where several columns share it.
    folded: HashMap<Box<[u8]>, Option<usize>>,
    /// A key in lower case.
    key: Vec<u8>,
}

impl Names {
    fn new(fields: &Fields) -> Self {
        let (mut exact, mut folded) = (HashMap::new(), HashMap::new());
        for (column, field) in fields.iter().enumerate() {
            let name = field.name().as_bytes();
            exact.insert(Box::from(name), column);
            let same = folded.entry(name.to_ascii_lowercase().into_boxed_slice());
            same.and_modify(|column| *column = None)
                .or_insert(Some(column));
        }
        Self {
            exact,
            folded,
            key: Vec::new(),
        }
    }

    fn slot(&mut self, key: &[u8]) -> Slot {
        if let Some(&column) = self.exact.get(key) {
            return Slot::Exact(column);
        }
        self.key.clear();
        self.key.extend_from_slice(key);
        self.key.make_ascii_lowercase();
        match self.folded.get(&self.key[..]) {
            Some(Some(column)) => Slot::Folded(*column),
            _ => Slot::Skip,
        }
    }
}

impl Object {
    pub(in super::super) fn new(fields: &Fields, epoch: EpochUnit) -> Result<Self> {
        let column = |field: &FieldRef| Column::new(field.clone(), epoch);
        Ok(Self {
            columns: fields.iter().map(column).collect::<Result<_>>()?,
            rows: 0,
            names: Names::new(fields),
            template: Template::default(),
            deferred: Vec::new(),
            failed: None,
        })
    }

    /// How many rows it has.
    pub(in super::super) fn len(&self) -> usize {
        self.rows
    }

    /// Forgets the rows from `len` on.
    pub(in super::super) fn truncate(&mut self, len: usize) {
        self.columns
            .iter_mut()
            .for_each(|column| column.truncate(len));
        self.rows = self.rows.min(len);
    }

    /// Appends a row that nobody will see: the one under a NULL.
    pub(in super::super) fn placeholder(&mut self) -> Result<(), Fault> {
        for column in &mut self.columns {
            if column.field.is_nullable() {
                column.null()?
            } else {
                column.placeholder()?
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// The finished columns; there are no rows after it.
    pub(in super::super) fn finish(&mut self) -> (Fields, Vec<ArrayRef>) {
        self.rows = 0;
        self.failed = None;
        let fields = self
            .columns
            .iter()
            .map(|column| column.field.clone())
            .collect();
        (
            fields,
            self.columns.iter_mut().map(Column::finish).collect(),
        )
    }

    /// The column whose value made the last `append` fail, and where in the run the value starts.
    pub(super) fn failed(&self) -> Option<(&Column, usize)> {
        self.failed
            .map(|(column, start)| (&self.columns[column], start))
    }

    /// Appends the object that starts here as a row. After a fault there is no new row.
    #[inline]
    pub(super) fn append(&mut self, scan: &mut Scan<'_>) -> Result<(), Fault> {
        let (start, row) = (scan.at, self.rows);
        let guessing = self.template.is_learnt();
        let mut done = if guessing {
            self.guess(scan)
        } else {
            self.read(scan)
        };
        if done.is_err() && guessing {
            self.truncate(row);
            scan.at = start;
            done = self.read(scan);
        }
        match done {
            Ok(()) => self.rows += 1,
            Err(_) => self.truncate(row),
        }
        done
    }

    /// Reads an object along the template.
    #[inline(always)]
    fn guess(&mut self, scan: &mut Scan<'_>) -> Result<(), Fault> {
        let row = self.rows;
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
                    match self.names.slot(&key) {
                        // Filled under its exact name or under another: reading will tell.
                        Slot::Folded(column) if self.columns[column].len() > row => {
                            return Err(Fault::Missing);
                        }
                        slot => slot,
                    }
                }
            };
            let (Slot::Exact(index) | Slot::Alone(index)) = slot else {
                self.pass(slot, scan)?;
                continue;
            };
            let column = &mut self.columns[index];
            if column.len() > row {
                if slot == Slot::Alone(index) {
                    // It is not alone this time; only reading without a template knows who wins.
                    return Err(Fault::Missing);
                }
                column.truncate(row);
                filled -= 1;
            }
            column.json(scan)?;
            filled += 1;
        }
        self.template.judge(missed);
        if filled == self.columns.len() {
            Ok(())
        } else {
            self.complete(row, 0, scan)
        }
    }

    /// Reads an object key by key, and learns the template if there is none.
    fn read(&mut self, scan: &mut Scan<'_>) -> Result<(), Fault> {
        let (object, row) = (scan.at, self.rows);
        let mut lesson = (!self.template.is_learnt()).then(Lesson::default);
        self.deferred.clear();
        self.failed = None;
        let mut first = true;
        loop {
            let before = scan.at;
            let Some(key) = key(scan, first)? else { break };
            first = false;
            let slot = self.names.slot(&key);
            if let Some(lesson) = &mut lesson {
                lesson.add(scan.since(before), &key, slot);
            }
            match slot {
                Slot::Exact(column) => self.value(column, row, scan)?,
                slot => self.pass(slot, scan)?,
            }
        }
        self.complete(row, object, scan)?;
        if let Some(lesson) = lesson {
            self.template.learn(lesson);
        }
        Ok(())
    }

    /// Moves past a value that is not read, or not yet.
    #[inline]
    fn pass(&mut self, slot: Slot, scan: &mut Scan<'_>) -> Result<(), Fault> {
        if let Slot::Folded(column) | Slot::Alone(column) = slot {
            self.deferred.push((column, scan.at));
        }
        scan.skip_value()
    }

    /// Gives a value to the columns that have none when the object, which started at `object`, ends.
    #[cold]
    fn complete(&mut self, row: usize, object: usize, scan: &mut Scan<'_>) -> Result<(), Fault> {
        let end = scan.at;
        self.read_deferred(row, scan)?;
        scan.at = end;
        for (index, column) in self.columns.iter_mut().enumerate() {
            if column.len() == row && column.null().is_err() {
                self.failed = Some((index, object));
                return Err(Fault::Missing);
            }
        }
        Ok(())
    }

    /// Reads the last value under each inexact name whose exact name did not come.
    fn read_deferred(&mut self, row: usize, scan: &mut Scan<'_>) -> Result<(), Fault> {
        while let Some((column, start)) = self.deferred.pop() {
            if self.columns[column].len() == row {
                scan.at = start;
                self.value(column, row, scan)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, index: usize, row: usize, scan: &mut Scan<'_>) -> Result<(), Fault> {
        let column = &mut self.columns[index];
        if column.len() > row {
            column.truncate(row);
        }
        let start = scan.at;
        column
            .json(scan)
            .inspect_err(|_| self.failed = Some((index, start)))
    }
}

/// Reads the key that is next and moves to its value; `None` at the end of the object.
fn key<'a>(scan: &mut Scan<'a>, first: bool) -> Result<Option<Cow<'a, [u8]>>, Fault> {
    scan.blanks();
    if first {
        scan.expect(b'{', Fault::NoObject)?;
        scan.blanks();
    }
    match scan.peek() {
        b'}' => {
            scan.at += 1;
            return Ok(None);
        }
        b',' if !first => scan.at += 1,
        _ if first => {}
        _ if scan.at_end() => return Err(Fault::Ended),
        _ => return Err(Fault::NoComma),
    }
    scan.blanks();
    if scan.peek() != b'"' {
        return Err(if scan.at_end() {
            Fault::Ended
        } else {
            Fault::NoKey
        });
    }
    let key = scan.string()?;
    scan.blanks();
    scan.expect(b':', Fault::NoColon)?;
    scan.blanks();
    Ok(Some(key))
}
