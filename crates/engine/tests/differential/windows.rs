//! Which windows each row belongs to, computed the slow and obvious way.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::scalar::ScalarValue;

use crate::batch::{Answer, Table};
use crate::data::{array, instant};
use crate::query::Windows;

/// A row on its way into windows.
#[derive(Debug, Clone)]
pub struct Timed {
    pub id: i64,
    /// In units of the event time column.
    pub at: Option<i64>,
    /// Equal for rows of one group.
    pub key: usize,
    /// No row earlier than this was to come when it came.
    pub bound: i64,
}

/// A row's place in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: i64,
    pub start: i64,
    pub end: i64,
}

/// Rows of an answer with the columns id and time.
pub fn timed(answer: &Answer) -> Vec<(i64, Option<i64>)> {
    let mut rows = Vec::new();
    for batch in &answer.batches {
        let ids = batch.column(0).as_primitive::<Int64Type>().clone();
        let times = cast(batch.column(1), &DataType::Int64).expect("a timestamp is a number");
        let times = times.as_primitive::<Int64Type>().clone();
        rows.extend((0..ids.len()).map(|row| {
            let at = times.is_valid(row).then(|| times.value(row));
            (ids.value(row), at)
        }));
    }
    rows
}

fn clamp(at: i128) -> i64 {
    at.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Windows of `size` that start every `slide` from `offset` on and hold `at`.
fn covering(at: i64, slide: i64, size: i64, offset: i64) -> impl Iterator<Item = (i64, i64)> {
    let (at, slide, size) = (i128::from(at), i128::from(slide), i128::from(size));
    let offset = i128::from(offset);
    let last = (at - offset).div_euclid(slide) * slide + offset;
    let starts = (0..size / slide).map(move |back| last - back * slide);
    starts.map(move |start| (clamp(start), clamp(start + size)))
}

/// The windows of all rows that were not late: those still open when the row came.
pub fn members(rows: &[Timed], windows: Windows) -> Vec<Member> {
    let (slide, size, offset) = match windows {
        Windows::Tumble { size, offset } => (size, size, offset),
        Windows::Hop {
            slide,
            size,
            offset,
        } => (slide, size, offset),
        Windows::Session { gap } => return sessions(rows, gap),
    };
    let mut members = Vec::new();
    for row in rows {
        let Some(at) = row.at else { continue };
        let open = covering(at, slide, size, offset).filter(|(_, end)| *end > row.bound);
        members.extend(open.map(|(start, end)| Member {
            id: row.id,
            start,
            end,
        }));
    }
    members
}

/// Rows of a key that are less than `gap` apart.
fn sessions(rows: &[Timed], gap: i64) -> Vec<Member> {
    let mut by_key: BTreeMap<usize, Vec<(i64, i64)>> = BTreeMap::new();
    for row in rows {
        if let Some(at) = row.at {
            by_key.entry(row.key).or_default().push((at, row.id));
        }
    }
    let mut members = Vec::new();
    for mut rows in by_key.into_values() {
        rows.sort_unstable();
        let islands = rows.chunk_by(|a, b| i128::from(b.0) - i128::from(a.0) < i128::from(gap));
        for island in islands {
            let (start, last) = (island[0].0, island[island.len() - 1].0);
            let end = clamp(i128::from(last) + i128::from(gap));
            members.extend(island.iter().map(|&(_, id)| Member { id, start, end }));
        }
    }
    members
}

/// The members as the table that the batch query joins.
pub fn table(name: String, members: &[Member], time_type: &DataType) -> Table {
    let schema = Arc::new(Schema::new(vec![
        Field::new("__id", DataType::Int64, false),
        Field::new("__ws", time_type.clone(), false),
        Field::new("__we", time_type.clone(), false),
        Field::new("__wt", time_type.clone(), false),
    ]));
    let column = |of: fn(&Member) -> i64| -> Vec<ScalarValue> {
        members
            .iter()
            .map(|it| instant(Some(of(it)), time_type))
            .collect()
    };
    let ids = members.iter().map(|it| ScalarValue::Int64(Some(it.id)));
    let columns = vec![
        array(ids.collect(), &DataType::Int64),
        array(column(|it| it.start), time_type),
        array(column(|it| it.end), time_type),
        array(column(|it| it.end.saturating_sub(1)), time_type),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("four columns");
    Table {
        name,
        schema,
        batches: vec![batch],
    }
}
