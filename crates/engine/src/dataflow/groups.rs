//! Groups and their accumulators: the state behind every GROUP BY.
//!
//! [`Grouping`] holds the definition (keys, aggregates); [`Groups`] is one live set of groups. Both use
//! DataFusion's `GroupValues` and `GroupsAccumulator`, so an aggregate gives here what it gives in a
//! batch query. A set can be taken out whole, as results or as the rows of a run: immutable arrays of
//! keys and accumulator states, which any other set can merge.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::GroupValues;

use super::computed_columns::ComputedColumns;
use super::fingerprint::FingerprintText;
use super::key_numbers::{new_keys, take_keys};
use super::pane::times;
use super::stage_state::Run;
use super::stream_element::batch_of;
use super::transform::{Transform, evaluate_all};
use super::type_name::type_name;

/// One aggregate of a GROUP BY, with its own FILTER.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The function, its arguments and its type.
    pub function: Arc<AggregateFunctionExpr>,
    /// Only rows for which this is true are aggregated.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Aggregate {
    /// The inputs of the accumulator: the arguments, then the expressions of its ORDER BY.
    fn arguments(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let order = self
            .function
            .order_bys()
            .iter()
            .map(|by| Arc::clone(&by.expr));
        self.function
            .expressions()
            .into_iter()
            .chain(order)
            .collect()
    }

    /// An error if there is no accumulator for the types of the arguments.
    fn try_out(&self) -> Result<()> {
        self.accumulator()?;
        if !self.function.groups_accumulator_supported() {
            self.function.create_accumulator()?;
        }
        Ok(())
    }

    fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        if self.function.groups_accumulator_supported() {
            return self.function.create_groups_accumulator();
        }
        let function = Arc::clone(&self.function);
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
            function.create_accumulator()
        })))
    }
}

/// A column of the result of a GROUP BY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputColumn {
    /// The key of this number, counted from 0.
    Key(usize),
    /// The first instant of the window.
    WindowStart,
    /// The first instant after the window.
    WindowEnd,
    /// The last instant of the window: the event time of the result.
    WindowTime,
    /// The aggregate of this number, counted from 0.
    Aggregate(usize),
}

/// Keys and aggregates of a GROUP BY.
///
/// What they compute of a row is computed before the stage, by a projection: so a row that fails
/// has changed no state. Keys, arguments and filters here are columns of the result of that, or literals.
#[derive(Debug)]
pub struct Grouping {
    computed: ComputedColumns,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) key_schema: SchemaRef,
    aggregates: Vec<Aggregate>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    argument_types: Vec<Vec<DataType>>,
    run_schema: SchemaRef,
    states: Vec<usize>,
}

impl Grouping {
    /// `key_fields` are the names and types of `keys`, `input` the columns that rows have.
    ///
    /// # Errors
    /// If an aggregate does not support the types of its arguments, or does not declare its state.
    pub fn new(
        input: &Schema,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        key_fields: Vec<FieldRef>,
        aggregates: Vec<Aggregate>,
    ) -> Result<Arc<Self>> {
        let mut computed = ComputedColumns::new(input);
        let mut run_fields: Vec<FieldRef> = key_fields.iter().enumerate().map(rename_key).collect();
        let mut states = Vec::with_capacity(aggregates.len());
        let mut aggregates = aggregates;
        for (number, aggregate) in aggregates.iter_mut().enumerate() {
            aggregate.try_out()?;
            let fields = aggregate.function.state_fields()?;
            states.push(fields.len());
            run_fields.extend(fields.iter().enumerate().map(|(part, field)| {
                let name = format!("a{number}_{part}");
                Arc::new(Field::new(name, field.data_type().clone(), true))
            }));
            if let Some(filter) = &mut aggregate.filter {
                *filter = computed.column(filter, input)?;
            }
        }
        let arguments: Vec<_> = aggregates.iter().map(Aggregate::arguments).collect();
        let types = arguments.iter().map(|arguments| {
            let types = arguments.iter().map(|argument| argument.data_type(input));
            types.collect::<Result<Vec<_>>>()
        });
        let argument_types = types.collect::<Result<_>>()?;
        let arguments = arguments.iter().map(|it| computed.columns(it, input));
        Ok(Arc::new(Self {
            key_schema: Arc::new(Schema::new(key_fields)),
            argument_types,
            arguments: arguments.collect::<Result<_>>()?,
            run_schema: Arc::new(Schema::new(run_fields)),
            keys: computed.columns(&keys, input)?,
            aggregates,
            states,
            computed,
        }))
    }

    /// What is computed of each row before it is grouped; `None` if that is nothing.
    pub(super) fn computed(&self) -> Option<Transform> {
        self.computed.transform()
    }

    /// The rows as they were before [`computed`](Self::computed).
    pub(super) fn as_they_came(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        self.computed.without(rows)
    }

    /// Adds keys and aggregates to a fingerprint, with the types that they have; not those of states, which
    /// [`upgraded`](Self::upgraded) compares.
    pub(super) fn describe(&self, text: &mut FingerprintText) {
        for (key, field) in self.keys.iter().zip(self.key_schema.fields()) {
            text.expr("key", self.computed.origin(key));
            text.part("type", &type_name(field.data_type()));
        }
        for (aggregate, types) in self.aggregates.iter().zip(&self.argument_types) {
            text.aggregate(&aggregate.function, types);
            if let Some(filter) = &aggregate.filter {
                text.expr("filter", self.computed.origin(filter));
            }
        }
    }

    /// Keys and aggregates by their names, for people.
    pub(super) fn label(&self) -> String {
        let keys = self
            .key_schema
            .fields()
            .iter()
            .map(|key| key.name().clone());
        let functions = self.aggregates.iter();
        let functions = functions.map(|it| format!("{}()", it.function.fun().name()));
        keys.chain(functions).collect::<Vec<_>>().join(", ")
    }

    /// The number of keys; 0 if all rows are one group.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The state of the one group of a GROUP BY without keys, before the first row; `None` if there are
    /// keys.
    ///
    /// # Errors
    /// If an aggregate cannot be set up.
    pub fn total_of_nothing(&self) -> Result<Option<RecordBatch>> {
        if !self.keys.is_empty() {
            return Ok(None);
        }
        let mut columns = Vec::with_capacity(self.run_schema.fields().len());
        let no_row = BooleanArray::from(vec![false]);
        for (aggregate, types) in self.aggregates.iter().zip(&self.argument_types) {
            let row: Vec<_> = types.iter().map(|of| new_null_array(of, 1)).collect();
            let mut accumulator = aggregate.accumulator()?;
            accumulator.update_batch(&row, &[0], Some(&no_row), 1)?;
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(Some(batch_of(&self.run_schema, columns, 1)?))
    }

    pub(super) fn keys_of(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        evaluate_all(&self.keys, rows)
    }

    /// A saved run with the columns of a run of now: states of an older version may have narrower sums.
    ///
    /// # Errors
    /// If it has other columns, or a column of a type that was never one of it.
    pub(super) fn upgraded(&self, run: &Run) -> Result<Run> {
        let (saved, now) = (run.rows.columns(), self.run_schema.fields());
        if saved.len() != now.len() {
            return internal_err!("{} columns of a state, not {}", saved.len(), now.len());
        }
        let mut columns = saved.iter().zip(now);
        if columns.all(|(saved, now)| saved.data_type() == now.data_type()) {
            return Ok(run.clone());
        }
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = saved.iter().zip(now);
        let columns =
            columns.map(|(saved, now)| cast_with_options(saved, now.data_type(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = batch_of(&self.run_schema, columns, run.rows.num_rows())?;
        Ok(run.with_rows(rows))
    }

    /// The keys as columns of a run.
    pub(super) fn run_keys<'a>(&self, run: &'a RecordBatch) -> &'a [ArrayRef] {
        &run.columns()[..self.keys.len()]
    }
}

/// Two keys may have the same name (`a.x`, `b.x`); columns of a run have their numbers.
fn rename_key((number, field): (usize, &FieldRef)) -> FieldRef {
    Arc::new(Field::new(
        format!("k{number}"),
        field.data_type().clone(),
        true,
    ))
}

/// The results of a set of groups, one row a group.
pub(super) struct Results {
    /// The number of groups.
    pub count: usize,
    /// One column for each key.
    pub keys: Vec<ArrayRef>,
    /// One column for each aggregate.
    pub values: Vec<ArrayRef>,
}

impl Results {
    /// Puts keys, values and the bounds of the window into the order of the result.
    pub fn arrange(
        &self,
        output: &[OutputColumn],
        window: Option<(ArrayRef, ArrayRef)>,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let bounds = || match &window {
            Some(bounds) => Ok(bounds),
            None => internal_err!("a window column in a result without windows"),
        };
        let columns = output.iter().map(|column| match column {
            OutputColumn::Key(number) => Ok(Arc::clone(&self.keys[*number])),
            OutputColumn::Aggregate(number) => Ok(Arc::clone(&self.values[*number])),
            OutputColumn::WindowStart => Ok(Arc::clone(&bounds()?.0)),
            OutputColumn::WindowEnd => Ok(Arc::clone(&bounds()?.1)),
            OutputColumn::WindowTime => last_instants(&bounds()?.1),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(batch_of(schema, columns, self.count)?)
    }
}

/// The same instant, in the unit of `data_type`, in every row.
pub(super) fn instants(data_type: &DataType, at: i64, rows: usize) -> Result<ArrayRef> {
    Ok(cast(&Int64Array::from_value(at, rows), data_type)?)
}

/// The last instant of each window, by their ends.
pub(super) fn last_instants(ends: &ArrayRef) -> Result<ArrayRef> {
    let last: Int64Array = times(ends)?.unary(|end| end.saturating_sub(1));
    Ok(cast(&last, ends.data_type())?)
}

/// A live set of groups.
pub(super) struct Groups {
    grouping: Arc<Grouping>,
    /// `None` if there are no keys: then there is one group.
    values: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    count: usize,
    /// Scratch: the group of each row of the batch at hand.
    indices: Vec<usize>,
}

impl Groups {
    pub fn new(grouping: &Arc<Grouping>) -> Result<Self> {
        let accumulators = grouping.aggregates.iter().map(Aggregate::accumulator);
        Ok(Self {
            values: new_keys(&grouping.key_schema)?,
            accumulators: accumulators.collect::<Result<_>>()?,
            grouping: Arc::clone(grouping),
            count: 0,
            indices: Vec::new(),
        })
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds rows to the groups of their keys.
    pub fn update(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = self.grouping.keys_of(rows)?;
        self.intern(&keys, rows.num_rows())?;
        for (number, accumulator) in self.accumulators.iter_mut().enumerate() {
            let arguments = evaluate_all(&self.grouping.arguments[number], rows)?;
            let filter = match &self.grouping.aggregates[number].filter {
                Some(filter) => Some(truth(filter, rows)?),
                None => None,
            };
            accumulator.update_batch(&arguments, &self.indices, filter.as_ref(), self.count)?;
        }
        Ok(())
    }

    /// Merges a run of another set.
    pub fn merge(&mut self, run: &RecordBatch) -> Result<()> {
        let grouping = Arc::clone(&self.grouping);
        self.intern(grouping.run_keys(run), run.num_rows())?;
        self.merge_states(run)
    }

    /// Merges the states of `run` into the groups `indices`, one for each of its rows, whatever their
    /// keys. `count` is the number of groups met so far, with this run. All of them must have been met,
    /// since an accumulator assumes that a group below `count` has had a value if no value was NULL.
    ///
    /// Only for sets that never call [`Self::update`]: such groups have no keys.
    pub fn merge_into(&mut self, run: &RecordBatch, indices: &[usize], count: usize) -> Result<()> {
        self.indices.clear();
        self.indices.extend_from_slice(indices);
        self.count = self.count.max(count);
        self.merge_states(run)
    }

    fn merge_states(&mut self, run: &RecordBatch) -> Result<()> {
        let mut from = self.grouping.keys.len();
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.grouping.states) {
            let states = &run.columns()[from..from + width];
            accumulator.merge_batch(states, &self.indices, self.count)?;
            from += width;
        }
        Ok(())
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        match &mut self.values {
            Some(values) => {
                values.intern(keys, &mut self.indices)?;
                self.count = values.len();
            }
            None => {
                self.indices.clear();
                self.indices.resize(rows, 0);
                self.count = self.count.max(usize::from(rows > 0));
            }
        }
        Ok(())
    }

    /// Takes the results out and leaves an empty set.
    pub fn take_results(&mut self) -> Result<Results> {
        Ok(Results {
            count: self.count,
            values: self.take_values()?,
            keys: self.take_keys()?,
        })
    }

    /// The results of the states in `run`, one group a row, of an empty set, which is empty again then.
    pub fn results_of(&mut self, run: &RecordBatch) -> Result<Results> {
        let count = run.num_rows();
        self.merge_into(run, &(0..count).collect::<Vec<_>>(), count)?;
        Ok(Results {
            count,
            values: self.take_values()?,
            keys: self.grouping.run_keys(run).to_vec(),
        })
    }

    /// Takes keys and states out, as a run, and leaves an empty set.
    pub fn take_run(&mut self) -> Result<RecordBatch> {
        let keys = self.take_keys()?;
        self.take_states(keys)
    }

    /// Takes only the states out, for sets filled by [`Self::merge_into`]; `keys` become the keys.
    pub fn take_states(&mut self, keys: Vec<ArrayRef>) -> Result<RecordBatch> {
        let (count, mut columns) = (std::mem::take(&mut self.count), keys);
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(batch_of(&self.grouping.run_schema, columns, count)?)
    }

    fn take_values(&mut self) -> Result<Vec<ArrayRef>> {
        self.count = 0;
        let accumulators = self.accumulators.iter_mut();
        accumulators.map(|it| it.evaluate(EmitTo::All)).collect()
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        take_keys(&mut self.values, &self.grouping.key_schema)
    }
}

/// A filter for accumulators: NULL becomes false.
fn truth(filter: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray> {
    let array = filter.evaluate(rows)?.into_array(rows.num_rows())?;
    let filter = as_boolean_array(&array)?;
    Ok(if filter.null_count() > 0 {
        prep_null_mask_filter(filter)
    } else {
        filter.clone()
    })
}
