//! A source's way from its lanes through the log to the queries, on its home worker.
//!
//! What a step took goes to the [`WalWriter`] and, at once, to the queries. With `wal_mode = 'sync'` it
//! is held until it is on disk: then no result can be of rows that a crash makes undone, and the
//! worker goes on with other sources in the meantime. Without a log there is nothing to wait for.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_connect::Cursor;
use serde::{Deserialize, Serialize};

use super::ack_tracker::Acks;
use super::record::Taken;
use super::wal_writer::{Job, WalWriter};
use crate::dataflow::Watermark;
use crate::topic::TopicId;

/// How far the queries have been fed from a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceState {
    /// The offset behind the last row.
    pub offset: u64,
    /// The number of the step that brought the last record; 0 before the first.
    pub sequence: u64,
    pub watermark: Watermark,
    /// The place in the outside system that covers what was fed.
    pub cursor: Option<Cursor>,
}

impl Default for SourceState {
    fn default() -> Self {
        Self {
            offset: 0,
            sequence: 0,
            watermark: Watermark::START,
            cursor: None,
        }
    }
}

/// A record of a log that is fed again.
#[derive(Debug, Clone)]
pub(crate) struct Replayed {
    pub source: TopicId,
    pub taken: Taken,
    /// The offset behind its last row.
    pub end: u64,
    pub sequence: u64,
}

/// Between the lanes of a source and the queries.
#[derive(Default)]
pub(crate) struct Feed {
    wal_writer: Option<Arc<WalWriter>>,
    /// Nothing is fed before it is on disk.
    sync: bool,
    /// The offset behind the last row taken.
    taken: u64,
    held: VecDeque<Held>,
    fed: SourceState,
}

struct Held {
    end: u64,
    sequence: u64,
    taken: Taken,
}

impl Feed {
    /// A source that continues from `fed`, whose log may be longer than that.
    pub fn new(wal_writer: Option<Arc<WalWriter>>, sync: bool, fed: SourceState) -> Self {
        Self {
            wal_writer,
            sync,
            taken: fed.offset,
            held: VecDeque::new(),
            fed,
        }
    }

    /// Whether the lanes are to be left alone for now.
    pub fn is_full(&self) -> bool {
        self.wal_writer
            .as_ref()
            .is_some_and(|wal_writer| wal_writer.is_full())
    }

    /// Whether the disk does not take the log.
    pub fn is_failing(&self) -> bool {
        self.wal_writer
            .as_ref()
            .is_some_and(|wal_writer| wal_writer.is_failing())
    }

    /// Takes what a step read.
    pub fn take_in(&mut self, taken: Taken, acks: Acks, sequence: u64, arrival_us: i64) {
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
        let mut taken = taken;
        taken.locate(first, arrival_us);
        self.held.push_back(Held {
            end: self.taken,
            sequence,
            taken,
        });
    }

    /// Whether there is something for the queries.
    pub fn has_due(&self) -> bool {
        let due = |held: &Held| match (&self.wal_writer, self.sync) {
            (Some(wal_writer), true) => wal_writer.durable() >= held.end,
            _ => true,
        };
        self.held.front().is_some_and(due)
    }

    /// The next that the queries may see.
    pub fn next_due(&mut self) -> Option<Taken> {
        if !self.has_due() {
            return None;
        }
        let Held {
            end,
            sequence,
            taken,
        } = self.held.pop_front()?;
        self.note(end, sequence, &taken);
        Some(taken)
    }

    /// A record of the log was fed again.
    pub fn replayed(&mut self, replayed: &Replayed) {
        self.note(replayed.end, replayed.sequence, &replayed.taken);
        self.taken = self.taken.max(replayed.end);
    }

    fn note(&mut self, end: u64, sequence: u64, taken: &Taken) {
        self.fed.offset = end;
        self.fed.sequence = sequence;
        if let Some(watermark) = taken.watermark {
            self.fed.watermark = self.fed.watermark.later(watermark);
        }
        if taken.cursor.is_some() {
            self.fed.cursor.clone_from(&taken.cursor);
        }
    }

    /// The source begins anew the next time.
    pub fn forget_cursor(&mut self) {
        self.fed.cursor = None;
    }

    /// The number of the step that brought what the queries were fed last; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.fed.sequence
    }

    /// How far the queries have been fed.
    pub fn state(&self) -> SourceState {
        self.fed.clone()
    }
}
