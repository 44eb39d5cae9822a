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
use super::input_hold::{ActiveHold, InputHold};
use super::query_slot::QuerySlot;
use crate::dataflow::{self, QueryFailure, Run, Share, StreamElement, Watermark, disappearing};
use crate::durable::{Checkpoint, QueryCheckpoint, Replayed};
use crate::sequencer::Sequencer;
use crate::topic::{Topic, TopicFailure, TopicId};

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
    /// The holds of queries that have failed in it.
    pub newly_held: Vec<InputHold>,
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
            newly_held: Vec::new(),
        }
    }

    /// The first of the watermarks beyond `at_us` at which a window of some query closes.
    pub fn closes_after(&self, at_us: i64) -> Option<i64> {
        let running = self.slots.iter().filter(|slot| !slot.idle);
        let closes = running.filter_map(|slot| slot.output.open_windows.first_after(at_us));
        closes.min()
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
        for (view, reason) in self.output.publish() {
            // From the next epoch on: the others may be through with this one.
            if let Some(number) = self.number_of(view) {
                let failure = self.slots[number].errors.failure();
                failure.set(self.epoch + 1, reason);
            }
        }
    }

    fn run(&mut self, number: usize) {
        let peers = self.timely.peers();
        if self.slots[number].idle {
            return;
        }
        self.inherit_failure(number);
        let query = &mut self.slots[number];
        let mut fed = false;
        for ((topic, input), provenance) in query.inputs.iter_mut().zip(&query.needs_provenance) {
            if let Some(held) = query.held.iter_mut().find(|held| held.is_of(topic.id)) {
                held.skip(self.output.get(topic.id));
                continue;
            }
            // Commands take epochs, too: the time of what is fed is that of this one.
            input.advance_to(self.epoch);
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

    /// Freezes a query that works if it reads one that has failed.
    fn inherit_failure(&mut self, number: usize) {
        if let Some(failed) = self.failed_input(number) {
            let reason = format!("{failed:?}, which it reads, has failed");
            self.fail(number, reason, true);
        }
    }

    /// The name of an input of a query that works whose own query has failed. Every worker finds it in the
    /// same step: by its own slots.
    fn failed_input(&self, number: usize) -> Option<String> {
        let (before, query) = (&self.slots[..number], &self.slots[number]);
        let has_failed = |slot: &&QuerySlot| slot.failure.is_some();
        if query.failure.is_some() || !before.iter().any(|slot| has_failed(&slot)) {
            return None;
        }
        let failed = before.iter().filter(has_failed);
        let topics = || failed.clone().flat_map(QuerySlot::topics);
        let mut inputs = query.inputs.iter().map(|(topic, _)| topic);
        let input = inputs.find(|input| topics().any(|topic| topic.id == input.id))?;
        Some(input.relation.name.clone())
    }

    /// Freezes a query that fails in this epoch: what its inputs have in it, it has not been fed.
    fn fail(&mut self, number: usize, reason: String, is_inherited: bool) {
        let here = self.here();
        let query = &mut self.slots[number];
        let staged = query.errors.failure().has_staged(self.epoch);
        // That of a view that could not keep its rows is there already.
        let failure = query.output.failure().unwrap_or_else(|| TopicFailure {
            keeps_state: query.begun && !staged,
            is_inherited,
            ..TopicFailure::fatal(reason)
        });
        let held_before = query.held.len();
        query.fail(failure, here);
        if !is_inherited {
            for held in &mut query.held[held_before..] {
                held.skip(self.output.get(held.hold.input));
            }
        }
        let holds = query.held[held_before..].iter();
        self.newly_held.extend(holds.map(|held| held.hold.clone()));
    }

    /// Moves what the query produced in this epoch to the output.
    fn take_output(&mut self, number: usize) {
        let query = &self.slots[number];
        if query.failure.is_some() {
            return;
        }
        if let Some(reason) = query.errors.failure().until(self.epoch) {
            self.fail(number, reason, false);
            return;
        }
        for element in query.outlet.take(self.epoch) {
            if let StreamElement::Failed(rows) = &element {
                query.note_dead_letters(rows);
            }
            if let Some((topic, element)) = query.topic_of(element) {
                self.output.of(topic).push(element);
            }
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
        let here = self.here();
        self.slots[number].hold_failed(here);
    }

    fn number_of(&self, output: TopicId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.output.id == output)
    }

    /// Keeps a slot for a query that does not run yet.
    pub fn reserve(&mut self, output: &Arc<Topic>) {
        let slot = QuerySlot::idle(Arc::clone(output), Vec::new(), None);
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
            None => self.begin_first(number, query),
        }
        self.begun(number, query.state.is_some());
    }

    /// The query has been fed what it begins with, unless it still reads its past, or has failed.
    fn begun(&mut self, number: usize, is_restored: bool) {
        let here = self.here();
        let slot = &mut self.slots[number];
        slot.begun = is_restored || slot.held.is_empty();
        slot.hold_failed(here);
    }

    fn begin_first(&mut self, number: usize, query: &NewQuery) {
        match query.held.is_empty() {
            true => self.begin_now(number, query),
            false => self.begin_held(number, query),
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
            query.errors.failure().set(self.epoch, reason.clone());
            query.fail(TopicFailure::fatal(reason), share.index);
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
            let is_it = |slot: &QuerySlot| slot.output.id == query.output.id;
            let rows = self.or_fail(is_it, topic.version().published()).into_iter();
            let mut elements: Vec<_> = rows.map(StreamElement::rows).collect();
            elements.push(StreamElement::Watermark(topic.watermark()));
            elements
        };
        let fed = at_home(query, self.here(), present);
        self.feed(number, fed);
    }

    /// The rows of a view that these queries are to be fed; an error fails them in this epoch.
    fn or_fail<T>(
        &self,
        readers: impl Fn(&QuerySlot) -> bool,
        fed: dataflow::Result<Vec<T>>,
    ) -> Vec<T> {
        fed.unwrap_or_else(|error| {
            let reason = format!("a view that it reads: {}", error.strip_backtrace());
            for slot in self.slots.iter().filter(|slot| readers(slot)) {
                slot.errors.failure().set(self.epoch, reason.clone());
            }
            Vec::new()
        })
    }

    /// Starts the query of this output, without any state and with these inputs held.
    pub fn begin(&mut self, query: &NewQuery, held: &[InputHold]) {
        let Some(number) = self.number_of(query.output.id) else {
            return;
        };
        if let Some(slot) = QuerySlot::build(self.timely, query) {
            self.slots[number] = slot;
            self.begin_first(number, query);
            self.begun(number, false);
            let here = self.here();
            self.slots[number].hold(held, here);
        }
    }

    /// Continues a query that has failed, as it was before the failure. Its inputs stay held.
    pub fn resume(&mut self, output: TopicId, failure: &QueryFailure, if_failed: &[InputHold]) {
        let here = self.here();
        if let Some(number) = self.number_of(output) {
            self.slots[number].resume(failure, if_failed, here);
        }
    }

    /// Sends rows whose expressions fail to `topic` from now on.
    pub fn set_dead_letters(&mut self, output: TopicId, topic: Option<&Arc<Topic>>) {
        let here = self.here();
        if let Some(number) = self.number_of(output) {
            self.slots[number].set_dead_letters(topic, here);
        }
    }

    /// Holds exactly these inputs from now on, and feeds the query what it needs of those released. One that
    /// has failed stays as it is.
    pub fn hold(&mut self, output: TopicId, wanted: &[InputHold], reason: &str) {
        let here = self.here();
        let Some(number) = self.number_of(output) else {
            return;
        };
        self.inherit_failure(number);
        let slot = &mut self.slots[number];
        if slot.failure.is_some() {
            return;
        }
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
            let inputs = &self.slots[number].inputs;
            let input = inputs.iter().find(|(topic, _)| held.is_of(topic.id));
            if let Some((topic, _)) = input
                && topic.home == here
            {
                let (topic, elements) = (Arc::clone(topic), held.release(topic));
                let is_it = |slot: &QuerySlot| slot.output.id == output;
                fed.push((topic, self.or_fail(is_it, elements)));
            }
        }
        self.slots[number].begun = false;
        self.feed(number, fed);
        self.slots[number].begun = self.slots[number].failure.is_none();
    }

    /// Ends the query of this output and drops its state; its slot and its topics stay.
    pub fn stop(&mut self, output: TopicId) {
        let Some(number) = self.number_of(output) else {
            return;
        };
        let slot = &mut self.slots[number];
        let (output, late) = (Arc::clone(&slot.output), std::mem::take(&mut slot.late));
        let dead_letters = slot.dead_letters.take();
        *slot = QuerySlot::idle(Arc::clone(&output), late, dead_letters);
        let is_home = output.home == self.here();
        // A changing result disappears row by row, so that the queries that read it follow.
        if is_home && output.relation.changes {
            let reads = |slot: &QuerySlot| slot.inputs.iter().any(|(it, _)| it.id == output.id);
            let gone = self.or_fail(reads, output.version().published());
            let gone = gone.into_iter().map(disappearing).map(StreamElement::rows);
            self.output.of(&output).extend(gone);
        }
        self.run_from(number + 1);
        if is_home {
            self.slots[number].topics().for_each(|topic| topic.reset());
        }
    }

    /// Feeds one query alone with the records of logs of its held inputs; returns whether it fails.
    pub fn catch_up(&mut self, output: TopicId, parts: &[Replayed]) -> bool {
        let Some(number) = self.number_of(output) else {
            return true;
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
        let slot = &self.slots[number];
        let has_failed = slot.failure.is_some();
        // One that fails has not been fed this step, and reads it again if it is started.
        for part in parts.iter().filter(|_| !has_failed) {
            slot.fed_behind(part.source, part.sequence);
        }
        has_failed
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
            // The state of a failed query may be that of half a step.
            let failure = query.failure.as_ref();
            if failure.is_none_or(|failure| failure.keeps_state) {
                let name = query.output.relation.name.clone();
                state.streams.fed(&name, query.places(here));
                state.queries.insert(name, query.save(here)?);
            }
            if query.output.home == here {
                query.topics().try_for_each(|topic| topic.save(state))?;
            }
        }
        Ok(())
    }

    /// The engine ends with this failure.
    pub fn fail_all(&self, failure: &TopicFailure) {
        let topics = self.slots.iter().flat_map(QuerySlot::topics);
        topics.for_each(|topic| topic.fail(failure));
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
