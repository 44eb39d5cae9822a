//! The frontier of a source: how far event time has come before each of its rows.
//!
//! F(i), the frontier before row i, is the least, over the active lanes, of the greatest event time seen
//! before row i, less the delay; it never goes back. It is computed from the rows and the
//! [`FrontierEvent`]s between them, both in the order of the log, so a row that is late is late however
//! the log was cut into steps.
//!
//! A batch carries the range of its frontiers. Only a stage that closes a window within the range asks
//! for [`Frontier::values`], one for each row, which are computed once for all queries that ask.

mod row_frontiers;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use datafusion::error::Result;

use super::pane::{in_us, latest, times};
use row_frontiers::StepFrontiers;
pub use row_frontiers::{BatchFrontier, Frontier};

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

/// The greatest frontier: the greatest number stands for none.
const LAST_US: i64 = i64::MAX - 1;

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

    /// Leaves only the lanes that `events` name.
    pub fn narrow(&mut self, events: &[FrontierEvent]) {
        let mut named: Vec<u32> = events.iter().filter_map(FrontierEvent::lane).collect();
        named.sort_unstable();
        let is_named = |mark: &LaneMark| named.binary_search(&mark.lane).is_ok();
        let others = self.lanes.iter().filter(|mark| !is_named(mark));
        self.others_us = least(others).min(self.others_us);
        self.lanes.retain(is_named);
    }

    /// The frontier or the greatest mark, whichever is greater: nothing but rows moves the frontier beyond
    /// it.
    fn reach_us(&self) -> i64 {
        let marks = self.lanes.iter().map(|mark| mark.at_us);
        let others = Some(self.others_us).filter(|others| *others < i64::MAX);
        marks.chain(others).fold(self.at_us, i64::max)
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

    fn get_mut(&mut self, lane: u32) -> Option<&mut LaneMark> {
        // In the order of their numbers, unless those have begun again.
        let found = self.lanes.binary_search_by_key(&lane, |mark| mark.lane);
        let found = found.ok();
        let found = found.or_else(|| self.lanes.iter().position(|mark| mark.lane == lane));
        found.map(|number| &mut self.lanes[number])
    }

    /// Moves over an event; `latest_us` is the greatest event time of its rows less the delay.
    pub fn pass(&mut self, event: FrontierEvent, latest_us: Option<i64>) {
        match event {
            FrontierEvent::Rows { lane, .. } => {
                let frontier_us = self.at_us;
                let Some(mark) = self.get_mut(lane) else {
                    return;
                };
                mark.idle = false;
                let before_us = mark.at_us;
                mark.at_us = before_us.max(latest_us.unwrap_or(i64::MIN));
                if before_us > frontier_us {
                    // It was not this lane that held the frontier back.
                    return;
                }
            }
            FrontierEvent::Joined(lane) => self.lanes.push(LaneMark {
                lane,
                at_us: i64::MIN,
                idle: false,
            }),
            FrontierEvent::Idle(lane) => {
                self.get_mut(lane)
                    .into_iter()
                    .for_each(|mark| mark.idle = true);
            }
            FrontierEvent::Ended(lane) => self.lanes.retain(|mark| mark.lane != lane),
            FrontierEvent::AtLeast(at_us) => self.at_us = self.at_us.max(at_us),
        }
        self.raise();
    }

    /// Moves over rows of one lane, and adds the frontier before each of them to `out`.
    fn pass_each(&mut self, lane: u32, times_us: &[Option<i64>], out: &mut Vec<i64>) {
        let others_us = self.least_beside(lane);
        let mut at_us = self.at_us;
        let Some(mark) = self.get_mut(lane) else {
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
    /// Moves `marks` over the step, whose rows are in `batches`.
    pub fn pass(&self, marks: &mut LaneMarks, batches: &[RecordBatch]) -> Vec<BatchFrontier> {
        let mut events = self.events.iter().copied();
        let mut next = events.next();
        let mut passed = Vec::with_capacity(batches.len());
        for batch in batches {
            let times = Arc::clone(batch.column(self.column as usize));
            let (first_us, mut reach_us, mut row) = (marks.at_us, marks.reach_us(), 0);
            while row < times.len()
                && let Some(event) = next
            {
                let (event, rest) = event.split_at(times.len() - row);
                next = rest.or_else(|| events.next());
                if let FrontierEvent::AtLeast(at_us) = event {
                    reach_us = reach_us.max(at_us);
                }
                marks.pass(event, self.latest_us(&times, row, event));
                row += event.rows();
            }
            passed.push(BatchFrontier::new(times, first_us, marks.at_us, reach_us));
        }
        for event in next.into_iter().chain(events) {
            marks.pass(event, None);
        }
        passed
    }

    /// The frontiers of the batches of the step, over which it has passed.
    pub fn frontiers(self: &Arc<Self>, batches: Vec<BatchFrontier>) -> Vec<Frontier> {
        StepFrontiers::new(self, batches).into_frontiers()
    }

    /// The greatest time of the rows of the event, which begin at `row`, less the delay.
    fn latest_us(&self, column: &ArrayRef, row: usize, event: FrontierEvent) -> Option<i64> {
        let times = match event.rows() {
            0 => return None,
            rows if rows == column.len() => times(column),
            rows => times(&column.slice(row, rows)),
        };
        let latest = in_us(column.data_type(), latest(&times.ok()?)?)?;
        Some(self.less_delay(latest))
    }

    fn less_delay(&self, time_us: i64) -> i64 {
        time_us.saturating_sub(self.delay_us).min(LAST_US)
    }

    /// The frontier before each row of the step, whose event times are in `columns`.
    fn values<'a>(&self, columns: impl Iterator<Item = &'a ArrayRef>) -> Result<Int64Array> {
        let mut times_us = Vec::new();
        for column in columns {
            let times = times(column)?;
            let less_delay = |time| Some(self.less_delay(in_us(column.data_type(), time)?));
            times_us.extend(times.iter().map(|time| time.and_then(less_delay)));
        }
        let (mut marks, mut row) = (self.start.clone(), 0);
        let mut values = Vec::with_capacity(times_us.len());
        for event in &self.events {
            match *event {
                FrontierEvent::Rows { lane, count } => {
                    let end = times_us.len().min(row + count as usize);
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
    pub fn rows(self) -> usize {
        match self {
            Self::Rows { count, .. } => count as usize,
            _ => 0,
        }
    }

    /// The part that covers at most `rows` rows, and the rest.
    pub fn split_at(self, rows: usize) -> (Self, Option<Self>) {
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

#[cfg(test)]
mod tests;
