//! What a step notes of its lanes, and that the frontier can be had from it again.

use std::collections::VecDeque;
use std::sync::Mutex;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use headwater_connect::{Bad, Cursor};

use super::*;

/// Rows that wait in lanes.
#[derive(Default)]
struct Lanes {
    live: Vec<u64>,
    waiting: VecDeque<(u64, Vec<i64>)>,
    declared_us: Option<i64>,
    /// Batches of large rows, and what comes with them.
    large: VecDeque<(RecordBatch, Vec<Bad>)>,
}

#[derive(Clone, Default)]
struct TestChannel(Arc<Mutex<Lanes>>);

impl TestChannel {
    fn push(&self, lane: u64, times: &[i64]) {
        let lanes = &mut *self.0.lock().unwrap();
        lanes.waiting.push_back((lane, times.to_vec()));
    }

    fn live(&self, live: &[u64]) {
        self.0.lock().unwrap().live = live.to_vec();
    }
}

impl Channel for TestChannel {
    fn is_empty(&mut self) -> bool {
        let lanes = self.0.lock().unwrap();
        lanes.waiting.is_empty() && lanes.large.is_empty()
    }

    fn drain(&mut self, drained: &mut DrainedLanes) {
        let lanes = &mut *self.0.lock().unwrap();
        for (lane, times) in lanes.waiting.drain(..) {
            let times = Arc::new(TimestampMicrosecondArray::from(times));
            let batch = RecordBatch::try_from_iter([("ts", times as _)]).unwrap();
            drained.add(lane, batch);
        }
        while drained.room().is_some()
            && let Some((batch, bad)) = lanes.large.pop_front()
        {
            drained.count(batch.num_rows());
            drained.add(lanes.live[0], batch);
            drained.add_bad(bad);
            drained.cursor = Some(Cursor(lanes.large.len().into()));
        }
        lanes
            .declared_us
            .take()
            .into_iter()
            .for_each(|at_us| drained.declare(at_us));
    }

    fn lanes(&mut self) -> Vec<u64> {
        self.0.lock().unwrap().live.clone()
    }

    fn is_finished(&mut self) -> bool {
        let lanes = self.0.lock().unwrap();
        lanes.live.is_empty() && lanes.waiting.is_empty()
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);

fn reader(channel: &TestChannel) -> SourceReader {
    let time = EventTimeColumn {
        column: 0,
        field: None,
        delay: Duration::from_micros(2),
    };
    let mut reader = SourceReader::new(None, Some(time), TIMEOUT, false);
    reader.add(Box::new(channel.clone()));
    reader
}

/// The moves of a step, after a look at whether another reader gets the same from them.
fn step(reader: &mut SourceReader, now: Instant) -> Option<Arc<FrontierMoves>> {
    let mut drained = DrainedLanes::default();
    let moved = reader.drain(&mut drained, now);
    let moves = moved.moves?;
    let mut marks = moves.start.clone();
    let again = moves.frontiers(moves.pass(&mut marks, &drained.rows));
    assert_eq!(again, moved.frontiers);
    assert_eq!(marks.at_us, reader.watermark().at_us);
    Some(moves)
}

#[test]
fn every_change_of_a_lane_is_noted_at_its_row() {
    let (channel, start) = (TestChannel::default(), Instant::now());
    let mut reader = reader(&channel);
    channel.live(&[7, 8]);
    channel.push(7, &[10, 20]);
    channel.push(8, &[15]);
    let moves = step(&mut reader, start).unwrap();
    let rows = |lane, count| FrontierEvent::Rows { lane, count };
    let joined = [FrontierEvent::Joined(0), FrontierEvent::Joined(1)];
    assert_eq!(
        moves.events,
        [&joined[..], &[rows(0, 2), rows(1, 1)]].concat()
    );
    assert_eq!(reader.watermark().at_us, 13);

    channel.live(&[7]);
    channel.push(7, &[30]);
    let moves = step(&mut reader, start).unwrap();
    assert_eq!(moves.events, [rows(0, 1), FrontierEvent::Ended(1)]);
    assert_eq!(reader.watermark().at_us, 28);

    channel.live(&[7, 9]);
    channel.push(9, &[31]);
    let moves = step(&mut reader, start + TIMEOUT).unwrap();
    let idle = FrontierEvent::Idle(0);
    assert_eq!(moves.events, [FrontierEvent::Joined(2), rows(2, 1), idle]);
    assert_eq!(reader.watermark().at_us, 29);

    channel.0.lock().unwrap().declared_us = Some(50);
    let moves = step(&mut reader, start + TIMEOUT).unwrap();
    assert_eq!(moves.events, [FrontierEvent::AtLeast(50)]);
    assert!(step(&mut reader, start + TIMEOUT).is_none());
}

/// The rows of a batch, each with a text of this many bytes, at these times.
fn large(bytes: usize, times: std::ops::Range<i64>) -> RecordBatch {
    let text = "x".repeat(bytes);
    let texts: StringArray = times.clone().map(|_| Some(text.as_str())).collect();
    let times = TimestampMicrosecondArray::from_iter_values(times);
    let columns: [ArrayRef; 2] = [Arc::new(times), Arc::new(texts)];
    RecordBatch::try_from_iter(["ts", "text"].into_iter().zip(columns)).unwrap()
}

/// What the steps of a reader take until nothing is left: the rows, the bytes, the cursor.
fn steps(reader: &mut SourceReader) -> Vec<(Vec<usize>, usize, Option<Cursor>)> {
    let mut steps = Vec::new();
    while reader.has_work() {
        let mut drained = DrainedLanes::default();
        let moved = reader.drain(&mut drained, Instant::now());
        // A step of bad rows alone moves nothing.
        if let Some(moves) = moved.moves {
            let mut marks = moves.start.clone();
            let again = moves.frontiers(moves.pass(&mut marks, &drained.rows));
            assert_eq!(again, moved.frontiers);
        }
        let rows = drained.rows.iter().map(RecordBatch::num_rows).collect();
        let cursor = drained.cursor.clone();
        let (taken, _) = drained.into_source_step(EventTimeMoved::default(), 0);
        steps.push((rows, taken.bytes(), cursor));
    }
    steps
}

const MIB: usize = 1 << 20;

#[test]
fn a_step_stops_at_its_bytes() {
    let channel = TestChannel::default();
    let mut reader = reader(&channel);
    channel.live(&[7]);
    let batches = (0..20).map(|n| (large(MIB, n * 3..n * 3 + 3), Vec::new()));
    channel.0.lock().unwrap().large.extend(batches);
    let steps = steps(&mut reader);
    let rows: Vec<usize> = steps.iter().map(|(rows, ..)| rows.iter().sum()).collect();
    // 16 MiB, and the batch in which they are reached.
    assert_eq!(rows, [18, 18, 18, 6]);
}

/// What is more than a record holds becomes several steps: no row is lost or comes twice, each knows how
/// the frontier moves, and the cursor is behind the last.
#[test]
fn what_is_too_much_for_a_record_becomes_several_steps() {
    let channel = TestChannel::default();
    let mut reader = reader(&channel);
    channel.live(&[7]);
    let bad = |n: usize| Bad {
        bytes: vec![0; 30 * MIB],
        reason: n.to_string(),
    };
    let batch = (large(MIB, 0..150), (0..3).map(bad).collect());
    channel.0.lock().unwrap().large.push_back(batch);
    let before = reader.watermark().at_us;
    let steps = steps(&mut reader);
    let rows = steps.iter().flat_map(|(rows, ..)| rows);
    assert_eq!(rows.sum::<usize>(), 150);
    assert!(steps.len() >= 4, "{} steps", steps.len());
    assert!(steps.iter().all(|(_, bytes, _)| *bytes <= 65 * MIB));
    let all: usize = steps.iter().map(|(_, bytes, _)| bytes).sum();
    assert!(all >= 240 * MIB, "with the bad rows");
    let cursors = steps.iter().map(|(_, _, cursor)| cursor.is_some());
    let last = steps.len() - 1;
    assert!(cursors.enumerate().all(|(n, has)| has == (n == last)));
    assert!(before < reader.watermark().at_us);
    assert_eq!(reader.watermark().at_us, 147);
}

/// The lane ends while rows of it wait: its end is behind the last of them.
#[test]
fn a_lane_ends_behind_its_rest() {
    let channel = TestChannel::default();
    let mut reader = reader(&channel);
    channel.live(&[7]);
    let batch = (large(MIB, 0..150), Vec::new());
    channel.0.lock().unwrap().large.push_back(batch);
    let mut events = Vec::new();
    while reader.has_work() {
        let mut drained = DrainedLanes::default();
        let moved = reader.drain(&mut drained, Instant::now());
        channel.live(&[]);
        events.extend(moved.moves.map(|moves| moves.events.clone()));
    }
    let last = events.pop().unwrap();
    assert!(last.contains(&FrontierEvent::Ended(0)));
    let ends = |event: &FrontierEvent| matches!(event, FrontierEvent::Ended(_));
    assert!(!events.concat().iter().any(ends));
    assert!(!events.is_empty());
}

#[test]
fn a_row_that_no_record_holds_is_a_bad_row() {
    let mut drained = DrainedLanes::default();
    drained.add(3, large(8, 0..4));
    let huge = large(1, 0..3);
    let text: ArrayRef = Arc::new(StringArray::from(vec![
        "a".to_owned(),
        "x".repeat(513 * MIB),
        "b".to_owned(),
    ]));
    let huge = RecordBatch::try_new(huge.schema(), vec![huge.column(0).clone(), text]).unwrap();
    drained.add(4, huge);
    drained.compute(None, 0, 0);
    let rows: Vec<_> = drained.rows.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows, [4, 1, 1]);
    let lanes: Vec<_> = drained.lanes.iter().map(|it| (it.lane, it.count)).collect();
    assert_eq!(lanes, [(3, 4), (4, 2)]);
    assert_eq!(drained.bad.len(), 1);
    let reason = &drained.bad[0].reason;
    assert!(
        reason.ends_with("the largest taken has 536870912"),
        "{reason}"
    );
    assert!(drained.cut().is_none());
}
