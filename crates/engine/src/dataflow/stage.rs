//! Stateful stages, and the one timely operator that runs them all.
//!
//! A stage is a plain state machine that knows nothing of timely: it gets the elements of a step and a
//! call at its end. [`run`] holds back elements until every worker has finished the steps before, so a
//! stage sees whole steps, in order. Within a step it sees the elements of the first worker, then those
//! of the second and so on, however they arrived: what a stage emits depends on the input alone, down
//! to the order of rows.
//!
//! Between steps nothing is held back, so the state is that of the stage and the watermark:
//! [`RunningStage`] saves and restores both.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::frontier::MutableAntichain;

use super::frontier::Frontier;
use super::open_windows::StageWindows;
use super::query_errors::{QueryErrors, contain};
use super::stage_state::{Checkpointed, Share, StageHandle, StageState};
use super::stream_element::{StreamElement, Watermark};

/// A stream of elements within the dataflow of one query; its time is the epoch.
pub(super) type StreamElements<'scope> = timely::dataflow::Stream<'scope, u64, Vec<StreamElement>>;

/// A state machine that maps the elements of each step to those of its output.
pub(super) trait Stage: 'static {
    /// Processes rows of the step at hand; `frontier` is that of their source before each of them. A stage
    /// of partial results passes rows on.
    fn rows(
        &mut self,
        rows: RecordBatch,
        _frontier: &Frontier,
        out: &mut Vec<StreamElement>,
    ) -> Result<()> {
        out.push(StreamElement::rows(rows));
        Ok(())
    }

    /// Processes the groups that one worker had of a window.
    fn partial(&mut self, _window: i64, _rows: RecordBatch) -> Result<()> {
        Ok(())
    }

    /// Ends the step, which is complete and has this watermark.
    fn end_of_step(&mut self, watermark: Watermark, out: &mut Vec<StreamElement>) -> Result<()>;

    /// The watermark at which its first open window closes, in microseconds.
    fn closes_us(&self) -> Option<i64> {
        None
    }

    /// The state between two steps. A stage that has none leaves out `save` and `restore`.
    fn save(&mut self) -> Result<StageState> {
        Ok(StageState::default())
    }

    fn restore(&mut self, _states: &[StageState], _share: Share) -> Result<()> {
        Ok(())
    }
}

/// An element as it comes to an operator, with the worker that it is from.
pub(super) trait Arriving: 'static {
    /// The number of the worker, and the element.
    fn open(self) -> (usize, StreamElement);
}

/// An element of the operator before, on the same worker.
impl Arriving for StreamElement {
    fn open(self) -> (usize, StreamElement) {
        (0, self)
    }
}

/// The elements of a step, each with the number of the worker that it is from.
type Arrived = Vec<(usize, StreamElement)>;

/// The elements of steps that are not complete yet, oldest first.
#[derive(Default)]
struct Pending(VecDeque<(Capability<u64>, Arrived)>);

impl Pending {
    fn add(
        &mut self,
        capability: Capability<u64>,
        elements: impl Iterator<Item = (usize, StreamElement)>,
    ) {
        let epoch = *capability.time();
        match self.0.iter().position(|(other, _)| *other.time() >= epoch) {
            Some(at) if *self.0[at].0.time() == epoch => self.0[at].1.extend(elements),
            Some(at) => self.0.insert(at, (capability, elements.collect())),
            None => self.0.push_back((capability, elements.collect())),
        }
    }

    /// The oldest step if it is complete, its elements in the order of the workers.
    fn complete(&mut self, frontier: &MutableAntichain<u64>) -> Option<(Capability<u64>, Arrived)> {
        let (capability, _) = self.0.front()?;
        if frontier.less_equal(capability.time()) {
            return None;
        }
        let (capability, mut elements) = self.0.pop_front()?;
        // A stable sort: the elements of one worker stay in their order.
        elements.sort_by_key(|(from, _)| *from);
        Some((capability, elements))
    }
}

struct RunningStage<S> {
    stage: S,
    watermark: Watermark,
    windows: StageWindows,
}

impl<S: Stage> RunningStage<S> {
    fn step(&mut self, elements: Arrived, out: &mut Vec<StreamElement>) -> Result<()> {
        for (_, element) in elements {
            match element {
                StreamElement::Rows(rows, frontier) => self.stage.rows(rows, &frontier, out)?,
                StreamElement::Partial { window, rows } => self.stage.partial(window, rows)?,
                StreamElement::Watermark(at) => self.watermark = self.watermark.later(at),
                aside @ (StreamElement::Late { .. } | StreamElement::Failed(_)) => out.push(aside),
                StreamElement::From(_) => {}
            }
        }
        self.stage.end_of_step(self.watermark, out)?;
        self.windows.note(self.stage.closes_us());
        out.push(StreamElement::Watermark(self.watermark));
        Ok(())
    }
}

impl<S: Stage> Checkpointed for RunningStage<S> {
    fn save(&mut self) -> Result<StageState> {
        let mut state = contain(|| self.stage.save()).map_err(DataFusionError::Execution)??;
        self.watermark.save(&mut state, "watermark");
        Ok(state)
    }

    fn restore(&mut self, states: &[StageState], share: Share) -> Result<()> {
        self.watermark = Watermark::saved(states, "watermark");
        let restored = contain(|| self.stage.restore(states, share));
        restored.map_err(DataFusionError::Execution)??;
        self.windows.note(self.stage.closes_us());
        Ok(())
    }
}

pub(super) fn run<'scope, S: Stage, C: Arriving>(
    input: timely::dataflow::Stream<'scope, u64, Vec<C>>,
    name: &str,
    errors: QueryErrors,
    stage: S,
    windows: StageWindows,
) -> (StreamElements<'scope>, StageHandle) {
    let running = Rc::new(RefCell::new(RunningStage {
        stage,
        watermark: Watermark::START,
        windows,
    }));
    let handle = StageHandle::new(running.clone());
    let output = input.unary_frontier(Pipeline, name, move |_, _| {
        let mut pending = Pending::default();
        let mut out = Vec::new();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                for elements in batches {
                    pending.add(time.retain(0), elements.drain(..).map(C::open));
                }
            });
            while let Some((capability, elements)) = pending.complete(frontier) {
                if !errors.begin(*capability.time()) {
                    continue;
                }
                let step = || running.borrow_mut().step(elements, &mut out);
                match errors.guard_stage(step) {
                    Some(()) => output.session(&capability).give_iterator(out.drain(..)),
                    None => out.clear(),
                }
            }
        }
    });
    (output, handle)
}
