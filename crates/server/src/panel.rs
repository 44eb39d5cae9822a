//! What of a result stands on the screen, and as what.
//!
//! A changing result is shown as it is now. A windowed result is shown as the newest row of each key,
//! the texts in it, so that a line stays where it is and its numbers change. Of anything else the
//! newest rows are shown.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::show::{self, Row};

/// Rows that are kept of a result that only grows; more than any screen shows.
const NEWEST: usize = 500;
/// The column that tells whether a row came or went.
const DIFF: &str = "_diff";

/// One result on the screen.
pub struct Panel {
    name: String,
    schema: SchemaRef,
    kept: Kept,
    /// Rows that came, or changes.
    seen: u64,
    missed: u64,
}

enum Kept {
    /// The newest rows, oldest first.
    Newest(VecDeque<Row>),
    /// The newest row of each key, and when it came.
    Latest {
        key: Vec<usize>,
        rows: BTreeMap<Vec<String>, (u64, Row)>,
    },
    /// Each row that there is, and how often. A count may be below 0 within a step.
    Current(BTreeMap<Row, i64>),
}

impl Panel {
    /// An empty panel for the rows of a subscription.
    pub fn new(name: &str, published: &SchemaRef) -> Self {
        let fields = published.fields();
        let changes = fields.last().is_some_and(|field| field.name() == DIFF);
        let columns = fields.len() - usize::from(changes);
        let schema = Schema::new(fields[..columns].to_vec());
        let kept = match (changes, key(&schema)) {
            (true, _) => Kept::Current(BTreeMap::new()),
            (false, Some(key)) => Kept::Latest {
                key,
                rows: BTreeMap::new(),
            },
            (false, None) => Kept::Newest(VecDeque::new()),
        };
        Self {
            name: name.to_owned(),
            schema: schema.into(),
            kept,
            seen: 0,
            missed: 0,
        }
    }

    /// Takes in rows as they were published.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let (rows, first) = (batch.num_rows(), self.seen);
        self.seen += rows as u64;
        match &mut self.kept {
            Kept::Newest(kept) => {
                kept.extend(show::cells(batch, rows.saturating_sub(NEWEST)..rows)?);
                kept.drain(..kept.len().saturating_sub(NEWEST));
            }
            Kept::Latest { key, rows: kept } => {
                for (number, row) in (first..).zip(show::cells(batch, 0..rows)?) {
                    let key = key.iter().map(|&column| row[column].clone()).collect();
                    kept.insert(key, (number, row));
                }
                forget_oldest(kept);
            }
            Kept::Current(kept) => {
                let diffs = batch.column(self.schema.fields().len());
                let diffs = diffs.as_primitive::<Int8Type>();
                for (mut row, diff) in show::cells(batch, 0..rows)?.into_iter().zip(diffs.values())
                {
                    row.pop();
                    *kept.entry(row).or_insert(0) += i64::from(*diff);
                }
                kept.retain(|_, count| *count != 0);
            }
        }
        Ok(())
    }

    /// Replaces everything by an answer.
    pub fn replace(&mut self, batches: &[RecordBatch]) -> Result<(), ArrowError> {
        self.kept = Kept::Newest(VecDeque::new());
        self.seen = 0;
        batches.iter().try_for_each(|batch| self.apply(batch))
    }

    /// Rows were lost on the way here.
    pub fn missed(&mut self, rows: u64) {
        self.missed += rows;
    }

    /// The panel as text, at most `height` lines (and at least the heading) of `width` characters.
    pub fn draw(&self, width: usize, height: usize) -> Vec<String> {
        // The heading, and three lines and a bottom around the rows.
        let room = height.saturating_sub(5);
        let rows = self.visible(room);
        let mut lines = vec![self.heading(rows.len())];
        if !rows.is_empty() && room > 0 {
            let table = show::table(&self.schema, rows.into_iter(), width);
            lines.extend(table.lines());
        }
        // A row may be wrapped: what does not fit goes at the end, the border stays off.
        lines.truncate(height.max(1));
        lines
    }

    fn visible(&self, room: usize) -> Vec<&Row> {
        match &self.kept {
            Kept::Newest(rows) => rows.range(rows.len().saturating_sub(room)..).collect(),
            Kept::Latest { rows, .. } => {
                let mut newest: Vec<_> =
                    rows.iter().map(|(key, (at, row))| (at, key, row)).collect();
                newest.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
                newest.truncate(room);
                newest.sort_by_key(|(_, key, _)| *key);
                newest.into_iter().map(|(.., row)| row).collect()
            }
            Kept::Current(rows) => {
                let there = rows.iter().filter(|(_, count)| **count > 0);
                let repeated = there.flat_map(|(row, &count)| {
                    std::iter::repeat_n(row, usize::try_from(count).unwrap_or(0))
                });
                repeated.take(room).collect()
            }
        }
    }

    fn heading(&self, shown: usize) -> String {
        let what = match &self.kept {
            Kept::Newest(_) if self.seen > shown as u64 => {
                format!("the newest {shown} of {} rows", self.seen)
            }
            Kept::Newest(_) => format!("{} rows", self.seen),
            Kept::Latest { rows, .. } => {
                format!(
                    "the newest row of each key, {shown} of {} keys, {} rows in all",
                    rows.len(),
                    self.seen
                )
            }
            Kept::Current(rows) => format!("the result now, {shown} of {} rows", rows.len()),
        };
        let missed = match self.missed {
            0 => String::new(),
            rows => format!(", {rows} not shown: the terminal was too slow"),
        };
        format!("{}  ({what}{missed})", self.name)
    }
}

/// The columns that tell the rows of one window apart; `None` if the result is not windowed or there
/// is nothing to tell them apart by.
fn key(schema: &Schema) -> Option<Vec<usize>> {
    let window = ["window_start", "window_end"];
    let fields = || schema.fields().iter().enumerate();
    let windowed = fields().any(|(_, field)| {
        window.contains(&field.name().as_str())
            && matches!(field.data_type(), DataType::Timestamp(..))
    });
    let texts = fields().filter(|(_, field)| field.data_type().is_string());
    let texts: Vec<usize> = texts.map(|(column, _)| column).collect();
    (windowed && !texts.is_empty()).then_some(texts)
}

/// Keeps at most [`NEWEST`] keys when there are twice as many.
fn forget_oldest(rows: &mut BTreeMap<Vec<String>, (u64, Row)>) {
    if rows.len() < 2 * NEWEST {
        return;
    }
    let mut ages: Vec<u64> = rows.values().map(|(at, _)| *at).collect();
    ages.sort_unstable();
    let limit = ages[ages.len() - NEWEST];
    rows.retain(|_, (at, _)| *at >= limit);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int8Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn numbers(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn drawn(batches: &[RecordBatch], height: usize) -> String {
        let mut panel = Panel::new("x", &batches[0].schema());
        for batch in batches {
            panel.apply(batch).unwrap();
        }
        let lines = panel.draw(60, height);
        assert!(lines.len() <= height.max(1));
        lines.join("\n")
    }

    #[test]
    fn the_newest_rows() {
        let rows = batch(vec![("a", numbers(&(0..1000).collect::<Vec<_>>()))]);
        let drawn = drawn(&[rows], 8);
        assert!(
            drawn.starts_with("x  (the newest 3 of 1000 rows)"),
            "{drawn}"
        );
        assert!(drawn.contains("997") && drawn.contains("999") && !drawn.contains("996"));
    }

    #[test]
    fn the_newest_row_of_each_key() {
        let window = |at: i64, keys: &[&str], n: &[i64]| {
            let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![at; keys.len()]));
            batch(vec![
                ("window_start", at),
                ("k", text(keys)),
                ("n", numbers(n)),
            ])
        };
        let both = [
            window(0, &["a", "b"], &[11, 12]),
            window(1_000_000, &["b"], &[13]),
        ];
        let shown = drawn(&both, 20);
        assert!(
            shown.contains("11") && shown.contains("13") && !shown.contains("12"),
            "{shown}"
        );
        let small = drawn(&both, 6);
        assert!(small.contains("13") && !small.contains("11"), "{small}");
    }

    #[test]
    fn the_result_now() {
        let change = |n: &[i64], diff: &[i8]| {
            let diff: ArrayRef = Arc::new(Int8Array::from(diff.to_vec()));
            batch(vec![("n", numbers(n)), ("_diff", diff)])
        };
        let drawn = drawn(&[change(&[21], &[1]), change(&[22, 21], &[1, -1])], 20);
        assert!(drawn.contains("22") && !drawn.contains("21"), "{drawn}");
        assert!(!drawn.contains("_diff"), "{drawn}");
    }

    #[test]
    fn keys_do_not_pile_up() {
        let mut rows = BTreeMap::new();
        for at in 0..2 * NEWEST as u64 {
            rows.insert(vec![at.to_string()], (at, Vec::new()));
        }
        forget_oldest(&mut rows);
        assert_eq!(rows.len(), NEWEST);
        assert!(rows.values().all(|(at, _)| *at >= NEWEST as u64));
    }
}
