//! A worker: the thread that does the turns.
//!
//! ```text
//!   step:  drain the lanes of the sources at home here
//!          -> run every query, in the order of their creation, each to the end
//!          -> publish to views, subscribers and sinks
//! ```
//!
//! Queries are in the order in which they were created, so what a query produces in a step is there
//! when the queries that read it run in the same step. With several workers each runs its part of
//! every query, and a query's results are at its home worker once its probe has passed the step.
//! Rows start steps; there is no timer in the data path, and an idle worker sleeps.

mod command;
mod life;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_ring::WaitStrategy;
use timely::dataflow::operators::probe::Handle as Probe;

use crate::dataflow::{self, Failure, Input, Outlet, Run, Share, StreamElement, Watermark};
use crate::durable::{Feed, QueryState, Replayed, StagePart, State, Taken, now_us};
use crate::ingest::{SourceReader, Step};
use crate::sequencer::{Sequencer, Turn};
use crate::sources::SourceShared;
use crate::subscription::Gate;
use crate::topic::{Topic, TopicId};
use life::Held;

pub(crate) use command::{Command, Left, NewQuery, NewSource, Once};
pub(crate) use life::{Hold, LifeCommand, Place};

/// How long a worker of several sleeps at most while it waits for its peers within a step.
const PEER_WAIT: Duration = Duration::from_micros(200);

struct SourceSlot {
    topic: Arc<Topic>,
    bad: Arc<Topic>,
    shared: Arc<SourceShared>,
    intake: SourceReader,
    gates: Vec<Arc<Gate>>,
    feed: Feed,
}

impl SourceSlot {
    /// Whether a sink behind this source is full, or its log takes nothing.
    fn is_gated(&self) -> bool {
        self.gates.iter().any(|gate| gate.is_closed()) || self.feed.is_full()
    }

    fn left(&mut self) -> Left {
        match (self.intake.has_work(), self.feed.is_failing()) {
            (false, _) => Left::Nothing,
            (true, true) => Left::Stuck,
            (true, false) => Left::Rows,
        }
    }

    fn is_ready(&mut self) -> bool {
        self.feed.has_due() || !self.is_gated() && self.intake.has_work()
    }

    /// Takes what has arrived into the log; what is due becomes fresh.
    fn step(&mut self, sequence: u64, now: Instant, fresh: &mut EpochOutput) {
        if !self.is_gated() {
            let mut step = Step::default();
            let watermark = self.intake.take(&mut step, now);
            let arrival_us = now_us();
            self.shared.note_rows(step.row_count(), arrival_us);
            let dropped = self.intake.dropped();
            self.shared.dropped.store(dropped, Ordering::Relaxed);
            let bad = step.bad.len() as u64;
            self.shared.bad.fetch_add(bad, Ordering::Relaxed);
            let (taken, acks) = step.into_taken(watermark, arrival_us);
            self.feed.take_in(taken, acks, sequence, arrival_us);
        }
        while let Some(taken) = self.feed.next_due() {
            self.publish(taken, fresh);
        }
    }

    fn publish(&self, mut taken: Taken, fresh: &mut EpochOutput) {
        if let Some(bad) = taken.bad.take() {
            fresh.of(&self.bad).push(StreamElement::Rows(bad));
        }
        if taken.rows.is_empty() && taken.watermark.is_none() {
            return;
        }
        fresh.of(&self.topic).extend(taken.into_chunks());
    }

    /// Feeds what was logged before a restart.
    fn replay(&mut self, replayed: &Replayed, fresh: &mut EpochOutput) {
        self.feed.replayed(replayed);
        if let Some(watermark) = replayed.taken.watermark {
            self.intake.resume(watermark);
        }
        self.publish(replayed.taken.clone(), fresh);
    }

    fn end(&self) {
        self.topic.end();
        self.bad.end();
    }
}

struct QuerySlot {
    inputs: Vec<(Arc<Topic>, Input)>,
    /// For each input whether it hears where rows are from.
    stamped: Vec<bool>,
    probe: Probe<u64>,
    outlet: Outlet,
    stages: Vec<dataflow::StageHandle>,
    output: Arc<Topic>,
    late: Vec<Arc<Topic>>,
    failure: Failure,
    failed: bool,
    /// The inputs whose chunks pass by.
    held: Vec<Held>,
    /// Nothing runs here: not started yet, or stopped.
    idle: bool,
}

impl QuerySlot {
    /// No further results. Subscribers are told why on the home worker, which does so before any
    /// later command: another worker may still be in this step when the query is begun anew.
    fn fail(&mut self, reason: &str, here: usize) {
        self.failed = true;
        self.outlet.take(u64::MAX);
        if self.output.home == here {
            self.output.fail(reason);
            self.late.iter().for_each(|topic| topic.fail(reason));
        }
    }

    /// What its stages know.
    fn save(&self) -> dataflow::Result<Vec<StagePart<Run>>> {
        let stages = self.stages.iter();
        stages.map(|stage| Ok(stage.save()?.into())).collect()
    }

    /// Continues from what the stages of all workers knew.
    fn restore(&self, state: &QueryState<Run>, share: Share) -> dataflow::Result<()> {
        for (number, stage) in self.stages.iter().enumerate() {
            stage.restore(&state.stage(number), share)?;
        }
        Ok(())
    }

    /// Ends the topics, on their home worker `here`: it has published what it produced.
    fn end(&self, here: usize) {
        if self.output.home == here {
            self.output.end();
            self.late.iter().for_each(|topic| topic.end());
        }
    }
}

/// What topics produced in the step at hand.
#[derive(Default)]
struct EpochOutput(HashMap<TopicId, (Arc<Topic>, Vec<StreamElement>)>);

impl EpochOutput {
    fn of(&mut self, topic: &Arc<Topic>) -> &mut Vec<StreamElement> {
        &mut self
            .0
            .entry(topic.id)
            .or_insert_with(|| (Arc::clone(topic), Vec::new()))
            .1
    }

    fn get(&self, topic: TopicId) -> &[StreamElement] {
        self.0.get(&topic).map_or(&[], |(_, chunks)| chunks)
    }

    fn publish(&mut self) {
        for (_, (topic, chunks)) in self.0.drain() {
            topic.publish(&chunks);
        }
    }
}

/// One worker thread.
pub(crate) struct Worker<'a> {
    timely: &'a mut timely::worker::Worker,
    sequencer: Arc<Sequencer<Command>>,
    wait: WaitStrategy,
    position: u64,
    /// What is added to the place of a step to get its number in the logs.
    sequence: u64,
    sources: Vec<SourceSlot>,
    queries: Vec<QuerySlot>,
    fresh: EpochOutput,
}

impl<'a> Worker<'a> {
    pub fn new(
        timely: &'a mut timely::worker::Worker,
        sequencer: Arc<Sequencer<Command>>,
        wait: WaitStrategy,
    ) -> Self {
        Self {
            timely,
            sequencer,
            wait,
            position: 0,
            sequence: 0,
            sources: Vec::new(),
            queries: Vec::new(),
            fresh: EpochOutput::default(),
        }
    }

    /// Does turns until told to end.
    pub fn run(mut self) {
        loop {
            match self.sequencer.take(self.timely.index(), self.position) {
                Some(turn) => {
                    self.position += 1;
                    match turn {
                        Turn::Step => self.step(),
                        Turn::Command(command) => {
                            if let Command::Shutdown = *command {
                                return;
                            }
                            self.command(&command);
                        }
                    }
                }
                None if self.has_work() => self.sequencer.open_step(self.position),
                None => self.sleep(),
            }
        }
    }

    fn has_work(&mut self) -> bool {
        self.sources.iter_mut().any(SourceSlot::is_ready)
    }

    /// Until there is a turn, rows, or a lane that has become idle.
    fn sleep(&mut self) {
        let readable = self.sources.iter().filter(|source| !source.is_gated());
        let idle = readable
            .filter_map(|source| source.intake.next_idle())
            .min();
        let timeout = idle.map(|at| at.saturating_duration_since(Instant::now()));
        let bell = Arc::clone(self.sequencer.bell(self.timely.index()));
        let woken = bell.wait_as(
            self.wait,
            || {
                self.sequencer.has(self.position)
                    || self.sources.iter_mut().any(SourceSlot::is_ready)
            },
            timeout,
        );
        if !woken && idle.is_some_and(|at| at <= Instant::now()) {
            self.sequencer.open_step(self.position);
        }
    }

    fn step(&mut self) {
        let epoch = self.position - 1;
        self.take_in(epoch);
        self.run_queries(epoch);
    }

    fn take_in(&mut self, epoch: u64) {
        let now = Instant::now();
        for source in &mut self.sources {
            source.step(self.sequence + epoch, now, &mut self.fresh);
        }
    }

    /// A step of which the logs know what it took.
    fn replay(&mut self, replayed: &[Replayed]) {
        let epoch = self.position - 1;
        for part in replayed {
            if let Some(source) = self
                .sources
                .iter_mut()
                .find(|it| it.topic.id == part.source)
            {
                source.replay(part, &mut self.fresh);
            }
        }
        self.run_queries(epoch);
    }

    fn run_queries(&mut self, epoch: u64) {
        for number in 0..self.queries.len() {
            self.run_query(number, epoch);
        }
        self.fresh.publish();
    }

    fn run_query(&mut self, number: usize, epoch: u64) {
        let (here, peers) = (self.timely.index(), self.timely.peers());
        let query = &mut self.queries[number];
        if query.idle {
            return;
        }
        if let Some((input, _)) = query.inputs.iter().find(|(input, _)| input.has_failed()) {
            let reason = format!("{:?}, which it reads, has failed", input.relation.name);
            query.fail(&reason, here);
        }
        let mut fed = false;
        for ((topic, input), stamped) in query.inputs.iter_mut().zip(&query.stamped) {
            if let Some(held) = query.held.iter_mut().find(|held| held.is_of(topic.id)) {
                held.skip(self.fresh.get(topic.id));
                continue;
            }
            for chunk in self.fresh.get(topic.id) {
                if *stamped || !matches!(chunk, StreamElement::From(_)) {
                    input.send(chunk.clone());
                    fed = true;
                }
            }
        }
        // With one worker, a query that got nothing has nothing to say.
        if !fed && peers == 1 {
            return;
        }
        for (_, input) in &mut query.inputs {
            input.advance_to(epoch + 1);
        }
        let wait = if peers == 1 {
            Duration::ZERO
        } else {
            PEER_WAIT
        };
        while query.probe.less_equal(&epoch) {
            self.timely.step_or_park(Some(wait));
            if self.sequencer.is_broken() {
                return;
            }
        }
        self.take_out(number, epoch);
    }

    /// What the query produced in this step becomes fresh.
    fn take_out(&mut self, number: usize, epoch: u64) {
        let here = self.timely.index();
        let query = &mut self.queries[number];
        if query.failed {
            return;
        }
        if let Some(reason) = query.failure.get().map(str::to_owned) {
            query.fail(&reason, here);
            return;
        }
        for chunk in query.outlet.take(epoch) {
            match &chunk {
                StreamElement::Late { stage, rows } => {
                    let rows = rows.clone();
                    self.fresh
                        .of(&query.late[*stage])
                        .push(StreamElement::Rows(rows));
                }
                StreamElement::Rows(_) | StreamElement::Watermark(_) => {
                    self.fresh.of(&query.output).push(chunk)
                }
                StreamElement::Partial { .. } | StreamElement::From(_) => {
                    unreachable!("they end in a stage of the dataflow")
                }
            }
        }
    }

    fn command(&mut self, command: &Command) {
        let here = self.timely.index();
        match command {
            Command::AddSource(source) if source.topic.home == here => self.add_source(source),
            Command::AddSource(_) => {}
            Command::AddChannel { source, channel } => {
                if let Some(slot) = self.source(*source)
                    && let Some(channel) = channel.take()
                {
                    slot.intake.add(channel);
                }
            }
            Command::SetEventTime { source, time } => {
                if let Some(slot) = self.source(*source) {
                    slot.intake.set_time(time.clone());
                }
            }
            Command::ForgetCursor { source } => {
                if let Some(slot) = self.source(*source) {
                    slot.feed.forget_cursor();
                }
            }
            Command::CloseSource { source } => {
                if let Some(slot) = self.source(*source) {
                    slot.intake.close();
                }
            }
            Command::AddQuery(query) => self.add_query(query),
            Command::Life(command) => self.life(command),
            Command::Remove { topic } => self.remove(*topic),
            Command::Subscribe { topic, queue, from } if topic.home == here => {
                topic.subscribe(Arc::clone(queue), *from);
            }
            Command::Subscribe { .. } => {}
            Command::AddGate { source, gate } => {
                if let Some(slot) = self.source(*source) {
                    // A gate that nobody else holds is of a subscriber that has gone.
                    slot.gates.retain(|gate| Arc::strong_count(gate) > 1);
                    slot.gates.push(Arc::clone(gate));
                }
            }
            Command::Replay(replayed) => self.replay(replayed),
            Command::SetSequence(sequence) => self.sequence = *sequence,
            Command::Checkpoint { answer } => {
                // Whoever asked may have given up.
                let _ = answer.try_send(self.state());
            }
            Command::Read { views, answer } => {
                for view in views.iter().filter(|view| view.home == here) {
                    // Whoever asked may have given up.
                    let _ = answer.try_send((view.id, view.snapshot()));
                }
            }
            Command::Seal => {
                for source in &mut self.sources {
                    source.intake.seal();
                    source.gates.clear();
                }
            }
            Command::Look { answer } => {
                let left = self.sources.iter_mut().map(SourceSlot::left).max();
                // Whoever asked may have given up.
                let _ = answer.try_send(left.unwrap_or(Left::Nothing));
            }
            Command::Shutdown => {}
        }
    }

    fn source(&mut self, topic: TopicId) -> Option<&mut SourceSlot> {
        self.sources
            .iter_mut()
            .find(|source| source.topic.id == topic)
    }

    fn add_source(&mut self, source: &NewSource) {
        let feed = source.feed.take().unwrap_or_default();
        let mut intake = SourceReader::new(source.time.clone(), source.idle_timeout);
        intake.resume(feed.state().watermark);
        self.sources.push(SourceSlot {
            topic: Arc::clone(&source.topic),
            bad: Arc::clone(&source.bad),
            shared: Arc::clone(&source.shared),
            intake,
            gates: Vec::new(),
            feed,
        });
    }

    /// What this worker knows, to be saved.
    fn state(&self) -> dataflow::Result<State<Run>> {
        let here = self.timely.index();
        let mut state = State {
            sequence: self.sequence + self.position,
            ..State::default()
        };
        for source in &self.sources {
            let name = source.topic.relation.name.clone();
            state.sources.insert(name, source.feed.state());
            source.topic.save(&mut state)?;
            source.bad.save(&mut state)?;
        }
        for query in &self.queries {
            // What a failed query knows may be half a step; it is saved that it has failed.
            if !query.failed {
                let name = query.output.relation.name.clone();
                let workers = BTreeMap::from([(here, query.save()?)]);
                state.queries.insert(name, QueryState { workers });
            }
            if query.output.home == here {
                query.output.save(&mut state)?;
                for late in &query.late {
                    late.save(&mut state)?;
                }
            }
        }
        Ok(state)
    }

    fn remove(&mut self, topic: TopicId) {
        let here = self.timely.index();
        let (gone, kept) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(|source| source.topic.id == topic);
        self.sources = kept;
        gone.iter().for_each(SourceSlot::end);
        let (gone, kept) = std::mem::take(&mut self.queries)
            .into_iter()
            .partition(|query| query.output.id == topic);
        self.queries = kept;
        gone.iter().for_each(|query| query.end(here));
    }

    fn add_query(&mut self, query: &NewQuery) {
        let Some(slot) = self.build(query) else {
            return;
        };
        self.queries.push(slot);
        let number = self.queries.len() - 1;
        match &query.state {
            Some(state) => self.continue_query(number, state),
            None if query.held.is_empty() => self.begin_query(number, query),
            None => self.begin_held(number, query),
        }
    }

    /// A query continues from a checkpoint.
    fn continue_query(&mut self, number: usize, state: &QueryState<Run>) {
        let share = Share {
            index: self.timely.index(),
            peers: self.timely.peers(),
        };
        let query = &mut self.queries[number];
        if let Err(error) = query.restore(state, share) {
            let reason = format!("its state cannot be restored: {}", error.strip_backtrace());
            query.failure.set(reason.clone());
            query.fail(&reason, share.index);
        }
    }

    /// The first step of a query that begins in the past: the result of nothing at all.
    fn begin_held(&mut self, number: usize, query: &NewQuery) {
        let here = self.timely.index();
        self.queries[number].hold(&query.held, here);
        let at_home = query.inputs.iter().filter(|topic| topic.home == here);
        let nothing = at_home.map(|topic| {
            let start = StreamElement::Watermark(Watermark::START);
            (Arc::clone(topic), vec![start])
        });
        let nothing = nothing.collect();
        self.feed_held(number, nothing);
    }

    /// The first step of a query: what its views hold already, and the result of nothing at all.
    fn begin_query(&mut self, number: usize, query: &NewQuery) {
        if query.inputs.is_empty() {
            return;
        }
        let here = self.timely.index();
        let at_home = query.inputs.iter().filter(|topic| topic.home == here);
        let held = at_home.map(|topic| {
            let mut chunks = topic.snapshot_chunks();
            chunks.push(StreamElement::Watermark(topic.watermark()));
            (Arc::clone(topic), chunks)
        });
        let held = held.collect();
        self.feed(number, held);
    }
}

/// The end of a worker is the end of its topics. After a panic, which no input should be able to
/// cause, it is the end of the engine too: subscribers are told, and nobody waits for ever.
impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let here = self.timely.index();
        if std::thread::panicking() {
            let reason = "a worker of the engine panicked";
            self.sources
                .iter()
                .for_each(|source| source.topic.fail(reason));
            let topics = self.queries.iter();
            let topics = topics.flat_map(|query| query.late.iter().chain([&query.output]));
            topics.for_each(|topic| topic.fail(reason));
            self.sequencer.break_off(Command::Shutdown);
        }
        self.sources.iter().for_each(SourceSlot::end);
        self.queries.iter().for_each(|query| query.end(here));
    }
}
