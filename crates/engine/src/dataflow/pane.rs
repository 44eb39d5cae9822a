//! Panes: slices of event time.
//!
//! A pane is as long as the slide of its windows, so a row is in exactly one pane and a window is a
//! whole number of panes. This file assigns rows to panes; `panes` keeps their state. [`split`] sorts the
//! rows of a batch into panes; it is where out-of-order input costs, so the usual cases (all rows in one
//! pane; a few runs) copy nothing.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, max, min, take_record_batch};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::cast::as_int64_array;
use datafusion::error::Result;
use headwater_connect::time_unit;

use super::window_slots::PaneTimes;

/// Runs of rows in one pane, at most, that a batch is sliced into; with more, rows are gathered by pane.
const MAX_SLICES: usize = 32;

/// Event times as integers in the unit of their column.
pub(crate) fn times(array: &ArrayRef) -> Result<Int64Array> {
    let times = cast(array, &DataType::Int64)?;
    Ok(as_int64_array(&times)?.clone())
}

/// A time of a timestamp column in whole microseconds; `None` if the column is none.
pub(crate) fn in_us(data_type: &DataType, time: i64) -> Option<i64> {
    let DataType::Timestamp(unit, _) = data_type else {
        return None;
    };
    let us = time_unit::convert_saturating(time, *unit, TimeUnit::Microsecond);
    Some(us)
}

/// The first of the times, if there is one. A plain loop takes a quarter of the time of Arrow's kernel.
pub(crate) fn earliest(times: &Int64Array) -> Option<i64> {
    match times.null_count() {
        0 => times.values().iter().copied().reduce(i64::min),
        _ => min(times),
    }
}

/// The last of the times, if there is one.
pub(crate) fn latest(times: &Int64Array) -> Option<i64> {
    match times.null_count() {
        0 => times.values().iter().copied().reduce(i64::max),
        _ => max(times),
    }
}

/// The rows of a batch that share a pane.
pub(super) struct PaneRows {
    /// The start of the pane; `None` for rows without an event time.
    pub pane: Option<i64>,
    /// In the order of the batch.
    pub rows: RecordBatch,
}

/// Sorts rows into panes. A pane may come in several parts; rows of one pane keep their order.
/// `pane_at` finds the pane that holds an instant: once for neighbours that share one.
pub(super) fn split(
    rows: RecordBatch,
    times: &Int64Array,
    pane_at: impl Fn(i64) -> PaneTimes,
) -> Result<Vec<PaneRows>> {
    let Some(first) = times.values().first() else {
        return Ok(Vec::new());
    };
    let first = pane_at(*first);
    if times.null_count() == 0 && times.values().iter().all(|time| first.holds(*time)) {
        let pane = Some(first.slot);
        return Ok(vec![PaneRows { pane, rows }]);
    }
    let panes = panes_of(times, first, pane_at);
    let slices = panes.chunk_by(|a, b| a == b).count();
    if slices <= MAX_SLICES {
        Ok(slice(&rows, &panes))
    } else {
        gather(&rows, &panes)
    }
}

/// The pane of each row. Neighbours are mostly in the same one, and only a change costs a division.
fn panes_of(
    times: &Int64Array,
    mut last: PaneTimes,
    pane_at: impl Fn(i64) -> PaneTimes,
) -> Vec<Option<i64>> {
    let panes = times.iter().map(|time| {
        let time = time?;
        if !last.holds(time) {
            last = pane_at(time);
        }
        Some(last.slot)
    });
    panes.collect()
}

fn slice(rows: &RecordBatch, panes: &[Option<i64>]) -> Vec<PaneRows> {
    let mut from = 0;
    let runs = panes.chunk_by(|a, b| a == b);
    runs.map(|run| {
        let part = PaneRows {
            pane: run[0],
            rows: rows.slice(from, run.len()),
        };
        from += run.len();
        part
    })
    .collect()
}

fn gather(rows: &RecordBatch, panes: &[Option<i64>]) -> Result<Vec<PaneRows>> {
    let mut numbers: HashMap<Option<i64>, usize> = HashMap::new();
    let mut members: Vec<(Option<i64>, Vec<u32>)> = Vec::new();
    let mut last = None;
    for (row, &pane) in (0u32..).zip(panes) {
        let number = match last {
            Some((same, number)) if same == pane => number,
            _ => *numbers.entry(pane).or_insert_with(|| {
                members.push((pane, Vec::new()));
                members.len() - 1
            }),
        };
        last = Some((pane, number));
        members[number].1.push(row);
    }
    let parts = members.into_iter().map(|(pane, members)| {
        Ok(PaneRows {
            pane,
            rows: take_record_batch(rows, &UInt32Array::from(members))?,
        })
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn parts_of(times: Vec<Option<i64>>, length: i64) -> Vec<(Option<i64>, usize)> {
        let times = Int64Array::from(times);
        let rows =
            RecordBatch::try_from_iter([("t", Arc::new(times.clone()) as ArrayRef)]).unwrap();
        let pane_at = |time| PaneTimes::of_length(length, 0, time);
        let parts = split(rows, &times, pane_at).unwrap();
        parts
            .into_iter()
            .map(|part| (part.pane, part.rows.num_rows()))
            .collect()
    }

    #[test]
    fn one_pane_is_not_split() {
        assert_eq!(
            parts_of(vec![Some(10), Some(19), Some(15)], 10),
            [(Some(10), 3)]
        );
    }

    #[test]
    fn runs_are_sliced_in_order() {
        let times = vec![Some(-1), Some(0), None, Some(9), Some(10)];
        let expected = [
            (Some(-10), 1),
            (Some(0), 1),
            (None, 1),
            (Some(0), 1),
            (Some(10), 1),
        ];
        assert_eq!(parts_of(times, 10), expected);
    }

    #[test]
    fn many_runs_are_gathered() {
        let times = (0..100).map(|row| Some((row % 2) * 10)).collect();
        assert_eq!(parts_of(times, 10), [(Some(0), 50), (Some(10), 50)]);
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        assert_eq!(parts_of(vec![Some(i64::MIN), Some(i64::MAX)], 60).len(), 2);
        let first = i64::MIN;
        let cut_short = 60 - first.rem_euclid(60);
        let expected = [(Some(first), 1), (Some(first + cut_short), 1)];
        assert_eq!(
            parts_of(vec![Some(first), Some(first + cut_short)], 60),
            expected
        );
    }
}
