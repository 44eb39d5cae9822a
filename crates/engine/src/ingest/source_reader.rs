//! Reads all lanes of one source, and keeps its watermark.
//!
//! The watermark is the least over the lanes of the greatest event time seen, less the delay. A lane
//! from which nothing has come for the idle timeout does not hold it back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::channel::{Channel, DrainedLanes, LaneRows};
use crate::dataflow::Watermark;
use crate::event_time::{EventTimeColumn, latest_us};

/// Rows that a worker takes from one source in one step, at most.
const STEP_ROWS: usize = 65_536;

/// The event time and activity of a lane.
struct LaneWatermark {
    /// Greatest event time less the delay, in microseconds.
    at_us: i64,
    last_active: Instant,
    idle: bool,
    /// Whether values can still come from it.
    live: bool,
}

impl LaneWatermark {
    fn new(now: Instant) -> Self {
        Self {
            at_us: i64::MIN,
            last_active: now,
            idle: false,
            live: true,
        }
    }
}

/// All channels of one source, and its watermark. On the home worker of the source only.
pub(crate) struct SourceReader {
    channels: Vec<Box<dyn Channel>>,
    /// The channel that the next step reads first.
    first: usize,
    /// Values that channels had dropped which exist no more.
    dropped_before: u64,
    time: Option<EventTimeColumn>,
    idle_timeout: Duration,
    /// By the number of the channel and the lane.
    lanes: HashMap<(usize, u64), LaneWatermark>,
    /// Since when there is no lane. Without meaning while there is one.
    laneless_since: Instant,
    watermark: Watermark,
    /// The greatest watermark that a producer declared.
    declared_us: i64,
    /// Whether the source was closed: its input ends when its channels have been read.
    closed: bool,
}

impl SourceReader {
    pub fn new(time: Option<EventTimeColumn>, idle_timeout: Duration) -> Self {
        Self {
            channels: Vec::new(),
            first: 0,
            dropped_before: 0,
            laneless_since: Instant::now(),
            time,
            idle_timeout,
            lanes: HashMap::new(),
            watermark: Watermark::START,
            declared_us: i64::MIN,
            closed: false,
        }
    }

    /// Counts the idle timeout of a source without a lane from now on.
    pub fn start_idle_timeout(&mut self) {
        self.laneless_since = Instant::now();
    }

    pub fn add(&mut self, mut channel: Box<dyn Channel>) {
        if self.closed {
            channel.close();
        }
        self.channels.push(channel);
    }

    /// Continues at the watermark that the source had before a restart.
    pub fn resume(&mut self, watermark: Watermark) {
        self.watermark = self.watermark.later(watermark);
    }

    pub fn set_time(&mut self, time: EventTimeColumn) {
        self.time = Some(time);
    }

    /// Closes the source: the reader reads what was pushed before, then its input ends.
    pub fn close(&mut self) {
        self.closed = true;
        self.seal();
    }

    /// Refuses further pushes; the reader still reads what was pushed before.
    pub fn seal(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.close());
    }

    /// Whether a step would get rows or the end of the input.
    pub fn has_work(&mut self) -> bool {
        if self.channels.iter_mut().any(|channel| !channel.is_empty()) {
            return true;
        }
        self.at_end() && self.watermark != Watermark::END
    }

    fn at_end(&mut self) -> bool {
        self.closed
            && self
                .channels
                .iter_mut()
                .all(|channel| channel.is_finished())
    }

    /// Drains what has arrived. Returns the watermark if it has moved.
    pub fn drain(&mut self, drained: &mut DrainedLanes, now: Instant) -> Option<Watermark> {
        if self.time.is_some() {
            self.note_lanes(now);
        }
        let (mut left, channels) = (STEP_ROWS, self.channels.len());
        for number in 0..channels {
            let number = (self.first + number) % channels;
            if left == 0 {
                self.keep_active(number, now);
                continue;
            }
            let first = drained.lanes.len();
            left = left.saturating_sub(self.channels[number].drain(left, drained));
            self.note_times(number, &drained.rows, &drained.lanes[first..], now);
        }
        self.first = (self.first + 1) % channels.max(1);
        drained.ended = self.at_end();
        self.note_ends();
        let moved = self.advance(drained, now);
        self.remove_ended(now);
        moved
    }

    /// A lane counts from its creation, with rows or without.
    fn note_lanes(&mut self, now: Instant) {
        for (number, channel) in self.channels.iter_mut().enumerate() {
            for lane in channel.lanes() {
                self.lanes
                    .entry((number, lane))
                    .or_insert_with(|| LaneWatermark::new(now));
            }
        }
    }

    /// The lanes of a channel whose rows wait are not idle.
    fn keep_active(&mut self, number: usize, now: Instant) {
        if !self.channels[number].is_empty() {
            let lanes = self
                .lanes
                .iter_mut()
                .filter(|((channel, _), _)| *channel == number);
            lanes.for_each(|(_, lane)| lane.last_active = now);
        }
    }

    /// Marks the lanes that have ended.
    fn note_ends(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.live = false);
        for (number, channel) in self.channels.iter_mut().enumerate() {
            for lane in channel.lanes() {
                if let Some(lane) = self.lanes.get_mut(&(number, lane)) {
                    lane.live = true;
                }
            }
        }
    }

    fn note_times(
        &mut self,
        channel: usize,
        rows: &[RecordBatch],
        lanes: &[LaneRows],
        now: Instant,
    ) {
        let Some(time) = &self.time else { return };
        let delay = i64::try_from(time.delay.as_micros()).unwrap_or(i64::MAX);
        for LaneRows {
            lane,
            batch,
            from,
            to,
        } in lanes
        {
            let column = rows[*batch].column(time.column).slice(*from, to - from);
            let latest = latest_us(&column);
            let lane = self
                .lanes
                .entry((channel, *lane))
                .or_insert_with(|| LaneWatermark::new(now));
            lane.last_active = now;
            lane.idle = false;
            if let Some(latest) = latest {
                lane.at_us = lane.at_us.max(latest.saturating_sub(delay));
            }
        }
    }

    /// Removes lanes that have ended, and finished channels at the end of the list: the numbers of the
    /// others stay.
    fn remove_ended(&mut self, now: Instant) {
        if !self.lanes.is_empty() {
            self.laneless_since = now;
        }
        self.lanes.retain(|_, lane| lane.live);
        while self
            .channels
            .last_mut()
            .is_some_and(|channel| channel.is_finished())
        {
            let gone = self.channels.pop();
            self.dropped_before += gone.map_or(0, |mut channel| channel.dropped());
        }
    }

    fn advance(&mut self, drained: &DrainedLanes, now: Instant) -> Option<Watermark> {
        if let Some(declared) = drained.declared_us {
            self.declared_us = self.declared_us.max(declared);
        }
        let before = self.watermark;
        self.watermark = match drained.ended {
            true => Watermark::END,
            false => before.later(self.slowest(now)),
        };
        (self.watermark != before).then_some(self.watermark)
    }

    /// The watermark of the lanes: the least of the live ones, or the last of those that have ended.
    fn slowest(&mut self, now: Instant) -> Watermark {
        for lane in self.lanes.values_mut() {
            lane.idle |= now.duration_since(lane.last_active) >= self.idle_timeout;
        }
        let live = self.lanes.values().filter(|lane| lane.live);
        let active = live
            .clone()
            .filter(|lane| !lane.idle)
            .map(|lane| lane.at_us)
            .min();
        let ended = self.lanes.values().map(|lane| lane.at_us).max();
        let idle = match live.count() {
            0 => now.duration_since(self.laneless_since) >= self.idle_timeout,
            _ => active.is_none(),
        };
        let known = active.or(ended.filter(|_| !idle)).unwrap_or(i64::MIN);
        Watermark {
            at_us: known.max(self.declared_in_force()),
            idle,
        }
    }

    /// A declared watermark also covers rows that are already pushed, so it holds once all lanes have
    /// been read.
    fn declared_in_force(&mut self) -> i64 {
        if self.declared_us > self.watermark.at_us
            && self.channels.iter_mut().any(|channel| !channel.is_empty())
        {
            return i64::MIN;
        }
        self.declared_us
    }

    /// When the next lane becomes idle; `None` if the source has no event time.
    pub fn next_idle(&self) -> Option<Instant> {
        self.time.as_ref()?;
        let waiting = self.lanes.values().filter(|lane| !lane.idle);
        waiting
            .map(|lane| lane.last_active + self.idle_timeout)
            .min()
    }

    /// Values that the backpressure policy has dropped.
    pub fn dropped(&mut self) -> u64 {
        let now: u64 = self
            .channels
            .iter_mut()
            .map(|channel| channel.dropped())
            .sum();
        self.dropped_before + now
    }
}
