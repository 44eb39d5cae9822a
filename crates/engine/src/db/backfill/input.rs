//! An input that a query is fed from its log, and which rows of it.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::compute::{and, cast, filter_record_batch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;

use super::start::Start;
use crate::db::catalog::{Catalog, NOT_IN_STATE, SourceEntry};
use crate::db::engine::Persistence;
use crate::durable::{Replayed, WalWriter};
use crate::error::{Error, Result};
use crate::sql::SqlError;
use crate::topic::Topic;
use crate::worker::{CatchUpPosition, InputHold};

/// An input that is fed from its log.
pub(crate) struct BackfillInput {
    pub topic: Arc<Topic>,
    pub wal_writer: Arc<WalWriter>,
    /// The step up to which the query has been fed.
    pub place: Arc<CatchUpPosition>,
    /// Only rows of these event times.
    pub clip: Option<Clip>,
}

impl BackfillInput {
    /// All that the log of `source` retains.
    pub fn whole(source: &SourceEntry, wal_writer: Arc<WalWriter>, clip: Option<Clip>) -> Self {
        Self {
            topic: Arc::clone(&source.topic),
            wal_writer,
            place: Arc::new(CatchUpPosition::behind(0)),
            clip,
        }
    }

    /// The hold that keeps the query from live rows until it has been fed.
    pub fn hold(&self) -> InputHold {
        InputHold {
            input: self.topic.id,
            missed: Arc::default(),
            place: Some(Arc::clone(&self.place)),
        }
    }

    /// Removes rows outside of the clip.
    pub fn clip(&self, part: &mut Replayed) -> Result<()> {
        self.clip.map_or(Ok(()), |clip| clip.apply(part))
    }
}

/// The inputs of a query that begins in the past: all or none of them.
pub(crate) fn inputs_from(
    catalog: &Catalog,
    persistence: &Persistence,
    inputs: &[String],
    start: Start,
) -> Result<Vec<BackfillInput>> {
    if start == Start::Now || persistence.is_restoring() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for name in inputs {
        match input_from(catalog, persistence, name, start)? {
            Some(input) => found.push(input),
            None if start == Start::Retained || persistence.is_trial() => return Ok(Vec::new()),
            None => {
                let message = format!("{name:?} has no past that a query could begin in");
                let hint = "Only a source that has a log has one: in a database with a data folder, \
                            without wal_mode = 'off'. Leave out start.";
                return Err(SqlError::new(NOT_IN_STATE, message).hint(hint).into());
            }
        }
    }
    Ok(found)
}

fn input_from(
    catalog: &Catalog,
    persistence: &Persistence,
    name: &str,
    start: Start,
) -> Result<Option<BackfillInput>> {
    let (Ok(source), Some(wal_writer)) = (catalog.source(name), persistence.wal_writer(name))
    else {
        return Ok(None);
    };
    let clip = match (start, &source.time) {
        (Start::At(from_us), Some(time)) => Some(Clip {
            column: time.column,
            from_us,
            to_us: i64::MAX,
        }),
        (Start::At(_), None) => {
            let message = format!("{name:?} has no event time, so start can be no time");
            let hint = "Give the source a WATERMARK, or say start = 'beginning'.";
            return Err(SqlError::new(NOT_IN_STATE, message).hint(hint).into());
        }
        _ => None,
    };
    Ok(Some(BackfillInput::whole(source, wal_writer, clip)))
}

/// Rows of event times from `from_us` up to and without `to_us`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clip {
    pub column: usize,
    pub from_us: i64,
    pub to_us: i64,
}

impl Clip {
    /// Removes the other rows.
    pub fn apply(&self, part: &mut Replayed) -> Result<()> {
        let taken = &mut part.taken;
        for (rows, from) in taken.rows.iter_mut().zip(&mut taken.from) {
            let inside = self.inside(rows).map_err(Error::data)?;
            let kept = inside.iter().enumerate();
            let kept = kept.filter(|(_, inside)| *inside == Some(true));
            *from = from.kept(kept.map(|(row, _)| row));
            *rows = filter_record_batch(rows, &inside).map_err(Error::data)?;
        }
        Ok(())
    }

    fn inside(&self, rows: &RecordBatch) -> std::result::Result<BooleanArray, ArrowError> {
        let microseconds = DataType::Timestamp(TimeUnit::Microsecond, None);
        let times = cast(rows.column(self.column), &microseconds)?;
        let bound = |at| TimestampMicrosecondArray::new_scalar(at);
        let from = gt_eq(&times, &bound(self.from_us))?;
        let until = lt(&times, &bound(self.to_us))?;
        and(&from, &until)
    }
}
