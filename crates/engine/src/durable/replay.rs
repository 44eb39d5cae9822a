//! The logs of all sources as one sequence of steps.
//!
//! Each record has the number of the step that took it, over all sources and runs of the engine. This
//! merges the logs by that number, so what was one step is one step again, with the same batches.

use std::sync::Arc;

use headwater_log::Scan;

use super::feed::Replayed;
use super::journal::Journal;
use super::record::Codec;
use crate::error::{Error, Result};
use crate::topic::{Topic, TopicId};

/// Reads logs in the order of their steps.
pub(crate) struct Replay {
    sources: Vec<Reading>,
}

struct Reading {
    source: TopicId,
    codec: Codec,
    records: Scan,
    next: Option<Replayed>,
}

impl Replay {
    /// Nothing to read yet.
    pub fn new() -> Self {
        Self {
            sources: Vec::new(),
        }
    }

    /// Adds a source: its records of steps after `after`.
    pub fn add(&mut self, topic: &Arc<Topic>, journal: &Journal, after: u64) -> Result<()> {
        let records = journal
            .reader()
            .from_sequence(after + 1)
            .map_err(Error::data)?;
        let mut reading = Reading {
            source: topic.id,
            codec: Codec::new(&topic.relation.schema).map_err(Error::data)?,
            records,
            next: None,
        };
        reading.advance()?;
        self.sources.push(reading);
        Ok(())
    }

    /// The next step: what it took from each source. `None` when the logs have been read.
    pub fn next_step(&mut self) -> Result<Option<Vec<Replayed>>> {
        let numbers = self.sources.iter().filter_map(|it| it.next.as_ref());
        let Some(step) = numbers.map(|next| next.sequence).min() else {
            return Ok(None);
        };
        let mut taken = Vec::new();
        for source in &mut self.sources {
            while let Some(next) = source.next.take_if(|next| next.sequence == step) {
                taken.push(next);
                source.advance()?;
            }
        }
        Ok(Some(taken))
    }
}

impl Reading {
    fn advance(&mut self) -> Result<()> {
        let Some(record) = self.records.next().map_err(Error::data)? else {
            return Ok(());
        };
        let taken = self.codec.decode(record.payload.to_vec());
        self.next = Some(Replayed {
            source: self.source,
            taken: taken.map_err(Error::data)?,
            end: record.first_offset + u64::from(record.rows),
            sequence: record.sequence,
        });
        Ok(())
    }
}
