//! What the statements about the life of streams do, and which sources run because of it.
//!
//! ```text
//!   status of a stream changes
//!     -> connectors that no active stream needs any more are paused
//!     -> what has arrived goes through
//!     -> a paused stream's inputs that others keep running are held: their rows pass it by, counted
//!   at the end of the script: connectors that are needed are started
//! ```
//!
//! A source is needed unless streams read it and none of them is active. Only those that read it
//! directly count: behind a paused stream nothing arrives, whatever reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_connect::State;

use super::catalog::{Catalog, Entry, QueryEntry, SourceEntry};
use super::life::{HeldInput, Recipe};
use super::statements::{Outcome, undefined};
use super::{Db, Inner};
use crate::clock::now_us;
use crate::dataflow::QueryFailure;
use crate::error::Result;
use crate::event_log::Events;
use crate::sql::{Name, Statement, StreamAction};
use crate::sql::{Spanned, SqlError};
use crate::streams::{LifecycleState, SavedStream, StreamStats, StreamStatus, Streams};
use crate::telemetry::LifecycleEvent;
use crate::worker::{CatchUpPosition, InputHold, NewQuery, QueryCommand, WorkerCommand};

/// SQLSTATE: not in the state that this needs.
const NOT_IN_STATE: &str = "55000";
/// SQLSTATE: it exists, and is of another kind.
pub(super) const WRONG_KIND: &str = "42809";
/// Steps in which what has arrived may go through before a stream is paused. What waits longer, behind
/// a sink that is full, comes to the stream later all the same if its source rests, and is counted as
/// missed if it does not.
const SETTLE_STEPS: usize = 64;

/// What is to be done so that a stream gets from one status to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// The query is built anew, and failed sources are started again.
    Begin,
    /// Failed sources are started again.
    Retry,
    Pause,
    Resume,
    Stop,
}

fn change(action: StreamAction, from: StreamStatus, failed: bool) -> Option<Change> {
    use StreamStatus::{Active, Paused, Pending, Stopped, Unknown};
    Some(match (action, from) {
        (_, Unknown) => return None,
        (StreamAction::Start, Pending | Stopped) => Change::Begin,
        (StreamAction::Start, Active) if failed => Change::Begin,
        (StreamAction::Start, Active) => Change::Retry,
        (StreamAction::Start | StreamAction::Resume, Paused) => Change::Resume,
        (StreamAction::Resume, Active) | (StreamAction::Pause, Paused) => Change::Nothing,
        (StreamAction::Pause, Active) => Change::Pause,
        (StreamAction::Stop, Stopped) => Change::Nothing,
        (StreamAction::Stop, Active | Paused | Pending) => Change::Stop,
        (StreamAction::Pause | StreamAction::Resume, Pending | Stopped) => return None,
    })
}

impl Db {
    /// The streams of this database, to be started, paused and stopped.
    pub fn streams(&self) -> Streams {
        Streams::new(self.clone())
    }

    /// What happens to streams and to the connectors of sources, from now on.
    pub fn events(&self) -> Events {
        self.inner.event_log.watch(None)
    }

    pub(crate) fn stream_events(&self, name: &str) -> Events {
        let catalog = self.inner.catalog();
        let name = catalog.spelling(name).unwrap_or(name).to_owned();
        self.inner.event_log.watch(Some(name))
    }

    /// What streams are doing and what is attached to them, to be given to
    /// [`restore_lifecycle`](Self::restore_lifecycle) of a database in which the same statements have run.
    pub fn lifecycle_state(&self) -> LifecycleState {
        self.inner.lifecycle_state()
    }

    /// Attaches, starts, pauses and stops so that streams are as they were when `state` was taken; a
    /// name that is not there is passed over. Starts no connector by itself.
    ///
    /// # Errors
    /// If a source that was attached is not there or does not fit any more.
    pub fn restore_lifecycle(&self, state: &LifecycleState) -> Result<()> {
        self.inner.check_open()?;
        self.inner.restore_lifecycle(state)
    }

    pub(crate) fn stream_status(&self, name: &str) -> StreamStatus {
        match self.inner.catalog().get(name) {
            Some(Entry::Query(query)) => query.life.status,
            _ => StreamStatus::Unknown,
        }
    }

    pub(crate) fn stream_list(&self) -> Vec<(String, StreamStatus)> {
        let catalog = self.inner.catalog();
        let queries = catalog.queries();
        queries
            .map(|(name, it)| (name.clone(), it.life.status))
            .collect()
    }

    pub(crate) fn stream_stats(&self) -> StreamStats {
        self.inner.stream_stats()
    }

    pub(crate) fn run_unwritten(&self, node: Statement) -> Result<Vec<String>> {
        self.inner.check_open()?;
        self.inner.statement(Spanned { node, span: 0..0 })?;
        self.inner.checkpoint()?;
        self.inner.start_wanted()
    }
}

impl Inner {
    pub(super) fn lifecycle(&self, action: StreamAction, name: &Name) -> Result<Outcome> {
        let (declared, from, failed) = {
            let catalog = self.catalog();
            let (declared, query) = stream_named(&catalog, name)?;
            let failed = query.topic.has_failed();
            (declared, query.life.status, failed)
        };
        let Some(change) = change(action, from, failed) else {
            let error = wrong_state(action, &declared, from);
            return Err(error.at(name.span.clone()).into());
        };
        let status = match change {
            Change::Nothing | Change::Retry => from,
            Change::Begin | Change::Resume => StreamStatus::Active,
            Change::Pause => StreamStatus::Paused,
            Change::Stop => StreamStatus::Stopped,
        };
        if status != from
            && let Some(query) = self.catalog().query_mut(&declared)
        {
            query.life.enter(status, now_us());
        }
        self.apply(change, &declared, from)?;
        if change != Change::Nothing {
            // Whoever looks next finds it done.
            self.step_and_look()?;
        }
        let name = declared;
        Ok(Outcome::Lifecycle { name, status })
    }

    fn apply(&self, change: Change, name: &str, from: StreamStatus) -> Result<()> {
        let stream = name.to_owned();
        match change {
            Change::Nothing => return Ok(()),
            Change::Retry => {
                self.retry_sources(name);
                return Ok(());
            }
            Change::Begin | Change::Resume => {
                self.retry_sources(name);
                if change == Change::Begin {
                    self.begin_again(name)?;
                }
                self.regulate()?;
                let sources = self
                    .catalog()
                    .sources_of(std::slice::from_ref(&stream))
                    .len();
                self.event_log
                    .publish(LifecycleEvent::StreamStarted { stream, sources });
            }
            Change::Pause => {
                self.regulate()?;
                self.event_log
                    .publish(LifecycleEvent::StreamPaused { stream });
            }
            Change::Stop => {
                self.end_state(name, from)?;
                self.event_log
                    .publish(LifecycleEvent::StreamStopped { stream });
            }
        }
        Ok(())
    }

    /// Drops the state of a stream that is stopped from now on, and the cursors nobody needs.
    fn end_state(&self, name: &str, from: StreamStatus) -> Result<()> {
        self.pause_unwanted();
        self.settle_a_little()?;
        if from != StreamStatus::Pending
            && let Some(query) = self.catalog().query_mut(name)
        {
            query.life.held.clear();
            self.life(QueryCommand::Stop {
                output: query.topic.id,
            });
        }
        self.regulate()?;
        let catalog = self.catalog();
        for source in self.own_sources(&catalog, name) {
            let keeps = |reader: &String| match catalog.entries.get(reader) {
                Some(Entry::Query(query)) => query.life.status == StreamStatus::Paused,
                _ => false,
            };
            let name = source.shared.name();
            let kept = catalog.readers(name).iter().any(keeps) || catalog.is_wanted(name);
            if let (false, Some(connector)) = (kept, &source.connector) {
                connector.handle.forget_cursor();
                let source = source.topic.id;
                self.sequencer
                    .command(WorkerCommand::ForgetCursor { source });
            }
        }
        Ok(())
    }

    /// The sources whose rows come to a stream.
    fn own_sources<'a>(&self, catalog: &'a Catalog, stream: &str) -> Vec<&'a SourceEntry> {
        let topics = catalog.sources_of(&[stream.to_owned()]);
        let named = topics
            .iter()
            .map(|topic| catalog.source(&topic.relation.name));
        named.filter_map(Result::ok).collect()
    }

    /// Sources of this stream that were given up are to be started again.
    fn retry_sources(&self, stream: &str) {
        let catalog = self.catalog();
        for source in self.own_sources(&catalog, stream) {
            if let Some(connector) = &source.connector
                && connector.handle.status().state == State::Failed
            {
                connector.again.store(true, Ordering::Release);
            }
        }
    }

    /// Builds the query of a stream anew, if it has anything to read.
    pub(super) fn begin_again(&self, name: &str) -> Result<()> {
        let catalog = self.catalog();
        let Some(Entry::Query(query)) = catalog.entries.get(name) else {
            return Ok(());
        };
        if query.topic.has_failed() {
            let output = query.topic.id;
            self.life(QueryCommand::Stop { output });
        }
        let command = match self.new_query(&catalog, query)? {
            Some(new) => QueryCommand::Begin {
                query: new,
                held: holds(&catalog, &query.life.held),
            },
            None if query.life.is_formless() => return Ok(()),
            None => QueryCommand::Stop {
                output: query.topic.id,
            },
        };
        self.life(command);
        Ok(())
    }

    fn new_query(&self, catalog: &Catalog, query: &QueryEntry) -> Result<Option<NewQuery>> {
        let plan = match &query.life.recipe {
            Recipe::Query(plan) => plan.clone(),
            Recipe::Set { .. } => match super::source_groups::plan(catalog, query)? {
                Some(plan) => plan,
                None => return Ok(None),
            },
        };
        let inputs = query.inputs.iter().map(|input| catalog.topic(input));
        Ok(Some(NewQuery {
            plan,
            inputs: inputs.collect::<Result<_>>()?,
            output: Arc::clone(&query.topic),
            late: query.late.clone(),
            failure: QueryFailure::default(),
            state: self.saved_query(&query.topic.relation.name),
            held: Vec::new(),
        }))
    }

    pub(super) fn life(&self, command: QueryCommand) {
        self.sequencer.command(WorkerCommand::Query(command));
    }

    /// Makes true what the statuses of the streams say: which connectors rest, which inputs are held.
    /// Blocks until connectors that are to rest do.
    pub(super) fn regulate(&self) -> Result<()> {
        let paused = self.pause_unwanted();
        if paused || self.holds_would_change() {
            self.settle_a_little()?;
        }
        self.catch_up_released()?;
        let released = self.hold();
        if released.is_empty() {
            return Ok(());
        }
        // The counters are final once the command has been done.
        self.step_and_look()?;
        for (stream, input, held) in released {
            let rows = held.missed.load(Ordering::Relaxed);
            if rows > 0 {
                let reason = format!("{}: {rows} rows", paused_reason(&stream));
                self.event_log
                    .gap_between(&input, reason, held.since_us, now_us());
            }
        }
        Ok(())
    }

    /// Pauses the connectors of sources that no active stream needs; tells whether there were any.
    fn pause_unwanted(&self) -> bool {
        let mut handles = Vec::new();
        {
            let catalog = self.catalog();
            for source in catalog.sources() {
                if let Some(connector) = &source.connector
                    && connector.handle.status().state.is_active()
                    && !catalog.is_wanted(source.shared.name())
                {
                    connector.again.store(true, Ordering::Release);
                    handles.push(Arc::clone(&connector.handle));
                }
            }
        }
        let any = !handles.is_empty();
        if any {
            self.block_on(async move {
                let pauses = handles.iter().map(|handle| handle.pause());
                futures_util::future::join_all(pauses).await;
            });
        }
        any
    }

    fn settle_a_little(&self) -> Result<()> {
        for _ in 0..SETTLE_STEPS {
            if !self.step_and_look()? {
                break;
            }
        }
        Ok(())
    }

    fn holds_would_change(&self) -> bool {
        let catalog = self.catalog();
        catalog.queries().any(|(_, query)| {
            let wanted = inputs_to_hold(&catalog, query);
            !wanted.iter().eq(query.life.held.keys())
        })
    }

    /// Holds the inputs of paused streams that others keep running, and releases the others.
    fn hold(&self) -> Vec<(String, String, HeldInput)> {
        let mut catalog = self.catalog();
        let names: Vec<String> = catalog.queries().map(|(name, _)| name.clone()).collect();
        let mut released = Vec::new();
        for name in names {
            let Some(Entry::Query(query)) = catalog.entries.get(&name) else {
                continue;
            };
            let wanted = inputs_to_hold(&catalog, query);
            if wanted.iter().eq(query.life.held.keys()) {
                continue;
            }
            let (mut now, mut before) = (BTreeMap::new(), query.life.held.clone());
            for input in wanted {
                let held = before.remove(&input);
                let logged = self.wal_writer_of(&input).is_some();
                let held = held.unwrap_or_else(|| HeldInput::from(now_us(), logged));
                now.insert(input, held);
            }
            self.life(QueryCommand::Hold {
                output: query.topic.id,
                inputs: holds(&catalog, &now),
                reason: paused_reason(&name).into(),
            });
            released.extend(
                before
                    .into_iter()
                    .map(|(input, held)| (name.clone(), input, held)),
            );
            if let Some(query) = catalog.query_mut(&name) {
                query.life.held = now;
            }
        }
        released
    }

    pub(super) fn stream_stats(&self) -> StreamStats {
        let catalog = self.catalog();
        let mut stats = StreamStats::default();
        for (_, query) in catalog.queries() {
            match query.life.status {
                StreamStatus::Active => stats.active_streams += 1,
                StreamStatus::Paused => stats.paused_streams += 1,
                _ => stats.idle_streams += 1,
            }
        }
        for connector in catalog.sources().filter_map(|it| it.connector.as_ref()) {
            let status = connector.handle.status();
            stats.total_workers += usize::from(status.state.is_active());
            stats.failed_workers += usize::from(status.state == State::Failed);
            stats.restarts += status.restarts;
        }
        stats
    }

    pub(super) fn lifecycle_state(&self) -> LifecycleState {
        lives(&self.catalog())
    }

    /// Attaches the sources that are there to the sets that are there, each set's in their order.
    pub(super) fn attach_again(&self, state: &LifecycleState) -> Result<()> {
        for (name, saved) in &state.streams {
            let is_source_group = |query: &mut QueryEntry| query.life.is_source_group();
            if !self.catalog().query_mut(name).is_some_and(is_source_group) {
                continue;
            }
            for source in &saved.attached {
                if self.catalog().source(source).is_err() {
                    break;
                }
                self.attach_source(source, name)?;
            }
        }
        Ok(())
    }

    pub(super) fn restore_lifecycle(&self, state: &LifecycleState) -> Result<()> {
        self.attach_again(state)?;
        for (name, saved) in &state.streams {
            for source in &saved.attached {
                self.catalog().source(source)?;
            }
            let Some(from) = self
                .catalog()
                .query_mut(name)
                .map(|query| query.life.status)
            else {
                continue;
            };
            let actions: &[StreamAction] = match (saved.status, from) {
                // START of one that has failed would begin it anew.
                (saved, now) if saved == now => &[],
                (StreamStatus::Paused, StreamStatus::Pending) => {
                    &[StreamAction::Start, StreamAction::Pause]
                }
                (StreamStatus::Paused, _) => &[StreamAction::Pause],
                (StreamStatus::Active, _) => &[StreamAction::Start],
                (StreamStatus::Stopped, _) => &[StreamAction::Stop],
                (StreamStatus::Pending | StreamStatus::Unknown, _) => &[],
            };
            for action in actions {
                self.lifecycle(*action, &super::source_groups::unwritten(name))?;
            }
            self.restore_places(name, saved);
        }
        Ok(())
    }

    /// Where a stream was in the logs of the sources that it did not hear.
    fn restore_places(&self, name: &str, saved: &SavedStream) {
        let catalog = self.catalog();
        let Some(Entry::Query(query)) = catalog.entries.get(name) else {
            return;
        };
        for (input, step) in &saved.held {
            let held = query.life.held.get(input);
            if let Some(place) = held.and_then(|held| held.place.as_ref()) {
                place.set(*step);
            }
        }
    }
}

impl Catalog {
    /// All streams and views, by name.
    pub fn queries(&self) -> impl Iterator<Item = (&String, &QueryEntry)> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Query(query) => Some((name, query)),
            Entry::Source(_) | Entry::Sink(_) => None,
        })
    }

    pub fn query_mut(&mut self, name: &str) -> Option<&mut QueryEntry> {
        match self.entries.get_mut(name) {
            Some(Entry::Query(query)) => Some(query),
            _ => None,
        }
    }

    /// Whether a source should run: nothing reads it yet, or a sink does, or an active stream.
    pub fn is_wanted(&self, source: &str) -> bool {
        let readers = self.readers(source);
        let is_active = |reader: &String| match self.entries.get(reader) {
            Some(Entry::Query(query)) => query.life.status == StreamStatus::Active,
            _ => true,
        };
        readers.is_empty() || readers.iter().any(is_active)
    }
}

/// What all streams are doing.
pub(super) fn lives(catalog: &Catalog) -> LifecycleState {
    let saved = |(name, query): (&String, &QueryEntry)| {
        let attached = match query.life.is_source_group() {
            true => query.inputs.clone(),
            false => Vec::new(),
        };
        let held = query
            .life
            .held
            .iter()
            .filter_map(|(input, held)| Some((input.clone(), held.place.as_ref()?.get()?)));
        let saved = SavedStream {
            status: query.life.status,
            attached,
            held: held.collect(),
        };
        (name.clone(), saved)
    };
    LifecycleState {
        streams: catalog.queries().map(saved).collect(),
    }
}

/// The inputs of a paused stream from which rows come all the same, sorted.
pub(super) fn inputs_to_hold(
    catalog: &Catalog,
    query: &QueryEntry,
) -> std::collections::BTreeSet<String> {
    if query.life.status != StreamStatus::Paused {
        return Default::default();
    }
    let rests = |input: &str| {
        let source = catalog.source(input);
        source.is_ok_and(|it| it.connector.is_some()) && !catalog.is_wanted(input)
    };
    let inputs = query.inputs.iter().filter(|input| !rests(input));
    inputs.cloned().collect()
}

/// Held inputs as the workers know them.
fn holds(catalog: &Catalog, held: &BTreeMap<String, HeldInput>) -> Vec<InputHold> {
    let hold = |(input, held): (&String, &HeldInput)| {
        let input = catalog.topic(input).ok()?.id;
        let missed = Arc::clone(&held.missed);
        let place = held.place.clone();
        Some(InputHold {
            input,
            missed,
            place,
        })
    };
    held.iter().filter_map(hold).collect()
}

/// Why rows passed a stream by.
fn paused_reason(stream: &str) -> String {
    format!("stream {stream:?} was paused")
}

/// The stream or view of this name, or an error that points at it.
pub(super) fn stream_named<'a>(
    catalog: &'a Catalog,
    name: &Name,
) -> Result<(String, &'a QueryEntry)> {
    let declared = catalog.spelling(&name.value).unwrap_or(&name.value);
    match catalog.entries.get(declared) {
        Some(Entry::Query(query)) => Ok((declared.to_owned(), query)),
        Some(other) => {
            let message = format!("{declared:?} is a {}, not a stream", other.kind());
            let error = SqlError::new(WRONG_KIND, message)
                .hint("A source runs while a stream that reads it is active: START or PAUSE that.");
            Err(error.at(name.span.clone()).into())
        }
        None => Err(undefined(name).into()),
    }
}

fn wrong_state(action: StreamAction, name: &str, status: StreamStatus) -> SqlError {
    let (done, hint) = match action {
        StreamAction::Resume => ("resumed", "START STREAM starts it."),
        _ => ("paused", "START STREAM first, or leave it as it is."),
    };
    let message = format!("stream {name:?} is {status} and cannot be {done}");
    SqlError::new(NOT_IN_STATE, message).hint(hint)
}

impl HeldInput {
    fn from(since_us: i64, logged: bool) -> Self {
        Self {
            missed: Arc::default(),
            since_us,
            place: logged.then(|| Arc::new(CatchUpPosition::unknown())),
        }
    }
}
