//! The path of a source's rows from its lanes through the log to the queries, on its home worker.
//!
//! The worker hands what a step took to the [`WalWriter`] and, at once, to the queries. With
//! `wal_mode = 'sync'` the feed holds it until it is on disk: then no result can come from rows that a
//! crash undoes, and the worker goes on with other sources in the meantime. Without a log there is
//! nothing to wait for.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ack_tracker::Acks;
use super::checkpoint::SourceCheckpoint;
use super::source_step::SourceStep;
use super::wal_merge::Replayed;
use super::wal_writer::{Job, WalWriter};
use crate::batch_bytes::QUEUE_BYTES;

/// Between the lanes of a source and the queries.
#[derive(Default)]
pub(crate) struct SourceFeed {
    wal_writer: Option<Arc<WalWriter>>,
    /// Whether rows are fed only when they are on disk.
    sync: bool,
    /// The offset behind the last row taken.
    taken: u64,
    unfed: VecDeque<UnfedStep>,
    /// Bytes of the rows of `unfed`.
    unfed_bytes: usize,
    fed: SourceCheckpoint,
}

/// What a step took that the queries have not been fed yet.
struct UnfedStep {
    /// The offset behind its last row.
    end: u64,
    sequence: u64,
    taken: SourceStep,
    bytes: usize,
}

impl SourceFeed {
    /// A source that continues from `fed`; its log may be longer than that.
    pub fn new(wal_writer: Option<Arc<WalWriter>>, sync: bool, fed: SourceCheckpoint) -> Self {
        Self {
            wal_writer,
            sync,
            taken: fed.offset,
            unfed: VecDeque::new(),
            unfed_bytes: 0,
            fed,
        }
    }

    /// Whether the worker must not read the lanes for now.
    pub fn is_full(&self) -> bool {
        let log_is_full = self.wal_writer.as_ref().is_some_and(|wal| wal.is_full());
        log_is_full || self.unfed_bytes > QUEUE_BYTES
    }

    /// Whether the disk does not take the log.
    pub fn is_failing(&self) -> bool {
        self.wal_writer.as_ref().is_some_and(|wal| wal.is_failing())
    }

    /// Accepts what a step took, and hands it to the WAL writer.
    pub fn take_in(&mut self, mut taken: SourceStep, acks: Acks, sequence: u64, arrival_us: i64) {
        if taken.is_empty() && acks.is_empty() {
            return;
        }
        let first = self.taken;
        self.taken += taken.row_count() as u64;
        if let Some(wal_writer) = &self.wal_writer {
            wal_writer.append(Job {
                taken: taken.clone(),
                sequence,
                arrival_us,
                acks,
            });
        }
        taken.locate(first, arrival_us);
        let bytes = if self.sync { taken.bytes() } else { 0 };
        self.unfed_bytes += bytes;
        self.unfed.push_back(UnfedStep {
            end: self.taken,
            sequence,
            taken,
            bytes,
        });
    }

    /// Whether there is something for the queries.
    pub fn has_due(&self) -> bool {
        let due = |step: &UnfedStep| match (&self.wal_writer, self.sync) {
            (Some(wal_writer), true) => wal_writer.durable() >= step.end,
            _ => true,
        };
        self.unfed.front().is_some_and(due)
    }

    /// The next step that the queries may see.
    pub fn next_due(&mut self) -> Option<SourceStep> {
        if !self.has_due() {
            return None;
        }
        let UnfedStep {
            end,
            sequence,
            taken,
            bytes,
        } = self.unfed.pop_front()?;
        self.unfed_bytes -= bytes;
        self.fed.note(end, sequence, &taken);
        Some(taken)
    }

    /// A record of the log has been fed again.
    pub fn replayed(&mut self, replayed: &Replayed) {
        let Replayed { end, sequence, .. } = *replayed;
        self.fed.note(end, sequence, &replayed.taken);
        self.taken = self.taken.max(replayed.end);
    }

    /// The source starts from its beginning the next time.
    pub fn forget_cursor(&mut self) {
        self.fed.cursor = None;
    }

    /// The number of the step whose rows the queries were fed last; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.fed.sequence
    }

    /// How far the queries have been fed.
    pub fn state(&self) -> SourceCheckpoint {
        self.fed.clone()
    }
}
