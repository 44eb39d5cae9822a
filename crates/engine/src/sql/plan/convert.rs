//! From an optimized logical plan to the nodes of a dataflow.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, LogicalPlan};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::scalar::ScalarValue;

use super::relation::{EventColumn, Relations};
use super::window::{WindowAggregate, WindowBound, Windows, has_bound, in_units, window_key};
use super::{explain, relation::Relation};
use crate::dataflow::{
    Aggregate, DIFF_COLUMN, EventTime, Grouping, KeyedSpec, OutputColumn, Plan, PlanNode,
    SessionSpec, Transform, WindowSpec, with_diff,
};
use crate::sql::{SqlError, sqlstate};

type Result<T, E = SqlError> = std::result::Result<T, E>;

pub(super) struct Converted {
    pub plan: Plan,
    pub event_time: Vec<EventColumn>,
}

/// Converts `plan`, whose inputs are numbered as in `inputs`.
pub(super) fn convert(
    plan: &LogicalPlan,
    inputs: &[String],
    relations: &Relations<'_>,
    state: &SessionState,
) -> Result<Converted> {
    let mut converter = Converter {
        inputs,
        relations,
        props: state.execution_props(),
        late: Vec::new(),
    };
    let part = converter.part(plan)?;
    let schema = Arc::new(part.schema.as_arrow().clone());
    let (root, changes, event_time) = (part.node, part.changes, part.event_time);
    let stamps = inputs
        .iter()
        .map(|input| relations.get(input)?.stamp.clone());
    Ok(Converted {
        plan: Plan {
            root,
            metadata_columns: stamps.collect(),
            schema,
            changes,
            late: converter.late,
        },
        event_time,
    })
}

/// A converted part of the plan.
struct Part {
    node: PlanNode,
    /// The columns, without the diff.
    schema: DFSchemaRef,
    event_time: Vec<EventColumn>,
    changes: bool,
}

struct Converter<'a> {
    inputs: &'a [String],
    relations: &'a Relations<'a>,
    props: &'a ExecutionProps,
    late: Vec<SchemaRef>,
}

impl Converter<'_> {
    fn part(&mut self, plan: &LogicalPlan) -> Result<Part> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(
                scan.table_name.table(),
                scan.projection.as_deref(),
                &scan.projected_schema,
            ),
            LogicalPlan::SubqueryAlias(alias) => {
                let part = self.part(&alias.input)?;
                Ok(Part {
                    schema: alias.schema.clone(),
                    ..part
                })
            }
            LogicalPlan::Filter(filter) => {
                let part = self.part(&filter.input)?;
                let predicate = self.expr(&filter.predicate, &part.schema)?;
                Ok(transformed(part, Transform::Filter(predicate)))
            }
            LogicalPlan::Projection(projection) => {
                self.projection(&projection.input, &projection.expr, &projection.schema)
            }
            LogicalPlan::Union(union) => self.union(&union.inputs, &union.schema),
            LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(Part {
                node: PlanNode::Empty,
                schema: empty.schema.clone(),
                event_time: Vec::new(),
                changes: false,
            }),
            LogicalPlan::Aggregate(aggregate) => self.keyed(aggregate),
            LogicalPlan::Extension(extension) => {
                match extension.node.as_any().downcast_ref::<WindowAggregate>() {
                    Some(aggregate) => self.windowed(aggregate),
                    None => Err(not_incremental(plan)),
                }
            }
            other => Err(not_incremental(other)),
        }
    }

    fn expr(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        if has_bound(expr).map_err(explain)? {
            return Err(window_inside());
        }
        let context = PhysicalPlanningContext::default();
        create_physical_expr(expr, schema, self.props, &context).map_err(explain)
    }

    fn scan(&self, name: &str, projection: Option<&[usize]>, schema: &DFSchemaRef) -> Result<Part> {
        let input = self.inputs.iter().position(|input| input == name);
        let (Some(input), Some(relation)) = (input, self.relations.get(name)) else {
            return Err(SqlError::new(
                "42P01",
                format!("{name:?} is no source, stream or view"),
            ));
        };
        let whole = Part {
            node: PlanNode::Input { input },
            schema: schema.clone(),
            event_time: relation.event_time.clone(),
            changes: relation.changes,
        };
        Ok(match projection {
            Some(columns) => narrowed(whole, relation, columns, schema),
            None => whole,
        })
    }

    fn projection(
        &mut self,
        input: &LogicalPlan,
        exprs: &[Expr],
        schema: &DFSchemaRef,
    ) -> Result<Part> {
        let part = self.part(input)?;
        let event_time = exprs.iter().enumerate().filter_map(|(column, expr)| {
            let lag_us = event_lag(expr, &part)?;
            Some(EventColumn { column, lag_us })
        });
        let event_time = event_time.collect();
        let mut physical = Vec::with_capacity(exprs.len() + 1);
        for expr in exprs {
            physical.push(self.expr(expr, &part.schema)?);
        }
        Ok(projected(part, physical, schema, event_time))
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchemaRef) -> Result<Part> {
        let mut parts = Vec::with_capacity(inputs.len());
        for input in inputs {
            parts.push(self.part(input)?);
        }
        let changes = parts.iter().any(|part| part.changes);
        let event_time = common_event_time(&parts);
        let aligned = parts
            .into_iter()
            .map(|part| align(part, schema, changes).node);
        let node = PlanNode::Union {
            from: aligned.collect(),
        };
        Ok(Part {
            node,
            schema: schema.clone(),
            event_time,
            changes,
        })
    }

    fn aggregates(&self, exprs: &[Expr], part: &Part) -> Result<Vec<Aggregate>> {
        let physical = part.schema.as_arrow();
        let context = PhysicalPlanningContext::default();
        let lower = |expr: &Expr| {
            if has_bound(expr).map_err(explain)? {
                return Err(window_inside());
            }
            let lowered =
                LoweredAggregateBuilder::new(expr, &part.schema, physical, self.props, &context);
            let lowered = lowered.build().map_err(explain)?;
            let sorted = lowered.aggregate.order_sensitivity();
            if !lowered.order_bys.is_empty()
                && matches!(sorted, AggregateOrderSensitivity::HardRequirement)
            {
                let what = format!("ORDER BY in {}()", lowered.aggregate.fun().name());
                return Err(SqlError::not_built(what)
                    .hint("A stream is never sorted: order the SELECT on a VIEW instead."));
            }
            Ok(Aggregate {
                function: lowered.aggregate,
                filter: lowered.filter,
            })
        };
        exprs.iter().map(lower).collect()
    }

    fn keyed(&mut self, aggregate: &LogicalAggregate) -> Result<Part> {
        let part = self.part(&aggregate.input)?;
        refuse_changes(&part)?;
        let mut keys = Vec::with_capacity(aggregate.group_expr.len());
        for key in &aggregate.group_expr {
            keys.push(self.expr(key, &part.schema)?);
        }
        let aggregates = self.aggregates(&aggregate.aggr_expr, &part)?;
        let output = (0..keys.len())
            .map(OutputColumn::Key)
            .chain((0..aggregates.len()).map(OutputColumn::Aggregate))
            .collect();
        let fields = aggregate.schema.fields()[..keys.len()].to_vec();
        let grouping =
            Grouping::new(part.schema.as_arrow(), keys, fields, aggregates).map_err(explain)?;
        let schema = Arc::new(aggregate.schema.as_arrow().clone());
        let spec = Arc::new(KeyedSpec {
            total: grouping.total_of_nothing().map_err(explain)?,
            grouping,
            output,
            schema,
        });
        Ok(Part {
            node: PlanNode::Keyed {
                from: Box::new(part.node),
                spec,
            },
            schema: aggregate.schema.clone(),
            event_time: Vec::new(),
            changes: true,
        })
    }

    fn windowed(&mut self, aggregate: &WindowAggregate) -> Result<Part> {
        let part = self.part(&aggregate.input)?;
        refuse_changes(&part)?;
        let mut keys = Vec::new();
        let mut key_fields: Vec<FieldRef> = Vec::new();
        let mut output = Vec::new();
        let mut window = None;
        for (number, expr) in aggregate.keys.iter().enumerate() {
            match window_key(expr).map_err(explain)? {
                Some(key) => {
                    output.push(match key.bound {
                        WindowBound::Start => OutputColumn::WindowStart,
                        WindowBound::End => OutputColumn::WindowEnd,
                    });
                    window = Some(key);
                }
                None => {
                    output.push(OutputColumn::Key(keys.len()));
                    keys.push(self.expr(expr, &part.schema)?);
                    key_fields.push(Arc::clone(&aggregate.schema.fields()[number]));
                }
            }
        }
        let Some(window) = window else {
            return Err(SqlError::new(
                sqlstate::GROUPING_ERROR,
                "a windowed GROUP BY without a window",
            ));
        };
        let time = self.event_time(&window.time, &part)?;
        let mut aggregates = self.aggregates(&aggregate.aggregates, &part)?;
        output.extend((0..aggregates.len()).map(OutputColumn::Aggregate));
        let schema = Arc::new(aggregate.schema.as_arrow().clone());
        let event_time = window_event_time(&output, &window.windows, time.lag_us);
        let stage = self.late.len();
        self.late.push(Arc::new(part.schema.as_arrow().clone()));
        let from = Box::new(part.node);
        let node = match window.windows {
            Windows::Equal { size_us, slide_us } => {
                let (size, slide) = (length(size_us, &time)?, length(slide_us, &time)?);
                let grouping = Grouping::new(part.schema.as_arrow(), keys, key_fields, aggregates)
                    .map_err(explain)?;
                let spec = WindowSpec {
                    stage,
                    time,
                    size,
                    slide,
                    grouping,
                    output,
                    schema,
                };
                PlanNode::Window {
                    from,
                    spec: Arc::new(spec),
                }
            }
            Windows::Session { gap_us } => {
                let gap = length(gap_us, &time)?;
                aggregates.extend(span_aggregates(&time, part.schema.as_arrow())?);
                let grouping = Grouping::new(part.schema.as_arrow(), keys, key_fields, aggregates)
                    .map_err(explain)?;
                let spec = SessionSpec {
                    stage,
                    time,
                    gap,
                    grouping,
                    output,
                    schema,
                };
                PlanNode::Session {
                    from,
                    spec: Arc::new(spec),
                }
            }
        };
        Ok(Part {
            node,
            schema: aggregate.schema.clone(),
            event_time,
            changes: false,
        })
    }

    fn event_time(&self, expr: &Expr, part: &Part) -> Result<EventTime> {
        let Some(lag_us) = event_lag(expr, part) else {
            let message = format!("{expr} is no event time: the stream has no watermark for it");
            return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message).hint(
                "Declare WATERMARK FOR the column in CREATE SOURCE, and group by the column \
                 itself or, over a windowed stream, by its window_end.",
            ));
        };
        let physical = self.expr(expr, &part.schema)?;
        let data_type = physical
            .data_type(part.schema.as_arrow())
            .map_err(explain)?;
        Ok(EventTime {
            expr: physical,
            data_type,
            lag_us,
        })
    }
}

/// A row of HOP and SESSION has no one window until the window closes.
fn window_inside() -> SqlError {
    SqlError::not_built("window_start or window_end within a GROUP BY key or an aggregate").hint(
        "Compute with them in the SELECT list, or group the windowed stream by another stream.",
    )
}

fn not_incremental(plan: &LogicalPlan) -> SqlError {
    let name = plan.display().to_string();
    let name = name.split(':').next().unwrap_or_default();
    SqlError::not_built(format!("{name} in a continuous query"))
        .hint("Use filters, projections, GROUP BY and UNION ALL.")
}

fn refuse_changes(part: &Part) -> Result<()> {
    if !part.changes {
        return Ok(());
    }
    Err(
        SqlError::not_built("GROUP BY or DISTINCT over a result that changes")
            .hint("Group the original stream, or group by a window so that results are final."),
    )
}

/// The lag of the event time that `expr` is, if it is one.
fn event_lag(expr: &Expr, part: &Part) -> Option<i64> {
    let Expr::Column(column) = expr.clone().unalias_nested().data else {
        return None;
    };
    let number = part.schema.index_of_column(&column).ok()?;
    part.event_time
        .iter()
        .find(|event| event.column == number)
        .map(|event| event.lag_us)
}

fn window_event_time(output: &[OutputColumn], windows: &Windows, lag_us: i64) -> Vec<EventColumn> {
    let columns = output.iter().enumerate();
    let lags = columns.filter_map(|(column, kind)| match (kind, windows) {
        (OutputColumn::WindowEnd, Windows::Equal { .. }) => Some(EventColumn { column, lag_us }),
        // With many sessions open, those that ended are given out up to a sixteenth of a gap later.
        (OutputColumn::WindowEnd, Windows::Session { gap_us }) => {
            let lag_us = lag_us.saturating_add(gap_us / 16 + 1);
            Some(EventColumn { column, lag_us })
        }
        (OutputColumn::WindowStart, Windows::Equal { size_us, .. }) => Some(EventColumn {
            column,
            lag_us: lag_us.saturating_add(*size_us),
        }),
        _ => None,
    });
    lags.collect()
}

/// A length in units of the event time column.
fn length(us: i64, time: &EventTime) -> Result<i64> {
    let DataType::Timestamp(unit, _) = &time.data_type else {
        let message = format!("a window needs a TIMESTAMP, not {}", time.data_type);
        return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message));
    };
    in_units(us, *unit).ok_or_else(|| {
        let message = format!("an interval of {us} microseconds is no whole number of {unit:?}s");
        SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .hint("Make the interval a multiple of the unit of the event time column.")
    })
}

/// First and last event time of a group: the last two aggregates of a session.
fn span_aggregates(time: &EventTime, schema: &Schema) -> Result<[Aggregate; 2]> {
    let build = |function, alias| {
        let builder = AggregateExprBuilder::new(function, vec![Arc::clone(&time.expr)]);
        let built = builder
            .schema(Arc::new(schema.clone()))
            .alias(alias)
            .build();
        let function = Arc::new(built.map_err(explain)?);
        Ok(Aggregate {
            function,
            filter: None,
        })
    };
    Ok([build(min_udaf(), "first")?, build(max_udaf(), "last")?])
}

fn narrowed(whole: Part, relation: &Relation, columns: &[usize], schema: &DFSchemaRef) -> Part {
    let event_time = whole.event_time.iter().filter_map(|event| {
        let column = columns.iter().position(|&column| column == event.column)?;
        Some(EventColumn {
            column,
            lag_us: event.lag_us,
        })
    });
    let event_time = event_time.collect();
    let exprs = columns.iter().map(|&column| {
        let name = relation.schema.field(column).name();
        Arc::new(Column::new(name, column)) as Arc<dyn PhysicalExpr>
    });
    let diff = relation.schema.fields().len();
    project(whole, exprs.collect(), schema, event_time, diff)
}

fn projected(
    part: Part,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: &DFSchemaRef,
    event_time: Vec<EventColumn>,
) -> Part {
    let diff = part.schema.fields().len();
    project(part, exprs, schema, event_time, diff)
}

/// Adds a projection; the diff of a changing stream, at column `diff`, goes along.
fn project(
    part: Part,
    mut exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: &DFSchemaRef,
    event_time: Vec<EventColumn>,
    diff: usize,
) -> Part {
    let mut result = Arc::new(schema.as_arrow().clone());
    if part.changes {
        exprs.push(Arc::new(Column::new(DIFF_COLUMN, diff)));
        result = with_diff(&result);
    }
    let step = Transform::Project {
        exprs,
        schema: result,
    };
    Part {
        schema: schema.clone(),
        event_time,
        ..transformed(part, step)
    }
}

fn transformed(part: Part, step: Transform) -> Part {
    let node = match part.node {
        PlanNode::Transform { from, mut steps } => {
            steps.push(step);
            PlanNode::Transform { from, steps }
        }
        other => PlanNode::Transform {
            from: Box::new(other),
            steps: vec![step],
        },
    };
    Part { node, ..part }
}

/// Event time that every input has in the same column, with the greatest lag.
fn common_event_time(parts: &[Part]) -> Vec<EventColumn> {
    let Some((first, rest)) = parts.split_first() else {
        return Vec::new();
    };
    let common = first.event_time.iter().filter_map(|event| {
        let mut lag_us = event.lag_us;
        for part in rest {
            let same = part
                .event_time
                .iter()
                .find(|other| other.column == event.column)?;
            lag_us = lag_us.max(same.lag_us);
        }
        Some(EventColumn {
            column: event.column,
            lag_us,
        })
    });
    common.collect()
}

/// Gives an input of a union the names of the union, and a diff if another input has one.
fn align(part: Part, schema: &DFSchemaRef, changes: bool) -> Part {
    let names = schema.fields().iter().zip(part.schema.fields());
    let mut exprs: Vec<Arc<dyn PhysicalExpr>> = names
        .enumerate()
        .map(|(column, (_, field))| Arc::new(Column::new(field.name(), column)) as _)
        .collect();
    let mut fields: Vec<FieldRef> = schema.fields().to_vec();
    if changes {
        fields.push(Arc::new(Field::new(DIFF_COLUMN, DataType::Int8, false)));
        let diff = exprs.len();
        exprs.push(match part.changes {
            true => Arc::new(Column::new(DIFF_COLUMN, diff)),
            false => Arc::new(Literal::new(ScalarValue::Int8(Some(1)))),
        });
    }
    transformed(
        part,
        Transform::Project {
            exprs,
            schema: Arc::new(Schema::new(fields)),
        },
    )
}
