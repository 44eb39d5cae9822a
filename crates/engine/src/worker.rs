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

mod life;

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use headwater_ring::WaitStrategy;
use timely::dataflow::operators::probe::Handle as Probe;

use crate::dataflow::{Chunk, Failure, Input, Outlet, Plan};
use crate::ingest::{Channel, EventTimeColumn, Intake, Step, bad_rows};
use crate::sources::SourceShared;
use crate::subscription::{Gate, Queue};
use crate::topic::{Topic, TopicId};
use crate::turns::{Turn, Turns};
use life::Held;

pub(crate) use life::{Hold, LifeCommand};

/// How long a worker of several sleeps at most while it waits for its peers within a step.
const PEER_WAIT: Duration = Duration::from_micros(200);

/// What can be asked of the workers.
pub(crate) enum Command {
    /// A source begins.
    AddSource(NewSource),
    /// A channel of a source begins; its home takes it.
    AddChannel {
        source: TopicId,
        channel: Once<Box<dyn Channel>>,
    },
    /// Event time that CREATE SOURCE did not say.
    SetEventTime {
        source: TopicId,
        time: EventTimeColumn,
    },
    /// No more rows for a source.
    CloseSource { source: TopicId },
    /// A query begins.
    AddQuery(NewQuery),
    /// A query lives on in another way.
    Life(LifeCommand),
    /// A source or query ends, with its topics.
    Remove { topic: TopicId },
    /// A subscriber begins.
    Subscribe {
        topic: Arc<Topic>,
        queue: Arc<Queue>,
    },
    /// Keep a source from being read while this gate is closed.
    AddGate { source: TopicId, gate: Arc<Gate> },
    /// Tell, on every worker, whether rows are waiting, also behind closed gates.
    Look { answer: SyncSender<bool> },
    /// Copy what these views hold, all at this moment; each home sends its own.
    Read {
        views: Vec<Arc<Topic>>,
        answer: SyncSender<(TopicId, crate::error::Result<Vec<RecordBatch>>)>,
    },
    /// The database closes: no more rows, and no sink holds back those that are there.
    Seal,
    /// End.
    Shutdown,
}

/// Something for one worker to take.
pub(crate) struct Once<T>(Mutex<Option<T>>);

impl<T> Once<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A source as workers need to know it.
pub(crate) struct NewSource {
    pub topic: Arc<Topic>,
    pub bad: Arc<Topic>,
    pub shared: Arc<SourceShared>,
    pub time: Option<EventTimeColumn>,
    pub idle_timeout: Duration,
}

/// A query as workers need to know it.
pub(crate) struct NewQuery {
    pub plan: Plan,
    pub inputs: Vec<Arc<Topic>>,
    pub output: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    pub failure: Failure,
}

struct SourceSlot {
    topic: Arc<Topic>,
    bad: Arc<Topic>,
    shared: Arc<SourceShared>,
    intake: Intake,
    gates: Vec<Arc<Gate>>,
}

impl SourceSlot {
    /// Whether a sink behind this source is full.
    fn is_gated(&self) -> bool {
        self.gates.iter().any(|gate| gate.is_closed())
    }

    fn is_ready(&mut self) -> bool {
        !self.is_gated() && self.intake.has_work()
    }

    fn end(&self) {
        self.topic.end();
        self.bad.end();
    }
}

struct QuerySlot {
    inputs: Vec<(Arc<Topic>, Input)>,
    probe: Probe<u64>,
    outlet: Outlet,
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
    /// No further results, and subscribers are told why.
    fn fail(&mut self, reason: &str) {
        self.failed = true;
        self.outlet.take(u64::MAX);
        self.output.fail(reason);
        self.late.iter().for_each(|topic| topic.fail(reason));
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
struct Fresh(HashMap<TopicId, (Arc<Topic>, Vec<Chunk>)>);

impl Fresh {
    fn of(&mut self, topic: &Arc<Topic>) -> &mut Vec<Chunk> {
        &mut self
            .0
            .entry(topic.id)
            .or_insert_with(|| (Arc::clone(topic), Vec::new()))
            .1
    }

    fn get(&self, topic: TopicId) -> &[Chunk] {
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
    turns: Arc<Turns<Command>>,
    wait: WaitStrategy,
    position: u64,
    sources: Vec<SourceSlot>,
    queries: Vec<QuerySlot>,
    fresh: Fresh,
}

impl<'a> Worker<'a> {
    pub fn new(
        timely: &'a mut timely::worker::Worker,
        turns: Arc<Turns<Command>>,
        wait: WaitStrategy,
    ) -> Self {
        Self {
            timely,
            turns,
            wait,
            position: 0,
            sources: Vec::new(),
            queries: Vec::new(),
            fresh: Fresh::default(),
        }
    }

    /// Does turns until told to end.
    pub fn run(mut self) {
        loop {
            match self.turns.take(self.timely.index(), self.position) {
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
                None if self.has_work() => self.turns.open_step(self.position),
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
        let bell = Arc::clone(self.turns.bell(self.timely.index()));
        let woken = bell.wait_as(
            self.wait,
            || self.turns.has(self.position) || self.sources.iter_mut().any(SourceSlot::is_ready),
            timeout,
        );
        if !woken && idle.is_some_and(|at| at <= Instant::now()) {
            self.turns.open_step(self.position);
        }
    }

    fn step(&mut self) {
        let epoch = self.position - 1;
        self.take_in();
        for number in 0..self.queries.len() {
            self.run_query(number, epoch);
        }
        self.fresh.publish();
    }

    fn take_in(&mut self) {
        let now = Instant::now();
        for source in &mut self.sources {
            if source.is_gated() {
                continue;
            }
            let mut step = Step::default();
            let watermark = source.intake.take(&mut step, now);
            if !step.bad.is_empty() {
                source
                    .shared
                    .bad
                    .fetch_add(step.bad.len() as u64, std::sync::atomic::Ordering::Relaxed);
                let rows = bad_rows(&step.bad, now_us());
                self.fresh.of(&source.bad).push(Chunk::Rows(rows));
            }
            if step.rows.is_empty() && watermark.is_none() {
                continue;
            }
            let dropped = source.intake.dropped();
            source
                .shared
                .dropped
                .store(dropped, std::sync::atomic::Ordering::Relaxed);
            let count = step.rows.iter().map(|rows| rows.num_rows() as u64).sum();
            source.shared.note_rows(count, now_us());
            let chunks = self.fresh.of(&source.topic);
            chunks.extend(step.rows.into_iter().map(Chunk::Rows));
            chunks.extend(watermark.map(Chunk::Watermark));
        }
    }

    fn run_query(&mut self, number: usize, epoch: u64) {
        let peers = self.timely.peers();
        let query = &mut self.queries[number];
        if query.idle {
            return;
        }
        if let Some((input, _)) = query.inputs.iter().find(|(input, _)| input.has_failed()) {
            let reason = format!("{:?}, which it reads, has failed", input.relation.name);
            query.fail(&reason);
        }
        let mut fed = false;
        for (topic, input) in &mut query.inputs {
            if let Some(held) = query.held.iter_mut().find(|held| held.is_of(topic.id)) {
                held.skip(self.fresh.get(topic.id));
                continue;
            }
            for chunk in self.fresh.get(topic.id) {
                input.send(chunk.clone());
                fed = true;
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
            if self.turns.is_broken() {
                return;
            }
        }
        self.take_out(number, epoch);
    }

    /// What the query produced in this step becomes fresh.
    fn take_out(&mut self, number: usize, epoch: u64) {
        let query = &mut self.queries[number];
        if query.failed {
            return;
        }
        if let Some(reason) = query.failure.get().map(str::to_owned) {
            query.fail(&reason);
            return;
        }
        for chunk in query.outlet.take(epoch) {
            match &chunk {
                Chunk::Late { stage, rows } => {
                    let rows = rows.clone();
                    self.fresh.of(&query.late[*stage]).push(Chunk::Rows(rows));
                }
                Chunk::Rows(_) | Chunk::Watermark(_) => self.fresh.of(&query.output).push(chunk),
                Chunk::Partial { .. } => {
                    unreachable!("partial results end in the stage that merges them")
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
            Command::CloseSource { source } => {
                if let Some(slot) = self.source(*source) {
                    slot.intake.close();
                }
            }
            Command::AddQuery(query) => self.add_query(query),
            Command::Life(command) => self.life(command),
            Command::Remove { topic } => self.remove(*topic),
            Command::Subscribe { topic, queue } if topic.home == here => {
                topic.subscribe(Arc::clone(queue));
            }
            Command::Subscribe { .. } => {}
            Command::AddGate { source, gate } => {
                if let Some(slot) = self.source(*source) {
                    // A gate that nobody else holds is of a subscriber that has gone.
                    slot.gates.retain(|gate| Arc::strong_count(gate) > 1);
                    slot.gates.push(Arc::clone(gate));
                }
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
                let waiting = self
                    .sources
                    .iter_mut()
                    .any(|source| source.intake.has_work());
                // Whoever asked may have given up.
                let _ = answer.try_send(waiting);
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
        self.sources.push(SourceSlot {
            topic: Arc::clone(&source.topic),
            bad: Arc::clone(&source.bad),
            shared: Arc::clone(&source.shared),
            intake: Intake::new(source.time.clone(), source.idle_timeout),
            gates: Vec::new(),
        });
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
        if let Some(slot) = self.build(query) {
            self.queries.push(slot);
            self.begin_query(self.queries.len() - 1, query);
        }
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
            chunks.push(Chunk::Watermark(topic.watermark()));
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
            self.queries.iter_mut().for_each(|query| query.fail(reason));
            self.turns.break_off(Command::Shutdown);
        }
        self.sources.iter().for_each(SourceSlot::end);
        self.queries.iter().for_each(|query| query.end(here));
    }
}

/// Arrival time, in microseconds since 1970-01-01 UTC.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
