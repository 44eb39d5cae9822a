//! The logs of all sources as one sequence of steps.
//!
//! Each record has the number of the step that took it, over all sources and starts of the engine.
//! [`WalMerge`] merges the logs by that number, so what was one step is one step again, with the same
//! batches.

use arrow::datatypes::SchemaRef;
use headwater_log::LogScan;

use super::source_step::SourceStep;
use super::wal_record::WalRecordCodec;
use super::wal_writer::WalWriter;
use crate::error::{Error, Result};

/// The number of a source in this process: that of its topic.
type SourceId = u64;

/// A record of a log that is fed again.
#[derive(Debug, Clone)]
pub(crate) struct Replayed {
    pub source: SourceId,
    pub taken: SourceStep,
    /// The offset behind its last row.
    pub end: u64,
    /// The number of the step that took it.
    pub sequence: u64,
}

/// Reads logs in the order of their steps.
#[derive(Default)]
pub(crate) struct WalMerge {
    logs: Vec<MergedLog>,
}

/// One of the logs, and its record that comes next.
struct MergedLog {
    source: SourceId,
    codec: WalRecordCodec,
    records: LogScan,
    next: Option<Replayed>,
}

impl WalMerge {
    /// Adds the records of `source` of steps after `after`. If retention has removed some of those,
    /// the merge begins with the first record that is left and this returns the number of rows gone.
    pub fn add(
        &mut self,
        source: SourceId,
        schema: &SchemaRef,
        wal_writer: &WalWriter,
        after: u64,
    ) -> Result<Option<u64>> {
        let reader = wal_writer.reader();
        let (records, lost) = match reader.from_sequence(after + 1) {
            Err(headwater_log::Error::Removed { wanted, first_kept }) => {
                let records = reader.read_from(first_kept).map_err(Error::data)?;
                // A caller that reads from the beginning asks for what is left, and misses nothing.
                let lost = (after > 0).then(|| first_kept.saturating_sub(wanted));
                (records, lost)
            }
            records => (records.map_err(Error::data)?, None),
        };
        let mut log = MergedLog {
            source,
            codec: WalRecordCodec::new(schema).map_err(Error::data)?,
            records,
            next: None,
        };
        log.advance()?;
        self.logs.push(log);
        Ok(lost)
    }

    /// The next step: what it took from each source. `None` at the end of all logs.
    pub fn next_step(&mut self) -> Result<Option<Vec<Replayed>>> {
        let numbers = self.logs.iter().filter_map(|log| log.next.as_ref());
        let Some(step) = numbers.map(|next| next.sequence).min() else {
            return Ok(None);
        };
        let mut taken = Vec::new();
        for log in &mut self.logs {
            while let Some(next) = log.next.take_if(|next| next.sequence == step) {
                taken.push(next);
                log.advance()?;
            }
        }
        Ok(Some(taken))
    }
}

impl MergedLog {
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
