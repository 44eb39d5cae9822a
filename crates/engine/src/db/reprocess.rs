//! REPROCESS: what was bad is decoded once more, after the format was mended.
//!
//! ```text
//!   log of s: every bad row that no later record names as mended
//!     -> the decoder of s as it is now -> rows ─► a channel of s ─► one record: rows + what they were
//!                                      -> still bad: stays where it is
//! ```
//!
//! The rows come to the source like any others, now: windows that have closed take them as late. The
//! record that has them names the bad rows that they were, so whoever has the one has the other, and
//! no bad row is mended twice: not by a second REPROCESS, not by one after a crash.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use headwater_connect::{Again, Bad, SourceSpec};

use super::Inner;
use super::catalog::Entry;
use super::statements::{Outcome, undefined};
use super::streams::WRONG_KIND;
use crate::durable::{BadRowPosition, SourceStep, WalRecordCodec, WalWriter};
use crate::error::{Error, Result};
use crate::ingest::{ReprocessedChannel, ReprocessedRows};
use crate::source::SourceShared;
use crate::sql::{Name, SqlError};
use crate::topic::Topic;
use crate::worker::{Handoff, WorkerCommand};

/// Bad rows whose rows come to the source in one batch, at most.
const PART: usize = 8_192;

/// SQLSTATE: not in the state that this needs.
const NOT_IN_STATE: &str = "55000";

/// The ending of the name of a source's bad rows.
const BAD: &str = "__bad";

/// What a source is reprocessed with.
struct Reprocessed {
    topic: Arc<Topic>,
    shared: Arc<SourceShared>,
    spec: SourceSpec,
    wal_writer: Arc<WalWriter>,
}

/// What came of it.
#[derive(Default)]
struct Found {
    parts: VecDeque<ReprocessedRows>,
    rows: u64,
    still_bad: u64,
}

impl Inner {
    pub(super) fn reprocess(&self, name: &Name) -> Result<Outcome> {
        let source = self.reprocessed(name)?;
        // What was taken before is in the log, and what REPROCESS gave before is taken.
        self.step_and_look()?;
        source.wal_writer.catch_up().map_err(Error::Data)?;
        let shared = Arc::clone(&source.shared);
        if shared.reprocessing.load(Ordering::Acquire) {
            let message = format!("rows of an earlier REPROCESS {} still wait", name.value);
            let error = SqlError::new(NOT_IN_STATE, message)
                .hint("A sink or the log behind the source is full; try again when it is not.");
            return Err(error.at(name.span.clone()).into());
        }
        let Found {
            parts,
            rows,
            still_bad,
        } = source.decode()?;
        if !parts.is_empty() {
            shared.reprocessing.store(true, Ordering::Release);
            let steps = parts.len();
            let channel = ReprocessedChannel::new(parts, Arc::clone(&shared));
            self.sequencer.command(WorkerCommand::AddChannel {
                source: source.topic.id,
                channel: Handoff::new(Box::new(channel) as _),
            });
            self.take_mended(&shared, steps)?;
            source.wal_writer.sync_all().map_err(Error::Data)?;
        }
        Ok(counted(rows, still_bad))
    }

    /// Steps until the rows are taken. A source that is held back takes them later.
    fn take_mended(&self, shared: &SourceShared, steps: usize) -> Result<()> {
        for _ in 0..=steps {
            self.step_and_look()?;
            if !shared.reprocessing.load(Ordering::Acquire) {
                break;
            }
        }
        Ok(())
    }

    fn reprocessed(&self, name: &Name) -> Result<Reprocessed> {
        let catalog = self.catalog();
        let refused = |state, message: String, hint: &str| {
            let error = SqlError::new(state, message).hint(hint);
            Err(error.at(name.span.clone()).into())
        };
        let Some(of) = name.value.strip_suffix(BAD) else {
            return match catalog.get(&name.value) {
                None => Err(undefined(name).into()),
                Some(_) => {
                    let message = format!("{:?} are not the bad rows of a source", name.value);
                    let hint = format!("The bad rows of a source x are x{BAD}.");
                    refused(WRONG_KIND, message, &hint)
                }
            };
        };
        let Some(Entry::Source(source)) = catalog.get(of) else {
            return Err(undefined(name).into());
        };
        let of = source.shared.name();
        let connector = source.connector.as_ref();
        let Some(connector) = connector.filter(|it| it.spec.format().is_some()) else {
            let message = format!("source {of:?} has no format that could decode them");
            return refused(
                WRONG_KIND,
                message,
                "Push the rows that should have come instead.",
            );
        };
        let Some(wal_writer) = self.wal_writer_of(of) else {
            let message = format!("source {of:?} has no log, so its bad rows were not kept");
            let hint = "A database with a data folder keeps them, unless wal_mode is 'off'.";
            return refused(NOT_IN_STATE, message, hint);
        };
        Ok(Reprocessed {
            topic: Arc::clone(&source.topic),
            shared: Arc::clone(&source.shared),
            spec: connector.spec.clone(),
            wal_writer,
        })
    }
}

impl Reprocessed {
    /// Decodes every bad row of the log that has not become rows yet.
    fn decode(&self) -> Result<Found> {
        let mut mended = BTreeSet::new();
        self.each_record(|_, taken| {
            mended.extend(taken.reprocessed);
            Ok(())
        })?;
        let again = Again::new(&self.spec).map_err(|error| Error::data(&error))?;
        let Some(mut again) = again else {
            return Ok(Found::default());
        };
        let mut found = Gathered::default();
        self.each_record(|sequence, taken| {
            let Some(bad) = taken.bad else { return Ok(()) };
            for (number, (bad, arrival_us)) in bad_of(&bad).enumerate() {
                let place = (sequence, u32::try_from(number).unwrap_or(u32::MAX));
                if mended.contains(&place) {
                    continue;
                }
                match again.decode(&bad, arrival_us) {
                    Ok(rows) => found.add(rows, place)?,
                    Err(_) => found.found.still_bad += 1,
                }
            }
            Ok(())
        })?;
        found.finish()
    }

    fn each_record(&self, mut each: impl FnMut(u64, SourceStep) -> Result<()>) -> Result<()> {
        let codec = WalRecordCodec::new(&self.topic.relation.schema).map_err(Error::data)?;
        let log = self.wal_writer.reader();
        let mut records = log.read_from(log.first_offset()).map_err(Error::data)?;
        while let Some(record) = records.next().map_err(Error::data)? {
            let taken = codec.decode(record.payload.to_vec());
            each(record.sequence, taken.map_err(Error::data)?)?;
        }
        Ok(())
    }
}

/// Rows on their way to batches of a good size.
#[derive(Default)]
struct Gathered {
    found: Found,
    rows: Vec<RecordBatch>,
    places: Vec<BadRowPosition>,
}

impl Gathered {
    fn add(&mut self, rows: RecordBatch, place: BadRowPosition) -> Result<()> {
        self.found.rows += rows.num_rows() as u64;
        self.rows.push(rows);
        self.places.push(place);
        match self.rows.len() >= PART {
            true => self.seal(),
            false => Ok(()),
        }
    }

    fn seal(&mut self) -> Result<()> {
        let Some(first) = self.rows.first() else {
            return Ok(());
        };
        let rows = concat_batches(&first.schema(), &self.rows).map_err(Error::data)?;
        let positions = std::mem::take(&mut self.places);
        self.rows.clear();
        self.found
            .parts
            .push_back(ReprocessedRows { rows, positions });
        Ok(())
    }

    fn finish(mut self) -> Result<Found> {
        self.seal()?;
        Ok(self.found)
    }
}

/// The bad rows of one record, and when each arrived.
fn bad_of(rows: &RecordBatch) -> impl Iterator<Item = (Bad, i64)> + '_ {
    let bytes = rows.column(0).as_binary::<i32>();
    let reasons = rows.column(1).as_string::<i32>();
    let arrivals = rows.column(2).as_primitive::<TimestampMicrosecondType>();
    (0..rows.num_rows()).map(move |row| {
        let bad = Bad {
            bytes: bytes.value(row).to_vec(),
            reason: reasons.value(row).to_owned(),
        };
        (bad, arrivals.value(row))
    })
}

/// The answer: one row.
fn counted(rows: u64, still_bad: u64) -> Outcome {
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field("reprocessed"), field("still_bad")]));
    let count = |count: u64| Arc::new(Int64Array::from(vec![count.cast_signed()])) as _;
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![count(rows), count(still_bad)])
        .expect("two columns of one row");
    Outcome::Rows {
        schema,
        batches: vec![batch],
    }
}
