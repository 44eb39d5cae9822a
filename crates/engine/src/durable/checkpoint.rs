//! What a checkpoint holds: the state of the whole engine between two steps.
//!
//! [`Checkpoint`] is one type in two forms. In memory its runs are Arrow batches ([`Run`]); in a
//! manifest they are locations in data files. [`Checkpoint::try_map`] converts one into the other.
//! Names, not numbers, link the parts, since a restart gives new numbers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::RecordBatch;
use headwater_connect::Cursor;
use serde::{Deserialize, Serialize};

use crate::dataflow::{Run, StageState, Watermark};
use crate::event_time::WatermarkConfig;
use crate::streams::LifecycleState;
use crate::topic::TopicFailure;

/// The state of the engine between two steps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint<R> {
    /// The number of the last step.
    pub sequence: u64,
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
            definitions: Vec::new(),
            streams: LifecycleState::default(),
            sources: BTreeMap::new(),
            topics: BTreeMap::new(),
            queries: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }
}

/// A statement that created something, and the later changes to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

impl Default for SourceCheckpoint {
    fn default() -> Self {
        Self {
            offset: 0,
            sequence: 0,
            watermark: Watermark::START,
            cursor: None,
        }
    }
}

/// The state of a topic: a source, its bad rows, a stream, a view or its late rows.
#[derive(Debug, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueryCheckpoint<R> {
    /// By the number of the worker, its stages in their order.
    pub workers: BTreeMap<usize, Vec<StageState<R>>>,
    /// By name, the rows of each held input whose result changes, as they were when the hold began.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, Vec<R>>,
}

#[derive(Debug, Serialize, Deserialize)]
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
    /// The states of stage number `stage` on all workers.
    pub fn stage(&self, stage: usize) -> Vec<StageState> {
        let states = self.workers.values().filter_map(|stages| stages.get(stage));
        states.cloned().collect()
    }
}

impl SinkCheckpoint<Run> {
    /// The rows of `waiting` are written in this order.
    pub fn new(receipt: Option<serde_json::Value>, waiting: Vec<RecordBatch>) -> Self {
        let waiting = waiting.into_iter().map(|rows| Run::new(0, rows)).collect();
        Self { receipt, waiting }
    }
}

impl<R> Checkpoint<R> {
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
            Ok((name, QueryCheckpoint { workers, held }))
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
