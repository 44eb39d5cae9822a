//! The worker threads, and the commands that every part of the engine sends them.
//!
//! All workers do the same turns in the same order, so an answer is what holds between the same two
//! steps on all of them. After the end commands are dropped, and their senders get [`Error::Closed`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use headwater_ring::{Bell, ChannelConfig, WaitStrategy, channel_with_bell};
use timely::communication::WorkerGuards;

use crate::batch_bytes::QUEUE_BYTES;
use crate::db::catalog::SourceEntry;
use crate::durable::{AckTracker, Replayed};
use crate::error::{Error, Result};
use crate::ingest::HandleChannel;
use crate::locked::locked;
use crate::record::Record;
use crate::sequencer::Sequencer;
use crate::source::{LanesBytes, Source, SourceConfig};
use crate::subscription::{Gate, QueueSize, SubscriberQueue, Subscription};
use crate::topic::{Begin, Topic, TopicId, ViewRead};
use crate::worker::{Handoff, LaneBacklog, QueryCommand, Worker, WorkerCommand};

/// What waits for a sink or lossless subscriber before the sources behind it are held back.
pub(crate) const LOSSLESS_QUEUE: QueueSize = QueueSize {
    rows: 1 << 18,
    bytes: QUEUE_BYTES,
};

/// Steps that [`Workers::settle_briefly`] does at most. Rows that still wait then, behind a sink that is
/// full, reach a paused stream later if their source is paused, and are counted as missed if not.
const SETTLE_STEPS: usize = 64;

/// The most worker threads of a database.
pub(super) const WORKERS_MAX: usize = 64;

pub(crate) struct Workers {
    pub count: usize,
    sequencer: Arc<Sequencer<WorkerCommand>>,
    next_topic: AtomicU64,
    closed: AtomicBool,
    threads: Mutex<Option<WorkerGuards<()>>>,
}

/// The answers of all workers to one command.
pub(crate) struct Answers<T> {
    from: Receiver<T>,
    count: usize,
}

impl<T> Answers<T> {
    /// One answer of each worker. Blocks.
    pub fn wait(self) -> Result<Vec<T>> {
        let answers = (0..self.count).map(|_| self.from.recv().map_err(|_| Error::Closed));
        answers.collect()
    }
}

impl Workers {
    /// Starts `count` threads, from 1 to 64.
    pub fn start(count: usize, wait: WaitStrategy) -> Result<Self> {
        if !(1..=WORKERS_MAX).contains(&count) {
            let what = format!("workers must be from 1 to {WORKERS_MAX}, not {count}");
            return Err(Error::config(what));
        }
        let config = match count {
            1 => timely::Config::thread(),
            several => timely::Config::process(several),
        };
        let sequencer = Arc::new(Sequencer::new(count));
        let shared = Arc::clone(&sequencer);
        let threads = timely::execute(config, move |timely| {
            let worker = Worker::new(timely, Arc::clone(&shared), wait);
            // Its drop ends the sequencer; the panic hook has reported the panic.
            let _ = catch_unwind(AssertUnwindSafe(|| worker.run()));
        });
        Ok(Self {
            sequencer,
            count,
            next_topic: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            threads: Mutex::new(Some(threads.map_err(Error::Start)?)),
        })
    }

    /// # Errors
    /// If the workers have ended.
    pub fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Ends the threads, once they have done all turns so far. Blocks.
    pub fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.sequencer.end(WorkerCommand::Shutdown);
        drop(locked(&self.threads).take());
    }

    pub fn command(&self, command: WorkerCommand) {
        self.sequencer.command(command);
    }

    /// Sends a command that each worker answers.
    pub fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> WorkerCommand) -> Answers<T> {
        let (answer, from) = sync_channel(self.count);
        self.command(command(answer));
        let count = self.count;
        Answers { from, count }
    }

    /// Sends a command about the lifecycle of one query.
    pub fn life(&self, command: QueryCommand) {
        self.command(WorkerCommand::Query(command));
    }

    pub fn bell(&self, worker: usize) -> Arc<Bell> {
        Arc::clone(self.sequencer.bell(worker))
    }

    /// The number of steps so far, which grows whenever rows come.
    pub fn steps(&self) -> u64 {
        self.sequencer.steps()
    }

    pub fn next_topic(&self) -> TopicId {
        self.next_topic.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until the workers have done all turns so far; returns what still waits in the lanes.
    pub fn finish_turns(&self) -> Result<LaneBacklog> {
        self.look(None)
    }

    fn look(&self, of: Option<Vec<TopicId>>) -> Result<LaneBacklog> {
        let left = self.ask(|answer| WorkerCommand::Look { of, answer });
        let left = left.wait()?.into_iter().max();
        Ok(left.unwrap_or(LaneBacklog::Nothing))
    }

    /// Does one step on every worker and waits for it; returns what still waits in the lanes.
    pub fn step(&self) -> Result<LaneBacklog> {
        self.step_of(None)
    }

    /// The same; returns what still waits in the lanes of these sources.
    pub fn step_of(&self, sources: Option<Vec<TopicId>>) -> Result<LaneBacklog> {
        self.check_open()?;
        self.sequencer.step();
        self.look(sources)
    }

    /// Steps until no rows wait, a limited number of times.
    pub fn settle_briefly(&self) -> Result<()> {
        for _ in 0..SETTLE_STEPS {
            if self.step()? != LaneBacklog::Rows {
                break;
            }
        }
        Ok(())
    }

    /// Has these answered, all at one moment: after a step that takes what has arrived by now. Blocks.
    pub fn read(&self, views: Vec<Arc<ViewRead>>) -> Result<()> {
        self.check_open()?;
        let count = views.len();
        let (answer, answers) = sync_channel(count.max(1));
        self.sequencer.step();
        self.command(WorkerCommand::Read { views, answer });
        (0..count).try_for_each(|_| answers.recv().map_err(|_| Error::Closed)?)
    }

    /// Feeds one query the records of a log, and waits until it has taken them; returns whether it has
    /// failed.
    pub fn feed(&self, output: TopicId, parts: Vec<Replayed>) -> Result<bool> {
        let fed = self.ask(|answer| {
            WorkerCommand::Query(QueryCommand::CatchUp {
                output,
                parts,
                answer,
            })
        });
        Ok(fed.wait()?.contains(&true))
    }

    pub fn subscribe(
        &self,
        topic: &Arc<Topic>,
        queue: Arc<SubscriberQueue>,
        from: Begin,
    ) -> Subscription {
        let subscription = Subscription::new(Arc::clone(&queue), topic.published_schema());
        self.add_queue(topic, queue, from);
        subscription
    }

    /// As [`subscribe`](Self::subscribe), for a queue that has its subscription already.
    pub fn add_queue(&self, topic: &Arc<Topic>, queue: Arc<SubscriberQueue>, from: Begin) {
        self.command(WorkerCommand::Subscribe {
            topic: Arc::clone(topic),
            queue,
            from,
        });
    }

    /// A gate in front of these sources, closed while the queue that it is for is full.
    pub fn gate(&self, sources: &[Arc<Topic>]) -> Arc<Gate> {
        let gate = Arc::new(Gate::new((0..self.count).map(|it| self.bell(it)).collect()));
        for source in sources {
            self.command(WorkerCommand::AddGate {
                source: source.id,
                gate: Arc::clone(&gate),
            });
        }
        gate
    }

    /// A handle of a source, with a lane of its own.
    pub fn add_lane<T: Record>(
        &self,
        source: &SourceEntry,
        config: &SourceConfig,
        ack_tracker: Option<Arc<AckTracker>>,
    ) -> Result<Source<T>> {
        let ring = ChannelConfig {
            capacity: config.buffer_size,
            backpressure: config.backpressure,
            wait: config.wait_strategy,
        };
        let (producer, consumer) =
            channel_with_bell(ring, self.bell(source.topic.home)).map_err(Error::config)?;
        let bytes = LanesBytes::new(config.backpressure, config.wait_strategy);
        let channel = HandleChannel::<T>::new(consumer, Arc::clone(&bytes), ack_tracker.clone());
        self.command(WorkerCommand::AddChannel {
            source: source.topic.id,
            channel: Handoff::new(Box::new(channel) as _),
        });
        let shared = Arc::clone(&source.shared);
        Ok(Source::new(producer, &bytes, shared, ack_tracker))
    }
}
