//! What can be asked of the workers, between two steps.
//!
//! Every worker gets every command, at the same place among the steps; most concern the worker that is
//! home to a source or topic alone. Answers go through channels on which nobody waits who does them.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;

use super::life::{Hold, LifeCommand};
use crate::dataflow::{self, Failure, Plan, Run};
use crate::durable::{Feed, QueryState, Replayed, State};
use crate::ingest::{Channel, EventTimeColumn};
use crate::sources::SourceShared;
use crate::subscription::{Gate, Queue};
use crate::topic::{Begin, Topic, TopicId};

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
    /// A source begins anew the next time it is started.
    ForgetCursor { source: TopicId },
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
        from: Begin,
    },
    /// Keep a source from being read while this gate is closed.
    AddGate { source: TopicId, gate: Arc<Gate> },
    /// Tell, on every worker, what is waiting, also behind closed gates.
    Look { answer: SyncSender<Left> },
    /// Feed what the logs hold to the queries, as the step that it once was.
    Replay(Vec<Replayed>),
    /// The numbers of steps to come, in the logs, are this much above their place in the log of turns.
    SetSequence(u64),
    /// Tell everything that is known, all at this moment.
    Checkpoint {
        answer: SyncSender<dataflow::Result<State<Run>>>,
    },
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

/// What waits in the lanes; of several the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    Nothing,
    /// Rows of sources whose logs the disk does not take.
    Stuck,
    /// Rows that are taken sooner or later.
    Rows,
}

/// Something for one worker to take.
pub(crate) struct Once<T>(Mutex<Option<T>>);

impl<T> Once<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    /// It, for the first who asks.
    pub fn take(&self) -> Option<T> {
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
    /// Its way into the log, if it has one.
    pub feed: Once<Feed>,
}

/// A query as workers need to know it.
pub(crate) struct NewQuery {
    pub plan: Plan,
    pub inputs: Vec<Arc<Topic>>,
    pub output: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    pub failure: Failure,
    /// What it knew at a checkpoint, if it continues from one.
    pub state: Option<QueryState<Run>>,
    /// Inputs that it does not hear yet, since it is to begin in their past.
    pub held: Vec<Hold>,
}
