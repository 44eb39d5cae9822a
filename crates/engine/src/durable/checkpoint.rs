//! What a checkpoint holds: the state of the whole engine between two steps.
//!
//! [`Checkpoint`] is one type in two forms. In memory its runs are Arrow batches ([`Run`]); in a
//! manifest they are locations in data files. [`Checkpoint::try_map`] converts one into the other.
//! Names, not numbers, link the parts, since a restart gives new numbers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use headwater_connect::Cursor;
use headwater_log::Position;
use serde::{Deserialize, Serialize};

use super::identity::Id;
use super::source_step::SourceStep;
use crate::dataflow;
use crate::dataflow::{Fingerprint, Run, StageState, Watermark};
use crate::event_log::GapEntry;
use crate::event_time::WatermarkConfig;
use crate::streams::LifecycleState;
use crate::topic::TopicFailure;

/// The state of the engine between two steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Checkpoint<R> {
    /// The number of the last step.
    pub sequence: u64,
    /// The number of workers, each of which saved its part of every query; manifests of format 1 have none.
    #[serde(default)]
    pub workers: usize,
    /// The logs of sources that were dropped and may still be on disk, by the names of the sources.
    #[serde(default)]
    pub dropped: BTreeMap<String, Id>,
    /// The statements that created what exists, in order.
    pub definitions: Vec<Definition>,
    pub streams: LifecycleState,
    pub sources: BTreeMap<String, SourceCheckpoint>,
    pub topics: BTreeMap<String, TopicCheckpoint<R>>,
    pub queries: BTreeMap<String, QueryCheckpoint<R>>,
    pub sinks: BTreeMap<String, SinkCheckpoint<R>>,
}

impl<R> Default for Checkpoint<R> {
    fn default() -> Self {
        Self {
            sequence: 0,
            workers: 0,
            dropped: BTreeMap::new(),
            definitions: Vec::new(),
            streams: LifecycleState::default(),
            sources: BTreeMap::new(),
            topics: BTreeMap::new(),
            queries: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }
}

/// A statement that created something, and the later changes to it. Debug output leaves out the
/// statements, which may have secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// The name of what it created.
    pub name: String,
    /// The statement, as the user wrote it.
    pub text: String,
    /// Event time that a handle declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<WatermarkConfig>,
    /// One ALTER statement with all changes since; empty if there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub altered: String,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut definition = f.debug_struct("Definition");
        definition.field("name", &self.name).finish_non_exhaustive()
    }
}

/// How far the queries have been fed from a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceCheckpoint {
    /// The offset behind the last row.
    pub offset: u64,
    /// The number of the step that took the last record; 0 before the first.
    pub sequence: u64,
    pub watermark: Watermark,
    /// The position in the external system behind the rows that were fed.
    pub cursor: Option<Cursor>,
    /// Its log when the checkpoint was written; manifests of format 1 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogEnd>,
    /// When the last row arrived, in microseconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_row_us: Option<i64>,
    #[serde(default, skip_serializing_if = "SourceGaps::is_empty")]
    pub gaps: SourceGaps,
}

/// What a manifest says of a log: which it is, and how far it was durable at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    pub id: Id,
    /// The offset behind the last row.
    pub offset: u64,
    /// The number of the step that took the last record.
    pub sequence: u64,
    /// The place behind the last record, bytes since the log began.
    pub place: u64,
    /// The place and the offset with which it began: retention may have removed more since.
    pub first: (u64, u64),
}

/// The intervals in which rows of a source may have been missed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceGaps {
    /// The number of all since the source was created.
    pub count: u64,
    /// The newest of them, oldest first.
    pub newest: Vec<GapEntry>,
}

impl SourceGaps {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for SourceCheckpoint {
    fn default() -> Self {
        Self {
            offset: 0,
            sequence: 0,
            watermark: Watermark::START,
            cursor: None,
            log: None,
            last_row_us: None,
            gaps: SourceGaps::default(),
        }
    }
}

impl LogEnd {
    /// The log of this id, which begins at `first` and ends at `end`.
    pub fn at(id: Id, first: Position, end: Position) -> Self {
        Self {
            first: (first.bytes, first.offset),
            id,
            offset: end.offset,
            sequence: end.sequence,
            place: end.bytes,
        }
    }

    /// Where its first segment began.
    pub fn begin(&self) -> Position {
        Position {
            bytes: self.first.0,
            offset: self.first.1,
            sequence: 0,
        }
    }

    pub fn position(&self) -> Position {
        Position {
            offset: self.offset,
            sequence: self.sequence,
            bytes: self.place,
        }
    }
}

impl SourceCheckpoint {
    /// The queries have been fed a record: what a step took, whose rows end at offset `end`.
    pub fn note(&mut self, end: u64, sequence: u64, taken: &SourceStep) {
        self.offset = end;
        self.sequence = sequence;
        if let Some(watermark) = taken.watermark {
            self.watermark = self.watermark.later(watermark);
        }
        if taken.cursor.is_some() {
            self.cursor.clone_from(&taken.cursor);
        }
        if let Some(from) = taken.from.last() {
            self.last_row_us = self.last_row_us.max(Some(from.arrival_us));
        }
    }
}

/// The state of a topic: a source, its bad rows, a stream, a view or its late rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TopicCheckpoint<R> {
    pub rows: u64,
    pub watermark: Option<Watermark>,
    /// The failure of its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The failure, if its query can go on from the state that is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable: Option<TopicFailure>,
    pub kept: Vec<R>,
}

/// The state of a query: that of each stage on each worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueryCheckpoint<R> {
    /// The stages, in their order; manifests of format 1 have none.
    #[serde(default)]
    pub stages: Vec<Fingerprint>,
    /// What it reads; manifests of format 1 do not say.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// By the number of the worker, its stages in their order.
    pub workers: BTreeMap<usize, Vec<StageState<R>>>,
    /// By name, the rows of each held input whose result changes, as they were when the hold began.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, Vec<R>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SinkCheckpoint<R> {
    /// The sink's position in the external system after the last complete write.
    pub receipt: Option<serde_json::Value>,
    /// Rows that the sink has not written yet.
    pub waiting: Vec<R>,
}

impl<R> Default for SinkCheckpoint<R> {
    fn default() -> Self {
        Self {
            receipt: None,
            waiting: Vec::new(),
        }
    }
}

impl QueryCheckpoint<Run> {
    /// For each of these stages, the number of the saved stage with the same fingerprint; of several with the
    /// same, in their order. A state of format 1 is known by its position alone. Of a stream that was stopped
    /// nothing is saved, and it begins without state: then there are none.
    ///
    /// # Errors
    /// If a stage has no state, or a state no stage.
    pub fn places_of(&self, wanted: &[Fingerprint]) -> dataflow::Result<Vec<usize>> {
        if self.stages.is_empty() {
            let mut saved = self.workers.values().map(Vec::len);
            if saved.clone().all(|saved| saved == 0) {
                return Ok(Vec::new());
            }
            return match saved.find(|saved| *saved != wanted.len()) {
                None => Ok((0..wanted.len()).collect()),
                Some(saved) => refused(format!(
                    "{saved} stages are saved, and the query has {}",
                    wanted.len()
                )),
            };
        }
        let mut left: Vec<Option<&Fingerprint>> = self.stages.iter().map(Some).collect();
        let mut places = Vec::with_capacity(wanted.len());
        for stage in wanted {
            let Some(place) = left.iter().position(|saved| *saved == Some(stage)) else {
                let saved: Vec<_> = left.iter().flatten().map(ToString::to_string).collect();
                let saved = saved.join(", ");
                return refused(format!(
                    "no state is saved for {stage}; there is that of {saved}"
                ));
            };
            left[place] = None;
            places.push(place);
        }
        match left.iter().flatten().next() {
            None => Ok(places),
            Some(stage) => refused(format!(
                "the state of {stage} is saved, which the query does not have"
            )),
        }
    }

    /// The state of stage number `stage` on each worker.
    pub fn stage(&self, stage: usize) -> Vec<StageState> {
        let states = self.workers.values().filter_map(|stages| stages.get(stage));
        states.cloned().collect()
    }
}

fn refused<T>(why: String) -> dataflow::Result<T> {
    Err(DataFusionError::Execution(why))
}

impl SinkCheckpoint<Run> {
    /// The rows of `waiting` are written in this order.
    pub fn new(receipt: Option<serde_json::Value>, waiting: Vec<RecordBatch>) -> Self {
        let waiting = waiting.into_iter().map(|rows| Run::new(0, rows)).collect();
        Self { receipt, waiting }
    }
}

impl<R> Checkpoint<R> {
    /// The same without any state: what exists, and its counters.
    pub fn without_state(&self) -> Checkpoint<Run> {
        let topics = self.topics.iter().map(|(name, topic)| {
            let topic = TopicCheckpoint {
                rows: topic.rows,
                watermark: topic.watermark,
                failure: topic.failure.clone(),
                resumable: topic.resumable.clone(),
                kept: Vec::new(),
            };
            (name.clone(), topic)
        });
        let sinks = self.sinks.iter().map(|(name, sink)| {
            let sink = SinkCheckpoint {
                receipt: sink.receipt.clone(),
                waiting: Vec::new(),
            };
            (name.clone(), sink)
        });
        Checkpoint {
            sequence: self.sequence,
            workers: self.workers,
            dropped: self.dropped.clone(),
            definitions: self.definitions.clone(),
            streams: self.streams.clone(),
            sources: self.sources.clone(),
            topics: topics.collect(),
            queries: BTreeMap::new(),
            sinks: sinks.collect(),
        }
    }

    /// Removes everything but what these definitions create, whose names and topics are in `names`.
    pub fn keep_only(&mut self, definitions: Vec<Definition>, names: &BTreeSet<String>) {
        self.definitions = definitions;
        self.streams.streams.retain(|name, _| names.contains(name));
        let gone = self.sources.extract_if(.., |name, _| !names.contains(name));
        let logs = gone.filter_map(|(name, source)| Some((name, source.log?.id)));
        self.dropped.extend(logs);
        self.topics.retain(|name, _| names.contains(name));
        self.queries.retain(|name, _| names.contains(name));
        self.sinks.retain(|name, _| names.contains(name));
    }

    /// Replaces each run by what `map` makes of it.
    pub fn try_map<S, E>(self, mut map: impl FnMut(R) -> Result<S, E>) -> Result<Checkpoint<S>, E> {
        let map = &mut map;
        let topics = self.topics.into_iter().map(|(name, topic)| {
            let topic = TopicCheckpoint {
                rows: topic.rows,
                watermark: topic.watermark,
                failure: topic.failure,
                resumable: topic.resumable,
                kept: all(topic.kept, map)?,
            };
            Ok((name, topic))
        });
        let topics = topics.collect::<Result<_, E>>()?;
        let queries = self.queries.into_iter().map(|(name, query)| {
            let workers = query.workers.into_iter().map(|(worker, stages)| {
                let stages = stages.into_iter().map(|stage| {
                    Ok(StageState {
                        facts: stage.facts,
                        runs: all(stage.runs, map)?,
                    })
                });
                Ok((worker, stages.collect::<Result<_, E>>()?))
            });
            let workers = workers.collect::<Result<_, E>>()?;
            let held = query.held.into_iter();
            let held = held.map(|(input, rows)| Ok((input, all(rows, map)?)));
            let held = held.collect::<Result<_, E>>()?;
            let query = QueryCheckpoint {
                stages: query.stages,
                inputs: query.inputs,
                workers,
                held,
            };
            Ok((name, query))
        });
        let queries = queries.collect::<Result<_, E>>()?;
        let sinks = self.sinks.into_iter().map(|(name, sink)| {
            let sink = SinkCheckpoint {
                receipt: sink.receipt,
                waiting: all(sink.waiting, map)?,
            };
            Ok((name, sink))
        });
        Ok(Checkpoint {
            sequence: self.sequence,
            workers: self.workers,
            dropped: self.dropped,
            definitions: self.definitions,
            streams: self.streams,
            sources: self.sources,
            sinks: sinks.collect::<Result<_, E>>()?,
            topics,
            queries,
        })
    }

    /// Adds the part of another worker.
    pub fn add(&mut self, part: Self) {
        self.sequence = self.sequence.max(part.sequence);
        self.workers += 1;
        self.sources.extend(part.sources);
        self.topics.extend(part.topics);
        self.sinks.extend(part.sinks);
        for (name, stream) in part.streams.streams {
            self.streams.fed(&name, stream.held);
        }
        for (name, query) in part.queries {
            match self.queries.entry(name) {
                Entry::Vacant(first) => drop(first.insert(query)),
                Entry::Occupied(known) => {
                    let known = known.into_mut();
                    known.workers.extend(query.workers);
                    known.held.extend(query.held);
                }
            }
        }
    }
}

fn all<R, S, E>(runs: Vec<R>, map: &mut impl FnMut(R) -> Result<S, E>) -> Result<Vec<S>, E> {
    runs.into_iter().map(map).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn stage(name: &str) -> Fingerprint {
        let hash = crc32c::crc32c(name.as_bytes());
        let stage = json!({"stage": name, "hash": format!("{hash:016x}")});
        serde_json::from_value(stage).unwrap()
    }

    fn saved(stages: &[&str], positions: usize) -> QueryCheckpoint<Run> {
        QueryCheckpoint {
            stages: stages.iter().map(|name| stage(name)).collect(),
            inputs: Vec::new(),
            workers: BTreeMap::from([(0, vec![StageState::default(); positions])]),
            held: BTreeMap::new(),
        }
    }

    #[test]
    fn state_is_found_by_its_fingerprint() {
        let places = |saved: &QueryCheckpoint<Run>, wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|name| stage(name)).collect();
            saved.places_of(&wanted).map_err(|error| error.to_string())
        };
        let three = saved(&["a", "b", "a"], 3);
        assert_eq!(places(&three, &["a", "b", "a"]), Ok(vec![0, 1, 2]));
        assert_eq!(places(&three, &["b", "a", "a"]), Ok(vec![1, 0, 2]));
        for (wanted, named) in [
            (&["a", "b", "c"][..], "no state is saved for c"),
            (&["a", "b"], "the state of a "),
            (&["a", "b", "a", "b"], "no state is saved for b"),
        ] {
            let why = places(&three, wanted).unwrap_err();
            assert!(why.contains(named), "{why}");
        }
        // One of a stream that was stopped, and one of the first format.
        assert_eq!(places(&saved(&[], 0), &["a", "b"]), Ok(vec![]));
        assert_eq!(places(&saved(&[], 2), &["a", "b"]), Ok(vec![0, 1]));
        let why = places(&saved(&[], 1), &["a", "b"]).unwrap_err();
        assert!(why.contains("1 stages are saved"), "{why}");
    }
}
