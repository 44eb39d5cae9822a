//! From an optimized logical plan to the nodes of a dataflow.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::grouping::{keyed, windowed};
use super::relation::{EventColumn, Relations, undefined};
use super::subplan::{Subplan, common_event_time};
use super::window::WindowAggregate;
use crate::dataflow::{Plan, PlanNode, Transform};
use crate::sql::{Result, SqlError};

pub(super) struct Converted {
    pub plan: Plan,
    pub event_time: Vec<EventColumn>,
    pub key: Option<Vec<usize>>,
    pub in_order: bool,
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
    let root = converter.subplan(plan)?;
    let metadata_columns = inputs
        .iter()
        .map(|input| relations.get(input)?.metadata_columns.clone());
    Ok(Converted {
        plan: Plan {
            root: root.node,
            metadata_columns: metadata_columns.collect(),
            schema: Arc::new(root.schema.as_arrow().clone()),
            changes: root.changes,
            late: converter.late,
        },
        event_time: root.event_time,
        key: root.key,
        in_order: root.in_order,
    })
}

struct Converter<'a> {
    inputs: &'a [String],
    relations: &'a Relations<'a>,
    props: &'a ExecutionProps,
    /// The columns of the late rows of each windowed stage so far.
    late: Vec<SchemaRef>,
}

impl Converter<'_> {
    fn subplan(&mut self, plan: &LogicalPlan) -> Result<Subplan> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(
                scan.table_name.table(),
                scan.projection.as_deref(),
                &scan.projected_schema,
            ),
            LogicalPlan::SubqueryAlias(alias) => Ok(Subplan {
                schema: alias.schema.clone(),
                ..self.subplan(&alias.input)?
            }),
            LogicalPlan::Filter(filter) => {
                let from = self.subplan(&filter.input)?;
                let predicate = from.physical(&filter.predicate, self.props)?;
                Ok(from.transformed(Transform::Filter(predicate)))
            }
            LogicalPlan::Projection(projection) => {
                let from = self.subplan(&projection.input)?;
                self.projection(from, &projection.expr, &projection.schema)
            }
            LogicalPlan::Union(union) => self.union(&union.inputs, &union.schema),
            LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(Subplan {
                node: PlanNode::Empty,
                schema: empty.schema.clone(),
                event_time: Vec::new(),
                changes: false,
                key: None,
                in_order: true,
            }),
            LogicalPlan::Aggregate(aggregate) => {
                keyed(self.subplan(&aggregate.input)?, aggregate, self.props)
            }
            LogicalPlan::Extension(extension) => {
                let Some(aggregate) = extension.node.as_any().downcast_ref::<WindowAggregate>()
                else {
                    return Err(not_incremental(plan));
                };
                let from = self.subplan(&aggregate.input)?;
                windowed(from, aggregate, self.props, &mut self.late)
            }
            other => Err(not_incremental(other)),
        }
    }

    fn scan(
        &self,
        name: &str,
        projection: Option<&[usize]>,
        schema: &DFSchemaRef,
    ) -> Result<Subplan> {
        let input = self.inputs.iter().position(|input| input == name);
        let (Some(input), Some(relation)) = (input, self.relations.get(name)) else {
            return Err(undefined(name));
        };
        let whole = Subplan {
            node: PlanNode::Input { input },
            schema: schema.clone(),
            event_time: relation.event_time.clone(),
            changes: relation.changes,
            key: relation.key.clone(),
            in_order: relation.in_order,
        };
        Ok(match projection {
            Some(columns) => whole.narrowed(relation, columns, schema),
            None => whole,
        })
    }

    fn projection(&self, from: Subplan, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Subplan> {
        let exprs_of = exprs.iter().enumerate();
        let event_time = exprs_of.flat_map(|(column, expr)| from.event_columns(expr, column));
        let event_time = event_time.collect();
        let mut physical = Vec::with_capacity(exprs.len() + 1);
        for expr in exprs {
            physical.push(from.physical(expr, self.props)?);
        }
        Ok(from.projected(physical, schema, event_time))
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchemaRef) -> Result<Subplan> {
        let mut subplans = Vec::with_capacity(inputs.len());
        for input in inputs {
            subplans.push(self.subplan(input)?);
        }
        let changes = subplans.iter().any(|subplan| subplan.changes);
        let event_time = common_event_time(&subplans);
        let aligned = subplans
            .into_iter()
            .map(|subplan| subplan.aligned(schema, changes));
        Ok(Subplan {
            node: PlanNode::Union {
                from: aligned.collect(),
            },
            schema: schema.clone(),
            event_time,
            changes,
            key: None,
            in_order: false,
        })
    }
}

fn not_incremental(plan: &LogicalPlan) -> SqlError {
    let name = plan.display().to_string();
    let name = name.split(':').next().unwrap_or_default();
    SqlError::not_built(format!("{name} in a continuous query"))
        .hint("Use filters, projections, GROUP BY and UNION ALL.")
}
