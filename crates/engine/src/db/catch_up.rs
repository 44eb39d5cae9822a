//! Queries that begin in the past, or were held: fed from the logs until they have caught up.
//!
//! ```text
//!   log   ─────────────────────────────────────►
//!   query ────────►│ read, a step at a time     │ Buffer │ the rest │ released: buffer, then live
//! ```
//!
//! The reading is done by whoever asked, the feeding by commands between the steps of all, one at a
//! time: so other queries wait for a step at most, however long the log is. What arrives during the
//! last stretch is kept by the workers, which closes the gap without a row missed or fed twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::compute::{and, cast, filter_record_batch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;

use super::Inner;
use super::catalog::{Catalog, Entry};
use crate::clock::now_us;
use crate::durable::{Replayed, WalMerge, WalWriter};
use crate::error::{Error, Result};
use crate::sql::{OptionEntry, SqlError, sqlstate};
use crate::topic::{Topic, TopicId};
use crate::worker::{CatchUpPosition, InputHold, QueryCommand};

/// SQLSTATE: what it reads has no past.
const NO_PAST: &str = "55000";

/// Where a query begins in what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With what comes next.
    Now,
    /// With the first row that is retained, if all it reads is retained; else with what comes next.
    Retained,
    /// With the first row that is retained.
    Beginning,
    /// With the first row of this event time, in microseconds, or later.
    At(i64),
}

/// What the option `start` says; `default` without it.
pub(super) fn start_of(default: Start, options: &[OptionEntry]) -> Result<Start> {
    let mut start = default;
    for option in options {
        if !option.key.eq_ignore_ascii_case("start") {
            let message = format!("there is no option {:?} of a stream or view", option.key);
            let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message);
            return Err(error
                .hint("There is only start.")
                .at(option.key_span.clone())
                .into());
        }
        let text = option.value.to_string();
        start = match text.to_ascii_lowercase().as_str() {
            "now" => Start::Now,
            "beginning" => Start::Beginning,
            _ => Start::At(instant_us(&text).ok_or_else(|| {
                let message = format!("start = {text:?} is neither 'now', 'beginning' nor a time");
                SqlError::new(sqlstate::INVALID_PARAMETER, message)
                    .hint("Write a time as '2026-01-31 12:00:00'.")
                    .at(option.value_span.clone())
            })?),
        };
    }
    Ok(start)
}

/// A time as it is written in SQL, in microseconds since 1970-01-01 UTC.
pub(super) fn instant_us(text: &str) -> Option<i64> {
    let target = DataType::Timestamp(TimeUnit::Microsecond, None);
    match ScalarValue::from(text).cast_to(&target) {
        Ok(ScalarValue::TimestampMicrosecond(at, _)) => at,
        _ => None,
    }
}

/// An input that is fed from its log.
pub(super) struct Past {
    pub topic: Arc<Topic>,
    pub wal_writer: Arc<WalWriter>,
    pub place: Arc<CatchUpPosition>,
    /// Only rows of these event times.
    pub clip: Option<Clip>,
}

/// Rows of event times from `from_us` up to and without `to_us`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    pub column: usize,
    pub from_us: i64,
    pub to_us: i64,
}

impl Clip {
    /// Leaves out the other rows.
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

    /// Which rows stay.
    fn inside(&self, rows: &RecordBatch) -> std::result::Result<BooleanArray, ArrowError> {
        let target = DataType::Timestamp(TimeUnit::Microsecond, None);
        let times = cast(rows.column(self.column), &target)?;
        let bound = |at| TimestampMicrosecondArray::new_scalar(at);
        let from = gt_eq(&times, &bound(self.from_us))?;
        let until = lt(&times, &bound(self.to_us))?;
        and(&from, &until)
    }
}

impl Inner {
    /// The inputs of a query that begins in the past: all or none of them.
    pub(super) fn pasts(&self, inputs: &[String], start: Start) -> Result<Vec<Past>> {
        if start == Start::Now || self.is_restoring() {
            return Ok(Vec::new());
        }
        let catalog = self.catalog();
        let mut pasts = Vec::new();
        for input in inputs {
            match self.past(&catalog, input, start)? {
                Some(past) => pasts.push(past),
                None if start == Start::Retained || self.trial => return Ok(Vec::new()),
                None => {
                    let message = format!("{input:?} has no past that a query could begin in");
                    let hint = "Only a source that has a log has one: in a database with a data folder, \
                                without wal_mode = 'off'. Leave out start.";
                    return Err(SqlError::new(NO_PAST, message).hint(hint).into());
                }
            }
        }
        Ok(pasts)
    }

    fn past(&self, catalog: &Catalog, input: &str, start: Start) -> Result<Option<Past>> {
        let (Ok(source), Some(wal_writer)) = (catalog.source(input), self.wal_writer_of(input))
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
                let message = format!("{input:?} has no event time, so start can be no time");
                let hint = "Give the source a WATERMARK, or say start = 'beginning'.";
                return Err(SqlError::new(NO_PAST, message).hint(hint).into());
            }
            _ => None,
        };
        Ok(Some(Past {
            topic: Arc::clone(&source.topic),
            wal_writer,
            place: Arc::new(CatchUpPosition::behind(0)),
            clip,
        }))
    }

    /// Feeds a query whose inputs are held until nothing but what the workers keep is missing. Blocks.
    pub(super) fn catch_up(&self, output: TopicId, pasts: &[Past]) -> Result<()> {
        self.feed_past(output, pasts, None)?;
        let (answer, answers) = sync_channel(self.workers);
        self.life(QueryCommand::Buffer { output, answer });
        let mut fed = BTreeMap::new();
        for _ in 0..self.workers {
            fed.extend(answers.recv().map_err(|_| Error::Closed)?);
        }
        self.feed_past(output, pasts, Some(&fed))
    }

    /// Feeds what the logs hold behind the places of the inputs, up to the steps given.
    fn feed_past(
        &self,
        output: TopicId,
        pasts: &[Past],
        until: Option<&BTreeMap<TopicId, u64>>,
    ) -> Result<()> {
        let mut replay = WalMerge::default();
        for past in pasts {
            past.wal_writer.catch_up().map_err(Error::Data)?;
            let after = past.place.get().unwrap_or(0);
            let topic = &past.topic;
            let schema = &topic.relation.schema;
            if let Some(lost) = replay.add(topic.id, schema, &past.wal_writer, after)? {
                let name = &past.topic.relation.name;
                let reason =
                    format!("retention has removed {lost} rows that were still to be read");
                self.event_log.gap_between(name, reason, now_us(), now_us());
            }
        }
        let due = |part: &Replayed| {
            until.is_none_or(|until| {
                until
                    .get(&part.source)
                    .is_some_and(|it| part.sequence <= *it)
            })
        };
        while let Some(mut parts) = replay.next_step()? {
            parts.retain(due);
            for part in &mut parts {
                if let Some(past) = pasts.iter().find(|past| past.topic.id == part.source) {
                    past.place.set(part.sequence);
                    past.clip.map_or(Ok(()), |clip| clip.apply(part))?;
                }
            }
            if !parts.is_empty() {
                self.feed_parts(output, parts)?;
            }
        }
        Ok(())
    }

    /// Feeds one query and waits until it has taken it in.
    pub(super) fn feed_parts(&self, output: TopicId, parts: Vec<Replayed>) -> Result<()> {
        let (answer, answers) = sync_channel(self.workers);
        self.life(QueryCommand::CatchUp {
            output,
            parts,
            answer,
        });
        for _ in 0..self.workers {
            answers.recv().map_err(|_| Error::Closed)?;
        }
        Ok(())
    }

    /// The query hears what comes from now on. What was kept for it comes first.
    pub(super) fn release(&self, output: TopicId) {
        self.life(QueryCommand::Hold {
            output,
            inputs: Vec::new(),
            reason: "".into(),
        });
    }

    /// Catches up with the logs for every stream whose inputs are about to be released.
    pub(super) fn catch_up_released(&self) -> Result<()> {
        let waiting: Vec<_> = {
            let catalog = self.catalog();
            let names: Vec<String> = catalog.queries().map(|(name, _)| name.clone()).collect();
            let waiting = names
                .iter()
                .filter_map(|name| self.released(&catalog, name));
            waiting.collect()
        };
        for (output, pasts) in waiting {
            self.catch_up(output, &pasts)?;
        }
        Ok(())
    }

    fn released(&self, catalog: &Catalog, name: &str) -> Option<(TopicId, Vec<Past>)> {
        let Some(Entry::Query(query)) = catalog.entries.get(name) else {
            return None;
        };
        let wanted = super::streams::inputs_to_hold(catalog, query);
        let pasts = query.life.held.iter().filter_map(|(input, held)| {
            let past = Past {
                topic: catalog.topic(input).ok()?,
                wal_writer: self.wal_writer_of(input)?,
                place: Arc::clone(held.place.as_ref()?),
                clip: None,
            };
            (!wanted.contains(input)).then_some(past)
        });
        let pasts: Vec<_> = pasts.collect();
        (!pasts.is_empty()).then_some((query.topic.id, pasts))
    }
}

impl Past {
    /// As the workers know it.
    pub fn hold(&self) -> InputHold {
        InputHold {
            input: self.topic.id,
            missed: Arc::default(),
            place: Some(Arc::clone(&self.place)),
        }
    }
}
