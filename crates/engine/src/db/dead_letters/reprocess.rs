//! REPROCESS: decodes bad rows again, after the options of the format were fixed.
//!
//! ```text
//!   log of s: every bad row that no later record names as reprocessed
//!     -> the decoder of s as it is now -> rows ─► a channel of s ─► one record: rows + their origins
//!                                      -> still bad: stays in s__bad
//! ```
//!
//! The rows reach the source now, like any others: windows that have closed take them as late. The record
//! with the rows names the bad rows that they come from, so both are on disk or neither is, and no bad row
//! is decoded to rows twice: not by a second REPROCESS, not by one after a crash.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampMicrosecondType;
use headwater_connect::{Again, Bad, SourceSpec};

use crate::dataflow::SourceColumns;
use crate::db::catalog::{CatalogEntry, NOT_IN_STATE, WRONG_KIND, undefined};
use crate::db::engine::{Engine, Workers};
use crate::db::outcome::Outcome;
use crate::durable::{BadRowPosition, SourceStep, WalRecordCodec, WalWriter};
use crate::error::{Error, Result};
use crate::ingest::{ReprocessedChannel, ReprocessedRows};
use crate::source::SourceShared;
use crate::sql::{Name, SqlError};
use crate::topic::Topic;
use crate::worker::{Handoff, WorkerCommand};

/// Bad rows in one batch of decoded rows, at most.
const BATCH_ROWS: usize = 8_192;

/// The ending of the name of a source's bad rows.
const BAD: &str = "__bad";

/// A source whose bad rows are decoded again.
struct Reprocessed {
    topic: Arc<Topic>,
    shared: Arc<SourceShared>,
    spec: SourceSpec,
    computed: Option<SourceColumns>,
    wal_writer: Arc<WalWriter>,
}

#[derive(Default)]
struct Redecoded {
    parts: VecDeque<ReprocessedRows>,
    rows: u64,
    still_bad: u64,
}

pub(crate) fn reprocess(engine: &Engine, name: &Name) -> Result<Outcome> {
    let source = reprocessed(engine, name)?;
    // So that bad rows taken before are in the log, and rows of an earlier REPROCESS are taken.
    engine.workers.step()?;
    source.wal_writer.catch_up().map_err(Error::Data)?;
    let shared = Arc::clone(&source.shared);
    if shared.reprocessing.load(Ordering::Acquire) {
        let message = format!("rows of an earlier REPROCESS {} still wait", name.value);
        let error = SqlError::new(NOT_IN_STATE, message)
            .hint("A sink or the log behind the source is full; try again when it is not.");
        return Err(error.at(name.span.clone()).into());
    }
    let Redecoded {
        parts,
        rows,
        still_bad,
    } = source.decode()?;
    if !parts.is_empty() {
        shared.reprocessing.store(true, Ordering::Release);
        let steps = parts.len();
        let channel = ReprocessedChannel::new(parts, Arc::clone(&shared));
        engine.workers.command(WorkerCommand::AddChannel {
            source: source.topic.id,
            channel: Handoff::new(Box::new(channel) as _),
        });
        take_rows(&engine.workers, &shared, steps)?;
        source.wal_writer.sync_all().map_err(Error::Data)?;
    }
    Ok(counted(rows, still_bad))
}

/// Steps until the rows are taken. A source behind a full sink takes them later.
fn take_rows(workers: &Workers, shared: &SourceShared, steps: usize) -> Result<()> {
    for _ in 0..=steps {
        workers.step()?;
        if !shared.reprocessing.load(Ordering::Acquire) {
            break;
        }
    }
    Ok(())
}

fn reprocessed(engine: &Engine, name: &Name) -> Result<Reprocessed> {
    let catalog = engine.catalog();
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
    let Some(CatalogEntry::Source(source)) = catalog.get(of) else {
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
    let Some(wal_writer) = engine.persistence.wal_writer(of) else {
        let message = format!("source {of:?} has no log, so its bad rows were not kept");
        let hint = "A database with a data folder keeps them, unless wal_mode is 'off'.";
        return refused(NOT_IN_STATE, message, hint);
    };
    Ok(Reprocessed {
        topic: Arc::clone(&source.topic),
        shared: Arc::clone(&source.shared),
        spec: connector.spec.clone(),
        computed: source.computed.clone(),
        wal_writer,
    })
}

impl Reprocessed {
    /// Decodes every bad row of the log that has not been decoded to rows yet.
    fn decode(&self) -> Result<Redecoded> {
        let mut done = BTreeSet::new();
        self.each_record(|_, taken| {
            done.extend(taken.reprocessed);
            Ok(())
        })?;
        let decoder = Again::new(&self.spec).map_err(Error::data)?;
        let Some(mut decoder) = decoder else {
            return Ok(Redecoded::default());
        };
        let mut found = DecodedBatches::default();
        self.each_record(|sequence, taken| {
            let Some(bad) = taken.bad else { return Ok(()) };
            for (number, (bad, arrival_us)) in bad_of(&bad).enumerate() {
                let place = (sequence, u32::try_from(number).unwrap_or(u32::MAX));
                if done.contains(&place) {
                    continue;
                }
                match decoder.decode(&bad, arrival_us) {
                    Ok(rows) if self.can_compute(&rows) => found.add(rows, place)?,
                    _ => found.redecoded.still_bad += 1,
                }
            }
            Ok(())
        })?;
        found.finish()
    }

    /// Whether the columns of all these rows can be computed.
    fn can_compute(&self, rows: &RecordBatch) -> bool {
        let computed = self.computed.as_ref().map(|computed| computed.apply(rows));
        computed.is_none_or(|computed| computed.failed.is_empty())
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

/// Decoded rows, put together to batches of a good size.
#[derive(Default)]
struct DecodedBatches {
    redecoded: Redecoded,
    rows: Vec<RecordBatch>,
    places: Vec<BadRowPosition>,
}

impl DecodedBatches {
    fn add(&mut self, rows: RecordBatch, place: BadRowPosition) -> Result<()> {
        self.redecoded.rows += rows.num_rows() as u64;
        self.rows.push(rows);
        self.places.push(place);
        match self.rows.len() >= BATCH_ROWS {
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
        self.redecoded
            .parts
            .push_back(ReprocessedRows { rows, positions });
        Ok(())
    }

    fn finish(mut self) -> Result<Redecoded> {
        self.seal()?;
        Ok(self.redecoded)
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

fn counted(rows: u64, still_bad: u64) -> Outcome {
    let count = |count: u64| Arc::new(Int64Array::from(vec![count.cast_signed()])) as ArrayRef;
    let columns = [
        ("reprocessed", count(rows)),
        ("still_bad", count(still_bad)),
    ];
    let row = RecordBatch::try_from_iter(columns).expect("two columns of one row");
    Outcome::rows(row)
}
