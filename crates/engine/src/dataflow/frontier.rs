//! The frontier of a source: how far event time has come before each of its rows.
//!
//! F(i), the frontier before row i, is the least, over the active lanes, of the greatest event time seen
//! before row i, less the delay; it never goes back. It is computed from the rows and the
//! [`FrontierEvent`]s between them, both in the order of the log, so a row that is late is late however
//! the log was cut into steps.
//!
//! A batch carries the range of its frontiers. Only a stage that closes a window within the range asks
//! for [`Frontier::values`], one for each row, which are computed once for all queries that ask.

use std::sync::{Arc, OnceLock};

use arrow::array::{BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter, take};
use datafusion::common::cast::as_int64_array;
use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use super::pane::{in_us, latest, times};

/// The lane of rows for which no frontier waits, such as those that REPROCESS decodes.
pub const NO_LANE: u32 = u32::MAX;

/// What moves the frontier of a source, in the order of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontierEvent {
    /// The next rows came through this lane. An idle lane is active again from the first of them on.
    Rows {
        /// The number of the lane, or [`NO_LANE`].
        lane: u32,
        /// The number of rows.
        count: u32,
    },
    /// The lane joined: the frontier waits for it from here on.
    Joined(u32),
    /// Nothing came through the lane for the idle timeout: the frontier does not wait for it.
    Idle(u32),
    /// Nothing more will come through the lane.
    Ended(u32),
    /// No rows earlier than this will come, in microseconds.
    AtLeast(i64),
}

/// How far a lane has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneMark {
    /// The number of the lane.
    pub lane: u32,
    /// Its greatest event time less the delay, in microseconds; `i64::MIN` before its first row.
    pub at_us: i64,
    /// Whether the frontier does not wait for it.
    pub idle: bool,
}

/// The frontier at one place of the log, and the lanes that move it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneMarks {
    /// The frontier, in microseconds.
    pub at_us: i64,
    /// The least mark of the active lanes that are not in `lanes`; `i64::MAX` if there is none.
    pub others_us: i64,
    /// The lanes, in the order in which they joined.
    pub lanes: Vec<LaneMark>,
}

impl Default for LaneMarks {
    /// Before the first row, without lanes.
    fn default() -> Self {
        Self {
            at_us: i64::MIN,
            others_us: i64::MAX,
            lanes: Vec::new(),
        }
    }
}

impl LaneMarks {
    /// The lane of this number.
    pub fn get(&self, lane: u32) -> Option<&LaneMark> {
        self.lanes.iter().find(|mark| mark.lane == lane)
    }

    /// The same place, with only the lanes that `events` name.
    #[must_use]
    pub fn narrowed(&self, events: &[FrontierEvent]) -> Self {
        let mut named: Vec<u32> = events.iter().filter_map(FrontierEvent::lane).collect();
        named.sort_unstable();
        let is_named = |mark: &LaneMark| named.binary_search(&mark.lane).is_ok();
        let others = self.lanes.iter().filter(|mark| !is_named(mark));
        Self {
            at_us: self.at_us,
            others_us: least(others).min(self.others_us),
            lanes: self.lanes.iter().copied().filter(is_named).collect(),
        }
    }

    /// The least mark of the active lanes other than this one.
    fn least_beside(&self, lane: u32) -> i64 {
        least(self.lanes.iter().filter(|mark| mark.lane != lane)).min(self.others_us)
    }

    /// Moves the frontier to the least of the active lanes; without one it stays.
    fn raise(&mut self) {
        let least = least(&self.lanes).min(self.others_us);
        if least < i64::MAX {
            self.at_us = self.at_us.max(least);
        }
    }

    /// Moves over an event; `latest_us` is the greatest event time of its rows less the delay.
    pub fn pass(&mut self, event: FrontierEvent, latest_us: Option<i64>) {
        match event {
            FrontierEvent::Rows { lane, .. } => {
                let Some(mark) = self.lanes.iter_mut().find(|mark| mark.lane == lane) else {
                    return;
                };
                mark.idle = false;
                mark.at_us = mark.at_us.max(latest_us.unwrap_or(i64::MIN));
            }
            FrontierEvent::Joined(lane) => self.lanes.push(LaneMark {
                lane,
                at_us: i64::MIN,
                idle: false,
            }),
            FrontierEvent::Idle(lane) => {
                let mark = self.lanes.iter_mut().find(|mark| mark.lane == lane);
                mark.into_iter().for_each(|mark| mark.idle = true);
            }
            FrontierEvent::Ended(lane) => self.lanes.retain(|mark| mark.lane != lane),
            FrontierEvent::AtLeast(at_us) => self.at_us = self.at_us.max(at_us),
        }
        self.raise();
    }

    /// Moves over rows of one lane, and adds the frontier before each of them to `out`.
    fn pass_each(&mut self, lane: u32, times_us: &[Option<i64>], out: &mut Vec<i64>) {
        let others_us = self.least_beside(lane);
        let (mut at_us, mark) = (self.at_us, self.lanes.iter_mut().find(|it| it.lane == lane));
        let Some(mark) = mark else {
            out.resize(out.len() + times_us.len(), at_us);
            return;
        };
        mark.idle = false;
        for time_us in times_us {
            out.push(at_us);
            mark.at_us = mark.at_us.max(time_us.unwrap_or(i64::MIN));
            match mark.at_us.min(others_us) {
                i64::MAX => {}
                least => at_us = at_us.max(least),
            }
        }
        self.at_us = at_us;
    }
}

fn least<'a>(marks: impl IntoIterator<Item = &'a LaneMark>) -> i64 {
    let active = marks.into_iter().filter(|mark| !mark.idle);
    active.map(|mark| mark.at_us).min().unwrap_or(i64::MAX)
}

/// How the frontier moves over the rows of one step: what the log records of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontierMoves {
    /// The index of the event time column.
    pub column: u32,
    /// How far rows may come out of order, in microseconds.
    pub delay_us: i64,
    /// The frontier before the step, and the lanes that the events name.
    pub start: LaneMarks,
    /// What happened, in order; the rows are those of the step.
    pub events: Vec<FrontierEvent>,
}

impl FrontierMoves {
    /// Moves `marks` over the step, whose rows are in `batches`; returns the frontier of each batch.
    pub fn apply(&self, marks: &mut LaneMarks, batches: &[RecordBatch]) -> Vec<Frontier> {
        let mut events = self.events.iter().copied();
        let mut next = events.next();
        let mut frontiers = Vec::with_capacity(batches.len());
        for batch in batches {
            let (mut left, mut within) = (batch.num_rows(), Vec::new());
            while left > 0
                && let Some(event) = next
            {
                let (event, rest) = event.split_at(left);
                next = rest.or_else(|| events.next());
                left -= event.rows();
                within.push(event);
            }
            let moves = Self {
                start: marks.narrowed(&within),
                events: within,
                ..*self
            };
            frontiers.push(moves.pass_batch(marks, batch));
        }
        for event in next.into_iter().chain(events) {
            marks.pass(event, None);
        }
        frontiers
    }

    /// Moves `marks` over `batch`, whose rows are those of the events; returns its frontier.
    fn pass_batch(self, marks: &mut LaneMarks, batch: &RecordBatch) -> Frontier {
        let (first_us, mut row) = (marks.at_us, 0);
        for event in &self.events {
            marks.pass(*event, self.latest_us(batch, row, *event));
            row += event.rows();
        }
        if marks.at_us == first_us {
            return Frontier::at(first_us);
        }
        Frontier {
            last_us: marks.at_us,
            rows: Some(Arc::new(RowFrontiers::Moves {
                rows: batch.clone(),
                moves: self,
                values: OnceLock::new(),
            })),
            ..Frontier::at(first_us)
        }
    }

    fn latest_us(&self, batch: &RecordBatch, row: usize, event: FrontierEvent) -> Option<i64> {
        let column = batch.column(self.column as usize);
        let column = column.slice(row, event.rows());
        let latest = in_us(column.data_type(), latest(&times(&column).ok()?)?)?;
        Some(latest.saturating_sub(self.delay_us))
    }

    /// The frontier before each row of `rows`, which are the rows of the events.
    fn values(&self, rows: &RecordBatch) -> Result<Int64Array> {
        let column = rows.column(self.column as usize);
        let times = times(column)?;
        let less_delay =
            |time| Some(in_us(column.data_type(), time)?.saturating_sub(self.delay_us));
        let times_us: Vec<_> = times.iter().map(|time| time.and_then(less_delay)).collect();
        let (mut marks, mut row) = (self.start.clone(), 0);
        let mut values = Vec::with_capacity(times_us.len());
        for event in &self.events {
            match *event {
                FrontierEvent::Rows { lane, count } => {
                    let end = row + count as usize;
                    marks.pass_each(lane, &times_us[row..end], &mut values);
                    row = end;
                }
                other => marks.pass(other, None),
            }
        }
        // Rows that no event covers.
        values.resize(times_us.len(), marks.at_us);
        Ok(values.into())
    }
}

impl FrontierEvent {
    /// The lane that it is of.
    fn lane(&self) -> Option<u32> {
        match *self {
            Self::Rows { lane, .. } | Self::Joined(lane) | Self::Idle(lane) | Self::Ended(lane) => {
                Some(lane)
            }
            Self::AtLeast(_) => None,
        }
    }

    /// The number of rows that it covers.
    fn rows(self) -> usize {
        match self {
            Self::Rows { count, .. } => count as usize,
            _ => 0,
        }
    }

    /// The part that covers at most `rows` rows, and the rest.
    fn split_at(self, rows: usize) -> (Self, Option<Self>) {
        match self {
            Self::Rows { lane, count } if count as usize > rows => {
                let first = rows as u32;
                let rest = count - first;
                (
                    Self::Rows { lane, count: first },
                    Some(Self::Rows { lane, count: rest }),
                )
            }
            whole => (whole, None),
        }
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
    rows: Option<Arc<RowFrontiers>>,
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

#[derive(Debug)]
enum RowFrontiers {
    Moves {
        rows: RecordBatch,
        moves: FrontierMoves,
        values: OnceLock<Int64Array>,
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
        let mut values = match self.rows.as_deref() {
            None => return Ok(Int64Array::from_value(self.first_us, count)),
            Some(RowFrontiers::Values(values)) => values.clone(),
            Some(RowFrontiers::Moves {
                rows,
                moves,
                values,
            }) => match values.get() {
                Some(values) => values.clone(),
                None => {
                    let computed = moves.values(rows)?;
                    values.get_or_init(|| computed).clone()
                }
            },
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
            rows: values.map(|values| Arc::new(RowFrontiers::Values(values))),
            kept: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
