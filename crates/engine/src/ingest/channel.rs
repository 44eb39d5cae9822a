//! The reading end of a channel, and what one step drains from the channels of a source.

use arrow::array::{AsArray, RecordBatch};
use headwater_connect::{Bad, Cursor};

use super::source_reader::EventTimeMoved;
use crate::dataflow::{Provenance, SourceColumns};
use crate::durable::{Acks, BadRowPosition, SourceStep, bad_rows};

/// The reading end of one channel, whatever it carries.
pub(crate) trait Channel: Send {
    fn is_empty(&mut self) -> bool;

    /// Reads up to about `max` rows; returns the number read, where other values count as one.
    fn drain(&mut self, max: usize, drained: &mut DrainedLanes) -> usize;

    /// The lanes from which values can still come. No watermark waits for a channel without lanes.
    fn lanes(&mut self) -> Vec<u64> {
        Vec::new()
    }

    /// Whether everything was read and nothing more will come.
    fn is_finished(&mut self) -> bool;

    /// Refuses further pushes; what was pushed before can still be read.
    fn close(&mut self) {}

    /// Values that the backpressure policy has dropped so far.
    fn dropped(&mut self) -> u64 {
        0
    }
}

/// What one step drains from the lanes of a source.
#[derive(Default)]
pub(crate) struct DrainedLanes {
    pub rows: Vec<RecordBatch>,
    pub bad: Vec<Bad>,
    /// The connector's position in the external system behind the rows.
    pub cursor: Option<Cursor>,
    /// The bad rows of earlier steps that REPROCESS decoded into some of the rows.
    pub reprocessed: Vec<BadRowPosition>,
    /// The pushes that wait until what was read is durable.
    pub acks: Acks,
    pub lanes: Vec<LaneRows>,
    /// The provenance of batches of a connector, with their numbers.
    origins: Vec<(usize, Provenance)>,
    /// A watermark that a producer declared, in microseconds.
    pub declared_us: Option<i64>,
    pub ended: bool,
}

/// The next `count` rows of the step came through `lane`.
pub(crate) struct LaneRows {
    pub lane: u64,
    pub count: usize,
}

/// A row as its only text, or as a JSON object.
fn as_bytes(rows: &RecordBatch, row: usize) -> Vec<u8> {
    let row = rows.slice(row, 1);
    if let [text] = row.columns()
        && let Some(text) = text.as_string_opt::<i32>()
    {
        return text.value(0).as_bytes().to_vec();
    }
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    let written = writer.write(&row).and_then(|()| writer.finish());
    // What has no form in JSON is left out: the reason is there.
    written.map_or(Vec::new(), |()| {
        writer.into_inner().trim_ascii_end().to_vec()
    })
}

impl DrainedLanes {
    pub fn add(&mut self, lane: u64, batch: RecordBatch) {
        let count = batch.num_rows();
        self.lanes.push(LaneRows { lane, count });
        self.rows.push(batch);
    }

    pub fn add_from(&mut self, lane: u64, batch: RecordBatch, from: Provenance) {
        self.origins.push((self.rows.len(), from));
        self.add(lane, batch);
    }

    /// Computes the columns of the batches from number `batch` on, whose lanes are those from number `lane`
    /// on. Rows that fail become bad rows.
    pub fn compute(&mut self, computed: &SourceColumns, batch: usize, lane: usize) {
        let mut lanes = self.lanes.split_off(lane).into_iter();
        let mut open: Option<LaneRows> = None;
        for rows in &mut self.rows[batch..] {
            let done = computed.apply(rows);
            let failed = done.failed.iter().map(|(row, _)| *row);
            let mut failed = failed.chain([usize::MAX]).peekable();
            let mut row = 0;
            while row < rows.num_rows()
                && let Some(part) = open.take().or_else(|| lanes.next())
            {
                let end = rows.num_rows().min(row + part.count);
                let mut count = end - row;
                while failed.next_if(|failed| *failed < end).is_some() {
                    count -= 1;
                }
                let lane = part.lane;
                self.lanes.push(LaneRows { lane, count });
                let count = part.count - (end - row);
                open = (count > 0).then_some(LaneRows { lane, count });
                row = end;
            }
            let bad = done.failed.into_iter();
            self.bad.extend(bad.map(|(row, reason)| Bad {
                bytes: as_bytes(rows, row),
                reason,
            }));
            *rows = done.rows;
        }
        self.lanes.extend(open.into_iter().chain(lanes));
    }

    /// A producer declares that no earlier rows will come.
    pub fn declare(&mut self, at_us: i64) {
        self.declared_us = Some(self.declared_us.unwrap_or(i64::MIN).max(at_us));
    }

    /// The number of rows, without the bad ones.
    pub fn row_count(&self) -> u64 {
        self.rows.iter().map(|rows| rows.num_rows() as u64).sum()
    }

    /// What goes into the log, with how the step moved event time.
    pub fn into_source_step(self, moved: EventTimeMoved, arrival_us: i64) -> (SourceStep, Acks) {
        let mut from = Vec::new();
        if !self.origins.is_empty() {
            let step = Provenance::arrived(arrival_us, None);
            from.resize(self.rows.len(), step);
            for (batch, origin) in self.origins {
                from[batch] = origin;
            }
        }
        let taken = SourceStep {
            rows: self.rows,
            from,
            bad: (!self.bad.is_empty()).then(|| bad_rows(&self.bad, arrival_us)),
            moves: moved.moves,
            frontiers: moved.frontiers,
            watermark: moved.watermark,
            cursor: self.cursor,
            reprocessed: self.reprocessed,
        };
        (taken, self.acks)
    }
}
