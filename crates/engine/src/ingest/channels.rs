//! The channels of a source: of a typed handle, of a connector, of the rows that REPROCESS decoded.
//!
//! Records become columns here, a batch of whatever has arrived at a time. A hand-written record that
//! contradicts its own schema is a bad row; the other records of the batch still count.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use headwater_connect::{Bad, Item};
use headwater_ring::{Consumer, LaneId};

use super::channel::{Channel, DrainedLanes, LaneRows};
use super::lane_queue::LaneQueue;
use crate::batch_bytes::batch_bytes;
use crate::dataflow::Provenance;
use crate::durable::{AckTracker, BadRowPosition};
use crate::record::Record;
use crate::source::{LanesBytes, Message, SourceShared};

pub(crate) struct HandleChannel<T> {
    consumer: Consumer<Message<T>>,
    /// What the rows in the lanes hold.
    bytes: Arc<LanesBytes>,
    rows: Vec<T>,
    /// Bytes that `rows` take.
    rows_bytes: usize,
    /// For each run of `rows` of one lane: the lane, its first row, the row behind its last.
    parts: Vec<(u64, usize, usize)>,
    /// Where to acknowledge durable rows, if pushes wait for that.
    ack_tracker: Option<Arc<AckTracker>>,
}

impl<T: Record> HandleChannel<T> {
    pub fn new(
        consumer: Consumer<Message<T>>,
        bytes: Arc<LanesBytes>,
        ack_tracker: Option<Arc<AckTracker>>,
    ) -> Self {
        Self {
            consumer,
            bytes,
            rows: Vec::new(),
            rows_bytes: 0,
            parts: Vec::new(),
            ack_tracker,
        }
    }

    /// Reads up to `max` values; returns their number, and the number of rows in them.
    fn read(&mut self, max: usize, drained: &mut DrainedLanes) -> (usize, usize) {
        let (rows, parts) = (&mut self.rows, &mut self.parts);
        let (bytes, rows_bytes) = (&self.bytes, &mut self.rows_bytes);
        let mut in_batches = 0;
        let ack_tracker = self.ack_tracker.as_ref();
        let read = self.consumer.drain_runs(max, |lane, run| {
            let lane = lane.get();
            let mut from = rows.len();
            let (mut values, mut held) = (0, 0);
            for message in run {
                values += 1;
                match message {
                    Message::Record(record) => {
                        held += record.heap_bytes();
                        rows.push(record);
                    }
                    Message::Watermark(at_us) => drained.declare(at_us),
                    Message::Arrow(batch) => {
                        note_part(parts, lane, from, rows.len());
                        Self::convert(rows, parts, drained);
                        bytes.took(lane, batch_bytes(&batch));
                        in_batches += batch.num_rows().saturating_sub(1);
                        drained.add(lane, *batch);
                        from = 0;
                    }
                }
            }
            note_part(parts, lane, from, rows.len());
            bytes.took(lane, held);
            *rows_bytes += values as usize * size_of::<T>() + held;
            if let Some(ack_tracker) = ack_tracker {
                drained.acks.add(ack_tracker, lane, values);
            }
        });
        (read, read + in_batches)
    }

    fn convert_all(&mut self, drained: &mut DrainedLanes) {
        Self::convert(&mut self.rows, &mut self.parts, drained);
        self.rows_bytes = 0;
    }

    /// Makes one batch of the records gathered so far.
    fn convert(
        rows: &mut Vec<T>,
        parts: &mut Vec<(u64, usize, usize)>,
        drained: &mut DrainedLanes,
    ) {
        if rows.is_empty() {
            return;
        }
        match columns_of(rows) {
            Ok(batch) => {
                let lanes = parts.drain(..).map(|(lane, from, to)| LaneRows {
                    lane,
                    count: to - from,
                });
                drained.add_of_lanes(lanes, batch);
            }
            Err(_) => Self::convert_each(rows, parts, drained),
        }
        rows.clear();
        parts.clear();
    }

    /// Some record does not fit the columns: converts one at a time.
    fn convert_each(rows: &[T], parts: &[(u64, usize, usize)], drained: &mut DrainedLanes) {
        for &(lane, from, to) in parts {
            for row in &rows[from..to] {
                match columns_of(std::slice::from_ref(row)) {
                    Ok(batch) => drained.add(lane, batch),
                    Err(reason) => drained.add_bad([Bad {
                        bytes: Vec::new(),
                        reason,
                    }]),
                }
            }
        }
    }
}

/// The records as columns. A hand-written record may contradict its schema or panic: that is the error.
fn columns_of<T: Record>(rows: &[T]) -> Result<RecordBatch, String> {
    let columns = catch_unwind(AssertUnwindSafe(|| T::to_columns(rows)));
    let columns = columns.map_err(|_| "converting the record to columns panicked".to_owned())?;
    let columns = columns.map_err(|error| error.to_string())?;
    if columns.num_rows() != rows.len() || columns.schema() != T::schema() {
        return Err("the record's columns are not those of its schema".to_owned());
    }
    Ok(columns)
}

/// Notes that the records `from..to` came from `lane`; extends the entry of the same lane before it.
fn note_part(parts: &mut Vec<(u64, usize, usize)>, lane: u64, from: usize, to: usize) {
    match parts.last_mut() {
        Some((last, _, end)) if *last == lane => *end = to,
        _ if from < to => parts.push((lane, from, to)),
        _ => {}
    }
}

impl<T: Record> Channel for HandleChannel<T> {
    fn is_empty(&mut self) -> bool {
        self.consumer.is_empty()
    }

    /// A value may be a batch, so this first reads one, and twice as many as long as they are single rows.
    /// What those hold is counted when they are columns, or before if they hold much.
    fn drain(&mut self, drained: &mut DrainedLanes) {
        let mut stretch = 1;
        while let Some(max) = drained.room() {
            let values = stretch.min(max);
            let (read, rows) = self.read(values, drained);
            drained.count(rows);
            if self.rows_bytes >= drained.bytes_left() {
                self.convert_all(drained);
            }
            if read < values {
                break;
            }
            stretch = if rows > read { 1 } else { stretch * 2 };
        }
        self.convert_all(drained);
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

pub(crate) struct ConnectorChannel {
    queue: Arc<LaneQueue>,
    shared: Arc<SourceShared>,
}

impl ConnectorChannel {
    pub fn new(queue: Arc<LaneQueue>, shared: Arc<SourceShared>) -> Self {
        Self { queue, shared }
    }
}

impl Channel for ConnectorChannel {
    fn is_empty(&mut self) -> bool {
        self.queue.is_empty()
    }

    fn drain(&mut self, drained: &mut DrainedLanes) {
        while drained.room().is_some() {
            match self.queue.pop() {
                Some(Item::Rows(delivery)) => {
                    drained.count(delivery.rows.num_rows() + delivery.bad.len());
                    drained.add_bad(delivery.bad);
                    drained.cursor = delivery.cursor.or(drained.cursor.take());
                    if delivery.rows.num_rows() > 0 {
                        let from = Provenance::arrived(delivery.arrival_us, delivery.origin);
                        drained.add_from(0, delivery.rows, from);
                    }
                }
                Some(Item::Gap(gap)) => drained.add_gap(gap),
                Some(Item::Lifecycle(event)) => self.shared.note_lifecycle(&event),
                None => break,
            }
        }
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

/// Rows decoded from bad rows, and the positions of those in the log.
pub(crate) struct ReprocessedRows {
    pub rows: RecordBatch,
    pub positions: Vec<BadRowPosition>,
}

/// The channel of the rows that REPROCESS decoded, without a lane.
pub(crate) struct ReprocessedChannel {
    parts: VecDeque<ReprocessedRows>,
    shared: Arc<SourceShared>,
}

impl ReprocessedChannel {
    pub fn new(parts: VecDeque<ReprocessedRows>, shared: Arc<SourceShared>) -> Self {
        Self { parts, shared }
    }
}

impl Channel for ReprocessedChannel {
    fn is_empty(&mut self) -> bool {
        self.parts.is_empty()
    }

    fn drain(&mut self, drained: &mut DrainedLanes) {
        while drained.room().is_some()
            && let Some(part) = self.parts.pop_front()
        {
            drained.count(part.rows.num_rows());
            drained.add(0, part.rows);
            drained.reprocessed.extend(part.positions);
            if self.parts.is_empty() {
                self.shared.reprocessing.store(false, Ordering::Release);
            }
        }
    }

    fn is_finished(&mut self) -> bool {
        self.parts.is_empty()
    }
}
