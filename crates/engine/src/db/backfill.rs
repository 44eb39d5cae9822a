//! Backfill: queries that begin in the past, or were held, fed from the logs until they have caught up.
//!
//! ```text
//!   log   ─────────────────────────────────────►
//!   query ────────►│ read, a step at a time     │ Buffer │ the rest │ released: buffer, then live
//! ```
//!
//! The calling thread reads the logs and feeds what it reads by commands between the steps of all, one at
//! a time: so other queries wait for a step at most, however long the log is. The workers buffer what
//! arrives during the last stretch, which closes the gap without a row missed or fed twice.

use std::collections::BTreeMap;
use std::iter::repeat_with;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::compute::{and, cast, filter_record_batch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;

use super::catalog::{Catalog, SourceEntry, Start};
use super::engine::{Persistence, Workers};
use crate::clock::now_us;
use crate::durable::{Replayed, WalMerge, WalWriter};
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::sql::{OptionEntry, SqlError, sqlstate};
use crate::topic::{Topic, TopicId};
use crate::worker::{CatchUpPosition, InputHold, QueryCommand, WorkerCommand};

/// The value of the option `start`.
pub(crate) fn start_of(option: &OptionEntry) -> Result<Start> {
    let text = option.value.to_string();
    match text.to_ascii_lowercase().as_str() {
        "now" => Ok(Start::Now),
        "beginning" => Ok(Start::Beginning),
        _ => instant_us(&text).map(Start::At).ok_or_else(|| {
            let message = format!("start = {text:?} is neither 'now', 'beginning' nor a time");
            SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .hint("Write a time as '2026-01-31 12:00:00'.")
                .at(option.value_span.clone())
                .into()
        }),
    }
}

/// A time as it is written in SQL, in microseconds since 1970-01-01 UTC.
pub(crate) fn instant_us(text: &str) -> Option<i64> {
    let target = DataType::Timestamp(TimeUnit::Microsecond, None);
    match ScalarValue::from(text).cast_to(&target) {
        Ok(ScalarValue::TimestampMicrosecond(at, _)) => at,
        _ => None,
    }
}

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

    fn unknown_place(&self) -> Error {
        let name = &self.topic.relation.name;
        let message = format!("how far the log of {name:?} has been read is not known");
        SqlError::new(sqlstate::NOT_IN_STATE, message)
            .hint("STOP STREAM, then START STREAM: it begins without its state.")
            .into()
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
            None if start == Start::Retained || persistence.is_trial => return Ok(Vec::new()),
            None => {
                let message = format!("{name:?} has no past that a query could begin in");
                let hint = "Only a source that has a log has one: in a database with a data folder, \
                            without wal_mode = 'off'. Leave out start.";
                let error = SqlError::new(sqlstate::NOT_IN_STATE, message);
                return Err(error.hint(hint).into());
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
            let hint = "Give the source a WATERMARK, or use start = 'beginning'.";
            let error = SqlError::new(sqlstate::NOT_IN_STATE, message);
            return Err(error.hint(hint).into());
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
        let frontiers = taken
            .frontiers
            .iter_mut()
            .map(Some)
            .chain(repeat_with(|| None));
        let batches = taken.rows.iter_mut().zip(&mut taken.from).zip(frontiers);
        for ((rows, from), frontier) in batches {
            let inside = self.inside(rows).map_err(Error::data)?;
            let kept = inside.iter().enumerate();
            let kept = kept.filter(|(_, inside)| *inside == Some(true));
            *from = from.kept(kept.map(|(row, _)| row));
            *rows = filter_record_batch(rows, &inside).map_err(Error::data)?;
            if let Some(frontier) = frontier {
                frontier.filter(&inside);
            }
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

/// Feeds a query whose inputs are held until only rows that the workers buffer are missing, or it fails;
/// returns whether it works. Blocks.
pub(crate) fn catch_up(
    workers: &Workers,
    event_log: &EventLog,
    output: TopicId,
    inputs: &[BackfillInput],
) -> Result<bool> {
    if !feed(workers, event_log, output, inputs, None)? {
        return Ok(false);
    }
    let buffered =
        workers.ask(|answer| WorkerCommand::Query(QueryCommand::Buffer { output, answer }));
    let until = buffered.wait()?.into_iter().flatten().collect();
    feed(workers, event_log, output, inputs, Some(&until))
}

/// Feeds what the logs hold behind the places of the inputs, up to the steps of `until`; returns whether the
/// query works. The workers move the places, in the turn in which the query is fed.
fn feed(
    workers: &Workers,
    event_log: &EventLog,
    output: TopicId,
    inputs: &[BackfillInput],
    until: Option<&BTreeMap<TopicId, u64>>,
) -> Result<bool> {
    let mut replay = WalMerge::default();
    for input in inputs {
        input.wal_writer.catch_up().map_err(Error::Data)?;
        let (topic, schema) = (input.topic.id, &input.topic.relation.schema);
        let after = input.place.get().ok_or_else(|| input.unknown_place())?;
        if let Some(lost) = replay.add(topic, schema, &input.wal_writer, after)? {
            let name = &input.topic.relation.name;
            let reason = format!("retention has removed {lost} rows that were still to be read");
            event_log.gap_between(name, reason, now_us(), now_us());
        }
    }
    let is_due = |part: &Replayed| {
        let last = |until: &BTreeMap<TopicId, u64>| until.get(&part.source).copied();
        until.is_none_or(|until| last(until).is_some_and(|last| part.sequence <= last))
    };
    while let Some(mut parts) = replay.next_step()? {
        parts.retain(is_due);
        for part in &mut parts {
            if let Some(input) = inputs.iter().find(|it| it.topic.id == part.source) {
                input.clip(part)?;
            }
        }
        let has_failed = !parts.is_empty() && workers.feed(output, parts)?;
        if has_failed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The query hears live rows from now on, after those that the workers have buffered for it.
pub(crate) fn release(workers: &Workers, output: TopicId) {
    workers.life(QueryCommand::Hold {
        output,
        inputs: Vec::new(),
        reason: "".into(),
    });
}
