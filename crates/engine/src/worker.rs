//! A worker: the thread that carries out the turns.
//!
//! ```text
//!   step:  drain the lanes of the sources at home here
//!          -> run every query, in the order of their creation, each to the end
//!          -> publish to views, subscribers and sinks
//! ```
//!
//! With several workers each runs its part of every query, and a query's results are at its home
//! worker once its probe has passed the step. Rows start steps; there is no timer in the data path,
//! and an idle worker sleeps.
//!
//! Workers are threads of one process. Besides plans (`dataflow/`) they share:
//!
//! - the [`Sequencer`]: a mutex over the log of turns, and a bell for each worker;
//! - topics: a mutex over view and subscribers, which the home worker locks to publish; peers read the
//!   failure flag of their inputs, and lock only to fail a query;
//! - the queues and gates of subscribers, with their readers; a gate is one atomic for all workers;
//! - with handles, connectors and the WAL thread, the lanes, counters and WAL writer of a source: its
//!   home worker alone;
//! - what a command carries: [`Handoff`]s, the missed rows and [`CatchUpPosition`] of an [`InputHold`],
//!   and the channel for the answers.

mod command;
mod epoch_output;
mod input_hold;
mod queries;
mod query_slot;
mod source_slot;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use headwater_ring::WaitStrategy;

use crate::dataflow::{self, Run};
use crate::durable::{Checkpoint, Replayed};
use crate::sequencer::{Sequencer, Turn};
use crate::topic::{TopicFailure, TopicId};
use queries::Queries;
use source_slot::SourceSlot;

pub(crate) use command::{Handoff, LaneBacklog, NewQuery, NewSource, QueryCommand, WorkerCommand};
pub(crate) use input_hold::{CatchUpPosition, InputHold};

pub(crate) struct Worker<'a> {
    sequencer: Arc<Sequencer<WorkerCommand>>,
    wait: WaitStrategy,
    /// The position of the next turn in the log of turns.
    position: u64,
    /// Added to the epoch of a step, it is the number of the step in the logs of sources.
    sequence: u64,
    /// The sources whose home is here.
    sources: Vec<SourceSlot>,
    queries: Queries<'a>,
}

impl<'a> Worker<'a> {
    pub fn new(
        timely: &'a mut timely::worker::Worker,
        sequencer: Arc<Sequencer<WorkerCommand>>,
        wait: WaitStrategy,
    ) -> Self {
        Self {
            queries: Queries::new(timely, Arc::clone(&sequencer)),
            sequencer,
            wait,
            position: 0,
            sequence: 0,
            sources: Vec::new(),
        }
    }

    /// Carries out turns until [`WorkerCommand::Shutdown`].
    pub fn run(mut self) {
        loop {
            match self.sequencer.take(self.queries.here(), self.position) {
                Some(turn) => {
                    self.queries.epoch = self.position;
                    self.position += 1;
                    match turn {
                        Turn::Step => self.step(),
                        Turn::Command(command) => {
                            if let WorkerCommand::Shutdown = *command {
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

    /// Sleeps until there is a turn, rows, or a lane that becomes idle.
    fn sleep(&mut self) {
        let readable = self.sources.iter().filter(|source| !source.is_gated());
        let idle = readable
            .filter_map(|source| source.next_timeout(&self.queries))
            .min();
        let timeout = idle.map(|at| at.saturating_duration_since(Instant::now()));
        let bell = Arc::clone(self.sequencer.bell(self.queries.here()));
        let woken = bell.wait_as(
            self.wait,
            || self.sequencer.has(self.position) || self.has_work(),
            timeout,
        );
        if !woken && idle.is_some_and(|at| at <= Instant::now()) {
            self.sequencer.open_step(self.position);
        }
    }

    fn step(&mut self) {
        let (now, sequence) = (Instant::now(), self.sequence + self.queries.epoch);
        for source in &mut self.sources {
            source.advance(now, &self.queries);
            source.step(sequence, now, &mut self.queries.output);
        }
        self.run_queries();
    }

    /// Runs the queries, and notes how far those that fail have been fed: up to the step before.
    fn run_queries(&mut self) {
        self.queries.run_all();
        self.settle_failed();
        self.sources.iter_mut().for_each(SourceSlot::end_step);
    }

    fn settle_failed(&mut self) {
        for hold in std::mem::take(&mut self.queries.newly_held) {
            let source = self.sources.iter().find(|it| it.topic.id == hold.input);
            if let (Some(position), Some(source)) = (&hold.place, source) {
                position.settle(source.fed_before);
            }
        }
    }

    /// Repeats a step with the records that it once wrote to the logs.
    fn replay(&mut self, records: &[Replayed]) {
        for record in records {
            let mut sources = self.sources.iter_mut();
            if let Some(source) = sources.find(|it| it.topic.id == record.source) {
                source.replay(record, &mut self.queries.output);
            }
        }
        self.run_queries();
    }

    fn command(&mut self, command: &WorkerCommand) {
        let here = self.queries.here();
        match command {
            WorkerCommand::AddSource(source) => {
                if source.topic.home == here {
                    self.sources.push(SourceSlot::new(source));
                }
            }
            WorkerCommand::AddChannel { source, channel } => self.at_source(*source, |slot| {
                if let Some(channel) = channel.take() {
                    slot.reader.add(channel);
                }
            }),
            WorkerCommand::SetEventTime { source, time } => {
                self.at_source(*source, |slot| slot.reader.set_time(time.clone()));
            }
            WorkerCommand::ForgetCursor { source } => {
                self.at_source(*source, |slot| slot.feed.forget_cursor());
            }
            WorkerCommand::NoteDowntime { source, now_us } => {
                self.at_source(*source, |slot| slot.add_downtime(*now_us));
            }
            WorkerCommand::CloseSource { source } => {
                self.at_source(*source, |slot| slot.reader.close());
            }
            WorkerCommand::AddGate { source, gate } => {
                self.at_source(*source, |slot| slot.add_gate(gate));
            }
            WorkerCommand::AddQuery(query) => {
                self.queries.add(query);
                self.settle_failed();
            }
            WorkerCommand::Query(command) => self.query_command(command),
            WorkerCommand::Remove { topic } => self.remove(*topic),
            WorkerCommand::Subscribe { topic, queue, from } => {
                if topic.home == here {
                    topic.subscribe(Arc::clone(queue), *from);
                }
            }
            WorkerCommand::Replay(records) => self.replay(records),
            WorkerCommand::EndReplay(sequence) => {
                self.sequence = *sequence;
                self.sources.iter_mut().for_each(SourceSlot::end_replay);
            }
            WorkerCommand::SkipTo(sequence) => self.sequence = self.sequence.max(*sequence),
            WorkerCommand::Checkpoint { answer } => send(answer, self.state()),
            WorkerCommand::Read { views, answer } => {
                for view in views.iter().filter(|view| view.topic.home == here) {
                    send(answer, view.answer());
                }
            }
            WorkerCommand::Seal => self.sources.iter_mut().for_each(SourceSlot::seal),
            WorkerCommand::Look { of, answer } => send(answer, self.backlog(of.as_deref())),
            WorkerCommand::Shutdown => {}
        }
    }

    /// What waits in the lanes of these sources, or of all.
    fn backlog(&mut self, of: Option<&[TopicId]>) -> LaneBacklog {
        let is_asked = |source: &&mut SourceSlot| of.is_none_or(|of| of.contains(&source.topic.id));
        let asked = self.sources.iter_mut().filter(is_asked);
        let backlog = asked.map(SourceSlot::backlog).max();
        backlog.unwrap_or(LaneBacklog::Nothing)
    }

    fn query_command(&mut self, command: &QueryCommand) {
        self.query_commanded(command);
        self.settle_failed();
    }

    fn query_commanded(&mut self, command: &QueryCommand) {
        match command {
            QueryCommand::Reserve { output } => self.queries.reserve(output),
            QueryCommand::Begin { query, held } => {
                self.settle(held);
                self.queries.begin(query, held);
            }
            QueryCommand::Resume {
                output,
                failure,
                if_failed,
            } => self.queries.resume(*output, failure, if_failed),
            QueryCommand::SetDeadLetters { output, topic } => {
                self.queries.set_dead_letters(*output, topic.as_ref());
            }
            QueryCommand::Hold {
                output,
                inputs,
                reason,
            } => {
                self.settle(inputs);
                self.queries.hold(*output, inputs, reason);
            }
            QueryCommand::Stop { output } => self.queries.stop(*output),
            QueryCommand::CatchUp {
                output,
                parts,
                answer,
            } => {
                send(answer, self.queries.catch_up(*output, parts));
            }
            QueryCommand::Buffer { output, answer } => {
                let buffered = self.queries.buffer(*output);
                let sources = self.sources.iter();
                let sources = sources.filter(|source| buffered.contains(&source.topic.id));
                let fed = sources.map(|source| (source.topic.id, source.feed.sequence()));
                send(answer, fed.collect());
            }
        }
    }

    /// Notes how far the sources at home here have been fed, for inputs that are held from now on.
    fn settle(&self, holds: &[InputHold]) {
        for hold in holds {
            let source = self.sources.iter().find(|it| it.topic.id == hold.input);
            if let (Some(position), Some(source)) = (&hold.place, source) {
                position.settle(source.feed.sequence());
            }
        }
    }

    /// Does something with a source, if its home is here.
    fn at_source(&mut self, topic: TopicId, act: impl FnOnce(&mut SourceSlot)) {
        if let Some(slot) = self.sources.iter_mut().find(|it| it.topic.id == topic) {
            act(slot);
        }
    }

    fn remove(&mut self, topic: TopicId) {
        let sources = &mut self.sources;
        for gone in sources.extract_if(.., |source| source.topic.id == topic) {
            gone.end();
        }
        self.queries.remove(topic);
    }

    fn state(&self) -> dataflow::Result<Checkpoint<Run>> {
        let mut state = Checkpoint {
            sequence: self.sequence + self.position,
            ..Checkpoint::default()
        };
        for source in &self.sources {
            let name = source.topic.relation.name.clone();
            state.sources.insert(name, source.state());
            source.topic.save(&mut state)?;
            source.bad.save(&mut state)?;
        }
        self.queries.save(&mut state)?;
        Ok(state)
    }
}

/// Answers a caller, which may have given up.
fn send<T>(answer: &SyncSender<T>, value: T) {
    let _ = answer.try_send(value);
}

/// A worker that ends, ends its topics. A panic, which no input should be able to cause, ends the whole
/// engine: subscribers get the reason, and no caller waits for ever.
impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let failure = TopicFailure::fatal("a worker of the engine panicked");
            for source in &self.sources {
                source.topic.fail(&failure);
            }
            self.queries.fail_all(&failure);
            self.sequencer.break_off(WorkerCommand::Shutdown);
        }
        self.sources.iter().for_each(SourceSlot::end);
        self.queries.end();
    }
}
