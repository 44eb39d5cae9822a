//! Stateful stages, and the one timely operator that runs them all.
//!
//! A stage is a plain state machine that knows nothing of timely: it is given the chunks of a step
//! and told when the step is complete. [`run`] holds back chunks until every worker has finished
//! the steps before, so a stage sees whole steps, in order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::frontier::MutableAntichain;

use super::chunk::{Chunk, Watermark};

/// A stream of chunks within the dataflow of one query; its time is the epoch.
pub(super) type Chunks<'scope> = timely::dataflow::Stream<'scope, u64, Vec<Chunk>>;

/// The first error of a query, seen by all its workers.
#[derive(Debug, Clone, Default)]
pub struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// What went wrong, if something did: the query has no results from then on.
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Notes the error if it is the first, and gives the value if there is none.
    pub(super) fn check<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.set(&error)).ok()
    }

    /// As [`check`](Self::check) for what `work` gives; a panic in it (a function of DataFusion on a
    /// value that it did not expect) fails the query and nothing else. What `work` was changing
    /// must not be used after a failure.
    pub(super) fn contain<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => self.check(result),
            Err(panic) => {
                let what = panic.downcast_ref::<&str>().map(ToString::to_string);
                let what = what.or_else(|| panic.downcast_ref::<String>().cloned());
                let what = what.unwrap_or_else(|| "a panic without a message".to_owned());
                self.check(exec_err!("an operator panicked: {what}"))
            }
        }
    }

    fn set(&self, error: &DataFusionError) {
        // Losing the race means that another error was first.
        let _ = self.0.set(error.strip_backtrace());
    }
}

/// A state machine that turns steps into steps.
pub(super) trait Stage: 'static {
    /// Rows of the step at hand.
    fn rows(&mut self, rows: RecordBatch, out: &mut Vec<Chunk>) -> Result<()>;

    /// What another worker knew of a window.
    fn partial(&mut self, _window: i64, _rows: RecordBatch) -> Result<()> {
        Ok(())
    }

    /// The step is complete, and this is its watermark.
    fn end_of_step(&mut self, watermark: Watermark, out: &mut Vec<Chunk>) -> Result<()>;
}

/// The chunks of steps that are not complete yet, oldest first.
#[derive(Default)]
struct Pending(VecDeque<(Capability<u64>, Vec<Chunk>)>);

impl Pending {
    fn add(&mut self, capability: Capability<u64>, chunks: &mut Vec<Chunk>) {
        let epoch = *capability.time();
        match self.0.iter().position(|(other, _)| *other.time() >= epoch) {
            Some(at) if *self.0[at].0.time() == epoch => self.0[at].1.append(chunks),
            Some(at) => self.0.insert(at, (capability, std::mem::take(chunks))),
            None => self.0.push_back((capability, std::mem::take(chunks))),
        }
    }

    fn complete(
        &mut self,
        frontier: &MutableAntichain<u64>,
    ) -> Option<(Capability<u64>, Vec<Chunk>)> {
        let (capability, _) = self.0.front()?;
        if frontier.less_equal(capability.time()) {
            return None;
        }
        self.0.pop_front()
    }
}

/// Runs a stage as a timely operator.
pub(super) fn run<'scope, S: Stage>(
    input: Chunks<'scope>,
    name: &str,
    failure: Failure,
    mut stage: S,
) -> Chunks<'scope> {
    input.unary_frontier(Pipeline, name, move |_, _| {
        let mut pending = Pending::default();
        let mut watermark = Watermark::START;
        let mut out = Vec::new();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                for chunks in batches {
                    pending.add(time.retain(0), chunks);
                }
            });
            while let Some((capability, chunks)) = pending.complete(frontier) {
                if failure.get().is_some() {
                    continue;
                }
                let work = || step(&mut stage, chunks, &mut watermark, &mut out);
                if failure.contain(work).is_some() {
                    output.session(&capability).give_iterator(out.drain(..));
                }
            }
        }
    })
}

fn step<S: Stage>(
    stage: &mut S,
    chunks: Vec<Chunk>,
    watermark: &mut Watermark,
    out: &mut Vec<Chunk>,
) -> Result<()> {
    for chunk in chunks {
        match chunk {
            Chunk::Rows(rows) => stage.rows(rows, out)?,
            Chunk::Partial { window, rows } => stage.partial(window, rows)?,
            Chunk::Watermark(at) => *watermark = watermark.later(at),
            late @ Chunk::Late { .. } => out.push(late),
        }
    }
    stage.end_of_step(*watermark, out)?;
    out.push(Chunk::Watermark(*watermark));
    Ok(())
}
