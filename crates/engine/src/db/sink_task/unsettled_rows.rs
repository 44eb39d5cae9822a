//! The rows that a sink was given and that are not known to be in the external system, oldest first.
//!
//! ```text
//!   begin, add, add --> | batch | batch | batch |     settle: the sink still holds the last n rows
//!                         counted: already known to be in the external system, their batch not settled
//! ```
//!
//! They are kept in case the sink gives them up. A batch is settled as a whole, because the queue from
//! which it was taken counts batches; rows are counted one by one.

use std::collections::VecDeque;

use arrow::array::RecordBatch;

#[derive(Default)]
pub(super) struct UnsettledRows {
    batches: VecDeque<Vec<RecordBatch>>,
    /// Whether more rows of the last batch may follow, so that it is not settled.
    unfinished: bool,
    /// The number of rows in `batches`.
    rows: u64,
    /// How many of these, from the first, were counted as in the external system.
    counted: u64,
}

impl UnsettledRows {
    /// The next rows added belong to a new batch, of which perhaps none is handed over.
    pub fn begin(&mut self) {
        self.batches.push_back(Vec::new());
        self.unfinished = true;
    }

    /// The last batch is complete: its rows that were not added were given up.
    pub fn finish(&mut self) {
        self.unfinished = false;
    }

    /// The sink took these rows of the last batch.
    pub fn add(&mut self, rows: RecordBatch) {
        if let Some(batch) = self.batches.back_mut() {
            self.rows += count(&rows);
            batch.push(rows);
        }
    }

    /// The sink holds no more than the last `unsent` rows: returns how many rows, and how many batches,
    /// have reached the external system since the last call.
    pub fn settle(&mut self, unsent: u64) -> (u64, u64) {
        let arrived = self.rows.saturating_sub(unsent).max(self.counted);
        let news = arrived - self.counted;
        self.counted = arrived;
        let mut items = 0;
        while let Some(batch) = self.batches.front() {
            let rows: u64 = batch.iter().map(count).sum();
            let may_grow = self.unfinished && self.batches.len() == 1;
            if rows > self.counted || may_grow {
                break;
            }
            self.batches.pop_front();
            self.rows -= rows;
            self.counted -= rows;
            items += 1;
        }
        (news, items)
    }

    /// Takes rows out, each given by the number of rows after it, oldest first. The others are in the
    /// external system once the sink holds nothing.
    pub fn take(&mut self, after: &[u64]) -> Vec<RecordBatch> {
        let places = after.iter().filter_map(|it| self.rows.checked_sub(it + 1));
        let (mut places, mut taken, mut from) = (places.peekable(), Vec::new(), 0);
        for batch in &mut self.batches {
            for rows in std::mem::take(batch) {
                for (goes, part) in runs(&rows, |row| {
                    places.next_if_eq(&(from + row as u64)).is_some()
                }) {
                    if goes { &mut taken } else { &mut *batch }.push(part);
                }
                from += count(&rows);
            }
        }
        self.rows -= taken.iter().map(count).sum::<u64>();
        taken
    }
}

/// Splits `rows` where the answer changes, in order. Asks once for each row.
fn runs(rows: &RecordBatch, mut answer: impl FnMut(usize) -> bool) -> Vec<(bool, RecordBatch)> {
    let answers: Vec<bool> = (0..rows.num_rows()).map(&mut answer).collect();
    let mut start = 0;
    let run = |run: &[bool]| {
        let part = rows.slice(start, run.len());
        start += run.len();
        (run[0], part)
    };
    answers.chunk_by(|a, b| a == b).map(run).collect()
}

fn count(rows: &RecordBatch) -> u64 {
    rows.num_rows() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn unsettled(batches: &[&[i64]]) -> UnsettledRows {
        let mut unsettled = UnsettledRows::default();
        for numbers in batches {
            unsettled.begin();
            for part in numbers.chunks(2) {
                let column: ArrayRef = Arc::new(Int64Array::from(part.to_vec()));
                unsettled.add(RecordBatch::try_from_iter([("n", column)]).unwrap());
            }
            unsettled.finish();
        }
        unsettled
    }

    fn numbers(taken: &[RecordBatch]) -> Vec<i64> {
        let of = |rows: &RecordBatch| rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        taken.iter().flat_map(of).collect()
    }

    #[test]
    fn rows_are_counted_one_by_one_and_batches_as_a_whole() {
        let mut unsettled = unsettled(&[&[1, 2, 3], &[], &[4, 5]]);
        assert_eq!(unsettled.settle(5), (0, 0));
        assert_eq!(unsettled.settle(3), (2, 0));
        assert_eq!(
            unsettled.settle(4),
            (0, 0),
            "what was counted stays counted"
        );
        assert_eq!(
            unsettled.settle(2),
            (1, 2),
            "a batch without rows goes with the one before"
        );
        assert_eq!(unsettled.settle(0), (2, 1));
    }

    #[test]
    fn a_batch_that_is_not_finished_is_not_settled() {
        let mut unsettled = unsettled(&[&[1, 2]]);
        unsettled.begin();
        assert_eq!(unsettled.settle(0), (2, 1));
        unsettled.finish();
        assert_eq!(unsettled.settle(0), (0, 1));
    }

    #[test]
    fn what_is_taken_out_is_not_outside() {
        let mut unsettled = unsettled(&[&[1, 2, 3], &[4, 5, 6]]);
        assert_eq!(unsettled.settle(5), (1, 0));
        let taken = unsettled.take(&[4, 3, 1]);
        assert_eq!(numbers(&taken), [2, 3, 5]);
        assert_eq!(unsettled.settle(0), (2, 2), "4 and 6");
        assert_eq!(
            numbers(&unsettled.take(&[7])),
            [] as [i64; 0],
            "there is none"
        );
    }
}
