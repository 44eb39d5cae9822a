//! The queries on one worker: how they run, and how one starts, stops and continues between others.
//!
//! ```text
//!   reserve ─► idle ──begin──► running ──hold some inputs──► held ──hold none──► running
//!               ▲                 │                           │
//!               └──────────────── stop ◄──────────────────────┘
//! ```
//!
//! A query keeps its slot from its creation to its drop, so that it always runs after what it reads and
//! before what reads it. What it produces in a step is there when the queries that read it run in the
//! same step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::command::{NewQuery, WorkerCommand};
use super::epoch_output::EpochOutput;
use super::input_hold::{ActiveHold, InputHold, retracted};
use super::query_slot::QuerySlot;
use crate::dataflow::{self, Run, Share, StreamElement, Watermark};
use crate::durable::{Checkpoint, QueryCheckpoint, Replayed};
use crate::sequencer::Sequencer;
use crate::topic::{Topic, TopicId};

/// How long one of several workers sleeps, at most, while it waits for its peers within a step.
const PEER_WAIT: Duration = Duration::from_micros(200);

/// Elements to be fed to a query, by the topics that they are from.
type TopicElements = Vec<(Arc<Topic>, Vec<StreamElement>)>;

pub(super) struct Queries<'a> {
    timely: &'a mut timely::worker::Worker,
    sequencer: Arc<Sequencer<WorkerCommand>>,
    /// In the order of their creation.
    slots: Vec<QuerySlot>,
    /// The epoch of the turn at hand.
    pub epoch: u64,
    /// What sources and queries have produced in it.
    pub output: EpochOutput,
}

impl<'a> Queries<'a> {
    pub fn new(
        timely: &'a mut timely::worker::Worker,
        sequencer: Arc<Sequencer<WorkerCommand>>,
    ) -> Self {
        Self {
            timely,
            sequencer,
            slots: Vec::new(),
            epoch: 0,
            output: EpochOutput::default(),
        }
    }

    /// The number of this worker.
    pub fn here(&self) -> usize {
        self.timely.index()
    }

    /// Runs every query, in order, each to the end of the epoch, and publishes what they produced.
    pub fn run_all(&mut self) {
        self.run_from(0);
    }

    fn run_from(&mut self, first: usize) {
        for number in first..self.slots.len() {
            self.run(number);
        }
        self.output.publish();
    }

    fn run(&mut self, number: usize) {
        let (here, peers) = (self.timely.index(), self.timely.peers());
        let query = &mut self.slots[number];
        if query.idle {
            return;
        }
        if let Some((input, _)) = query.inputs.iter().find(|(input, _)| input.has_failed()) {
            let reason = format!("{:?}, which it reads, has failed", input.relation.name);
            query.fail(&reason, here);
        }
        let mut fed = false;
        for ((topic, input), provenance) in query.inputs.iter_mut().zip(&query.needs_provenance) {
            if let Some(held) = query.held.iter_mut().find(|held| held.is_of(topic.id)) {
                held.skip(self.output.get(topic.id));
                continue;
            }
            for element in self.output.get(topic.id) {
                if *provenance || !matches!(element, StreamElement::From(_)) {
                    input.send(element.clone());
                    fed = true;
                }
            }
        }
        // On a single worker, a query without input has no output.
        if !fed && peers == 1 {
            return;
        }
        for (_, input) in &mut query.inputs {
            input.advance_to(self.epoch + 1);
        }
        let wait = if peers == 1 {
            Duration::ZERO
        } else {
            PEER_WAIT
        };
        while query.probe.less_equal(&self.epoch) {
            self.timely.step_or_park(Some(wait));
            if self.sequencer.is_broken() {
                return;
            }
        }
        self.take_output(number);
    }

    /// Moves what the query produced in this epoch to the output.
    fn take_output(&mut self, number: usize) {
        let here = self.here();
        let query = &mut self.slots[number];
        if query.failed {
            return;
        }
        if let Some(reason) = query.failure.get().map(str::to_owned) {
            query.fail(&reason, here);
            return;
        }
        for element in query.outlet.take(self.epoch) {
            let (topic, element) = query.topic_of(element);
            self.output.of(topic).push(element);
        }
    }

    /// Feeds one query alone, then runs those after it, which may read it, and publishes.
    fn feed(&mut self, number: usize, fed: TopicElements) {
        let inputs: Vec<TopicId> = fed.iter().map(|(topic, _)| topic.id).collect();
        for (topic, elements) in fed {
            self.output.of(&topic).extend(elements);
        }
        self.run(number);
        // Other queries have read these elements before.
        for topic in inputs {
            self.output.remove(topic);
        }
        self.run_from(number + 1);
    }

    /// Feeds a query alone, also through inputs that are held.
    fn feed_held(&mut self, number: usize, fed: TopicElements) {
        let held = std::mem::take(&mut self.slots[number].held);
        self.feed(number, fed);
        self.slots[number].held = held;
    }

    fn number_of(&self, output: TopicId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.output.id == output)
    }

    /// Keeps a slot for a query that does not run yet.
    pub fn reserve(&mut self, output: &Arc<Topic>) {
        let slot = QuerySlot::idle(Arc::clone(output), Vec::new());
        self.slots.push(slot);
    }

    /// Adds a query that runs at once: from a checkpoint, from the past of its inputs, or from now on.
    pub fn add(&mut self, query: &NewQuery) {
        let Some(slot) = QuerySlot::build(self.timely, query) else {
            return;
        };
        self.slots.push(slot);
        let number = self.slots.len() - 1;
        match &query.state {
            Some(state) => self.restore(number, state),
            None if query.held.is_empty() => self.begin_now(number, query),
            None => self.begin_held(number, query),
        }
    }

    fn restore(&mut self, number: usize, state: &QueryCheckpoint<Run>) {
        let share = Share {
            index: self.timely.index(),
            peers: self.timely.peers(),
        };
        let query = &mut self.slots[number];
        if let Err(error) = query.restore(state, share) {
            let reason = format!("its state cannot be restored: {}", error.strip_backtrace());
            query.failure.set(reason.clone());
            query.fail(&reason, share.index);
        }
    }

    /// The first epoch of a query that begins in the past of its inputs: the result of no rows.
    fn begin_held(&mut self, number: usize, query: &NewQuery) {
        let here = self.here();
        self.slots[number].hold(&query.held, here);
        let start = vec![StreamElement::Watermark(Watermark::START)];
        self.feed_held(number, at_home(query, here, |_| start.clone()));
    }

    /// The first epoch of a query: the rows of the views that it reads, and the result of no rows.
    fn begin_now(&mut self, number: usize, query: &NewQuery) {
        if query.inputs.is_empty() {
            return;
        }
        let present = |topic: &Topic| {
            let mut elements = topic.snapshot_elements();
            elements.push(StreamElement::Watermark(topic.watermark()));
            elements
        };
        self.feed(number, at_home(query, self.here(), present));
    }

    /// Starts the query of this output, without any state and with these inputs held.
    pub fn begin(&mut self, query: &NewQuery, held: &[InputHold]) {
        let Some(number) = self.number_of(query.output.id) else {
            return;
        };
        if let Some(slot) = QuerySlot::build(self.timely, query) {
            self.slots[number] = slot;
            self.begin_now(number, query);
            let here = self.here();
            self.slots[number].hold(held, here);
        }
    }

    /// Holds exactly these inputs from now on, and feeds the query what it needs of those released.
    pub fn hold(&mut self, output: TopicId, wanted: &[InputHold], reason: &str) {
        let here = self.here();
        let Some(number) = self.number_of(output) else {
            return;
        };
        let slot = &mut self.slots[number];
        let stays = |held: &ActiveHold| wanted.iter().any(|hold| held.is_of(hold.input));
        let (kept, released): (Vec<_>, Vec<_>) =
            std::mem::take(&mut slot.held).into_iter().partition(stays);
        slot.held = kept;
        slot.hold(wanted, here);
        if released.is_empty() {
            return;
        }
        let missed = released
            .iter()
            .map(|held| held.hold.missed.load(Ordering::Relaxed));
        let missed: u64 = missed.sum();
        if missed > 0 && slot.output.home == here {
            slot.output.report_gap(missed, reason);
        }
        let mut fed = TopicElements::new();
        for held in released {
            let input = slot.inputs.iter().find(|(topic, _)| held.is_of(topic.id));
            if let Some((topic, _)) = input
                && topic.home == here
            {
                fed.push((Arc::clone(topic), held.release(topic)));
            }
        }
        self.feed(number, fed);
    }

    /// Ends the query of this output and drops its state; its slot and its topics stay.
    pub fn stop(&mut self, output: TopicId) {
        let Some(number) = self.number_of(output) else {
            return;
        };
        let slot = &mut self.slots[number];
        let (output, late) = (Arc::clone(&slot.output), std::mem::take(&mut slot.late));
        *slot = QuerySlot::idle(Arc::clone(&output), late);
        let is_home = output.home == self.here();
        // A changing result disappears row by row, so that the queries that read it follow.
        if is_home && output.relation.changes {
            let gone = output.snapshot_elements().into_iter().map(retracted);
            self.output.of(&output).extend(gone);
        }
        self.run_from(number + 1);
        if is_home {
            output.reset();
        }
    }

    /// Feeds one query alone with the records of logs of its held inputs.
    pub fn catch_up(&mut self, output: TopicId, parts: &[Replayed]) {
        let Some(number) = self.number_of(output) else {
            return;
        };
        let here = self.here();
        let mut fed = TopicElements::new();
        for part in parts {
            let inputs = &self.slots[number].inputs;
            let input = inputs.iter().find(|(topic, _)| topic.id == part.source);
            if let Some((topic, _)) = input
                && topic.home == here
            {
                let elements = part.taken.clone().into_elements(&topic.relation.name);
                fed.push((Arc::clone(topic), elements.collect()));
            }
        }
        self.feed_held(number, fed);
    }

    /// Buffers what passes by the held inputs that have a log; returns those inputs.
    pub fn buffer(&mut self, output: TopicId) -> Vec<TopicId> {
        let slots = self.slots.iter_mut();
        let slot = slots.filter(|slot| slot.output.id == output);
        let held = slot.flat_map(|slot| slot.held.iter_mut());
        held.filter_map(|held| held.begin_buffer().then_some(held.hold.input))
            .collect()
    }

    /// Drops the query of this output, and ends its topics.
    pub fn remove(&mut self, output: TopicId) {
        let here = self.here();
        for gone in self.slots.extract_if(.., |slot| slot.output.id == output) {
            gone.end(here);
        }
    }

    /// Adds this worker's part of all queries to a checkpoint.
    pub fn save(&self, state: &mut Checkpoint<Run>) -> dataflow::Result<()> {
        let here = self.here();
        for query in &self.slots {
            // The state of a failed query may be that of half a step; its topic saves the failure.
            if !query.failed {
                let name = query.output.relation.name.clone();
                let workers = [(here, query.save()?)].into();
                state.queries.insert(name, QueryCheckpoint { workers });
            }
            if query.output.home == here {
                query.output.save(state)?;
                for late in &query.late {
                    late.save(state)?;
                }
            }
        }
        Ok(())
    }

    pub fn fail(&self, reason: &str) {
        for query in &self.slots {
            let topics = query.late.iter().chain([&query.output]);
            topics.for_each(|topic| topic.fail(reason));
        }
    }

    pub fn end(&self) {
        self.slots.iter().for_each(|query| query.end(self.here()));
    }
}

/// The inputs of a query whose home is `here`, each with its elements.
fn at_home(
    query: &NewQuery,
    here: usize,
    elements: impl Fn(&Topic) -> Vec<StreamElement>,
) -> TopicElements {
    let inputs = query.inputs.iter().filter(|topic| topic.home == here);
    inputs
        .map(|topic| (Arc::clone(topic), elements(topic)))
        .collect()
}
