//! The life of a query on a worker: begun, held, begun anew, stopped, without losing its place.
//!
//! ```text
//!   reserve ─► idle ──begin──► running ──hold some inputs──► held ──hold none──► running
//!               ▲                 │                           │
//!               └──────────────── stop ◄──────────────────────┘
//! ```
//!
//! A query keeps its slot from its creation to its drop, so that it always runs after what it reads and
//! before what reads it. While an input is **held** its chunks pass by: rows are counted as missed, the
//! last watermark is kept, and of an input whose rows may be taken back the result as it was is kept
//! instead, so that on release the difference is fed and nothing is missed.
//!
//! Of a source that has a log nothing is missed either. Its [`Place`] says how far the query was fed;
//! from there on it is fed again out of the log, a step at a time between the steps of all
//! (`CatchUp`). Near the end what passes by is kept (`Buffer`), so that the release closes the gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use timely::dataflow::operators::probe::Handle as Probe;

use super::{NewQuery, QuerySlot, SourceSlot, Worker};
use crate::dataflow::{self, Built, Failure, Outlet, StreamElement, Watermark, disappearing};
use crate::durable::Replayed;
use crate::topic::{Topic, TopicId};

/// What can happen to a query besides being added and removed.
pub(crate) enum LifeCommand {
    /// A query that is not to run yet takes its place; subscribers may come.
    Reserve { output: Arc<Topic> },
    /// The query of this output begins, anew if it runs: without any state, from now on, and with
    /// these inputs held.
    Begin { query: NewQuery, held: Vec<Hold> },
    /// From now on exactly these inputs are held. Those released hear first what they hold now.
    Hold {
        output: TopicId,
        inputs: Vec<Hold>,
        reason: Arc<str>,
    },
    /// The query ends and its state goes; its place and its topics stay.
    Stop { output: TopicId },
    /// Feeds held inputs of one query what their logs hold.
    CatchUp {
        output: TopicId,
        parts: Vec<Replayed>,
        answer: SyncSender<()>,
    },
    /// From now on what passes by held inputs that have a log is kept. Each home tells up to which step
    /// its sources have been fed before.
    Buffer {
        output: TopicId,
        answer: SyncSender<Vec<(TopicId, u64)>>,
    },
}

/// How far a query has been fed from a source that has a log: the number of a step. Thread-safe.
#[derive(Debug)]
pub(crate) struct Place(AtomicU64);

impl Place {
    /// Not known yet: the worker that holds the input says it.
    pub fn unknown() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Behind this step; 0 is before the first.
    pub fn behind(step: u64) -> Self {
        Self(AtomicU64::new(step))
    }

    pub fn set(&self, step: u64) {
        self.0.store(step, Ordering::Release);
    }

    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|step| *step != u64::MAX)
    }

    fn settle(&self, step: u64) {
        let unknown = u64::MAX;
        // If it is known already, that stays.
        let _ = self
            .0
            .compare_exchange(unknown, step, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// An input to be held.
#[derive(Clone)]
pub(crate) struct Hold {
    pub input: TopicId,
    /// Counts the rows that pass by.
    pub missed: Arc<AtomicU64>,
    /// Where it is in its log, if it has one.
    pub place: Option<Arc<Place>>,
}

/// An input that is held, on one worker.
pub(super) struct Held {
    hold: Hold,
    /// What to take back on release: an input whose rows may go, as it was, on its home worker.
    before: Vec<StreamElement>,
    changes: bool,
    watermark: Option<Watermark>,
    /// What passes by, once the query has nearly caught up with the log.
    buffer: Option<Vec<StreamElement>>,
}

impl Held {
    fn new(hold: &Hold, topic: &Topic, here: usize) -> Self {
        let changes = topic.relation.changes;
        let before = match changes && topic.home == here {
            true => topic.snapshot_chunks(),
            false => Vec::new(),
        };
        Self {
            hold: hold.clone(),
            before,
            changes,
            watermark: None,
            buffer: None,
        }
    }

    pub(super) fn is_of(&self, input: TopicId) -> bool {
        self.hold.input == input
    }

    /// StreamElements pass by.
    pub(super) fn skip(&mut self, chunks: &[StreamElement]) {
        if self.hold.place.is_some() {
            if let Some(buffer) = &mut self.buffer {
                buffer.extend_from_slice(chunks);
            }
            return;
        }
        for chunk in chunks {
            match chunk {
                StreamElement::Rows(rows) if !self.changes => {
                    let rows = rows.num_rows() as u64;
                    self.hold.missed.fetch_add(rows, Ordering::Relaxed);
                }
                StreamElement::Watermark(watermark) => self.watermark = Some(*watermark),
                _ => {}
            }
        }
    }

    /// What the query must hear so that it is where it would be.
    fn release(self, topic: &Topic) -> Vec<StreamElement> {
        if let Some(buffer) = self.buffer {
            return buffer;
        }
        let mut chunks: Vec<StreamElement> = self.before.into_iter().map(going).collect();
        if self.changes {
            chunks.extend(topic.snapshot_chunks());
        }
        chunks.extend(self.watermark.map(StreamElement::Watermark));
        chunks
    }
}

fn going(chunk: StreamElement) -> StreamElement {
    match chunk {
        StreamElement::Rows(rows) => StreamElement::Rows(disappearing(rows)),
        other => other,
    }
}

impl QuerySlot {
    /// A slot in which nothing runs.
    fn idle(output: Arc<Topic>, late: Vec<Arc<Topic>>) -> Self {
        Self {
            inputs: Vec::new(),
            stamped: Vec::new(),
            probe: Probe::new(),
            outlet: Outlet::default(),
            stages: Vec::new(),
            output,
            late,
            failure: Failure::default(),
            failed: false,
            held: Vec::new(),
            idle: true,
        }
    }

    /// Holds those of these inputs that are not held yet.
    pub(super) fn hold(&mut self, wanted: &[Hold], here: usize) {
        for hold in wanted {
            let mut inputs = self.inputs.iter();
            let input = inputs.find(|(topic, _)| topic.id == hold.input);
            if let Some((topic, _)) = input
                && !self.held.iter().any(|held| held.is_of(hold.input))
            {
                self.held.push(Held::new(hold, topic, here));
            }
        }
    }
}

impl Worker<'_> {
    pub(super) fn life(&mut self, command: &LifeCommand) {
        match command {
            LifeCommand::Reserve { output } => {
                self.queries
                    .push(QuerySlot::idle(Arc::clone(output), Vec::new()));
            }
            LifeCommand::Begin { query, held } => self.begin(query, held),
            LifeCommand::Hold {
                output,
                inputs,
                reason,
            } => self.hold(*output, inputs, reason),
            LifeCommand::Stop { output } => self.stop(*output),
            LifeCommand::CatchUp {
                output,
                parts,
                answer,
            } => {
                self.catch_up(*output, parts);
                // Whoever asked may have given up.
                let _ = answer.try_send(());
            }
            LifeCommand::Buffer { output, answer } => {
                // Whoever asked may have given up.
                let _ = answer.try_send(self.buffer(*output));
            }
        }
    }

    /// Feeds one query alone what logs hold of its held inputs.
    fn catch_up(&mut self, output: TopicId, parts: &[Replayed]) {
        let Some(number) = self.number_of(output) else {
            return;
        };
        let here = self.timely.index();
        let mut chunks = Vec::new();
        for part in parts {
            let inputs = &self.queries[number].inputs;
            let input = inputs.iter().find(|(topic, _)| topic.id == part.source);
            if let Some((topic, _)) = input
                && topic.home == here
            {
                let heard = part.taken.clone().into_chunks();
                chunks.push((Arc::clone(topic), heard.collect()));
            }
        }
        self.feed_held(number, chunks);
    }

    /// Feeds a query alone, whether its inputs are held or not.
    pub(super) fn feed_held(
        &mut self,
        number: usize,
        chunks: Vec<(Arc<Topic>, Vec<StreamElement>)>,
    ) {
        let held = std::mem::take(&mut self.queries[number].held);
        self.feed(number, chunks);
        self.queries[number].held = held;
    }

    fn buffer(&mut self, output: TopicId) -> Vec<(TopicId, u64)> {
        let here = self.timely.index();
        let Some(number) = self.number_of(output) else {
            return Vec::new();
        };
        let mut fed = Vec::new();
        for held in &mut self.queries[number].held {
            if held.hold.place.is_none() {
                continue;
            }
            held.buffer = Some(Vec::new());
            let at_home =
                |it: &&SourceSlot| it.topic.id == held.hold.input && it.topic.home == here;
            if let Some(source) = self.sources.iter().find(at_home) {
                fed.push((source.topic.id, source.feed.sequence()));
            }
        }
        fed
    }

    /// Notes how far the sources at home here have been fed, for inputs that are held from now on.
    fn settle_places(&self, holds: &[Hold]) {
        for hold in holds {
            let source = self.sources.iter().find(|it| it.topic.id == hold.input);
            if let (Some(place), Some(source)) = (&hold.place, source) {
                place.settle(source.feed.sequence());
            }
        }
    }

    fn number_of(&self, output: TopicId) -> Option<usize> {
        self.queries
            .iter()
            .position(|query| query.output.id == output)
    }

    /// Builds this worker's part of a query.
    pub(super) fn build(&mut self, query: &NewQuery) -> Option<QuerySlot> {
        let (inputs, home) = (query.inputs.len(), query.output.home);
        let built = self.timely.dataflow::<u64, _, _>(|scope| {
            dataflow::build(scope, &query.plan, inputs, home, &query.failure)
        });
        let Built {
            inputs,
            probe,
            outlet,
            stages,
        } = match built {
            Ok(built) => built,
            Err(error) => {
                query.output.fail(&error.strip_backtrace());
                return None;
            }
        };
        let stamped =
            (0..inputs.len()).map(|it| query.plan.stamps.get(it).is_some_and(Option::is_some));
        let stamped = stamped.collect();
        let inputs = query.inputs.iter().cloned().zip(inputs);
        Some(QuerySlot {
            inputs: inputs.collect(),
            stamped,
            probe,
            outlet,
            stages,
            output: Arc::clone(&query.output),
            late: query.late.clone(),
            failure: query.failure.clone(),
            failed: query.output.has_failed(),
            held: Vec::new(),
            idle: false,
        })
    }

    fn begin(&mut self, query: &NewQuery, held: &[Hold]) {
        let Some(number) = self.number_of(query.output.id) else {
            return;
        };
        if let Some(slot) = self.build(query) {
            self.queries[number] = slot;
            self.begin_query(number, query);
            let here = self.timely.index();
            self.settle_places(held);
            self.queries[number].hold(held, here);
        }
    }

    /// Feeds one query alone, then runs those after it, which may read it, and publishes.
    pub(super) fn feed(&mut self, number: usize, chunks: Vec<(Arc<Topic>, Vec<StreamElement>)>) {
        let epoch = self.position - 1;
        let inputs: Vec<TopicId> = chunks.iter().map(|(topic, _)| topic.id).collect();
        for (topic, chunks) in chunks {
            self.fresh.of(&topic).extend(chunks);
        }
        self.run_query(number, epoch);
        // What was fed here is no news to others.
        for topic in &inputs {
            self.fresh.0.remove(topic);
        }
        self.run_after(number, epoch);
    }

    fn run_after(&mut self, number: usize, epoch: u64) {
        for later in number + 1..self.queries.len() {
            self.run_query(later, epoch);
        }
        self.fresh.publish();
    }

    fn hold(&mut self, output: TopicId, wanted: &[Hold], reason: &str) {
        let here = self.timely.index();
        self.settle_places(wanted);
        let Some(number) = self.number_of(output) else {
            return;
        };
        let slot = &mut self.queries[number];
        let stays = |held: &Held| wanted.iter().any(|hold| held.is_of(hold.input));
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
            slot.output.tell_gap(missed, reason);
        }
        let mut chunks = Vec::new();
        for held in released {
            let input = slot.inputs.iter().find(|(topic, _)| held.is_of(topic.id));
            if let Some((topic, _)) = input
                && topic.home == here
            {
                chunks.push((Arc::clone(topic), held.release(topic)));
            }
        }
        self.feed(number, chunks);
    }

    fn stop(&mut self, output: TopicId) {
        let (here, epoch) = (self.timely.index(), self.position - 1);
        let Some(number) = self.number_of(output) else {
            return;
        };
        let slot = &mut self.queries[number];
        let (output, late) = (Arc::clone(&slot.output), std::mem::take(&mut slot.late));
        *slot = QuerySlot::idle(Arc::clone(&output), late);
        if output.home != here {
            return self.run_after(number, epoch);
        }
        // A result that changes goes row by row, so that those who read it follow.
        if output.relation.changes {
            let gone = output.snapshot_chunks().into_iter().map(going);
            self.fresh.of(&output).extend(gone);
        }
        self.run_after(number, epoch);
        output.reset();
    }
}
