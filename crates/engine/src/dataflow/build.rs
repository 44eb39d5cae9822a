//! Builds the dataflow of a plan on one worker.
//!
//! The same plan is built on every worker, in the same order. With one worker nothing is exchanged.
//! With several, watermarks go to all workers right behind the inputs (**spread**), partial results
//! go to the worker of their key, and results to the query's **home** worker, whose outlet has them
//! all when the step is complete.

use std::cell::RefCell;
use std::collections::VecDeque;
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

use super::chunk::Chunk;
use super::keyed::{Delta, Keyed};
use super::plan::{Node, Plan};
use super::saved::{self, StageHandle};
use super::session::Sessions;
use super::stage::{self, Chunks};
use super::transform::{self, Transform};
use super::union::union;
use super::window::{Close, Merge, Windows};

pub use super::stage::Failure;

/// One input of a running query: takes the chunks of a step, then is advanced to the next.
pub type Input = InputHandle<u64, CapacityContainerBuilder<Vec<Chunk>>>;

/// What a query has produced, step by step. Peers may be ahead, so it may hold chunks of steps that
/// this worker has not come to yet.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<VecDeque<(u64, Chunk)>>>);

impl Outlet {
    /// Takes what was produced up to and including step `epoch`.
    pub fn take(&self, epoch: u64) -> Vec<Chunk> {
        let mut held = self.0.borrow_mut();
        let (due, later) = held.drain(..).partition(|(of, _)| *of <= epoch);
        *held = later;
        let due: VecDeque<(u64, Chunk)> = due;
        due.into_iter().map(|(_, chunk)| chunk).collect()
    }

    fn add(&self, epoch: u64, chunks: &mut Vec<Chunk>) {
        self.0
            .borrow_mut()
            .extend(chunks.drain(..).map(|chunk| (epoch, chunk)));
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
    let (handles, streams): (Vec<_>, Vec<_>) =
        (0..inputs).map(|_| scope.new_input::<Chunk>()).unzip();
    let inputs = streams.into_iter().map(spread).collect();
    let mut builder = Builder {
        scope,
        inputs,
        failure: failure.clone(),
    };
    let result = builder.node(&plan.root)?;
    let result = exchange(result, "gather", Route::Home(home), failure.clone());
    let outlet = Outlet::default();
    let (probe, result) = collect(result, outlet.clone()).probe();
    drop(result);
    Ok(Built {
        inputs: handles,
        probe,
        outlet,
        stages: Vec::new(),
    })
}

struct Builder<'scope> {
    scope: Scope<'scope, u64>,
    inputs: Vec<Chunks<'scope>>,
    failure: Failure,
}

impl<'scope> Builder<'scope> {
    fn node(&mut self, node: &Node) -> Result<Chunks<'scope>> {
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
                union(from)
            }
            Node::Window { from, spec } => {
                let from = self.node(from)?;
                let several = self.scope.peers() > 1;
                let close = if several {
                    Close::Partials
                } else {
                    Close::Results
                };
                let windows = Windows::new(Arc::clone(spec), close);
                let closed = stage::run(from, "window", self.failure.clone(), windows);
                if !several {
                    return Ok(closed);
                }
                let keys = spec.grouping.key_count();
                let routed = self.by_key(closed, move |run| Ok(run.columns()[..keys].to_vec()));
                let merge = Merge::new(Arc::clone(spec));
                stage::run(routed, "merge", self.failure.clone(), merge)
            }
            Node::Session { from, spec } => {
                let from = self.node(from)?;
                let keys = Arc::clone(spec);
                let routed = self.by_key(from, move |rows| keys.grouping.keys_of(rows));
                let sessions = Sessions::new(Arc::clone(spec));
                stage::run(routed, "session", self.failure.clone(), sessions)
            }
            Node::Keyed { from, spec } => {
                let from = self.node(from)?;
                let delta = stage::run(from, "delta", self.failure.clone(), Delta::new(spec)?);
                let keys = spec.grouping.key_count();
                let routed = self.by_key(delta, move |run| Ok(run.columns()[..keys].to_vec()));
                let owns_total = self.scope.index() == 0;
                let keyed = Keyed::new(Arc::clone(spec), owns_total)?;
                stage::run(routed, "keyed", self.failure.clone(), keyed)
            }
        })
    }

    /// Sends rows and partial results to the worker of their keys.
    fn by_key(
        &self,
        input: Chunks<'scope>,
        keys: impl Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + 'static,
    ) -> Chunks<'scope> {
        exchange(
            input,
            "by key",
            Route::ByKey(Box::new(keys)),
            self.failure.clone(),
        )
    }
}

fn transform<'scope>(
    input: Chunks<'scope>,
    steps: Vec<Transform>,
    failure: Failure,
) -> Chunks<'scope> {
    input.unary(Pipeline, "transform", move |_, _| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for chunk in batches.flat_map(|chunks| chunks.drain(..)) {
                    match chunk {
                        Chunk::Rows(rows) => {
                            let done = failure.guard(|| transform::apply(&steps, rows));
                            if let Some(Some(rows)) = done {
                                session.give(Chunk::Rows(rows));
                            }
                        }
                        other => session.give(other),
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
fn collect<'scope>(input: Chunks<'scope>, outlet: Outlet) -> Chunks<'scope> {
    input.unary::<CapacityContainerBuilder<Vec<Chunk>>, _, _, _>(
        Pipeline,
        "collect",
        move |_, _| {
            move |input, _output| {
                input.for_each_time(|time, batches| {
                    batches.for_each(|chunks| outlet.add(*time.time(), chunks));
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

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Addressed {
    to: usize,
    chunk: Chunk,
}

fn spread(input: Chunks<'_>) -> Chunks<'_> {
    exchange(input, "spread", Route::Spread, Failure::default())
}

/// Sends chunks along `route`. With one worker, does nothing.
fn exchange<'scope>(
    input: Chunks<'scope>,
    name: &str,
    route: Route,
    failure: Failure,
) -> Chunks<'scope> {
    let (here, peers) = (input.scope().index(), input.scope().peers());
    if peers == 1 {
        return input;
    }
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
    let exchanged: Addresseds<'scope> = addressed.unary(to_worker, "exchange", |_, _| {
        |input, output| {
            input.for_each_time(|time, parts| output.session(&time).give_containers(parts));
        }
    });
    exchanged.map(|part| part.chunk)
}

type Addresseds<'scope> = timely::dataflow::Stream<'scope, u64, Vec<Addressed>>;

fn address(chunk: Chunk, here: usize, peers: usize, route: &Route) -> Result<Vec<Addressed>> {
    let stays = |chunk| vec![Addressed { to: here, chunk }];
    Ok(match (chunk, route) {
        (chunk @ Chunk::Watermark(_), Route::Spread) => {
            let copies = (0..peers).map(|to| Addressed {
                to,
                chunk: chunk.clone(),
            });
            copies.collect()
        }
        (Chunk::Watermark(_), Route::Home(home)) if *home != here => Vec::new(),
        (chunk, Route::Home(home)) => vec![Addressed { to: *home, chunk }],
        (Chunk::Rows(rows), Route::ByKey(keys)) => divide(&rows, peers, keys, Chunk::Rows)?,
        (Chunk::Partial { window, rows }, Route::ByKey(keys)) => {
            divide(&rows, peers, keys, |rows| Chunk::Partial { window, rows })?
        }
        (chunk, Route::Spread | Route::ByKey(_)) => stays(chunk),
    })
}

fn divide(
    rows: &RecordBatch,
    peers: usize,
    keys: &Keys,
    wrap: impl Fn(RecordBatch) -> Chunk,
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
            Ok(Addressed {
                to,
                chunk: wrap(rows),
            })
        })
        .collect()
}
