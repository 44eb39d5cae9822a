//! Reads all lanes of one source, and keeps its watermark: the frontier behind the last row
//! (`dataflow/frontier.rs`).
//!
//! Each step notes what moves the frontier, in an order that the log keeps: lanes that joined, the rows
//! in their order, then lanes that ended, a watermark that a producer declared, lanes from which nothing
//! came for the idle timeout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_connect::Gap;

use super::channel::{Channel, DrainedLanes, LaneRows};
use crate::dataflow::{
    BatchFrontier, Frontier, FrontierEvent, FrontierMoves, LaneMarks, NO_LANE, SourceColumns,
    Watermark,
};
use crate::event_time::EventTimeColumn;

/// The activity of a lane.
struct LaneActivity {
    /// Its number among the lanes of the source.
    number: u32,
    last_active: Instant,
    idle: bool,
}

/// How a step moved the event time of a source.
#[derive(Default)]
pub(crate) struct EventTimeMoved {
    pub moves: Option<Arc<FrontierMoves>>,
    /// The frontier of each batch.
    pub frontiers: Vec<Frontier>,
    /// The watermark behind the rows, if it moved.
    pub watermark: Option<Watermark>,
}

/// What was drained and is too much for one record of the log.
struct DrainedRest {
    drained: DrainedLanes,
    /// The events of its rows.
    events: Vec<FrontierEvent>,
}

/// All channels of one source, and its watermark. On the home worker of the source only.
pub(crate) struct SourceReader {
    channels: Vec<Box<dyn Channel>>,
    /// What the next step takes before it reads the channels.
    rest: Option<Box<DrainedRest>>,
    /// A gap that the next step takes.
    gap: Option<Gap>,
    /// The channel that the next step reads first.
    first: usize,
    /// Values that channels had dropped which exist no more.
    dropped_before: u64,
    computed: Option<SourceColumns>,
    time: Option<EventTimeColumn>,
    idle_timeout: Duration,
    idle_advance: bool,
    /// When the last row came before all lanes became idle, and the watermark then.
    idle_since: Option<(Instant, i64)>,
    /// By the number of the channel and the lane.
    lanes: BTreeMap<(usize, u64), LaneActivity>,
    /// The number of the next lane.
    next_lane: u32,
    marks: LaneMarks,
    /// The greatest mark of the lanes that ended since there was a live one.
    ended_us: i64,
    /// Since when there is no lane. Without meaning while there is one.
    laneless_since: Instant,
    watermark: Watermark,
    /// The greatest watermark that a producer declared.
    declared_us: i64,
    /// Whether the source was closed: its input ends when its channels have been read.
    closed: bool,
}

/// Moves over an event that is of no rows, and notes it if it changes something.
fn note(marks: &mut LaneMarks, events: &mut Vec<FrontierEvent>, event: FrontierEvent) {
    if matches!(event, FrontierEvent::AtLeast(at_us) if at_us <= marks.at_us) {
        return;
    }
    marks.pass(event, None);
    events.push(event);
}

/// Keeps the events of the first `rows` rows and those before them; returns the others.
fn cut_events(events: &mut Vec<FrontierEvent>, rows: u64) -> Vec<FrontierEvent> {
    let (mut left, mut behind) = (rows as usize, Vec::new());
    for event in std::mem::take(events) {
        let (first, rest) = event.split_at(left);
        let is_behind = event.rows() > 0 && left == 0;
        left -= first.rows();
        match is_behind {
            true => behind.push(event),
            false => events.push(first),
        }
        behind.extend(rest.filter(|_| !is_behind));
    }
    behind
}

impl SourceReader {
    pub fn new(
        computed: Option<SourceColumns>,
        time: Option<EventTimeColumn>,
        idle_timeout: Duration,
        idle_advance: bool,
    ) -> Self {
        Self {
            computed,
            idle_advance,
            idle_since: None,
            channels: Vec::new(),
            rest: None,
            gap: None,
            first: 0,
            dropped_before: 0,
            laneless_since: Instant::now(),
            time,
            idle_timeout,
            lanes: BTreeMap::new(),
            next_lane: 0,
            marks: LaneMarks::default(),
            ended_us: i64::MIN,
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
        self.marks.at_us = self.watermark.at_us;
    }

    /// Rows may be missing behind those that were read.
    pub fn add_gap(&mut self, gap: Gap) {
        self.gap = Some(gap);
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
        self.waits() || self.at_end() && self.watermark != Watermark::END
    }

    /// Whether something waits to be taken.
    fn waits(&mut self) -> bool {
        self.rest.is_some()
            || self.gap.is_some()
            || self.channels.iter_mut().any(|channel| !channel.is_empty())
    }

    fn at_end(&mut self) -> bool {
        self.closed
            && self.rest.is_none()
            && self
                .channels
                .iter_mut()
                .all(|channel| channel.is_finished())
    }

    /// Drains what has arrived.
    pub fn drain(&mut self, drained: &mut DrainedLanes, now: Instant) -> EventTimeMoved {
        let mut events = Vec::new();
        self.note_joined(now, &mut events);
        match self.rest.take() {
            Some(rest) => self.take_rest(*rest, drained, now, &mut events),
            None => self.read_channels(drained, now, &mut events),
        }
        drained.gaps.extend(self.gap.take().map(|gap| (gap, None)));
        let rest = drained.cut();
        let cut = rest.map(|rest| DrainedRest {
            events: cut_events(&mut events, drained.row_count()),
            drained: rest,
        });
        self.rest = cut.map(Box::new);
        let is_whole = self.rest.is_none();
        drained.ended = self.at_end();
        if let Some(declared) = drained.declared_us {
            self.declared_us = self.declared_us.max(declared);
        }
        let mut moves = self.moves(events);
        let batches = match self.time {
            Some(_) => moves.pass(&mut self.marks, &drained.rows),
            None => Vec::new(),
        };
        let had_lanes = !self.lanes.is_empty();
        let mut idle = false;
        if is_whole {
            // Rows of the rest are before the end of their lane.
            self.note_ended(&mut moves.events);
            self.note_floor(drained.ended, &mut moves.events);
            idle = !drained.ended && self.is_idle(now, &mut moves.events);
        }
        let watermark = Watermark {
            at_us: self.marks.at_us,
            idle,
        };
        let last_active = self.lanes.values().map(|lane| lane.last_active).max();
        self.idle_since = match (last_active, self.idle_since) {
            (Some(at), None) if idle => Some((at, watermark.at_us)),
            (Some(_), since) if idle => since,
            _ => None,
        };
        let moved = (self.watermark != watermark).then_some(watermark);
        self.watermark = watermark;
        if is_whole {
            self.remove_ended(had_lanes, now);
        }
        self.moved(moves, batches, moved)
    }

    fn read_channels(
        &mut self,
        drained: &mut DrainedLanes,
        now: Instant,
        events: &mut Vec<FrontierEvent>,
    ) {
        let channels = self.channels.len();
        for number in 0..channels {
            let number = (self.first + number) % channels;
            if drained.room().is_none() {
                self.keep_active(number, now);
                continue;
            }
            let (first, batch) = (drained.lanes.len(), drained.rows.len());
            self.channels[number].drain(drained);
            drained.compute(self.computed.as_ref(), batch, first);
            self.note_rows(number, &drained.lanes[first..], now, events);
        }
        self.first = (self.first + 1) % channels.max(1);
    }

    /// Takes what an earlier step left, with the events of its rows. All lanes are as active as then.
    fn take_rest(
        &mut self,
        rest: DrainedRest,
        drained: &mut DrainedLanes,
        now: Instant,
        events: &mut Vec<FrontierEvent>,
    ) {
        *drained = rest.drained;
        events.extend(rest.events);
        let active = self.lanes.values_mut().filter(|lane| !lane.idle);
        active.for_each(|lane| lane.last_active = now);
    }

    /// A lane counts from its creation, with rows or without.
    fn note_joined(&mut self, now: Instant, events: &mut Vec<FrontierEvent>) {
        if self.time.is_none() {
            return;
        }
        for (channel, lanes) in self.channels.iter_mut().enumerate() {
            for lane in lanes.lanes() {
                self.lanes.entry((channel, lane)).or_insert_with(|| {
                    let number = self.next_lane;
                    self.next_lane = number.wrapping_add(1) % NO_LANE;
                    events.push(FrontierEvent::Joined(number));
                    LaneActivity {
                        number,
                        last_active: now,
                        idle: false,
                    }
                });
            }
        }
    }

    /// The lanes of a channel whose rows wait are not idle.
    fn keep_active(&mut self, number: usize, now: Instant) {
        if !self.channels[number].is_empty() {
            let lanes = self.lanes.range_mut((number, 0)..=(number, u64::MAX));
            lanes.for_each(|(_, lane)| lane.last_active = now);
        }
    }

    /// Notes the rows of a channel, in their order; those of a lane that counts make it active.
    fn note_rows(
        &mut self,
        channel: usize,
        rows: &[LaneRows],
        now: Instant,
        events: &mut Vec<FrontierEvent>,
    ) {
        if self.time.is_none() {
            return;
        }
        for rows in rows {
            let activity = self.lanes.get_mut(&(channel, rows.lane));
            let lane = activity.map_or(NO_LANE, |lane| {
                (lane.last_active, lane.idle) = (now, false);
                lane.number
            });
            let count = rows.count as u32;
            events.push(FrontierEvent::Rows { lane, count });
        }
    }

    /// The beginning of a step: from here, by these events, the frontier moves.
    fn moves(&self, events: Vec<FrontierEvent>) -> FrontierMoves {
        let delay = self.time.as_ref().map_or(Duration::ZERO, |time| time.delay);
        FrontierMoves {
            column: self.time.as_ref().map_or(0, |time| time.column as u32),
            delay_us: i64::try_from(delay.as_micros()).unwrap_or(i64::MAX),
            start: self.marks.clone(),
            events,
        }
    }

    /// The end of a step. The log records the moves of one with rows, or that moved the watermark; other
    /// changes of lanes are where the next record starts.
    fn moved(
        &self,
        mut moves: FrontierMoves,
        batches: Vec<BatchFrontier>,
        watermark: Option<Watermark>,
    ) -> EventTimeMoved {
        let recorded = !batches.is_empty() || watermark.is_some();
        if self.time.is_none() || moves.events.is_empty() || !recorded {
            return EventTimeMoved {
                watermark,
                ..EventTimeMoved::default()
            };
        }
        moves.start.narrow(&moves.events);
        let moves = Arc::new(moves);
        EventTimeMoved {
            frontiers: moves.frontiers(batches),
            moves: Some(moves),
            watermark,
        }
    }

    /// Notes the lanes from which nothing more comes. Behind the last of them, the frontier is where the
    /// furthest was.
    fn note_ended(&mut self, events: &mut Vec<FrontierEvent>) {
        let mut live = Vec::with_capacity(self.lanes.len());
        for (number, channel) in self.channels.iter_mut().enumerate() {
            live.extend(channel.lanes().into_iter().map(|lane| (number, lane)));
        }
        live.sort_unstable();
        let (marks, ended_us) = (&mut self.marks, &mut self.ended_us);
        self.lanes.retain(|lane, activity| {
            let is_live = live.binary_search(lane).is_ok();
            if !is_live {
                let mark = marks
                    .get(activity.number)
                    .map_or(i64::MIN, |mark| mark.at_us);
                *ended_us = mark.max(*ended_us);
                note(marks, events, FrontierEvent::Ended(activity.number));
            }
            is_live
        });
        if !self.lanes.is_empty() {
            *ended_us = i64::MIN;
        } else {
            note(marks, events, FrontierEvent::AtLeast(*ended_us));
        }
    }

    /// Notes the watermark that a producer declared, and the end of the input.
    fn note_floor(&mut self, ended: bool, events: &mut Vec<FrontierEvent>) {
        let at_us = match ended {
            true => i64::MAX,
            false => self.declared_in_force(),
        };
        note(&mut self.marks, events, FrontierEvent::AtLeast(at_us));
    }

    /// Notes the lanes from which nothing came for the idle timeout. Returns whether that is all of them.
    fn is_idle(&mut self, now: Instant, events: &mut Vec<FrontierEvent>) -> bool {
        for lane in self.lanes.values_mut() {
            if !lane.idle && now.duration_since(lane.last_active) >= self.idle_timeout {
                lane.idle = true;
                note(&mut self.marks, events, FrontierEvent::Idle(lane.number));
            }
        }
        match self.lanes.is_empty() {
            true => now.duration_since(self.laneless_since) >= self.idle_timeout,
            false => self.lanes.values().all(|lane| lane.idle),
        }
    }

    /// Removes finished channels at the end of the list: the numbers of the others stay.
    fn remove_ended(&mut self, had_lanes: bool, now: Instant) {
        if had_lanes {
            self.laneless_since = now;
        }
        while self
            .channels
            .last_mut()
            .is_some_and(|channel| channel.is_finished())
        {
            let gone = self.channels.pop();
            self.dropped_before += gone.map_or(0, |mut channel| channel.dropped());
        }
    }

    /// A declared watermark also covers rows that are already pushed, so it holds once all lanes have
    /// been read.
    fn declared_in_force(&mut self) -> i64 {
        if self.declared_us > self.watermark.at_us && self.waits() {
            return i64::MIN;
        }
        self.declared_us
    }

    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Whether the watermark goes on by the clock: all lanes are idle, and it is known.
    pub fn goes_by_clock(&self) -> bool {
        self.idle_advance && self.idle_since.is_some_and(|(_, at_us)| at_us > i64::MIN)
    }

    /// When the watermark is `at_us` by the clock.
    pub fn clock_reaches(&self, at_us: i64) -> Option<Instant> {
        let (since, from_us) = self.idle_since?;
        let after_us = u64::try_from(at_us.saturating_sub(from_us)).ok()?;
        since.checked_add(Duration::from_micros(after_us))
    }

    /// Moves the watermark to `at_us`, if the clock has come as far and nothing waits to be read.
    pub fn advance_by_clock(&mut self, at_us: i64, now: Instant) {
        let has_come = self.clock_reaches(at_us).is_some_and(|at| at <= now);
        if has_come && !self.waits() {
            self.declared_us = self.declared_us.max(at_us);
        }
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

#[cfg(test)]
mod tests;
