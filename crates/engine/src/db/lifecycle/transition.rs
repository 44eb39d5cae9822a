//! START, PAUSE, RESUME and STOP STREAM: from which status to which, and what that takes.

use std::sync::atomic::Ordering;

use headwater_connect::State;

use super::rebuild::rebuild;
use super::regulate::{pause_unwanted, regulate};
use super::resume::{check_inputs_work, check_works, failed_with, resume};
use crate::clock::now_us;
use crate::db::catalog::Catalog;
use crate::db::engine::Engine;
use crate::db::outcome::Outcome;
use crate::error::Result;
use crate::sql::{Name, SqlError, StreamAction, sqlstate};
use crate::stream_status::StreamStatus;
use crate::telemetry::LifecycleEvent;
use crate::topic::TopicFailure;
use crate::worker::{QueryCommand, WorkerCommand};

/// What takes a stream from one status to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transition {
    Nothing,
    /// Rebuilds the query, and retries failed sources.
    Begin,
    /// Continues a failed query from the state that it still has, and retries failed sources.
    Continue,
    /// Retries failed sources, of a query that runs.
    Retry,
    Pause,
    Resume,
    Stop,
}

impl Transition {
    /// `None` if the action is not possible in this status.
    fn of(
        action: StreamAction,
        from: StreamStatus,
        failure: Option<&TopicFailure>,
    ) -> Option<Self> {
        use StreamStatus::{Active, Paused, Pending, Stopped, Unknown};
        let keeps_state = failure.is_some_and(|failure| failure.keeps_state);
        Some(match (action, from) {
            (_, Unknown) => return None,
            (StreamAction::Start, Pending | Stopped) => Self::Begin,
            (StreamAction::Start, Active | Paused) if keeps_state => Self::Continue,
            (StreamAction::Start, Active | Paused) if failure.is_some() => Self::Begin,
            (StreamAction::Start, Active) => Self::Retry,
            (StreamAction::Start | StreamAction::Resume, Paused) => Self::Resume,
            (StreamAction::Resume, Active) | (StreamAction::Pause, Paused) => Self::Nothing,
            (StreamAction::Pause, Active) => Self::Pause,
            (StreamAction::Stop, Stopped) => Self::Nothing,
            (StreamAction::Stop, Active | Paused | Pending) => Self::Stop,
            (StreamAction::Pause | StreamAction::Resume, Pending | Stopped) => return None,
        })
    }

    fn status(self, from: StreamStatus) -> StreamStatus {
        match self {
            Self::Nothing | Self::Retry => from,
            Self::Begin | Self::Continue | Self::Resume => StreamStatus::Active,
            Self::Pause => StreamStatus::Paused,
            Self::Stop => StreamStatus::Stopped,
        }
    }
}

pub(crate) fn change_state(engine: &Engine, action: StreamAction, name: &Name) -> Result<Outcome> {
    if action == StreamAction::Start {
        // Then what has failed because a stream has is marked as failed, too, whichever worker does that.
        engine.workers.finish_turns()?;
    }
    let (declared, from, failure) = {
        let catalog = engine.catalog();
        let (declared, query) = catalog.stream_named(name)?;
        (declared, query.lifecycle.status, query.topic.failure())
    };
    let Some(transition) = Transition::of(action, from, failure.as_ref()) else {
        let error = wrong_state(action, &declared, from);
        return Err(error.at(name.span.clone()).into());
    };
    let restarts = matches!(transition, Transition::Begin | Transition::Continue);
    if restarts {
        check_inputs_work(&engine.catalog(), name)?;
    }
    let status = transition.status(from);
    if status != from
        && let Some(query) = engine.catalog().query_mut(&declared)
    {
        query.lifecycle.enter(status, now_us());
    }
    apply(engine, transition, &declared, from)?;
    if transition != Transition::Nothing {
        // So that the next reader finds it done.
        engine.workers.step()?;
    }
    if transition == Transition::Continue {
        check_works(&engine.catalog(), &declared)?;
    }
    let name = declared;
    Ok(Outcome::Lifecycle { name, status })
}

fn apply(engine: &Engine, transition: Transition, name: &str, from: StreamStatus) -> Result<()> {
    let stream = name.to_owned();
    let event = match transition {
        Transition::Nothing => return Ok(()),
        Transition::Retry => {
            retry_sources(&engine.catalog(), name);
            return Ok(());
        }
        Transition::Begin | Transition::Continue | Transition::Resume => {
            retry_sources(&engine.catalog(), name);
            let failed = failed_with(&engine.catalog(), name);
            match transition {
                Transition::Begin => {
                    rebuild(engine, name)?;
                    resume(engine, &failed[1..])?;
                }
                Transition::Continue => resume(engine, &failed)?,
                _ => {}
            }
            regulate(engine)?;
            let sources = engine.catalog().sources_behind(name).len();
            LifecycleEvent::StreamStarted { stream, sources }
        }
        Transition::Pause => {
            regulate(engine)?;
            LifecycleEvent::StreamPaused { stream }
        }
        Transition::Stop => {
            drop_state(engine, name, from)?;
            LifecycleEvent::StreamStopped { stream }
        }
    };
    engine.event_log.publish(event);
    Ok(())
}

/// Marks the sources of this stream that have failed for good to be started again.
fn retry_sources(catalog: &Catalog, stream: &str) {
    for source in catalog.sources_behind(stream) {
        if let Some(connector) = &source.connector
            && connector.handle.status().state == State::Failed
        {
            connector.restart.store(true, Ordering::Release);
        }
    }
}

/// Drops the state of a stream that has just been stopped, and the cursors that no other stream needs.
fn drop_state(engine: &Engine, name: &str, from: StreamStatus) -> Result<()> {
    pause_unwanted(engine);
    engine.workers.settle_briefly()?;
    if from != StreamStatus::Pending
        && let Some(query) = engine.catalog().query_mut(name)
    {
        query.lifecycle.held.clear();
        let output = query.topic.id;
        engine.workers.life(QueryCommand::Stop { output });
    }
    regulate(engine)?;
    let catalog = engine.catalog();
    for source in catalog.sources_behind(name) {
        let is_paused = |reader: &String| {
            let query = catalog.query(reader);
            query.is_some_and(|it| it.lifecycle.status == StreamStatus::Paused)
        };
        let name = source.shared.name();
        let is_kept = catalog.readers(name).iter().any(is_paused) || catalog.is_wanted(name);
        if let (false, Some(connector)) = (is_kept, &source.connector) {
            connector.handle.forget_cursor();
            let source = source.topic.id;
            engine
                .workers
                .command(WorkerCommand::ForgetCursor { source });
        }
    }
    Ok(())
}

fn wrong_state(action: StreamAction, name: &str, status: StreamStatus) -> SqlError {
    let (done, hint) = match action {
        StreamAction::Resume => ("resumed", "START STREAM starts it."),
        _ => ("paused", "START STREAM first, or leave it as it is."),
    };
    let message = format!("stream {name:?} is {status} and cannot be {done}");
    SqlError::new(sqlstate::NOT_IN_STATE, message).hint(hint)
}
