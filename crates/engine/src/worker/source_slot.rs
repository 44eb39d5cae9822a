//! A source on its home worker: its lanes, its path through the log, the gates behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use headwater_connect::Gap;

use super::command::{LaneBacklog, NewSource};
use super::epoch_output::EpochOutput;
use super::queries::Queries;
use crate::clock::now_us;
use crate::dataflow::StreamElement;
use crate::durable::{Replayed, SourceCheckpoint, SourceFeed, SourceStep};
use crate::event_log::{GapEntry, readable};
use crate::ingest::{DrainedLanes, SourceReader};
use crate::source::SourceShared;
use crate::subscription::Gate;
use crate::topic::Topic;

pub(super) struct SourceSlot {
    pub topic: Arc<Topic>,
    pub bad: Arc<Topic>,
    shared: Arc<SourceShared>,
    pub reader: SourceReader,
    gates: Vec<Arc<Gate>>,
    /// Whether its log is still to be replayed: a step before that has no number that follows those in it.
    replays: bool,
    pub feed: SourceFeed,
    /// A gap that goes on, which the next record takes along.
    ongoing: Option<GapEntry>,
    /// The step up to which the queries had been fed before the step at hand.
    pub fed_before: u64,
}

impl SourceSlot {
    pub fn new(source: &NewSource) -> Self {
        let feed = source.feed.take().unwrap_or_default();
        let mut reader = SourceReader::new(
            source.computed.clone(),
            source.time.clone(),
            source.idle_timeout,
            source.idle_advance,
        );
        let fed = feed.state();
        reader.resume(fed.watermark);
        source.shared.restore_gaps(&fed.gaps);
        Self {
            topic: Arc::clone(&source.topic),
            bad: Arc::clone(&source.bad),
            shared: Arc::clone(&source.shared),
            reader,
            gates: Vec::new(),
            replays: source.replays,
            fed_before: feed.sequence(),
            feed,
            ongoing: None,
        }
    }

    pub fn add_gate(&mut self, gate: &Arc<Gate>) {
        // A gate without other owners belongs to a subscriber that has gone.
        self.gates.retain(|gate| Arc::strong_count(gate) > 1);
        self.gates.push(Arc::clone(gate));
    }

    /// The database closes: refuses further pushes, and ignores the gates.
    pub fn seal(&mut self) {
        self.reader.seal();
        self.gates.clear();
    }

    /// Whether a sink behind this source is full, or its log cannot be written or is being replayed.
    pub fn is_gated(&self) -> bool {
        self.replays || self.gates.iter().any(|gate| gate.is_closed()) || self.feed.is_full()
    }

    pub fn end_replay(&mut self) {
        self.replays = false;
        self.reader.start_idle_timeout();
    }

    pub fn backlog(&mut self) -> LaneBacklog {
        match (self.reader.has_work(), self.feed.is_failing()) {
            (false, _) => LaneBacklog::Nothing,
            (true, true) => LaneBacklog::Stuck,
            (true, false) => LaneBacklog::Rows,
        }
    }

    pub fn is_ready(&mut self) -> bool {
        self.feed.has_due() || !self.is_gated() && self.reader.has_work()
    }

    /// When a lane becomes idle, or the clock closes a window of a source that is idle.
    pub fn next_timeout(&self, queries: &Queries<'_>) -> Option<Instant> {
        let advance = self.clock_at_us(queries);
        let advance = advance.and_then(|at_us| self.reader.clock_reaches(at_us));
        self.reader.next_idle().into_iter().chain(advance).min()
    }

    /// Moves the watermark of an idle source by the clock, if that closes a window.
    pub fn advance(&mut self, now: Instant, queries: &Queries<'_>) {
        if !self.is_gated()
            && let Some(at_us) = self.clock_at_us(queries)
        {
            self.reader.advance_by_clock(at_us, now);
        }
    }

    /// The watermark that closes the next window, of a source whose watermark goes on by the clock.
    fn clock_at_us(&self, queries: &Queries<'_>) -> Option<i64> {
        let is_running = self.reader.goes_by_clock() && self.shared.is_connected();
        let at_us = self.reader.watermark().at_us;
        is_running.then(|| queries.closes_after(at_us)).flatten()
    }

    /// Takes what has arrived into the log, and what is due from there to the output.
    pub fn step(&mut self, sequence: u64, now: Instant, output: &mut EpochOutput) {
        if !self.is_gated() {
            let mut drained = DrainedLanes::default();
            let moved = self.reader.drain(&mut drained, now);
            let arrival_us = now_us();
            self.shared.note_rows(drained.row_count(), arrival_us);
            let dropped = self.reader.dropped();
            self.shared.dropped.store(dropped, Ordering::Relaxed);
            let bad = drained.bad.len() as u64;
            self.shared.bad.fetch_add(bad, Ordering::Relaxed);
            let gaps = std::mem::take(&mut drained.gaps);
            let (mut taken, acks) = drained.into_source_step(moved, arrival_us);
            self.take_gaps(gaps, arrival_us, &mut taken);
            self.feed.take_in(taken, acks, sequence, arrival_us);
        }
        while let Some(taken) = self.feed.next_due() {
            self.publish(taken, output);
        }
    }

    /// Records gaps. One that only goes on needs no record of its own: after a crash, the gap of the time
    /// that the database was not open covers it.
    fn take_gaps(&mut self, gaps: Vec<(Gap, Option<i64>)>, now_us: i64, taken: &mut SourceStep) {
        for (mut gap, arrived_us) in gaps {
            if gap.from.is_none() && gap.to.is_none() {
                let from_us = arrived_us.or(self.feed.state().last_row_us);
                gap.from = from_us.map(readable);
                gap.to = Some(readable(now_us));
            }
            let reason = &gap.reason;
            tracing::warn!(source = self.shared.name(), reason, "rows may be missing");
            let entry = GapEntry::new(gap, now_us);
            match self.shared.note_gap(entry.clone()) {
                true => {
                    taken.gaps.extend(self.ongoing.take());
                    taken.gaps.push(entry);
                }
                false => self.ongoing = Some(entry),
            }
        }
        if !taken.is_empty() {
            taken.gaps.extend(self.ongoing.take());
        }
    }

    /// The database was not open between the last row, or the gap behind it, and now.
    pub fn add_downtime(&mut self, now_us: i64) {
        let last_row = self.feed.state().last_row_us;
        let last_gap = self.shared.gaps().newest.last().map(|gap| gap.at_us);
        self.reader.add_gap(Gap {
            reason: "the database was not open".to_owned(),
            from: last_row.max(last_gap).map(readable),
            to: Some(readable(now_us)),
        });
    }

    /// How far the queries have been fed, and what is missing.
    pub fn state(&self) -> SourceCheckpoint {
        SourceCheckpoint {
            gaps: self.shared.gaps(),
            ..self.feed.state()
        }
    }

    /// The queries have been fed what the step took.
    pub fn end_step(&mut self) {
        self.fed_before = self.feed.sequence();
    }

    fn publish(&self, mut taken: SourceStep, output: &mut EpochOutput) {
        if let Some(bad) = taken.bad.take() {
            output.of(&self.bad).push(StreamElement::rows(bad));
        }
        if taken.rows.is_empty() && taken.watermark.is_none() {
            return;
        }
        let elements = taken.into_elements(&self.topic.relation.name);
        output.of(&self.topic).extend(elements);
    }

    /// Feeds a record that was logged before a restart.
    pub fn replay(&mut self, replayed: &Replayed, output: &mut EpochOutput) {
        self.feed.replayed(replayed);
        for gap in &replayed.taken.gaps {
            self.shared.note_gap(gap.clone());
        }
        if let Some(watermark) = replayed.taken.watermark {
            self.reader.resume(watermark);
        }
        self.publish(replayed.taken.clone(), output);
    }

    pub fn end(&self) {
        self.topic.end();
        self.bad.end();
    }
}
