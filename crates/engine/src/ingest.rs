//! From lanes to batches: what a worker does with a source at the beginning of a step.
//!
//! A source has one or more **channels** (one for each typed handle that was asked for, or one for
//! its connector), each with one or more **lanes** (one for each clone of the handle). [`SourceReader`]
//! drains them all, makes batches, and keeps the source's watermark: the least over its lanes of
//! the greatest event time seen, less the delay. A lane from which nothing has come for the idle
//! timeout is not waited for.

mod channels;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use headwater_connect::{Bad, Cursor};

use crate::dataflow::{Offsets, Provenance, Watermark, earliest, latest, times};
use crate::durable::{Acks, BadPlace, Taken};

pub(crate) use channels::{Connected, Mended, MendedRows, Typed};

/// Rows that a worker takes from one source in one step, at most.
pub(crate) const STEP_ROWS: usize = 65_536;

/// Where the event time of a source is.
#[derive(Debug, Clone)]
pub(crate) struct EventTimeColumn {
    pub column: usize,
    /// How far rows may come out of order.
    pub delay: Duration,
}

/// The reading end of one channel, whatever it carries.
pub(crate) trait Channel: Send {
    /// Whether there is nothing to read now.
    fn is_empty(&mut self) -> bool;

    /// Reads up to about `max` rows; returns how many, other values counting as one.
    fn drain(&mut self, max: usize, step: &mut Step) -> usize;

    /// The lanes from which values may still come.
    fn lanes(&mut self) -> Vec<u64>;

    /// Whether everything was read and nothing will come.
    fn is_finished(&mut self) -> bool;

    /// No further value can be pushed; what is left can be read.
    fn close(&mut self);

    /// Values dropped by the policy so far.
    fn dropped(&mut self) -> u64;
}

/// What one step takes from a source.
#[derive(Default)]
pub(crate) struct Step {
    pub rows: Vec<RecordBatch>,
    pub bad: Vec<Bad>,
    /// The connector's place in the outside system behind the rows.
    pub cursor: Option<Cursor>,
    /// The bad rows of earlier steps that some of the rows were made of.
    pub mended: Vec<BadPlace>,
    /// Who waits for what was read to be durable.
    pub acks: Acks,
    seen: Vec<Seen>,
    /// Where batches are from, by their numbers, of those that a connector brought.
    origins: Vec<(usize, Provenance)>,
    /// A producer's word that nothing earlier will come, in microseconds.
    promised: Option<i64>,
    /// The input has ended.
    ended: bool,
}

/// Where rows are from, but for their places in the source, which are not known yet.
fn provenance(arrival_us: i64, origin: Option<Arc<str>>) -> Provenance {
    Provenance {
        offsets: Offsets::From(0),
        arrival_us,
        origin,
    }
}

/// What a lane brought: rows `from..to` of batch number `batch`.
struct Seen {
    lane: u64,
    batch: usize,
    from: usize,
    to: usize,
}

impl Step {
    fn add(&mut self, lane: u64, batch: RecordBatch) {
        let to = batch.num_rows();
        self.seen.push(Seen {
            lane,
            batch: self.rows.len(),
            from: 0,
            to,
        });
        self.rows.push(batch);
    }

    fn promise(&mut self, at_us: i64) {
        self.promised = Some(self.promised.unwrap_or(i64::MIN).max(at_us));
    }

    /// The number of rows, without the bad ones.
    pub fn row_count(&self) -> u64 {
        self.rows.iter().map(|rows| rows.num_rows() as u64).sum()
    }

    /// What is to be remembered of this step, with its watermark.
    pub fn into_taken(self, watermark: Option<Watermark>, arrival_us: i64) -> (Taken, Acks) {
        let mut from = Vec::new();
        if !self.origins.is_empty() {
            let step = provenance(arrival_us, None);
            from.resize(self.rows.len(), step);
            for (batch, origin) in self.origins {
                from[batch] = origin;
            }
        }
        let taken = Taken {
            rows: self.rows,
            from,
            bad: (!self.bad.is_empty()).then(|| bad_rows(&self.bad, arrival_us)),
            watermark,
            cursor: self.cursor,
            mended: self.mended,
        };
        (taken, self.acks)
    }
}

/// What is known of a lane.
struct Lane {
    /// Greatest event time less the delay, in microseconds.
    at_us: i64,
    last_active: Instant,
    idle: bool,
    /// Whether values may still come from it.
    live: bool,
}

impl Lane {
    fn new(now: Instant) -> Self {
        Self {
            at_us: i64::MIN,
            last_active: now,
            idle: false,
            live: true,
        }
    }
}

/// All channels of one source, and its watermark. Belongs to the worker that is its home.
pub(crate) struct SourceReader {
    channels: Vec<Box<dyn Channel>>,
    /// The channel that is read first in the next step.
    turn: usize,
    /// Values dropped by channels that are gone.
    dropped_before: u64,
    time: Option<EventTimeColumn>,
    idle_timeout: Duration,
    lanes: HashMap<(usize, u64), Lane>,
    /// Since when no lane is there; of no meaning while one is.
    laneless_since: Instant,
    watermark: Watermark,
    promised: i64,
    /// The source was closed: when its channels are read, its input has ended.
    closed: bool,
}

impl SourceReader {
    pub fn new(time: Option<EventTimeColumn>, idle_timeout: Duration) -> Self {
        Self {
            channels: Vec::new(),
            turn: 0,
            dropped_before: 0,
            laneless_since: Instant::now(),
            time,
            idle_timeout,
            lanes: HashMap::new(),
            watermark: Watermark::START,
            promised: i64::MIN,
            closed: false,
        }
    }

    pub fn add(&mut self, mut channel: Box<dyn Channel>) {
        if self.closed {
            channel.close();
        }
        self.channels.push(channel);
    }

    /// Continues at the watermark that was reached before a restart.
    pub fn resume(&mut self, watermark: Watermark) {
        self.watermark = self.watermark.later(watermark);
    }

    pub fn set_time(&mut self, time: EventTimeColumn) {
        self.time = Some(time);
    }

    /// Closes the source: what was pushed before is still read, then its input has ended.
    pub fn close(&mut self) {
        self.closed = true;
        self.seal();
    }

    /// No further row can be pushed; what was pushed before is still read.
    pub fn seal(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.close());
    }

    /// Whether a step would bring anything: rows, or the end.
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

    /// Takes what has arrived. Returns the watermark if it has moved.
    pub fn take(&mut self, step: &mut Step, now: Instant) -> Option<Watermark> {
        if self.time.is_some() {
            self.note_lanes(now);
        }
        let (mut left, channels) = (STEP_ROWS, self.channels.len());
        for number in 0..channels {
            let number = (self.turn + number) % channels;
            if left == 0 {
                self.excuse(number, now);
                continue;
            }
            let first = step.seen.len();
            left = left.saturating_sub(self.channels[number].drain(left, step));
            self.note_times(number, first, step, now);
        }
        self.turn = (self.turn + 1) % channels.max(1);
        step.ended = self.at_end();
        self.note_ends();
        let moved = self.advance(step, now);
        self.forget_ended(now);
        moved
    }

    /// A lane counts from when it is first there, rows or not.
    fn note_lanes(&mut self, now: Instant) {
        for (number, channel) in self.channels.iter_mut().enumerate() {
            for lane in channel.lanes() {
                self.lanes
                    .entry((number, lane))
                    .or_insert_with(|| Lane::new(now));
            }
        }
    }

    /// A channel that had to wait is not idle.
    fn excuse(&mut self, number: usize, now: Instant) {
        if !self.channels[number].is_empty() {
            let lanes = self
                .lanes
                .iter_mut()
                .filter(|((channel, _), _)| *channel == number);
            lanes.for_each(|(_, lane)| lane.last_active = now);
        }
    }

    /// Marks the lanes from which nothing will come any more.
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

    fn note_times(&mut self, channel: usize, first: usize, step: &Step, now: Instant) {
        let Some(time) = &self.time else { return };
        let delay = i64::try_from(time.delay.as_micros()).unwrap_or(i64::MAX);
        for Seen {
            lane,
            batch,
            from,
            to,
        } in &step.seen[first..]
        {
            let column = step.rows[*batch]
                .column(time.column)
                .slice(*from, to - from);
            let latest = latest_us(&column);
            let lane = self
                .lanes
                .entry((channel, *lane))
                .or_insert_with(|| Lane::new(now));
            lane.last_active = now;
            lane.idle = false;
            if let Some(latest) = latest {
                lane.at_us = lane.at_us.max(latest.saturating_sub(delay));
            }
        }
    }

    /// Lets go of lanes that have ended, and of channels at the end of the list: the numbers of the
    /// others stay.
    fn forget_ended(&mut self, now: Instant) {
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

    fn advance(&mut self, step: &Step, now: Instant) -> Option<Watermark> {
        if let Some(promised) = step.promised {
            self.promised = self.promised.max(promised);
        }
        let before = self.watermark;
        self.watermark = match step.ended {
            true => Watermark::END,
            false => before.later(self.slowest(now)),
        };
        (self.watermark != before).then_some(self.watermark)
    }

    /// The watermark by what is known of the lanes: of the live ones the least; what the last one
    /// knew when it ended.
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
            at_us: known.max(self.promise_in_force()),
            idle,
        }
    }

    /// A promise speaks of rows already pushed too, so it holds once all lanes have been read.
    fn promise_in_force(&mut self) -> i64 {
        if self.promised > self.watermark.at_us
            && self.channels.iter_mut().any(|channel| !channel.is_empty())
        {
            return i64::MIN;
        }
        self.promised
    }

    /// When the next lane becomes idle, if that could matter.
    pub fn next_idle(&self) -> Option<Instant> {
        self.time.as_ref()?;
        let waiting = self.lanes.values().filter(|lane| !lane.idle);
        waiting
            .map(|lane| lane.last_active + self.idle_timeout)
            .min()
    }

    /// Values that the policy has dropped.
    pub fn dropped(&mut self) -> u64 {
        let now: u64 = self
            .channels
            .iter_mut()
            .map(|channel| channel.dropped())
            .sum();
        self.dropped_before + now
    }
}

/// The latest time of a timestamp column, in whole microseconds.
fn latest_us(column: &ArrayRef) -> Option<i64> {
    in_us(column.data_type(), latest(&times(column).ok()?)?)
}

/// The least and the greatest event time of some batches, in whole microseconds.
pub(crate) fn span_us(batches: &[RecordBatch], column: usize) -> Option<(i64, i64)> {
    let spans = batches.iter().filter_map(|batch| {
        let column = batch.column(column);
        let times = times(column).ok()?;
        let (first, last) = (earliest(&times)?, latest(&times)?);
        Some((
            in_us(column.data_type(), first)?,
            in_us(column.data_type(), last)?,
        ))
    });
    spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// A time of a timestamp column in whole microseconds.
fn in_us(data_type: &DataType, time: i64) -> Option<i64> {
    let DataType::Timestamp(unit, _) = data_type else {
        return None;
    };
    Some(match unit {
        TimeUnit::Second => time.saturating_mul(1_000_000),
        TimeUnit::Millisecond => time.saturating_mul(1_000),
        TimeUnit::Microsecond => time,
        TimeUnit::Nanosecond => time.div_euclid(1_000),
    })
}

/// The columns of `<source>__bad`.
pub(crate) fn bad_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("bytes", DataType::Binary, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new(
            "arrival",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            false,
        ),
    ]))
}

/// Bad rows as a batch of [`bad_schema`].
pub(crate) fn bad_rows(bad: &[Bad], arrival_us: i64) -> RecordBatch {
    let bytes: BinaryArray = bad.iter().map(|bad| Some(bad.bytes.as_slice())).collect();
    let reasons: StringArray = bad.iter().map(|bad| Some(bad.reason.as_str())).collect();
    let arrival = TimestampMicrosecondArray::from_value(arrival_us, bad.len());
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(reasons), Arc::new(arrival)];
    RecordBatch::try_new(bad_schema(), columns).expect("three columns of one row for each bad row")
}
