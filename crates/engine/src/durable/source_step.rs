//! What one step took from one source: rows, undecodable rows, the watermark and the cursor behind them.

use std::iter::repeat;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use headwater_connect::{Bad, Cursor};

use crate::batch_bytes::batch_bytes;
use crate::dataflow::{Frontier, FrontierMoves, Provenance, StreamElement, Watermark};
use crate::event_log::GapEntry;

/// What one step took from one source. The payload of one record of the source's log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SourceStep {
    /// Rows in the source's columns.
    pub rows: Vec<RecordBatch>,
    /// The provenance of each of these batches. May end early until [`locate`](Self::locate) fills it.
    pub from: Vec<Provenance>,
    /// How the frontier moves over these batches, of a source with event time.
    pub moves: Option<Arc<FrontierMoves>>,
    /// The frontier of each of these batches. May end early until [`locate`](Self::locate) fills it.
    pub frontiers: Vec<Frontier>,
    /// The undecodable rows, with the columns of `<source>__bad`.
    pub bad: Option<RecordBatch>,
    /// The watermark behind the rows, if it moved.
    pub watermark: Option<Watermark>,
    /// The source's position in the external system behind the rows.
    pub cursor: Option<Cursor>,
    /// The bad rows of earlier records that REPROCESS decoded into some of `rows`.
    pub reprocessed: Vec<BadRowPosition>,
    /// Intervals in which rows may have been missed, reported since the record before.
    pub gaps: Vec<GapEntry>,
}

/// The position of a bad row: the step that took it, and its number among the bad rows of that record.
pub(crate) type BadRowPosition = (u64, u32);

impl SourceStep {
    /// The number of rows, without the bad ones.
    pub fn row_count(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum()
    }

    /// Numbers the rows of the source from `offset` on. Batches without a provenance of their own
    /// arrived at `arrival_us`; without a frontier of their own they get the one that the log records.
    pub fn locate(&mut self, mut offset: u64, arrival_us: i64) {
        if let (Some(moves), true) = (&self.moves, self.frontiers.is_empty()) {
            let batches = moves.pass(&mut moves.start.clone(), &self.rows);
            self.frontiers = moves.frontiers(batches);
        }
        let step = Provenance::arrived(arrival_us, None);
        self.from.resize(self.rows.len(), step);
        for (rows, from) in self.rows.iter().zip(&mut self.from) {
            from.offsets = crate::dataflow::Offsets::From(offset);
            offset += rows.num_rows() as u64;
        }
    }

    /// What queries read: each batch of `source` behind its provenance, then the watermark.
    pub fn into_elements(self, source: &str) -> impl Iterator<Item = StreamElement> + use<> {
        // A number that is the same after a restart.
        let source = crc32c::crc32c(source.as_bytes());
        let frontiers = self.frontiers.into_iter().chain(repeat(Frontier::NONE));
        let frontiers = frontiers.map(move |frontier| frontier.of_source(source));
        let rows = self.rows.into_iter().zip(frontiers);
        let rows = rows.map(|(rows, frontier)| StreamElement::Rows(rows, frontier));
        let rows = self.from.into_iter().map(StreamElement::From).zip(rows);
        let watermark = self.watermark.map(StreamElement::Watermark);
        rows.flat_map(|(from, rows)| [from, rows]).chain(watermark)
    }

    /// Bytes that its rows take, good and bad.
    pub fn bytes(&self) -> usize {
        self.rows.iter().chain(&self.bad).map(batch_bytes).sum()
    }

    /// Whether the log needs no record of it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.bad.is_none()
            && self.watermark.is_none()
            && self.cursor.is_none()
            && self.gaps.is_empty()
    }
}

/// The columns of `<source>__bad`.
pub(crate) fn bad_schema() -> SchemaRef {
    let arrival = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("bytes", DataType::Binary, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("arrival", arrival, false),
    ]))
}

/// Undecodable rows as a batch of [`bad_schema`].
pub(crate) fn bad_rows(bad: &[Bad], arrival_us: i64) -> RecordBatch {
    let bytes: BinaryArray = bad.iter().map(|bad| Some(bad.bytes.as_slice())).collect();
    let reasons: StringArray = bad.iter().map(|bad| Some(bad.reason.as_str())).collect();
    let arrival = TimestampMicrosecondArray::from_value(arrival_us, bad.len());
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(reasons), Arc::new(arrival)];
    RecordBatch::try_new(bad_schema(), columns).expect("three columns of one row for each bad row")
}
