//! Stateful stages, and the one timely operator that runs them all.
//!
//! A stage is a plain state machine that knows nothing of timely: it is given the chunks of a step
//! and told when the step is complete. [`run`] holds back chunks until every worker has finished
//! the steps before, so a stage sees whole steps, in order.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use datafusion::error::Result;
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

    /// Runs `work` and gives what it gives. An error or a panic is noted if it is the first, and
    /// ends the query, never the worker.
    pub(super) fn guard<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                self.set(error.strip_backtrace());
                None
            }
            Err(panic) => {
                self.set(format!(
                    "an expression panicked: {}",
                    panic_message(&*panic)
                ));
                None
            }
        }
    }

    fn set(&self, reason: String) {
        // Losing the race means that another error was first.
        let _ = self.0.set(reason);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
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
                let done = failure.guard(|| step(&mut stage, chunks, &mut watermark, &mut out));
                if done.is_some() {
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
