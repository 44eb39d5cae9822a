//! The frontier before each row of a batch, and that of a whole step that its batches share.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{filter, take};
use datafusion::common::cast::as_int64_array;
use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use super::FrontierMoves;
use crate::dataflow::pane::{in_us, times};

/// The frontiers of the batches of one step.
#[derive(Debug)]
pub(super) struct StepFrontiers {
    moves: Arc<FrontierMoves>,
    batches: Vec<BatchFrontier>,
    /// The frontier before each row of the step, once a stage has asked.
    values: OnceLock<Int64Array>,
}

/// How the frontier moved over one batch.
#[derive(Debug)]
pub struct BatchFrontier {
    /// Its column of event times.
    times: ArrayRef,
    /// Before the first row, in microseconds.
    first_us: i64,
    /// Behind the last row.
    last_us: i64,
    /// The greatest frontier that something other than the rows of the batch can make.
    reach_us: i64,
    /// Whether the rows come in order, none before `reach_us`; once a stage has asked.
    in_order: OnceLock<bool>,
}

impl StepFrontiers {
    pub fn new(moves: &Arc<FrontierMoves>, batches: Vec<BatchFrontier>) -> Self {
        Self {
            moves: Arc::clone(moves),
            batches,
            values: OnceLock::new(),
        }
    }

    /// The frontier of each batch.
    pub fn into_frontiers(self) -> Vec<Frontier> {
        let step = Arc::new(self);
        let batches = step.batches.iter().enumerate();
        let frontiers = batches.map(|(number, batch)| Frontier {
            last_us: batch.last_us,
            rows: (batch.first_us != batch.last_us).then(|| RowFrontiers::Step {
                step: Arc::clone(&step),
                batch: number,
            }),
            ..Frontier::at(batch.first_us)
        });
        frontiers.collect()
    }

    /// The frontier before each row of a batch.
    fn values(&self, batch: usize) -> Result<Int64Array> {
        let all = match self.values.get() {
            Some(all) => all,
            None => {
                let columns = self.batches.iter().map(|batch| &batch.times);
                let computed = self.moves.values(columns)?;
                self.values.get_or_init(|| computed)
            }
        };
        let before = self.batches[..batch].iter().map(|batch| batch.times.len());
        Ok(all.slice(before.sum(), self.batches[batch].times.len()))
    }
}

impl BatchFrontier {
    pub(super) fn new(times: ArrayRef, first_us: i64, last_us: i64, reach_us: i64) -> Self {
        Self {
            times,
            first_us,
            last_us,
            reach_us,
            in_order: OnceLock::new(),
        }
    }

    /// Whether the rows come in order, none before `reach_us`. Then none is behind the frontier before it,
    /// which is at most `reach_us` or the time of an earlier row.
    fn in_order(&self) -> bool {
        *self.in_order.get_or_init(|| {
            let Ok(of_rows) = times(&self.times) else {
                return false;
            };
            let first = of_rows.values().first().copied();
            let first_us = first.and_then(|time| in_us(self.times.data_type(), time));
            of_rows.null_count() == 0
                && first_us.is_none_or(|first_us| first_us >= self.reach_us)
                && of_rows.values().is_sorted()
        })
    }
}

/// The frontier before each row of a batch.
#[derive(Debug, Clone)]
pub struct Frontier {
    /// Which source the rows are from; rows of one have the order of its log.
    source: u32,
    first_us: i64,
    last_us: i64,
    /// The frontiers of the rows that the batch was made of; none if all are the same.
    rows: Option<RowFrontiers>,
    /// Which of those rows are in the batch: each step selects from what the step before left.
    kept: Vec<Kept>,
}

/// A choice of rows.
#[derive(Debug, Clone)]
enum Kept {
    Slice(usize, usize),
    Where(BooleanArray),
    Rows(UInt32Array),
}

#[derive(Debug, Clone)]
enum RowFrontiers {
    /// Those of a batch of the step, by its number.
    Step {
        step: Arc<StepFrontiers>,
        batch: usize,
    },
    Values(Int64Array),
}

impl Frontier {
    /// Of rows that are late for no window that is open.
    pub const NONE: Self = Self::at(i64::MIN);

    /// The same frontier before every row, in microseconds.
    pub const fn at(at_us: i64) -> Self {
        Self {
            source: 0,
            first_us: at_us,
            last_us: at_us,
            rows: None,
            kept: Vec::new(),
        }
    }

    /// The same frontier, of rows from this source.
    #[must_use]
    pub fn of_source(self, source: u32) -> Self {
        Self { source, ..self }
    }

    /// The same frontier, of rows that came by this input of a UNION: between inputs there is no order.
    #[must_use]
    pub fn of_input(self, input: usize) -> Self {
        let mixed = (self.source.rotate_left(7) ^ input as u32).wrapping_mul(0x9e37_79b1);
        self.of_source(mixed)
    }

    /// The source that the rows are from, as it was set; 0 if it was not.
    pub fn source(&self) -> u32 {
        self.source
    }

    /// The frontier before the first row and one that no row is beyond, in microseconds.
    pub fn range_us(&self) -> (i64, i64) {
        (self.first_us, self.last_us)
    }

    /// Whether the rows came in order: then none is behind the frontier before it, and no stage needs
    /// [`values`](Self::values). False where that cannot be seen at little cost.
    pub fn in_order(&self) -> bool {
        match &self.rows {
            Some(RowFrontiers::Step { step, batch }) => step.batches[*batch].in_order(),
            _ => false,
        }
    }

    /// Only the rows for which `kept` is true are left.
    pub fn filter(&mut self, kept: &BooleanArray) {
        if self.rows.is_some() {
            self.kept.push(Kept::Where(kept.clone()));
        }
    }

    /// The frontier of the `count` rows from number `first` on, of `all` that there are.
    #[must_use]
    pub fn sliced(&self, first: usize, count: usize, all: usize) -> Self {
        let mut sliced = self.clone();
        if self.rows.is_some() && count < all {
            sliced.kept.push(Kept::Slice(first, count));
        }
        sliced
    }

    /// The frontier of these rows.
    #[must_use]
    pub fn taken(&self, rows: &UInt32Array) -> Self {
        let mut taken = self.clone();
        if self.rows.is_some() {
            taken.kept.push(Kept::Rows(rows.clone()));
        }
        taken
    }

    /// The frontier before each of the `count` rows, in microseconds.
    ///
    /// # Errors
    /// If the event time column is not a timestamp.
    pub fn values(&self, count: usize) -> Result<Int64Array> {
        let mut values = match &self.rows {
            None => return Ok(Int64Array::from_value(self.first_us, count)),
            Some(RowFrontiers::Values(values)) => values.clone(),
            Some(RowFrontiers::Step { step, batch }) => step.values(*batch)?,
        };
        for kept in &self.kept {
            let selected = match kept {
                Kept::Slice(first, count) => Arc::new(values.slice(*first, *count)),
                Kept::Where(kept) => filter(&values, kept)?,
                Kept::Rows(rows) => take(&values, rows, None)?,
            };
            values = as_int64_array(&selected)?.clone();
        }
        Ok(values)
    }
}

impl PartialEq for Frontier {
    /// Whether the ranges are the same.
    fn eq(&self, other: &Self) -> bool {
        self.range_us() == other.range_us()
    }
}

/// A frontier as it crosses processes.
#[derive(Serialize, Deserialize)]
struct FrontierMessage {
    source: u32,
    range_us: (i64, i64),
    values: Option<Vec<i64>>,
}

impl Serialize for Frontier {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let values = self.rows.as_ref().map(|_| self.values(0)).transpose();
        let values = values.map_err(serde::ser::Error::custom)?;
        let message = FrontierMessage {
            source: self.source,
            range_us: self.range_us(),
            values: values.map(|values| values.values().to_vec()),
        };
        message.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Frontier {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let message = FrontierMessage::deserialize(from)?;
        let (first_us, last_us) = message.range_us;
        let values = message.values.map(Int64Array::from);
        Ok(Self {
            source: message.source,
            first_us,
            last_us,
            rows: values.map(RowFrontiers::Values),
            kept: Vec::new(),
        })
    }
}
