//! Builds the dataflow of a plan on one worker.
//!
//! Every worker builds the same plans in the same order. A single worker exchanges nothing. Several
//! workers send watermarks to all of them right behind the inputs (**spread**), rows and partial results
//! to the worker of their key, and results to the query's **home** worker, whose outlet has them all
//! when the step is complete.

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

use super::groups::Grouping;
use super::key_group::owners;
use super::keyed::{DeltaStage, KeyedStage};
use super::metadata_columns::MetadataColumns;
use super::open_windows::OpenWindows;
use super::plan::{Plan, PlanNode};
use super::query_errors::QueryErrors;
use super::session::SessionStage;
use super::stage::{self, Arriving, Stage, StreamElements};
use super::stage_state::StageHandle;
use super::stream_element::StreamElement;
use super::transform::{self, Transform};
use super::union::union;
use super::window::{Close, MergeStage, WindowStage};

/// One input of a running query: accepts the elements of a step, then advances to the next.
pub type Input = InputHandle<u64, CapacityContainerBuilder<Vec<StreamElement>>>;

/// What a query has produced, step by step. Peers may be ahead, so it may hold elements of steps that
/// this worker has not reached yet.
#[derive(Clone, Default)]
pub struct Outlet(Rc<RefCell<Vec<Produced>>>);

struct Produced {
    epoch: u64,
    /// The number of the worker that sent it.
    from: usize,
    element: StreamElement,
}

impl Outlet {
    /// Takes what was produced up to and including step `epoch`, which is complete: in the order of the
    /// steps, and within a step of the workers.
    pub fn take(&self, epoch: u64) -> Vec<StreamElement> {
        let mut held = self.0.borrow_mut();
        let (mut due, later): (Vec<_>, _) = held.drain(..).partition(|it| it.epoch <= epoch);
        *held = later;
        due.sort_by_key(|it| (it.epoch, it.from));
        due.into_iter().map(|it| it.element).collect()
    }

    fn add(&self, epoch: u64, elements: impl Iterator<Item = (usize, StreamElement)>) {
        let produced = elements.map(|(from, element)| Produced {
            epoch,
            from,
            element,
        });
        self.0.borrow_mut().extend(produced);
    }
}

/// One worker's part of a running query.
pub struct Built {
    /// The inputs, in the order of their numbers.
    pub inputs: Vec<Input>,
    /// The steps that are complete on every worker.
    pub probe: Probe<u64>,
    /// The results of the query; on the home worker only.
    pub outlet: Outlet,
    /// The stages with state, in an order that is the same on every worker and in every build.
    pub stages: Vec<StageHandle>,
}

/// Builds `plan`, with `inputs` inputs, in `scope`. `home` is the worker that gets the results; its stages
/// note in `open` when their windows close.
///
/// # Errors
/// If an aggregate of the plan cannot be set up.
pub fn build(
    scope: Scope<'_, u64>,
    plan: &Plan,
    inputs: usize,
    home: usize,
    errors: &QueryErrors,
    open: &OpenWindows,
) -> Result<Built> {
    let (handles, streams): (Vec<_>, Vec<_>) = (0..inputs)
        .map(|_| scope.new_input::<StreamElement>())
        .unzip();
    let inputs = streams.into_iter().enumerate().map(|(number, input)| {
        let columns = plan.metadata_columns.get(number).cloned().flatten();
        let input = match columns {
            Some(columns) => add_metadata_columns(input, columns, errors.clone()),
            None => input,
        };
        spread(input, errors.clone())
    });
    let inputs = inputs.collect();
    let mut builder = DataflowBuilder {
        scope,
        inputs,
        errors: errors.clone(),
        open: open.clone(),
        stages: Vec::new(),
    };
    let result = builder.node(&plan.root)?;
    let outlet = Outlet::default();
    let collected = if scope.peers() == 1 {
        collect(result, outlet.clone())
    } else {
        let gathered = exchange(result, Route::Home(home), errors.clone());
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

struct DataflowBuilder<'scope> {
    scope: Scope<'scope, u64>,
    inputs: Vec<StreamElements<'scope>>,
    errors: QueryErrors,
    open: OpenWindows,
    stages: Vec<StageHandle>,
}

impl<'scope> DataflowBuilder<'scope> {
    fn node(&mut self, node: &PlanNode) -> Result<StreamElements<'scope>> {
        Ok(match node {
            PlanNode::Input { input } => self.inputs[*input].clone(),
            PlanNode::Empty => self.transform(self.inputs[0].clone(), vec![nothing()], false),
            PlanNode::Transform {
                from,
                steps,
                changes,
            } => {
                let from = self.node(from)?;
                self.transform(from, steps.clone(), *changes)
            }
            PlanNode::Union { from } => {
                let from = from
                    .iter()
                    .map(|node| self.node(node))
                    .collect::<Result<_>>()?;
                let (united, handle) = union(from);
                self.stages.push(handle);
                united
            }
            PlanNode::Window { from, spec } => {
                let from = self.grouped(from, &spec.grouping)?;
                let (spec, errors) = (Arc::clone(spec), self.errors.clone());
                if self.scope.peers() == 1 {
                    let windows = WindowStage::new(spec, Close::Results, errors);
                    return Ok(self.stage(from, "window", windows));
                }
                let windows = WindowStage::new(Arc::clone(&spec), Close::Partials, errors.clone());
                let closed = self.stage(from, "window", windows);
                let keys = spec.grouping.key_count();
                let keys = move |run: &RecordBatch| Ok(run.columns()[..keys].to_vec());
                let merged =
                    self.stage_by_key(closed, keys, "merge", MergeStage::new(spec, errors));
                // It has no state between steps, and a single worker does not have it.
                self.stages.pop();
                merged
            }
            PlanNode::Session { from, spec } => {
                let from = self.grouped(from, &spec.grouping)?;
                let keys = Arc::clone(spec);
                let keys = move |rows: &RecordBatch| keys.grouping.keys_of(rows);
                let sessions = SessionStage::new(Arc::clone(spec), self.errors.clone());
                self.stage_by_key(from, keys, "session", sessions)
            }
            PlanNode::Keyed { from, spec } => {
                let from = self.grouped(from, &spec.grouping)?;
                let delta = self.stage(from, "delta", DeltaStage::new(spec)?);
                let keys = spec.grouping.key_count();
                let keys = move |run: &RecordBatch| Ok(run.columns()[..keys].to_vec());
                let owns_total = self.scope.index() == 0;
                let keyed = KeyedStage::new(Arc::clone(spec), owns_total, self.errors.clone())?;
                self.stage_by_key(delta, keys, "keyed", keyed)
            }
        })
    }

    /// The rows of `from`, with what `grouping` computes of them.
    fn grouped(&mut self, from: &PlanNode, grouping: &Grouping) -> Result<StreamElements<'scope>> {
        let Some(computed) = grouping.computed() else {
            return self.node(from);
        };
        let (from, mut steps) = match from {
            PlanNode::Transform { from, steps, .. } => (&**from, steps.clone()),
            other => (other, Vec::new()),
        };
        steps.push(computed);
        // What changes is not grouped.
        let from = self.node(from)?;
        Ok(self.transform(from, steps, false))
    }

    /// Rows after these steps; `changes`: whether they have a diff.
    fn transform(
        &self,
        from: StreamElements<'scope>,
        steps: Vec<Transform>,
        changes: bool,
    ) -> StreamElements<'scope> {
        transform(from, steps, changes, self.errors.clone())
    }

    fn stage(
        &mut self,
        input: timely::dataflow::Stream<'scope, u64, Vec<impl Arriving>>,
        name: &str,
        stage: impl Stage,
    ) -> StreamElements<'scope> {
        let windows = self.open.of_stage(self.scope.index(), self.stages.len());
        let (output, handle) = stage::run(input, name, self.errors.clone(), stage, windows);
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
        let routed = exchange(input, route, self.errors.clone());
        self.stage(routed, name, stage)
    }
}

/// What `work` makes of each element; what fails in it, fails in the epoch of the element.
fn each<'scope, I>(
    input: StreamElements<'scope>,
    name: &str,
    errors: QueryErrors,
    mut work: impl FnMut(StreamElement, &QueryErrors) -> I + 'static,
) -> timely::dataflow::Stream<'scope, u64, Vec<I::Item>>
where
    I: IntoIterator<Item: 'static>,
{
    input.unary(Pipeline, name, move |_, _| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                errors.begin(*time.time());
                let elements = batches.flat_map(|elements| elements.drain(..));
                let made = elements.flat_map(|element| work(element, &errors));
                output.session(&time).give_iterator(made);
            });
        }
    })
}

fn transform<'scope>(
    input: StreamElements<'scope>,
    steps: Vec<Transform>,
    changes: bool,
    errors: QueryErrors,
) -> StreamElements<'scope> {
    each(
        input,
        "transform",
        errors,
        move |element, errors| match element {
            StreamElement::Rows(rows, frontier) => {
                let work = |part: &RecordBatch, first: usize| {
                    let mut frontier = frontier.sliced(first, part.num_rows(), rows.num_rows());
                    let done = transform::apply(&steps, part, &mut frontier)?;
                    Ok(done.map(|rows| StreamElement::Rows(rows, frontier)))
                };
                errors.rows(&rows, changes, &work)
            }
            other => Some(other).into_iter().chain(Vec::new()),
        },
    )
}

/// Adds the metadata columns that the plan names.
fn add_metadata_columns<'scope>(
    input: StreamElements<'scope>,
    columns: MetadataColumns,
    errors: QueryErrors,
) -> StreamElements<'scope> {
    let mut from = None;
    each(
        input,
        "metadata columns",
        errors,
        move |element, errors| match (element, &from) {
            (StreamElement::From(provenance), _) => {
                from = Some(provenance);
                None
            }
            (StreamElement::Rows(rows, frontier), Some(provenance)) => {
                let rows = errors.guard(|| Ok(columns.apply(&rows, provenance)?));
                rows.map(|rows| StreamElement::Rows(rows, frontier))
            }
            (StreamElement::Rows(..), None) => {
                errors.fail("rows without their provenance".to_owned());
                None
            }
            (other, _) => Some(other),
        },
    )
}

/// Drops all rows; watermarks pass.
fn nothing() -> Transform {
    Transform::Filter(Arc::new(Literal::new(ScalarValue::Boolean(Some(false)))))
}

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
                    for elements in batches {
                        outlet.add(*time.time(), elements.drain(..).map(C::open));
                    }
                });
            }
        },
    )
}

/// Computes the keys of rows, or of partial results.
type Keys = Box<dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>>>;

/// The workers that elements go to. Behind `Spread` every worker has every watermark, so the other routes
/// keep them local.
enum Route {
    /// Watermarks to every worker; the rest stays where it is.
    Spread,
    /// Each row to the worker of its keys; the rest stays where it is.
    ByKey(Keys),
    /// Everything to this worker.
    Home(usize),
}

/// An element on its way between workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RoutedElement {
    from: usize,
    to: usize,
    element: StreamElement,
}

impl Arriving for RoutedElement {
    fn open(self) -> (usize, StreamElement) {
        (self.from, self.element)
    }
}

/// Only watermarks cross workers here, so there is no order to keep.
fn spread(input: StreamElements<'_>, errors: QueryErrors) -> StreamElements<'_> {
    if input.scope().peers() == 1 {
        return input;
    }
    exchange(input, Route::Spread, errors).map(|routed| routed.element)
}

/// Sends elements along `route`. Those of one worker stay in order; between workers there is none.
fn exchange<'scope>(
    input: StreamElements<'scope>,
    route: Route,
    errors: QueryErrors,
) -> RoutedElements<'scope> {
    let (here, peers) = (input.scope().index(), input.scope().peers());
    let routed = each(input, "route", errors, move |element, errors| {
        let parts = errors.guard(|| route_element(element, here, peers, &route));
        parts.unwrap_or_default()
    });
    let to_worker = Exchange::new(|routed: &RoutedElement| routed.to as u64);
    routed.unary(to_worker, "exchange", |_, _| {
        |input, output| {
            input.for_each_time(|time, parts| output.session(&time).give_containers(parts));
        }
    })
}

type RoutedElements<'scope> = timely::dataflow::Stream<'scope, u64, Vec<RoutedElement>>;

fn route_element(
    element: StreamElement,
    here: usize,
    peers: usize,
    route: &Route,
) -> Result<Vec<RoutedElement>> {
    let from = here;
    Ok(match (element, route) {
        (element @ StreamElement::Watermark(_), Route::Spread) => {
            let copies = (0..peers).map(|to| RoutedElement {
                from,
                to,
                element: element.clone(),
            });
            copies.collect()
        }
        (StreamElement::Watermark(_), Route::Home(home)) if *home != here => Vec::new(),
        (element, &Route::Home(to)) => vec![RoutedElement { from, to, element }],
        (StreamElement::Rows(rows, frontier), Route::ByKey(keys)) => {
            let wrap = |rows, kept: &_| StreamElement::Rows(rows, frontier.taken(kept));
            divide(&rows, from, peers, keys, wrap)?
        }
        (StreamElement::Partial { window, rows }, Route::ByKey(keys)) => {
            let wrap = |rows, _: &_| StreamElement::Partial { window, rows };
            divide(&rows, from, peers, keys, wrap)?
        }
        (element, Route::Spread | Route::ByKey(_)) => {
            let to = here;
            vec![RoutedElement { from, to, element }]
        }
    })
}

fn divide(
    rows: &RecordBatch,
    from: usize,
    peers: usize,
    keys: &Keys,
    wrap: impl Fn(RecordBatch, &UInt32Array) -> StreamElement,
) -> Result<Vec<RoutedElement>> {
    let mut members = vec![Vec::new(); peers];
    (0u32..)
        .zip(owners(&keys(rows)?, rows.num_rows(), peers)?)
        .for_each(|(row, to)| members[to].push(row));
    let parts = members
        .into_iter()
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty());
    parts
        .map(|(to, members)| {
            let members = UInt32Array::from(members);
            // Rows without a column have no key, and go to one worker.
            let part = match members.len() == rows.num_rows() {
                true => rows.clone(),
                false => take_record_batch(rows, &members)?,
            };
            let element = wrap(part, &members);
            Ok(RoutedElement { from, to, element })
        })
        .collect()
}
