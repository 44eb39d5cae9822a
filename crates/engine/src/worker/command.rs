//! The commands that workers carry out between two steps.
//!
//! Every worker gets every command, at the same position among the steps; most only concern the worker
//! that is home to a source or topic. Workers answer through channels, and never wait on them.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::input_hold::InputHold;
use crate::dataflow::{self, Plan, QueryFailure, Run, SourceColumns};
use crate::durable::{Checkpoint, QueryCheckpoint, Replayed, SourceFeed};
use crate::event_time::EventTimeColumn;
use crate::ingest::Channel;
use crate::locked::locked;
use crate::source::SourceShared;
use crate::subscription::{Gate, SubscriberQueue};
use crate::topic::{Begin, Topic, TopicFailure, TopicId, ViewRead};

pub(crate) enum WorkerCommand {
    AddSource(NewSource),
    /// The home worker of the source takes the channel.
    AddChannel {
        source: TopicId,
        channel: Handoff<Box<dyn Channel>>,
    },
    /// Sets the event time of a source that CREATE SOURCE gave none.
    SetEventTime {
        source: TopicId,
        time: EventTimeColumn,
    },
    /// The source starts from its beginning the next time.
    ForgetCursor {
        source: TopicId,
    },
    /// The database was not open until `now_us`, and the source cannot go back.
    NoteDowntime {
        source: TopicId,
        now_us: i64,
    },
    /// Refuses further rows of a source, and ends its input.
    CloseSource {
        source: TopicId,
    },
    AddQuery(NewQuery),
    Query(QueryCommand),
    /// Removes a source or query, and ends its topics.
    Remove {
        topic: TopicId,
    },
    Subscribe {
        topic: Arc<Topic>,
        queue: Arc<SubscriberQueue>,
        from: Begin,
    },
    /// Stops reading a source while this gate is closed.
    AddGate {
        source: TopicId,
        gate: Arc<Gate>,
    },
    /// Every worker answers what waits in the lanes of its sources, or of those `of` these, also behind
    /// closed gates.
    Look {
        of: Option<Vec<TopicId>>,
        answer: SyncSender<LaneBacklog>,
    },
    /// Feeds records of logs to the queries, as the step that wrote them.
    Replay(Vec<Replayed>),
    /// The logs have been replayed: sources are read from now on. The number is added to the epoch of a step
    /// to get its number in the logs.
    EndReplay(u64),
    /// The steps to come have at least this number.
    SkipTo(u64),
    /// Every worker answers its part of a checkpoint at this moment.
    Checkpoint {
        answer: SyncSender<dataflow::Result<Checkpoint<Run>>>,
    },
    /// The home worker of each view answers what is asked of it, at this moment.
    Read {
        views: Vec<Arc<ViewRead>>,
        answer: SyncSender<crate::error::Result<()>>,
    },
    /// The database closes: refuses further rows, and ignores gates for the rows that wait.
    Seal,
    Shutdown,
}

/// A command about one query that exists.
pub(crate) enum QueryCommand {
    /// Reserves the slot of a query that does not run yet; it may have subscribers.
    Reserve { output: Arc<Topic> },
    /// Starts the query of this output, or restarts it: without any state, from now on, and with these
    /// inputs held.
    Begin {
        query: Box<NewQuery>,
        held: Vec<InputHold>,
    },
    /// Holds exactly these inputs from now on. The query is first fed what the released inputs hold now.
    Hold {
        output: TopicId,
        inputs: Vec<InputHold>,
        reason: Arc<str>,
    },
    /// Ends the query and drops its state; its slot and its topics stay.
    Stop { output: TopicId },
    /// Continues a query that has failed, as it was before the failure. Its inputs stay held.
    Resume {
        output: TopicId,
        failure: QueryFailure,
        if_failed: Vec<InputHold>,
    },
    /// Sends rows whose expressions fail to this topic from now on; without one they end the query.
    SetDeadLetters {
        output: TopicId,
        topic: Option<Arc<Topic>>,
    },
    /// Feeds held inputs of one query with records of their logs. The workers answer whether it fails.
    CatchUp {
        output: TopicId,
        parts: Vec<Replayed>,
        answer: SyncSender<bool>,
    },
    /// Buffers what passes by held inputs that have a log. Each home worker answers up to which step its
    /// sources have been fed before.
    Buffer {
        output: TopicId,
        answer: SyncSender<Vec<(TopicId, u64)>>,
    },
}

/// What waits in the lanes; the greatest of several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneBacklog {
    Nothing,
    /// Rows of sources whose logs cannot be written.
    Stuck,
    /// Rows that workers will take sooner or later.
    Rows,
}

/// A value in a command that all workers see and one takes.
pub(crate) struct Handoff<T>(Mutex<Option<T>>);

impl<T> Handoff<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    pub fn take(&self) -> Option<T> {
        locked(&self.0).take()
    }
}

pub(crate) struct NewSource {
    pub topic: Arc<Topic>,
    pub bad: Arc<Topic>,
    pub shared: Arc<SourceShared>,
    pub computed: Option<SourceColumns>,
    pub time: Option<EventTimeColumn>,
    pub idle_timeout: Duration,
    /// Whether the watermark goes on by the clock while the source is idle.
    pub idle_advance: bool,
    /// Whether its log is still to be replayed.
    pub replays: bool,
    pub feed: Handoff<SourceFeed>,
}

pub(crate) struct NewQuery {
    pub plan: Plan,
    pub inputs: Vec<Arc<Topic>>,
    pub output: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    /// Where rows go whose expressions fail, if they do not end the query.
    pub dead_letters: Option<Arc<Topic>>,
    pub failure: QueryFailure,
    /// Its failure before the restart.
    pub failed: Option<TopicFailure>,
    /// Its state, if it continues from a checkpoint.
    pub state: Option<QueryCheckpoint<Run>>,
    /// Inputs that are held at first, if it begins in their past.
    pub held: Vec<InputHold>,
    /// What holds each input once the query has failed.
    pub if_failed: Vec<InputHold>,
}
