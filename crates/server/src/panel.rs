//! Which rows of a result the screen shows.
//!
//! A changing result (`_diff`) is shown as it is now. A windowed result is shown as the newest row of
//! each key, which is its text columns: a line keeps its position while its numbers change. Any other
//! result is shown as its newest rows.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int8Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::show::{self, TextRow};

/// Number of rows or keys kept of a result that only grows; more than a screen shows.
const ROWS_MAX: usize = 500;
/// The column with 1 for a row that was added and -1 for one that was removed.
const DIFF: &str = "_diff";

pub struct Panel {
    name: String,
    schema: SchemaRef,
    rows: PanelRows,
    /// Number of rows, or of changes, so far.
    seen: u64,
    missed: u64,
}

enum PanelRows {
    /// The newest rows, oldest first.
    Newest(VecDeque<TextRow>),
    /// The newest row of each key, with its number in the result.
    Latest {
        key: Vec<usize>,
        rows: BTreeMap<Vec<String>, (u64, TextRow)>,
    },
    /// The number of copies of each row; it may be below 0 within a step.
    Current(BTreeMap<TextRow, i64>),
}

impl Panel {
    /// An empty panel for the rows of a subscription.
    pub fn new(name: &str, published: &SchemaRef) -> Self {
        let fields = published.fields();
        let changes = fields.last().is_some_and(|field| field.name() == DIFF);
        let columns = fields.len() - usize::from(changes);
        let schema = Schema::new(fields[..columns].to_vec());
        let rows = match (changes, key(&schema)) {
            (true, _) => PanelRows::Current(BTreeMap::new()),
            (false, Some(key)) => PanelRows::Latest {
                key,
                rows: BTreeMap::new(),
            },
            (false, None) => PanelRows::Newest(VecDeque::new()),
        };
        Self {
            name: name.to_owned(),
            schema: schema.into(),
            rows,
            seen: 0,
            missed: 0,
        }
    }

    /// Adds rows of the subscription.
    pub fn apply(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let (rows, first) = (batch.num_rows(), self.seen);
        self.seen += rows as u64;
        match &mut self.rows {
            PanelRows::Newest(kept) => {
                kept.extend(show::cells(batch, rows.saturating_sub(ROWS_MAX)..rows)?);
                kept.drain(..kept.len().saturating_sub(ROWS_MAX));
            }
            PanelRows::Latest { key, rows: kept } => {
                for (number, row) in (first..).zip(show::cells(batch, 0..rows)?) {
                    let key = key.iter().map(|&column| row[column].clone()).collect();
                    kept.insert(key, (number, row));
                }
                forget_oldest(kept);
            }
            PanelRows::Current(kept) => {
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

    /// Shows the result of a SELECT instead of the last one.
    pub fn replace(&mut self, batches: &[RecordBatch]) -> Result<(), ArrowError> {
        self.rows = PanelRows::Newest(VecDeque::new());
        self.seen = 0;
        batches.iter().try_for_each(|batch| self.apply(batch))
    }

    /// Counts rows that the subscription missed.
    pub fn missed(&mut self, rows: u64) {
        self.missed += rows;
    }

    /// The panel as text: the heading, then at most `height - 1` lines of at most `width` characters.
    pub fn draw(&self, width: usize, height: usize) -> Vec<String> {
        // The heading, and four lines of the table around the rows.
        let room = height.saturating_sub(5);
        let rows = self.visible(room);
        let mut lines = vec![self.heading(rows.len())];
        if !rows.is_empty() && room > 0 {
            let table = show::table(&self.schema, rows.into_iter(), width);
            lines.extend(table.lines());
        }
        // A row may be wrapped over several lines, so the table may not fit.
        lines.truncate(height.max(1));
        lines
    }

    fn visible(&self, room: usize) -> Vec<&TextRow> {
        match &self.rows {
            PanelRows::Newest(rows) => rows.range(rows.len().saturating_sub(room)..).collect(),
            PanelRows::Latest { rows, .. } => {
                let mut newest: Vec<_> =
                    rows.iter().map(|(key, (at, row))| (at, key, row)).collect();
                newest.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
                newest.truncate(room);
                newest.sort_by_key(|(_, key, _)| *key);
                newest.into_iter().map(|(.., row)| row).collect()
            }
            PanelRows::Current(rows) => {
                let there = rows.iter().filter(|(_, count)| **count > 0);
                let repeated = there.flat_map(|(row, &count)| {
                    std::iter::repeat_n(row, usize::try_from(count).unwrap_or(0))
                });
                repeated.take(room).collect()
            }
        }
    }

    fn heading(&self, shown: usize) -> String {
        let what = match &self.rows {
            PanelRows::Newest(_) if self.seen > shown as u64 => {
                format!("the newest {shown} of {} rows", self.seen)
            }
            PanelRows::Newest(_) => format!("{} rows", self.seen),
            PanelRows::Latest { rows, .. } => {
                format!(
                    "the newest row of each key, {shown} of {} keys, {} rows in all",
                    rows.len(),
                    self.seen
                )
            }
            PanelRows::Current(rows) => format!("the result now, {shown} of {} rows", rows.len()),
        };
        let missed = match self.missed {
            0 => String::new(),
            rows => format!(", {rows} not shown: the terminal was too slow"),
        };
        format!("{}  ({what}{missed})", self.name)
    }
}

/// The text columns of a windowed result, which are its key; `None` if it is not windowed or has none.
fn key(schema: &Schema) -> Option<Vec<usize>> {
    let window = ["window_start", "window_end", "window_time"];
    let fields = || schema.fields().iter().enumerate();
    let windowed = fields().any(|(_, field)| {
        window.contains(&field.name().as_str())
            && matches!(field.data_type(), DataType::Timestamp(..))
    });
    let texts = fields().filter(|(_, field)| field.data_type().is_string());
    let texts: Vec<usize> = texts.map(|(column, _)| column).collect();
    (windowed && !texts.is_empty()).then_some(texts)
}

/// Once there are twice [`ROWS_MAX`] keys, keeps the newest [`ROWS_MAX`].
fn forget_oldest(rows: &mut BTreeMap<Vec<String>, (u64, TextRow)>) {
    if rows.len() < 2 * ROWS_MAX {
        return;
    }
    let mut ages: Vec<u64> = rows.values().map(|(at, _)| *at).collect();
    ages.sort_unstable();
    let limit = ages[ages.len() - ROWS_MAX];
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
    fn old_keys_are_removed() {
        let mut rows = BTreeMap::new();
        for at in 0..2 * ROWS_MAX as u64 {
            rows.insert(vec![at.to_string()], (at, Vec::new()));
        }
        forget_oldest(&mut rows);
        assert_eq!(rows.len(), ROWS_MAX);
        assert!(rows.values().all(|(at, _)| *at >= ROWS_MAX as u64));
    }
}
