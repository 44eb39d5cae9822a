//! The logs of all sources as one sequence of steps.
//!
//! Each record has the number of the step that took it, over all sources and runs of the engine. This
//! merges the logs by that number, so what was one step is one step again, with the same batches.

use std::sync::Arc;

use headwater_log::LogScan;

use super::feed::Replayed;
use super::record::Codec;
use super::wal_writer::WalWriter;
use crate::error::{Error, Result};
use crate::topic::{Topic, TopicId};

/// Reads logs in the order of their steps.
#[derive(Default)]
pub(crate) struct Replay {
    sources: Vec<Reading>,
}

struct Reading {
    source: TopicId,
    codec: Codec,
    records: LogScan,
    next: Option<Replayed>,
}

impl Replay {
    /// Adds a source: its records of steps after `after`. If retention has removed some of those it
    /// begins with the first that is kept, and tells how many rows are gone.
    pub fn add(
        &mut self,
        topic: &Arc<Topic>,
        wal_writer: &WalWriter,
        after: u64,
    ) -> Result<Option<u64>> {
        let reader = wal_writer.reader();
        let (records, lost) = match reader.from_sequence(after + 1) {
            Err(headwater_log::Error::Removed { wanted, first_kept }) => {
                let records = reader.read_from(first_kept).map_err(Error::data)?;
                // Who reads from the beginning wants what is there.
                let lost = (after > 0).then(|| first_kept.saturating_sub(wanted));
                (records, lost)
            }
            records => (records.map_err(Error::data)?, None),
        };
        let mut reading = Reading {
            source: topic.id,
            codec: Codec::new(&topic.relation.schema).map_err(Error::data)?,
            records,
            next: None,
        };
        reading.advance()?;
        self.sources.push(reading);
        Ok(lost)
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
        let mut taken = taken.map_err(Error::data)?;
        taken.locate(record.first_offset, record.appended_us);
        self.next = Some(Replayed {
            source: self.source,
            taken,
            end: record.first_offset + u64::from(record.rows),
            sequence: record.sequence,
        });
        Ok(())
    }
}
