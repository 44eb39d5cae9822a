//! Sources and the statements that read them: who waits for whom.
//!
//! ```text
//!   script:   CREATE SOURCE s ─ waits, if it has no log ─► SELECT, SUBSCRIBE, end of the script: s starts
//!             SELECT ... FROM v ─ waits for the end of the finite sources behind v ─► the answer
//!   library:  each call of execute is a script; a SELECT answers at once, and says what is still read
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::start_connectors;
use crate::db::catalog::{Catalog, ConnectorEnd, SourceEntry};
use crate::db::engine::Engine;
use crate::error::Result;
use crate::topic::TopicId;
use crate::worker::LaneBacklog;
use headwater_connect::State;

/// Time between two checks whether sources have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Whether a source waits for a statement that reads it.
pub(super) fn waits(source: &SourceEntry) -> bool {
    let connector = source.connector.as_ref();
    connector.is_some_and(|it| it.waits.load(Ordering::Acquire))
}

/// Starts the sources behind these topics that have not been started. Blocks.
pub(crate) fn begin_reading(engine: &Engine, topics: &[String]) -> Result<()> {
    if !engine.starts_connectors() {
        return Ok(());
    }
    let starts = {
        let catalog = engine.catalog();
        let sources = sources_of(&catalog, topics);
        sources.iter().for_each(|source| end_wait(source));
        sources.iter().any(|source| {
            let connector = source.connector.as_ref();
            connector.is_some_and(|it| it.handle.status().state == State::Initial)
                && catalog.is_wanted(source.shared.name())
        })
    };
    match starts {
        true => start_connectors(engine).map(drop),
        false => Ok(()),
    }
}

/// Lets every source start that waits for a statement that reads it.
pub(crate) fn end_waiting(engine: &Engine) {
    engine.catalog().sources().for_each(end_wait);
}

fn end_wait(source: &SourceEntry) {
    if let Some(connector) = &source.connector {
        connector.waits.store(false, Ordering::Release);
    }
}

/// The names of the finite sources behind these topics whose end has not come.
pub(crate) fn still_read(catalog: &Catalog, topics: &[String]) -> Vec<String> {
    let sources = sources_of(catalog, topics).into_iter();
    let unread = sources.filter(|source| source.awaited_end().is_some());
    unread.map(|it| it.shared.name().to_owned()).collect()
}

/// Waits until the finite sources behind these topics have ended and all their rows are processed. Blocks.
///
/// # Errors
/// If SELECTs are cancelled, or the database is closed.
pub(crate) fn wait_for_end(engine: &Engine, topics: &[String]) -> Result<()> {
    let (ends, sources): (Vec<ConnectorEnd>, Vec<TopicId>) = {
        let catalog = engine.catalog();
        let sources = sources_of(&catalog, topics).into_iter();
        let awaited = sources.filter_map(|it| Some((it.awaited_end()?, it.topic.id)));
        awaited.unzip()
    };
    if ends.is_empty() {
        return Ok(());
    }
    let workers = Arc::clone(&engine.workers);
    engine.io.run_select(async move {
        while !ends.iter().all(ConnectorEnd::has_ended) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        // A step waits for the workers, which is short.
        while workers.step_of(Some(sources.clone()))? == LaneBacklog::Rows {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    })?
}

fn sources_of<'a>(catalog: &'a Catalog, topics: &[String]) -> Vec<&'a SourceEntry> {
    let sources = catalog.sources_of(topics);
    let sources = sources.iter().map(|it| catalog.source(&it.relation.name));
    sources.filter_map(Result::ok).collect()
}
