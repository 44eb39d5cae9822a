//! The reading end of a channel, and what one step drains from the channels of a source.

use arrow::array::{AsArray, RecordBatch};
use headwater_connect::{Bad, Cursor, Gap};

use super::source_reader::EventTimeMoved;
use crate::batch_bytes::{
    RECORD_BYTES, ROW_BYTES_MAX, STEP_BYTES, batch_bytes, rows_within, too_large_rows,
};
use crate::dataflow::{ComputedRows, Provenance, SourceColumns};
use crate::durable::{Acks, BadRowPosition, SourceStep, bad_rows};

/// The reading end of one channel, whatever it carries.
pub(crate) trait Channel: Send {
    fn is_empty(&mut self) -> bool;

    /// Reads until the step is full or nothing is left.
    fn drain(&mut self, drained: &mut DrainedLanes);

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

/// Rows at which a step takes no more from a source.
const STEP_ROWS: usize = 65_536;

/// Bytes that a bad row counts beside its values.
const BAD_ROW: usize = 64;

/// What one step drains from the lanes of a source.
#[derive(Default)]
pub(crate) struct DrainedLanes {
    pub rows: Vec<RecordBatch>,
    pub bad: Vec<Bad>,
    /// Values read, where a batch counts its rows.
    taken: usize,
    /// Bytes of `rows` and `bad`.
    bytes: usize,
    /// The connector's position in the external system behind the rows.
    pub cursor: Option<Cursor>,
    /// The bad rows of earlier steps that REPROCESS decoded into some of the rows.
    pub reprocessed: Vec<BadRowPosition>,
    /// The pushes that wait until what was read is durable.
    pub acks: Acks,
    pub lanes: Vec<LaneRows>,
    /// The provenance of batches of a connector, with their numbers.
    origins: Vec<(usize, Provenance)>,
    /// Intervals in which rows may have been missed, each with the arrival of the row before it, if the step
    /// has one.
    pub gaps: Vec<(Gap, Option<i64>)>,
    /// A watermark that a producer declared, in microseconds.
    pub declared_us: Option<i64>,
    pub ended: bool,
}

/// The next `count` rows of the step came through `lane`.
pub(crate) struct LaneRows {
    pub lane: u64,
    pub count: usize,
}

fn bad_bytes(bad: &Bad) -> usize {
    BAD_ROW + bad.bytes.len() + bad.reason.len()
}

/// The rows that a record has room for.
fn without_too_large(rows: &RecordBatch) -> ComputedRows {
    let failed = too_large_rows(rows).into_iter().map(|(row, bytes)| {
        let reason = format!("the row takes {bytes} bytes, the largest taken has {ROW_BYTES_MAX}");
        (row, reason)
    });
    let failed: Vec<_> = failed.collect();
    let (mut kept, mut from) = (Vec::new(), 0);
    let ends = failed.iter().map(|(row, _)| *row);
    for end in ends.chain([rows.num_rows()]) {
        if end > from {
            kept.push(rows.slice(from, end - from));
        }
        from = end + 1;
    }
    ComputedRows { rows: kept, failed }
}

/// A row as its only text, or as a JSON object; nothing of a row that is too large for that.
fn as_bytes(rows: &RecordBatch, row: usize) -> Vec<u8> {
    let row = rows.slice(row, 1);
    if batch_bytes(&row) > RECORD_BYTES {
        return Vec::new();
    }
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
    /// Values that the step may still read; `None` once it is full.
    pub fn room(&self) -> Option<usize> {
        let left = STEP_ROWS.saturating_sub(self.taken);
        (left > 0 && self.bytes < STEP_BYTES).then_some(left)
    }

    /// Bytes until the step is full.
    pub fn bytes_left(&self) -> usize {
        STEP_BYTES.saturating_sub(self.bytes)
    }

    /// Counts `values` values as read.
    pub fn count(&mut self, values: usize) {
        self.taken += values;
    }

    pub fn add(&mut self, lane: u64, batch: RecordBatch) {
        let count = batch.num_rows();
        self.bytes += batch_bytes(&batch);
        self.lanes.push(LaneRows { lane, count });
        self.rows.push(batch);
    }

    /// Adds a batch of rows from several lanes, in this order.
    pub fn add_of_lanes(&mut self, lanes: impl Iterator<Item = LaneRows>, batch: RecordBatch) {
        self.bytes += batch_bytes(&batch);
        self.lanes.extend(lanes);
        self.rows.push(batch);
    }

    /// Rows may be missing behind those that the step has so far.
    pub fn add_gap(&mut self, gap: Gap) {
        let arrived = self.origins.last().map(|(_, from)| from.arrival_us);
        self.gaps.push((gap, arrived));
    }

    pub fn add_bad(&mut self, bad: impl IntoIterator<Item = Bad>) {
        let before = self.bad.len();
        self.bad.extend(bad);
        self.bytes += self.bad[before..].iter().map(bad_bytes).sum::<usize>();
    }

    pub fn add_from(&mut self, lane: u64, batch: RecordBatch, from: Provenance) {
        self.origins.push((self.rows.len(), from));
        self.add(lane, batch);
    }

    /// Computes the columns of the batches from number `batch` on, whose lanes are those from number `lane`
    /// on. Rows that fail, or that are larger than a row may be, become bad rows.
    pub fn compute(&mut self, computed: Option<&SourceColumns>, batch: usize, lane: usize) {
        if let Some(computed) = computed {
            self.replace(batch, lane, |rows| computed.apply(rows));
        }
        if self.bytes > ROW_BYTES_MAX {
            self.replace(batch, lane, without_too_large);
        }
    }

    /// Puts other rows in the place of the batches from number `batch` on, whose lanes are those from number
    /// `lane` on. Those that fail become bad rows.
    fn replace(&mut self, batch: usize, lane: usize, by: impl Fn(&RecordBatch) -> ComputedRows) {
        let mut lanes = self.lanes.split_off(lane).into_iter();
        let mut open: Option<LaneRows> = None;
        let origins = self.origins.iter().position(|(of, _)| *of >= batch);
        let origins = self
            .origins
            .split_off(origins.unwrap_or(self.origins.len()));
        let mut origins = origins.into_iter().peekable();
        for (number, rows) in self.rows.split_off(batch).iter().enumerate() {
            let done = by(rows);
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
            self.bad
                .extend(done.failed.into_iter().map(|(row, reason)| Bad {
                    bytes: as_bytes(rows, row),
                    reason,
                }));
            if let Some((_, from)) = origins.next_if(|(of, _)| *of == batch + number) {
                let parts = self.rows.len()..self.rows.len() + done.rows.len();
                self.origins.extend(parts.map(|part| (part, from.clone())));
            }
            self.rows.extend(done.rows);
        }
        self.lanes.extend(open.into_iter().chain(lanes));
        let rows = self.rows.iter().map(batch_bytes);
        self.bytes = rows.chain(self.bad.iter().map(bad_bytes)).sum();
    }

    /// Keeps what one record of the log holds; returns the rest if that is not everything. What covers the
    /// rows (cursor, acknowledgements, a declared watermark) belongs behind the last of them: to the rest.
    pub fn cut(&mut self) -> Option<Self> {
        if self.bytes <= RECORD_BYTES {
            return None;
        }
        let (rows, first) = self.cut_rows();
        let kept: usize = self.rows.iter().map(batch_bytes).sum();
        let bad = match rows.is_empty() {
            true => self.cut_bad(kept),
            false => std::mem::take(&mut self.bad),
        };
        if rows.is_empty() && bad.is_empty() {
            return None;
        }
        let kept = kept + self.bad.iter().map(bad_bytes).sum::<usize>();
        let behind = self.origins.iter().filter(|(batch, _)| *batch >= first);
        let origins = behind.map(|(batch, from)| (batch - first, from.clone()));
        let rest = Self {
            rows,
            bad,
            bytes: self.bytes.saturating_sub(kept),
            origins: origins.collect(),
            cursor: self.cursor.take(),
            reprocessed: std::mem::take(&mut self.reprocessed),
            acks: std::mem::take(&mut self.acks),
            declared_us: self.declared_us.take(),
            ..Self::default()
        };
        self.origins.retain(|(batch, _)| *batch < self.rows.len());
        self.bytes = kept;
        Some(rest)
    }

    /// Keeps the batches that fit into a record; returns the others, and the number of the first of them. A
    /// batch that is cut is in both.
    fn cut_rows(&mut self) -> (Vec<RecordBatch>, usize) {
        let mut bytes = 0;
        let fits = |batch: &&RecordBatch| {
            bytes += batch_bytes(batch);
            bytes <= RECORD_BYTES
        };
        let whole = self.rows.iter().take_while(fits).count();
        let mut rest = self.rows.split_off(whole);
        if let (0, Some(first)) = (whole, rest.first_mut()) {
            let rows = rows_within(first, RECORD_BYTES);
            self.rows.push(first.slice(0, rows));
            *first = first.slice(rows, first.num_rows() - rows);
            if first.num_rows() == 0 {
                rest.remove(0);
                return (rest, 1);
            }
        }
        (rest, whole)
    }

    /// Keeps the bad rows that fit beside `bytes` bytes, one at least if that is nothing; returns the others.
    fn cut_bad(&mut self, mut bytes: usize) -> Vec<Bad> {
        let mut is_first = bytes == 0;
        let fits = |bad: &&Bad| {
            bytes += bad_bytes(bad);
            std::mem::take(&mut is_first) || bytes <= RECORD_BYTES
        };
        let kept = self.bad.iter().take_while(fits).count();
        self.bad.split_off(kept)
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
            gaps: Vec::new(),
        };
        (taken, self.acks)
    }
}
