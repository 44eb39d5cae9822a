//! Stateful stages, and the one timely operator that runs them all.
//!
//! A stage is a plain state machine that knows nothing of timely: it is given the chunks of a step
//! and told when the step is complete. [`run`] holds back chunks until every worker has finished
//! the steps before, so a stage sees whole steps, in order. Within a step it sees the chunks of the
//! first worker, then those of the second and so on, however they arrived: what a stage emits
//! depends on the input alone, down to the order of rows.
//!
//! Between steps nothing is held back, so the stage and the watermark are all that is known:
//! [`Running`] hands them out and takes them in.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::frontier::MutableAntichain;

use super::saved::{Saved, Share, StageHandle, StageState};
use super::stream_element::{StreamElement, Watermark};

/// A stream of chunks within the dataflow of one query; its time is the epoch.
pub(super) type StreamElements<'scope> = timely::dataflow::Stream<'scope, u64, Vec<StreamElement>>;

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
        let reason = match contain(work) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.strip_backtrace(),
            Err(panic) => panic,
        };
        self.set(reason);
        None
    }

    /// The query has failed of this, if of nothing before.
    pub fn set(&self, reason: String) {
        // Losing the race means that another error was first.
        let _ = self.0.set(reason);
    }
}

/// Runs `work`; a panic becomes its message.
fn contain<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| format!("an expression panicked: {}", panic_message(&*panic)))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// A state machine that turns steps into steps.
pub(super) trait Stage: 'static {
    /// Rows of the step at hand.
    fn rows(&mut self, rows: RecordBatch, out: &mut Vec<StreamElement>) -> Result<()>;

    /// What another worker knew of a window.
    fn partial(&mut self, _window: i64, _rows: RecordBatch) -> Result<()> {
        Ok(())
    }

    /// The step is complete, and this is its watermark.
    fn end_of_step(&mut self, watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()>;

    /// Hands out what is known between two steps. What comes later is as if this had not been asked.
    fn save(&mut self) -> Result<StageState>;

    /// Takes in what all workers of the run before had handed out. Only before the first step.
    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()>;
}

/// A chunk as it comes to an operator, which can tell the worker that it is from.
pub(super) trait Arriving: 'static {
    /// The number of the worker, and the chunk.
    fn open(self) -> (usize, StreamElement);
}

/// From the operator before, on the same worker.
impl Arriving for StreamElement {
    fn open(self) -> (usize, StreamElement) {
        (0, self)
    }
}

/// The chunks of a step and the workers that they are from.
type Arrived = Vec<(usize, StreamElement)>;

/// The chunks of steps that are not complete yet, oldest first.
#[derive(Default)]
struct Pending(VecDeque<(Capability<u64>, Arrived)>);

impl Pending {
    fn add(
        &mut self,
        capability: Capability<u64>,
        chunks: impl Iterator<Item = (usize, StreamElement)>,
    ) {
        let epoch = *capability.time();
        match self.0.iter().position(|(other, _)| *other.time() >= epoch) {
            Some(at) if *self.0[at].0.time() == epoch => self.0[at].1.extend(chunks),
            Some(at) => self.0.insert(at, (capability, chunks.collect())),
            None => self.0.push_back((capability, chunks.collect())),
        }
    }

    /// The oldest step if it is complete, its chunks in the order of the workers.
    fn complete(&mut self, frontier: &MutableAntichain<u64>) -> Option<(Capability<u64>, Arrived)> {
        let (capability, _) = self.0.front()?;
        if frontier.less_equal(capability.time()) {
            return None;
        }
        let (capability, mut chunks) = self.0.pop_front()?;
        // What one worker sent stays in its order.
        chunks.sort_by_key(|(from, _)| *from);
        Some((capability, chunks))
    }
}

/// A stage between two steps.
struct Running<S> {
    stage: S,
    watermark: Watermark,
}

impl<S: Stage> Running<S> {
    fn step(&mut self, chunks: Arrived, out: &mut Vec<StreamElement>) -> Result<()> {
        for (_, chunk) in chunks {
            match chunk {
                StreamElement::Rows(rows) => self.stage.rows(rows, out)?,
                StreamElement::Partial { window, rows } => self.stage.partial(window, rows)?,
                StreamElement::Watermark(at) => self.watermark = self.watermark.later(at),
                late @ StreamElement::Late { .. } => out.push(late),
                StreamElement::From(_) => {}
            }
        }
        self.stage.end_of_step(self.watermark, out)?;
        out.push(StreamElement::Watermark(self.watermark));
        Ok(())
    }
}

impl<S: Stage> Saved for Running<S> {
    fn save(&mut self) -> Result<StageState> {
        let mut state = contain(|| self.stage.save()).map_err(DataFusionError::Execution)??;
        self.watermark.note(&mut state, "watermark");
        Ok(state)
    }

    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()> {
        self.watermark = Watermark::noted(states, "watermark");
        contain(|| self.stage.restore(states, share)).map_err(DataFusionError::Execution)?
    }
}

/// Runs a stage as a timely operator.
pub(super) fn run<'scope, S: Stage, C: Arriving>(
    input: timely::dataflow::Stream<'scope, u64, Vec<C>>,
    name: &str,
    failure: Failure,
    stage: S,
) -> (StreamElements<'scope>, StageHandle) {
    let watermark = Watermark::START;
    let running = Rc::new(RefCell::new(Running { stage, watermark }));
    let handle = StageHandle::new(running.clone());
    let output = input.unary_frontier(Pipeline, name, move |_, _| {
        let mut pending = Pending::default();
        let mut out = Vec::new();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                for chunks in batches {
                    pending.add(time.retain(0), chunks.drain(..).map(C::open));
                }
            });
            while let Some((capability, chunks)) = pending.complete(frontier) {
                if failure.get().is_some() {
                    continue;
                }
                let done = failure.guard(|| running.borrow_mut().step(chunks, &mut out));
                if done.is_some() {
                    output.session(&capability).give_iterator(out.drain(..));
                }
            }
        }
    });
    (output, handle)
}
