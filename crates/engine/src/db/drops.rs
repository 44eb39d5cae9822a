//! DROP: what something was made of ends, what reads it goes first.

use tokio::task::JoinHandle;

use super::catalog::{Catalog, Entry, Kind};
use super::statements::{Outcome, query_name, undefined};
use super::{Inner, STOP_DEADLINE};
use crate::error::Result;
use crate::sql::{Drop, SqlError};
use crate::worker::WorkerCommand;

/// SQLSTATE: something else still needs it.
const DEPENDENT: &str = "2BP01";

impl Inner {
    pub(super) fn drop_entry(&self, drop: &Drop) -> Result<Outcome> {
        let mut catalog = self.catalog();
        let name = catalog.spelling(&drop.name.value).map(str::to_owned);
        let entry = name.as_ref().and_then(|name| catalog.entries.get(name));
        let Some((name, entry)) = name.as_ref().zip(entry) else {
            return match drop.if_exists {
                true => Ok(Outcome::Unchanged {
                    name: drop.name.value.clone(),
                }),
                false => Err(undefined(&drop.name).into()),
            };
        };
        if entry.kind() != drop.kind {
            let (is, not) = (entry.kind(), drop.kind);
            let error = SqlError::new("42809", format!("{name:?} is a {is}, not a {not}"))
                .hint(format!("Write DROP {}.", is.to_string().to_uppercase()));
            return Err(error.at(drop.name.span.clone()).into());
        }
        let mut names = Vec::new();
        collect_readers(&catalog, name, &mut names);
        // The query of a sink goes with it.
        let own = query_name(name);
        let has_own = drop.kind == Kind::Sink && catalog.entries.contains_key(&own);
        if has_own {
            collect_readers(&catalog, &own, &mut names);
        }
        let mut readers = names[1..]
            .iter()
            .filter(|reader| **reader != own)
            .peekable();
        if readers.peek().is_some() && !drop.cascade {
            let readers = readers.map(String::as_str).collect::<Vec<_>>().join(", ");
            let how = match catalog.senders(name).is_empty() {
                true => "read",
                false => "needed",
            };
            let error = SqlError::new(DEPENDENT, format!("{name:?} is {how} by {readers}"))
                .hint("DROP them first, or say CASCADE.");
            return Err(error.at(drop.name.span.clone()).into());
        }
        if has_own {
            // The sink reads its query, so it is the first to go.
            names.swap(0, 1);
        }
        // Readers go before what they read.
        names.reverse();
        let mut closing = Vec::new();
        for name in &names {
            if let Some(entry) = catalog.remove(name) {
                closing.extend(self.end_entry(entry));
            }
        }
        std::mem::drop(catalog);
        self.wait_closed(closing);
        Ok(Outcome::Dropped { names })
    }

    /// Ends it; of a sink, the task that closes it.
    fn end_entry(&self, entry: Entry) -> Option<JoinHandle<()>> {
        match entry {
            Entry::Source(source) => {
                self.sequencer.command(WorkerCommand::Remove {
                    topic: source.topic.id,
                });
                self.drop_log(source.shared.name());
                if let Some(connector) = source.connector {
                    self.tokio
                        .spawn(async move { connector.handle.stop().await });
                }
                None
            }
            Entry::Query(query) => {
                self.sequencer.command(WorkerCommand::Remove {
                    topic: query.topic.id,
                });
                None
            }
            Entry::Sink(sink) => {
                sink.stop.cancel();
                if let Some(queue) = sink.status.queue() {
                    queue.abandon();
                }
                sink.task
            }
        }
    }

    /// Waits until what sinks wrote to is closed, so that the next sink may have it. Blocks, at most
    /// [`STOP_DEADLINE`].
    fn wait_closed(&self, closing: Vec<JoinHandle<()>>) {
        if closing.is_empty() {
            return;
        }
        self.block_on(async move {
            let closed = futures_util::future::join_all(closing);
            if tokio::time::timeout(STOP_DEADLINE, closed).await.is_err() {
                tracing::warn!("a sink that was dropped has not closed yet");
            }
        });
    }
}

/// `name`, then all that reads it, directly or not.
fn collect_readers(catalog: &Catalog, name: &str, into: &mut Vec<String>) {
    if into.iter().any(|known| known == name) {
        return;
    }
    into.push(name.to_owned());
    // What sends its dead letters there goes before those that read both.
    for reader in catalog
        .senders(name)
        .into_iter()
        .chain(catalog.readers(name))
    {
        collect_readers(catalog, &reader, into);
    }
}
