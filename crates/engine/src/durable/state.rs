//! What a checkpoint holds: everything that is known between two steps.
//!
//! [`State`] is one type with two lives. In memory its runs are Arrow batches ([`Run`]); in a manifest
//! they are places in data files. [`State::try_map`] leads from one to the other. Names, not numbers,
//! say what belongs to what, since a restart gives new numbers.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::feed::SourceState;
use crate::dataflow::{Run, StageState, Watermark};
use crate::source::WatermarkConfig;
use crate::stream_status::LifecycleState;

/// Everything that is known between two steps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State<R> {
    /// The number of the last step.
    pub sequence: u64,
    /// What was created, in order.
    pub definitions: Vec<Definition>,
    /// What streams were doing.
    pub streams: LifecycleState,
    pub sources: BTreeMap<String, SourceState>,
    pub topics: BTreeMap<String, TopicState<R>>,
    pub queries: BTreeMap<String, QueryState<R>>,
    pub sinks: BTreeMap<String, SinkState<R>>,
}

impl<R> Default for State<R> {
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

/// A statement that created something, and what later changed of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// What it created.
    pub name: String,
    /// The statement, as it was written.
    pub text: String,
    /// Event time that a handle brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<WatermarkConfig>,
    /// The ALTER statement that says all that was changed since; empty if nothing was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub altered: String,
}

/// A source, its bad rows, a stream, a view or its late rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicState<R> {
    /// Rows published so far.
    pub rows: u64,
    pub watermark: Option<Watermark>,
    /// Why its query has failed, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The rows that it keeps.
    pub kept: Vec<R>,
}

/// A query: what each stage of each worker knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueryState<R> {
    /// Worker by worker, stage by stage.
    pub workers: BTreeMap<usize, Vec<StagePart<R>>>,
}

impl<R> Default for QueryState<R> {
    fn default() -> Self {
        Self {
            workers: BTreeMap::new(),
        }
    }
}

/// One stage on one worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StagePart<R> {
    pub facts: BTreeMap<String, i64>,
    pub runs: Vec<R>,
}

/// A sink.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SinkState<R> {
    /// Its place in the outside system after the last complete write.
    pub receipt: Option<serde_json::Value>,
    /// Rows that were not written yet.
    pub waiting: Vec<R>,
}

impl<R> Default for SinkState<R> {
    fn default() -> Self {
        Self {
            receipt: None,
            waiting: Vec::new(),
        }
    }
}

impl QueryState<Run> {
    /// Stage number `stage`, as all workers knew it.
    pub fn stage(&self, stage: usize) -> Vec<StageState> {
        let parts = self.workers.values().filter_map(|stages| stages.get(stage));
        let states = parts.map(|part| StageState {
            facts: part.facts.clone(),
            runs: part.runs.clone(),
        });
        states.collect()
    }
}

impl From<StageState> for StagePart<Run> {
    fn from(state: StageState) -> Self {
        Self {
            facts: state.facts,
            runs: state.runs,
        }
    }
}

impl SinkState<Run> {
    /// With rows that wait in this order.
    pub fn new(receipt: Option<serde_json::Value>, waiting: Vec<RecordBatch>) -> Self {
        let waiting = waiting.into_iter().map(|rows| Run::new(0, rows)).collect();
        Self { receipt, waiting }
    }
}

impl<R> State<R> {
    /// The same with other runs.
    pub fn try_map<S, E>(self, mut map: impl FnMut(R) -> Result<S, E>) -> Result<State<S>, E> {
        let map = &mut map;
        let topics = self.topics.into_iter().map(|(name, topic)| {
            let topic = TopicState {
                rows: topic.rows,
                watermark: topic.watermark,
                failure: topic.failure,
                kept: all(topic.kept, map)?,
            };
            Ok((name, topic))
        });
        let topics = topics.collect::<Result<_, E>>()?;
        let queries = self.queries.into_iter().map(|(name, query)| {
            let workers = query.workers.into_iter().map(|(worker, stages)| {
                let stages = stages.into_iter().map(|stage| {
                    Ok(StagePart {
                        facts: stage.facts,
                        runs: all(stage.runs, map)?,
                    })
                });
                Ok((worker, stages.collect::<Result<_, E>>()?))
            });
            let workers = workers.collect::<Result<_, E>>()?;
            Ok((name, QueryState { workers }))
        });
        let queries = queries.collect::<Result<_, E>>()?;
        let sinks = self.sinks.into_iter().map(|(name, sink)| {
            let sink = SinkState {
                receipt: sink.receipt,
                waiting: all(sink.waiting, map)?,
            };
            Ok((name, sink))
        });
        Ok(State {
            sequence: self.sequence,
            definitions: self.definitions,
            streams: self.streams,
            sources: self.sources,
            sinks: sinks.collect::<Result<_, E>>()?,
            topics,
            queries,
        })
    }

    /// Takes in what another worker knows.
    pub fn add(&mut self, part: Self) {
        self.sequence = self.sequence.max(part.sequence);
        self.sources.extend(part.sources);
        self.topics.extend(part.topics);
        self.sinks.extend(part.sinks);
        for (name, query) in part.queries {
            let known = self.queries.entry(name).or_default();
            known.workers.extend(query.workers);
        }
    }
}

fn all<R, S, E>(runs: Vec<R>, map: &mut impl FnMut(R) -> Result<S, E>) -> Result<Vec<S>, E> {
    runs.into_iter().map(map).collect()
}
