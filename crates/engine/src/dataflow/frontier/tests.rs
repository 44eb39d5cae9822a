//! How the frontier moves over rows, lanes and batches.

use arrow::array::{ArrayRef, TimestampMicrosecondArray};

use arrow::array::{BooleanArray, UInt32Array};
use datafusion::common::cast::as_timestamp_microsecond_array;

use super::*;

const NONE: i64 = i64::MIN;

fn batch(times: &[Option<i64>]) -> RecordBatch {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("t", times, true)]).unwrap()
}

fn rows(lane: u32, count: u32) -> FrontierEvent {
    FrontierEvent::Rows { lane, count }
}

/// The frontier before each row of the batches, and behind the last.
fn frontiers(delay_us: i64, events: Vec<FrontierEvent>, batches: &[&[Option<i64>]]) -> Vec<i64> {
    let batches: Vec<_> = batches.iter().map(|times| batch(times)).collect();
    let mut marks = LaneMarks::default();
    let moves = Arc::new(FrontierMoves {
        column: 0,
        delay_us,
        start: marks.clone(),
        events,
    });
    let frontiers = moves.frontiers(moves.pass(&mut marks, &batches));
    let mut all = Vec::new();
    for (frontier, batch) in frontiers.iter().zip(&batches) {
        let values = frontier.values(batch.num_rows()).unwrap();
        let (first, last) = frontier.range_us();
        assert!(values.values().iter().all(|at| (first..=last).contains(at)));
        let times = as_timestamp_microsecond_array(batch.column(0)).unwrap();
        let is_behind = |(time, at): (Option<i64>, &i64)| time.is_none_or(|time| time < *at);
        assert!(!frontier.in_order() || !times.iter().zip(values.values()).any(is_behind));
        all.extend(values.values());
    }
    all.push(marks.at_us);
    all
}

#[test]
fn a_row_does_not_move_its_own_frontier() {
    let times: &[_] = &[Some(50), Some(20), None, Some(60)];
    let events = vec![FrontierEvent::Joined(0), rows(0, 4)];
    assert_eq!(frontiers(10, events, &[times]), [NONE, 40, 40, 40, 50]);
}

#[test]
fn the_slowest_active_lane_counts() {
    let events = vec![
        FrontierEvent::Joined(0),
        FrontierEvent::Joined(1),
        rows(0, 2),
        rows(1, 2),
        FrontierEvent::Idle(1),
        rows(0, 1),
        rows(1, 1),
        rows(0, 1),
        FrontierEvent::Ended(1),
        rows(0, 1),
    ];
    let (first, second): (&[_], &[_]) = (
        &[Some(10), Some(30), Some(5), Some(20)],
        &[Some(40), Some(1), Some(50), Some(60)],
    );
    // Lane 1 comes back behind the frontier, which never goes back, and holds it until it ends.
    let expected = [NONE, NONE, NONE, 5, 30, 40, 40, 50, 60];
    assert_eq!(frontiers(0, events, &[first, second]), expected);
}

#[test]
fn without_a_lane_the_frontier_stays() {
    let events = vec![
        FrontierEvent::AtLeast(7),
        rows(NO_LANE, 1),
        FrontierEvent::AtLeast(3),
        rows(NO_LANE, 1),
    ];
    assert_eq!(frontiers(0, events, &[&[Some(90), Some(1)]]), [7, 7, 7]);
}

#[test]
fn a_frontier_does_not_depend_on_the_batches() {
    let times: Vec<Option<i64>> = (0..40).map(|n| Some(n * 7 % 23 + n)).collect();
    let events = || {
        let lanes = (0..10).map(|n| rows(n % 3, 4));
        (0..3)
            .map(FrontierEvent::Joined)
            .chain(lanes)
            .collect::<Vec<_>>()
    };
    let whole = frontiers(3, events(), &[&times]);
    for cut in 1..40 {
        let (first, second) = times.split_at(cut);
        assert_eq!(
            frontiers(3, events(), &[first, second]),
            whole,
            "cut at {cut}"
        );
    }
}

#[test]
fn rows_that_are_left_keep_their_frontiers() {
    let rows = batch(&[Some(10), Some(20), Some(30), Some(40)]);
    let mut marks = LaneMarks::default();
    let moves = Arc::new(FrontierMoves {
        column: 0,
        delay_us: 0,
        start: marks.clone(),
        events: vec![FrontierEvent::Joined(0), self::rows(0, 4)],
    });
    let batches = moves.pass(&mut marks, &[rows]);
    let mut frontier = moves.frontiers(batches).remove(0);
    frontier.filter(&BooleanArray::from(vec![true, false, true, true]));
    let frontier = frontier.taken(&UInt32Array::from(vec![2, 1]));
    assert_eq!(frontier.values(2).unwrap().values(), &[30, 20]);
    let message = serde_json::to_string(&frontier).unwrap();
    let back: Frontier = serde_json::from_str(&message).unwrap();
    assert_eq!(back, frontier);
    assert_eq!(back.values(2).unwrap().values(), &[30, 20]);
}

#[test]
fn rows_in_order_need_no_frontier_each() {
    let in_order = |marks: &LaneMarks, events: Vec<FrontierEvent>, times: &[Option<i64>]| {
        let moves = Arc::new(FrontierMoves {
            column: 0,
            delay_us: 0,
            start: marks.clone(),
            events,
        });
        let batches = moves.pass(&mut marks.clone(), &[batch(times)]);
        moves.frontiers(batches)[0].in_order()
    };
    let mut marks = LaneMarks::default();
    marks.pass(FrontierEvent::Joined(0), None);
    let sorted = [Some(10), Some(20), Some(20), Some(30)];
    assert!(in_order(&marks, vec![rows(0, 4)], &sorted));
    assert!(!in_order(&marks, vec![rows(0, 4)], &[Some(10), Some(9)]));
    assert!(!in_order(&marks, vec![rows(0, 4)], &[None, Some(9)]));
    let declared = vec![FrontierEvent::AtLeast(15), rows(0, 4)];
    assert!(!in_order(&marks, declared, &sorted));
    // The idle lane is ahead: its next row moves the frontier to 25, whatever its time.
    marks.pass(rows(0, 1), Some(25));
    marks.pass(FrontierEvent::Idle(0), None);
    marks.at_us = 5;
    assert!(!in_order(&marks, vec![rows(0, 4)], &sorted));
}
