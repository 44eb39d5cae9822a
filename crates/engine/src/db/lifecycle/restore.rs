//! Brings streams back to the status of a checkpoint, once the statements that define them have run.

use super::attach::attach_source;
use super::rebuild::holds;
use super::transition::change_state;
use crate::clock::now_us;
use crate::db::catalog::{Catalog, HeldInput};
use crate::db::engine::Engine;
use crate::error::Result;
use crate::sql::{Name, StreamAction};
use crate::stream_status::{LifecycleState, SavedStream, StreamStatus};
use crate::worker::QueryCommand;

/// Attaches, starts, pauses and stops so that streams are as they were when `state` was taken.
pub(crate) fn restore(engine: &Engine, state: &LifecycleState) -> Result<()> {
    reattach(engine, state)?;
    for (name, saved) in &state.streams {
        for source in &saved.attached {
            engine.catalog().source(source)?;
        }
        let from = engine.catalog().query(name).map(|it| it.lifecycle.status);
        let Some(from) = from else {
            continue;
        };
        let actions: &[StreamAction] = match (saved.status, from) {
            // START would rebuild one that has failed.
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
            change_state(engine, *action, &Name::exact(name))?;
        }
        restore_places(engine, name, saved);
    }
    Ok(())
}

/// Gives streams the status that they had when `state` was taken, and does nothing about it: for a database
/// that runs nothing.
pub(crate) fn note_status(catalog: &mut Catalog, state: &LifecycleState) {
    for (name, saved) in &state.streams {
        if let Some(query) = catalog.query_mut(name) {
            query.lifecycle.enter(saved.status, now_us());
        }
    }
}

/// Attaches the sources that exist to the source groups that exist, in the order of each group.
pub(crate) fn reattach(engine: &Engine, state: &LifecycleState) -> Result<()> {
    for (name, saved) in &state.streams {
        let query = engine
            .catalog()
            .query(name)
            .map(|it| it.lifecycle.is_source_group());
        if query != Some(true) {
            continue;
        }
        for source in &saved.attached {
            if engine.catalog().source(source).is_err() {
                break;
            }
            attach_source(engine, source, name)?;
        }
    }
    Ok(())
}

/// Restores how far a stream has been fed from the logs of its held inputs. One that had nearly caught up
/// with them goes on catching up.
fn restore_places(engine: &Engine, name: &str, saved: &SavedStream) {
    let mut catalog = engine.catalog();
    let Some(query) = catalog.query_mut(name) else {
        return;
    };
    let (output, lifecycle) = (query.topic.id, &mut query.lifecycle);
    for (input, step) in &saved.held {
        let held = match query.topic.has_failed() && !lifecycle.held.contains_key(input) {
            true => lifecycle.if_failed.get(input),
            false => {
                let held = || HeldInput::new("was paused", now_us(), true);
                Some(&*lifecycle.held.entry(input.clone()).or_insert_with(held))
            }
        };
        if let Some(place) = held.and_then(|held| held.place.as_ref()) {
            place.set(*step);
        }
    }
    let Some(query) = catalog.query(name) else {
        return;
    };
    if !query.topic.has_failed() {
        engine.workers.life(QueryCommand::Hold {
            output,
            inputs: holds(&catalog, &query.lifecycle.held),
            reason: "".into(),
        });
    }
}
