//! Queries that begin in the past, or were held: fed from the logs until they have caught up.
//!
//! ```text
//!   log   ─────────────────────────────────────►
//!   query ────────►│ read, a step at a time     │ Buffer │ the rest │ released: buffer, then live
//! ```
//!
//! The reading is done by whoever asked, the feeding by commands between the steps of all, one at a
//! time: so other queries wait for a step at most, however long the log is. What arrives during the
//! last stretch is kept by the workers, which closes the gap without a row missed or fed twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::Inner;
use super::catalog::{Catalog, Entry};
use crate::durable::{Journal, Replay, Replayed, now_us};
use crate::error::{Error, Result};
use crate::topic::{Topic, TopicId};
use crate::worker::{Hold, LifeCommand, Place};

/// An input that is fed from its log.
pub(super) struct Past {
    pub topic: Arc<Topic>,
    pub journal: Arc<Journal>,
    pub place: Arc<Place>,
}

impl Inner {
    /// The inputs of a query that begins with the first retained rows: all of them, if all are sources
    /// with a log, else none.
    pub(super) fn pasts(&self, inputs: &[Arc<Topic>]) -> Vec<Past> {
        let pasts = inputs.iter().map(|topic| {
            Some(Past {
                journal: self.journal_of(&topic.relation.name)?,
                topic: Arc::clone(topic),
                place: Arc::new(Place::behind(0)),
            })
        });
        pasts.collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// Feeds a query whose inputs are held until nothing but what the workers keep is missing. Blocks.
    pub(super) fn catch_up(&self, output: TopicId, pasts: &[Past]) -> Result<()> {
        self.feed_past(output, pasts, None)?;
        let (answer, answers) = sync_channel(self.workers);
        self.life(LifeCommand::Buffer { output, answer });
        let mut fed = BTreeMap::new();
        for _ in 0..self.workers {
            fed.extend(answers.recv().map_err(|_| Error::Closed)?);
        }
        self.feed_past(output, pasts, Some(&fed))
    }

    /// Feeds what the logs hold behind the places of the inputs, up to the steps given.
    fn feed_past(
        &self,
        output: TopicId,
        pasts: &[Past],
        until: Option<&BTreeMap<TopicId, u64>>,
    ) -> Result<()> {
        let mut replay = Replay::default();
        for past in pasts {
            past.journal.catch_up().map_err(Error::Data)?;
            let after = past.place.get().unwrap_or(0);
            if let Some(lost) = replay.add(&past.topic, &past.journal, after)? {
                let name = &past.topic.relation.name;
                let reason = format!("retention has removed {lost} rows that were still to be read");
                self.journal.gap_between(name, reason, now_us(), now_us());
            }
        }
        let due = |part: &Replayed| {
            until.is_none_or(|until| until.get(&part.source).is_some_and(|it| part.sequence <= *it))
        };
        while let Some(mut parts) = replay.next_step()? {
            parts.retain(due);
            for part in &parts {
                if let Some(past) = pasts.iter().find(|past| past.topic.id == part.source) {
                    past.place.set(part.sequence);
                }
            }
            if !parts.is_empty() {
                self.feed_parts(output, parts)?;
            }
        }
        Ok(())
    }

    /// Feeds one query and waits until it has taken it in.
    pub(super) fn feed_parts(&self, output: TopicId, parts: Vec<Replayed>) -> Result<()> {
        let (answer, answers) = sync_channel(self.workers);
        self.life(LifeCommand::CatchUp {
            output,
            parts,
            answer,
        });
        for _ in 0..self.workers {
            answers.recv().map_err(|_| Error::Closed)?;
        }
        Ok(())
    }

    /// The query hears what comes from now on. What was kept for it comes first.
    pub(super) fn release(&self, output: TopicId) {
        self.life(LifeCommand::Hold {
            output,
            inputs: Vec::new(),
            reason: "".into(),
        });
    }

    /// Catches up with the logs for every stream whose inputs are about to be released.
    pub(super) fn catch_up_released(&self) -> Result<()> {
        let waiting: Vec<_> = {
            let catalog = self.catalog();
            let names: Vec<String> = catalog.queries().map(|(name, _)| name.clone()).collect();
            let waiting = names.iter().filter_map(|name| self.released(&catalog, name));
            waiting.collect()
        };
        for (output, pasts) in waiting {
            self.catch_up(output, &pasts)?;
        }
        Ok(())
    }

    fn released(&self, catalog: &Catalog, name: &str) -> Option<(TopicId, Vec<Past>)> {
        let Some(Entry::Query(query)) = catalog.entries.get(name) else {
            return None;
        };
        let wanted = super::streams::inputs_to_hold(catalog, query);
        let pasts = query.life.held.iter().filter_map(|(input, held)| {
            let past = Past {
                topic: catalog.topic(input).ok()?,
                journal: self.journal_of(input)?,
                place: Arc::clone(held.place.as_ref()?),
            };
            (!wanted.contains(input)).then_some(past)
        });
        let pasts: Vec<_> = pasts.collect();
        (!pasts.is_empty()).then_some((query.topic.id, pasts))
    }
}

impl Past {
    /// As the workers know it.
    pub fn hold(&self) -> Hold {
        Hold {
            input: self.topic.id,
            missed: Arc::default(),
            place: Some(Arc::clone(&self.place)),
        }
    }
}
