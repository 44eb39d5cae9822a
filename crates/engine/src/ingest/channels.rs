//! The reading ends of a source: of a typed handle, of a connector, of what REPROCESS decoded.
//!
//! Records become columns here, a batch of whatever has arrived at a time. One that fits no column, since
//! it was written by hand and contradicts itself, is a bad row; the others still count.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use headwater_connect::{Bad, Item};
use headwater_ring::{Consumer, LaneId};

use super::{Channel, Seen, Step, provenance};
use crate::durable::{AckTracker, BadPlace};
use crate::record::Record;
use crate::source::Message;
use crate::sources::{LaneQueue, SourceShared};

/// The channel of a typed handle.
pub(crate) struct Typed<T> {
    consumer: Consumer<Message<T>>,
    rows: Vec<T>,
    parts: Vec<(u64, usize, usize)>,
    /// Where to tell what is durable, if pushes wait for that.
    ack_tracker: Option<Arc<AckTracker>>,
}

impl<T: Record> Typed<T> {
    pub fn new(consumer: Consumer<Message<T>>, ack_tracker: Option<Arc<AckTracker>>) -> Self {
        Self {
            consumer,
            rows: Vec::new(),
            parts: Vec::new(),
            ack_tracker,
        }
    }

    /// Reads up to `max` values; how many, and how many rows they were.
    fn read(&mut self, max: usize, step: &mut Step) -> (usize, usize) {
        let (rows, parts) = (&mut self.rows, &mut self.parts);
        let mut in_batches = 0;
        let ack_tracker = self.ack_tracker.as_ref();
        let read = self.consumer.drain_runs(max, |lane, run| {
            let lane = lane.get();
            let mut from = rows.len();
            let mut values = 0;
            for message in run {
                values += 1;
                match message {
                    Message::Record(record) => rows.push(record),
                    Message::Watermark(at_us) => step.promise(at_us),
                    Message::Arrow(batch) => {
                        note_part(parts, lane, from, rows.len());
                        Self::convert(rows, parts, step);
                        in_batches += batch.num_rows().saturating_sub(1);
                        step.add(lane, *batch);
                        from = 0;
                    }
                }
            }
            note_part(parts, lane, from, rows.len());
            if let Some(ack_tracker) = ack_tracker {
                step.acks.add(ack_tracker, lane, values);
            }
        });
        (read, read + in_batches)
    }

    /// Makes one batch of the records gathered so far.
    fn convert(rows: &mut Vec<T>, parts: &mut Vec<(u64, usize, usize)>, step: &mut Step) {
        if rows.is_empty() {
            return;
        }
        match columns_of(rows) {
            Ok(batch) => {
                let number = step.rows.len();
                step.rows.push(batch);
                let seen = parts.drain(..);
                let seen = seen.map(|(lane, from, to)| Seen {
                    lane,
                    batch: number,
                    from,
                    to,
                });
                step.seen.extend(seen);
            }
            Err(_) => Self::convert_each(rows, parts, step),
        }
        rows.clear();
        parts.clear();
    }

    /// Some record fits no column: the others still count.
    fn convert_each(rows: &[T], parts: &[(u64, usize, usize)], step: &mut Step) {
        for &(lane, from, to) in parts {
            for row in &rows[from..to] {
                match columns_of(std::slice::from_ref(row)) {
                    Ok(batch) => step.add(lane, batch),
                    Err(error) => {
                        step.bad.push(Bad {
                            bytes: Vec::new(),
                            reason: error,
                        });
                    }
                }
            }
        }
    }
}

/// The records as columns. A record written by hand may contradict itself or panic; then why.
fn columns_of<T: Record>(rows: &[T]) -> Result<RecordBatch, String> {
    let columns = catch_unwind(AssertUnwindSafe(|| T::to_columns(rows)));
    let columns = columns.map_err(|_| "converting the record to columns panicked".to_owned())?;
    let columns = columns.map_err(|error| error.to_string())?;
    if columns.num_rows() != rows.len() || columns.schema() != T::schema() {
        return Err("the record's columns are not those of its schema".to_owned());
    }
    Ok(columns)
}

/// Notes which lane the records `from..to` came from, next to what it brought just before.
fn note_part(parts: &mut Vec<(u64, usize, usize)>, lane: u64, from: usize, to: usize) {
    match parts.last_mut() {
        Some((last, _, end)) if *last == lane => *end = to,
        _ if from < to => parts.push((lane, from, to)),
        _ => {}
    }
}

impl<T: Record> Channel for Typed<T> {
    fn is_empty(&mut self) -> bool {
        self.consumer.is_empty()
    }

    /// A value may be a batch, so at first few are read, and more only while they are single rows.
    fn drain(&mut self, max: usize, step: &mut Step) -> usize {
        let (mut taken, mut stretch) = (0, 1);
        while taken < max {
            let values = stretch.min(max - taken);
            let (read, rows) = self.read(values, step);
            taken += rows;
            if read < values {
                break;
            }
            stretch = if rows > read { 1 } else { stretch * 2 };
        }
        Self::convert(&mut self.rows, &mut self.parts, step);
        taken
    }

    fn lanes(&mut self) -> Vec<u64> {
        self.consumer.lanes().map(LaneId::get).collect()
    }

    fn is_finished(&mut self) -> bool {
        self.consumer.is_finished()
    }

    fn close(&mut self) {
        self.consumer.close();
    }

    fn dropped(&mut self) -> u64 {
        self.consumer.dropped()
    }
}

/// The channel of a connector: one lane.
pub(crate) struct Connected {
    queue: Arc<LaneQueue>,
    shared: Arc<SourceShared>,
}

impl Connected {
    pub fn new(queue: Arc<LaneQueue>, shared: Arc<SourceShared>) -> Self {
        Self { queue, shared }
    }
}

impl Channel for Connected {
    fn is_empty(&mut self) -> bool {
        self.queue.is_empty()
    }

    fn drain(&mut self, max: usize, step: &mut Step) -> usize {
        let mut rows = 0;
        while rows < max {
            match self.queue.pop() {
                Some(Item::Rows(delivery)) => {
                    rows += delivery.rows.num_rows();
                    step.bad.extend(delivery.bad);
                    step.cursor = delivery.cursor.or(step.cursor.take());
                    if delivery.rows.num_rows() > 0 {
                        let from = provenance(delivery.arrival_us, delivery.origin);
                        step.origins.push((step.rows.len(), from));
                        step.add(0, delivery.rows);
                    }
                }
                Some(Item::Gap(gap)) => self.shared.note_gap(gap),
                Some(Item::Lifecycle(event)) => self.shared.note_lifecycle(&event),
                None => break,
            }
        }
        rows
    }

    fn lanes(&mut self) -> Vec<u64> {
        if self.queue.is_finished() {
            Vec::new()
        } else {
            vec![0]
        }
    }

    fn is_finished(&mut self) -> bool {
        self.queue.is_finished()
    }

    fn close(&mut self) {
        self.queue.close();
    }

    fn dropped(&mut self) -> u64 {
        self.queue.dropped()
    }
}

/// Rows that were bad once, and the places that they had in the log.
pub(crate) struct MendedRows {
    pub rows: RecordBatch,
    pub places: Vec<BadPlace>,
}

/// The channel of what REPROCESS decoded. It has no lane of its own, so that no watermark waits for it.
pub(crate) struct Mended {
    parts: VecDeque<MendedRows>,
    shared: Arc<SourceShared>,
}

impl Mended {
    pub fn new(parts: VecDeque<MendedRows>, shared: Arc<SourceShared>) -> Self {
        Self { parts, shared }
    }
}

impl Channel for Mended {
    fn is_empty(&mut self) -> bool {
        self.parts.is_empty()
    }

    fn drain(&mut self, max: usize, step: &mut Step) -> usize {
        let mut taken = 0;
        while taken < max
            && let Some(part) = self.parts.pop_front()
        {
            taken += part.rows.num_rows();
            step.add(0, part.rows);
            step.mended.extend(part.places);
        }
        if taken > 0 && self.parts.is_empty() {
            self.shared.reprocessing.store(false, Ordering::Release);
        }
        taken
    }

    fn lanes(&mut self) -> Vec<u64> {
        Vec::new()
    }

    fn is_finished(&mut self) -> bool {
        self.parts.is_empty()
    }

    fn close(&mut self) {}

    fn dropped(&mut self) -> u64 {
        0
    }
}
