//! The rows that a sink was given and that are not known to be outside, oldest first.
//!
//! ```text
//!   begin, add, add --> | batch | batch | batch |     settle: the sink still holds the last n rows
//!                         counted: already known to be outside, in a batch that is not settled
//! ```
//!
//! They are kept for the day on which they are given up. A batch is settled as a whole, for the queue
//! from which it was taken counts batches; rows are counted one by one.

use std::collections::VecDeque;

use arrow::array::RecordBatch;

/// The rows handed over of each batch, in order.
#[derive(Default)]
pub(super) struct Held {
    batches: VecDeque<Vec<RecordBatch>>,
    /// More may come of the last batch, which therefore is not settled.
    unfinished: bool,
    /// The rows in `batches`.
    rows: u64,
    /// The first of `rows` that were counted as outside.
    counted: u64,
}

impl Held {
    /// What is added next belongs to a new batch, of which perhaps nothing is handed over.
    pub fn begin(&mut self) {
        self.batches.push_back(Vec::new());
        self.unfinished = true;
    }

    /// Nothing more comes of the batch that was begun last: what was not added was given up.
    pub fn finish(&mut self) {
        self.unfinished = false;
    }

    /// The sink took these rows, of the batch that was begun last.
    pub fn add(&mut self, rows: RecordBatch) {
        if let Some(batch) = self.batches.back_mut() {
            self.rows += count(&rows);
            batch.push(rows);
        }
    }

    /// The sink holds no more than the last `unsent` rows: how many rows, and how many batches, are
    /// outside that were not before.
    pub fn settle(&mut self, unsent: u64) -> (u64, u64) {
        let outside = self.rows.saturating_sub(unsent).max(self.counted);
        let news = outside - self.counted;
        self.counted = outside;
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

    /// Takes rows out, each given by how many came after it, oldest first. What is left is outside
    /// once the sink holds nothing.
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

/// Neighbouring rows of the same answer, in order. Asks once for each row.
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

    fn held(batches: &[&[i64]]) -> Held {
        let mut held = Held::default();
        for numbers in batches {
            held.begin();
            for part in numbers.chunks(2) {
                let column: ArrayRef = Arc::new(Int64Array::from(part.to_vec()));
                held.add(RecordBatch::try_from_iter([("n", column)]).unwrap());
            }
            held.finish();
        }
        held
    }

    fn numbers(taken: &[RecordBatch]) -> Vec<i64> {
        let of = |rows: &RecordBatch| rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        taken.iter().flat_map(of).collect()
    }

    #[test]
    fn rows_are_counted_one_by_one_and_batches_as_a_whole() {
        let mut held = held(&[&[1, 2, 3], &[], &[4, 5]]);
        assert_eq!(held.settle(5), (0, 0));
        assert_eq!(held.settle(3), (2, 0));
        assert_eq!(held.settle(4), (0, 0), "what was counted stays counted");
        assert_eq!(
            held.settle(2),
            (1, 2),
            "a batch without rows goes with the one before"
        );
        assert_eq!(held.settle(0), (2, 1));
    }

    #[test]
    fn a_batch_that_is_not_finished_is_not_settled() {
        let mut held = held(&[&[1, 2]]);
        held.begin();
        assert_eq!(held.settle(0), (2, 1));
        held.finish();
        assert_eq!(held.settle(0), (0, 1));
    }

    #[test]
    fn what_is_taken_out_is_not_outside() {
        let mut held = held(&[&[1, 2, 3], &[4, 5, 6]]);
        assert_eq!(held.settle(5), (1, 0));
        let taken = held.take(&[4, 3, 1]);
        assert_eq!(numbers(&taken), [2, 3, 5]);
        assert_eq!(held.settle(0), (2, 2), "4 and 6");
        assert_eq!(numbers(&held.take(&[7])), [] as [i64; 0], "there is none");
    }
}
