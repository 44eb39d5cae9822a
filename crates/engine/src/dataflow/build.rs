//! Builds the dataflow of a plan on one worker.
//!
//! The same plan is built on every worker, in the same order. With one worker nothing is exchanged.
//! With several, watermarks go to all workers right behind the inputs (**spread**), partial results
//! go to the worker of their key, and results to the query's **home** worker, whose outlet has them
//! all when the step is complete.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Literal;
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::{Handle as Probe, Probe as _};
use timely::dataflow::operators::vec::{Input as _, Map};
use timely::dataflow::{InputHandle, Scope};

use super::keyed::{Delta, Keyed};
use super::metadata_columns::MetadataColumns;
use super::plan::{Node, Plan};
use super::saved::{self, StageHandle};
use super::session::Sessions;
use super::stage::{self, Arriving, Stage, StreamElements};
use super::stream_element::StreamElement;
use super::transform::{self, Transform};
use super::union::union;
use super::window::{Close, Merge, Windows};

pub use super::stage::Failure;

/// One input of a running query: takes the chunks of a step, then is advanced to the next.
pub type Input = InputHandle<u64, CapacityContainerBuilder<Vec<StreamElement>>>;

/// What a query has produced, step by step. Peers may be ahead, so it may hold chunks of steps that
/// this worker has not come to yet.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<Vec<Produced>>>);

struct Produced {
    epoch: u64,
    /// The worker that it is from.
    from: usize,
    chunk: StreamElement,
}

impl Outlet {
    /// Takes what was produced up to and including step `epoch`, which is complete: step by step, and
    /// what one worker made after what the workers before it made.
    pub fn take(&self, epoch: u64) -> Vec<StreamElement> {
        let mut held = self.0.borrow_mut();
        let (mut due, later): (Vec<_>, _) = held.drain(..).partition(|it| it.epoch <= epoch);
        *held = later;
        due.sort_by_key(|it| (it.epoch, it.from));
        due.into_iter().map(|it| it.chunk).collect()
    }

    fn add(&self, epoch: u64, chunks: impl Iterator<Item = (usize, StreamElement)>) {
        let produced = chunks.map(|(from, chunk)| Produced { epoch, from, chunk });
        self.0.borrow_mut().extend(produced);
    }
}

/// One worker's part of a running query.
pub struct Built {
    /// The inputs, in the order of their numbers.
    pub inputs: Vec<Input>,
    /// Tells which steps are complete on every worker.
    pub probe: Probe<u64>,
    /// What the query has produced; on the home worker only.
    pub outlet: Outlet,
    /// What has state, in an order that is the same on every worker and whenever the plan is built.
    pub stages: Vec<StageHandle>,
}

/// Builds `plan`, with `inputs` inputs, in `scope`. `home` is the worker that gets the results.
///
/// # Errors
/// If an aggregate of the plan cannot be set up.
pub fn build(
    scope: Scope<'_, u64>,
    plan: &Plan,
    inputs: usize,
    home: usize,
    failure: &Failure,
) -> Result<Built> {
    let (handles, streams): (Vec<_>, Vec<_>) = (0..inputs)
        .map(|_| scope.new_input::<StreamElement>())
        .unzip();
    let inputs = streams.into_iter().enumerate().map(|(number, input)| {
        let stamp = plan.stamps.get(number).cloned().flatten();
        spread(match stamp {
            Some(stamp) => stamped(input, stamp, failure.clone()),
            None => input,
        })
    });
    let inputs = inputs.collect();
    let mut builder = Builder {
        scope,
        inputs,
        failure: failure.clone(),
        stages: Vec::new(),
    };
    let result = builder.node(&plan.root)?;
    let outlet = Outlet::default();
    let collected = if scope.peers() == 1 {
        collect(result, outlet.clone())
    } else {
        let gathered = exchange(result, "gather", Route::Home(home), failure.clone());
        collect(gathered, outlet.clone())
    };
    let (probe, result) = collected.probe();
    drop(result);
    Ok(Built {
        inputs: handles,
        probe,
        outlet,
        stages: builder.stages,
    })
}

struct Builder<'scope> {
    scope: Scope<'scope, u64>,
    inputs: Vec<StreamElements<'scope>>,
    failure: Failure,
    stages: Vec<StageHandle>,
}

impl<'scope> Builder<'scope> {
    fn node(&mut self, node: &Node) -> Result<StreamElements<'scope>> {
        Ok(match node {
            Node::Input { input } => self.inputs[*input].clone(),
            Node::Empty => transform(
                self.inputs[0].clone(),
                vec![nothing()],
                self.failure.clone(),
            ),
            Node::Transform { from, steps } => {
                let from = self.node(from)?;
                transform(from, steps.clone(), self.failure.clone())
            }
            Node::Union { from } => {
                let from = from
                    .iter()
                    .map(|node| self.node(node))
                    .collect::<Result<_>>()?;
                let (united, handle) = union(from);
                self.stages.push(handle);
                united
            }
            Node::Window { from, spec } => {
                let from = self.node(from)?;
                if self.scope.peers() == 1 {
                    let windows = Windows::new(Arc::clone(spec), Close::Results);
                    return Ok(self.stage(from, "window", windows));
                }
                let windows = Windows::new(Arc::clone(spec), Close::Partials);
                let closed = self.stage(from, "window", windows);
                let keys = spec.grouping.key_count();
                let keys = move |run: &RecordBatch| Ok(run.columns()[..keys].to_vec());
                let merged = self.stage_by_key(closed, keys, "merge", Merge::new(Arc::clone(spec)));
                // One worker has no such stage, and it knows nothing between steps.
                self.stages.pop();
                merged
            }
            Node::Session { from, spec } => {
                let from = self.node(from)?;
                let keys = Arc::clone(spec);
                let keys = move |rows: &RecordBatch| keys.grouping.keys_of(rows);
                let sessions = Sessions::new(Arc::clone(spec));
                self.stage_by_key(from, keys, "session", sessions)
            }
            Node::Keyed { from, spec } => {
                let from = self.node(from)?;
                let delta = self.stage(from, "delta", Delta::new(spec)?);
                let keys = spec.grouping.key_count();
                let keys = move |run: &RecordBatch| Ok(run.columns()[..keys].to_vec());
                let owns_total = self.scope.index() == 0;
                let keyed = Keyed::new(Arc::clone(spec), owns_total)?;
                self.stage_by_key(delta, keys, "keyed", keyed)
            }
        })
    }

    fn stage(
        &mut self,
        input: timely::dataflow::Stream<'scope, u64, Vec<impl Arriving>>,
        name: &str,
        stage: impl Stage,
    ) -> StreamElements<'scope> {
        let (output, handle) = stage::run(input, name, self.failure.clone(), stage);
        self.stages.push(handle);
        output
    }

    /// A stage to which rows and partial results go by their keys.
    fn stage_by_key(
        &mut self,
        input: StreamElements<'scope>,
        keys: impl Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + 'static,
        name: &str,
        stage: impl Stage,
    ) -> StreamElements<'scope> {
        if self.scope.peers() == 1 {
            return self.stage(input, name, stage);
        }
        let route = Route::ByKey(Box::new(keys));
        let routed = exchange(input, "by key", route, self.failure.clone());
        self.stage(routed, name, stage)
    }
}

fn transform<'scope>(
    input: StreamElements<'scope>,
    steps: Vec<Transform>,
    failure: Failure,
) -> StreamElements<'scope> {
    input.unary(Pipeline, "transform", move |_, _| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for chunk in batches.flat_map(|chunks| chunks.drain(..)) {
                    match chunk {
                        StreamElement::Rows(rows) => {
                            let done = failure.guard(|| transform::apply(&steps, rows));
                            if let Some(Some(rows)) = done {
                                session.give(StreamElement::Rows(rows));
                            }
                        }
                        other => session.give(other),
                    }
                }
            });
        }
    })
}

/// Gives rows the hidden columns that the plan names.
fn stamped<'scope>(
    input: StreamElements<'scope>,
    stamp: MetadataColumns,
    failure: Failure,
) -> StreamElements<'scope> {
    let mut from = None;
    input.unary(Pipeline, "stamp", move |_, _| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for chunk in batches.flat_map(|chunks| chunks.drain(..)) {
                    match (chunk, &from) {
                        (StreamElement::From(provenance), _) => from = Some(provenance),
                        (StreamElement::Rows(rows), Some(provenance)) => {
                            let rows = failure.guard(|| Ok(stamp.apply(&rows, provenance)?));
                            session.give_iterator(rows.map(StreamElement::Rows).into_iter());
                        }
                        (StreamElement::Rows(_), None) => {
                            failure.set("rows from nowhere".to_owned())
                        }
                        (other, _) => session.give(other),
                    }
                }
            });
        }
    })
}

/// Lets no row through, only the time.
fn nothing() -> Transform {
    Transform::Filter(Arc::new(Literal::new(ScalarValue::Boolean(Some(false)))))
}

/// Keeps what arrives for the engine to take.
fn collect<'scope, C: Arriving>(
    input: timely::dataflow::Stream<'scope, u64, Vec<C>>,
    outlet: Outlet,
) -> StreamElements<'scope> {
    input.unary::<CapacityContainerBuilder<Vec<StreamElement>>, _, _, _>(
        Pipeline,
        "collect",
        move |_, _| {
            move |input, _output| {
                input.for_each_time(|time, batches| {
                    for chunks in batches {
                        outlet.add(*time.time(), chunks.drain(..).map(C::open));
                    }
                });
            }
        },
    )
}

/// The keys of rows, or of partial results.
type Keys = Box<dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>>>;

/// Where chunks go. Behind `Spread` every worker has every watermark, so nobody else sends one on.
enum Route {
    /// Watermarks to every worker; the rest stays where it is.
    Spread,
    /// Each row to the worker of its keys; the rest stays where it is.
    ByKey(Keys),
    /// Everything to this worker.
    Home(usize),
}

/// A chunk on its way between workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Addressed {
    from: usize,
    to: usize,
    chunk: StreamElement,
}

impl Arriving for Addressed {
    fn open(self) -> (usize, StreamElement) {
        (self.from, self.chunk)
    }
}

/// Only watermarks cross workers here, so there is no order to keep.
fn spread(input: StreamElements<'_>) -> StreamElements<'_> {
    if input.scope().peers() == 1 {
        return input;
    }
    exchange(input, "spread", Route::Spread, Failure::default()).map(|part| part.chunk)
}

/// Sends chunks along `route`. They arrive in any order of workers, and those of one worker in
/// theirs.
fn exchange<'scope>(
    input: StreamElements<'scope>,
    name: &str,
    route: Route,
    failure: Failure,
) -> Addresseds<'scope> {
    let (here, peers) = (input.scope().index(), input.scope().peers());
    let addressed: Addresseds<'scope> = input.unary(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for chunk in batches.flat_map(|chunks| chunks.drain(..)) {
                    let parts = failure.guard(|| address(chunk, here, peers, &route));
                    session.give_iterator(parts.unwrap_or_default().into_iter());
                }
            });
        }
    });
    let to_worker = Exchange::new(|part: &Addressed| part.to as u64);
    addressed.unary(to_worker, "exchange", |_, _| {
        |input, output| {
            input.for_each_time(|time, parts| output.session(&time).give_containers(parts));
        }
    })
}

type Addresseds<'scope> = timely::dataflow::Stream<'scope, u64, Vec<Addressed>>;

fn address(
    chunk: StreamElement,
    here: usize,
    peers: usize,
    route: &Route,
) -> Result<Vec<Addressed>> {
    let from = here;
    Ok(match (chunk, route) {
        (chunk @ StreamElement::Watermark(_), Route::Spread) => {
            let copies = (0..peers).map(|to| Addressed {
                from,
                to,
                chunk: chunk.clone(),
            });
            copies.collect()
        }
        (StreamElement::Watermark(_), Route::Home(home)) if *home != here => Vec::new(),
        (chunk, &Route::Home(to)) => vec![Addressed { from, to, chunk }],
        (StreamElement::Rows(rows), Route::ByKey(keys)) => {
            divide(&rows, from, peers, keys, StreamElement::Rows)?
        }
        (StreamElement::Partial { window, rows }, Route::ByKey(keys)) => {
            let wrap = |rows| StreamElement::Partial { window, rows };
            divide(&rows, from, peers, keys, wrap)?
        }
        (chunk, Route::Spread | Route::ByKey(_)) => {
            let to = here;
            vec![Addressed { from, to, chunk }]
        }
    })
}

fn divide(
    rows: &RecordBatch,
    from: usize,
    peers: usize,
    keys: &Keys,
    wrap: impl Fn(RecordBatch) -> StreamElement,
) -> Result<Vec<Addressed>> {
    let mut members = vec![Vec::new(); peers];
    (0u32..)
        .zip(saved::owners(&keys(rows)?, rows.num_rows(), peers)?)
        .for_each(|(row, to)| members[to].push(row));
    let parts = members
        .into_iter()
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty());
    parts
        .map(|(to, members)| {
            let rows = take_record_batch(rows, &UInt32Array::from(members))?;
            let chunk = wrap(rows);
            Ok(Addressed { from, to, chunk })
        })
        .collect()
}
