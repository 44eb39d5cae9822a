//! What a step notes of its lanes, and that the frontier can be had from it again.

use std::collections::VecDeque;
use std::sync::Mutex;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};

use super::*;

/// Rows that wait in lanes.
#[derive(Default)]
struct Lanes {
    live: Vec<u64>,
    waiting: VecDeque<(u64, Vec<i64>)>,
    declared_us: Option<i64>,
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
        self.0.lock().unwrap().waiting.is_empty()
    }

    fn drain(&mut self, _max: usize, drained: &mut DrainedLanes) -> usize {
        let lanes = &mut *self.0.lock().unwrap();
        for (lane, times) in lanes.waiting.drain(..) {
            let times = Arc::new(TimestampMicrosecondArray::from(times));
            let batch = RecordBatch::try_from_iter([("ts", times as _)]).unwrap();
            drained.add(lane, batch);
        }
        lanes
            .declared_us
            .take()
            .into_iter()
            .for_each(|at_us| drained.declare(at_us));
        drained.row_count() as usize
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
