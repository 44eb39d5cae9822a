//! A converted part of a plan: its node with its columns, and what is put on top of it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Column as ColumnName, DFSchemaRef};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::scalar::ScalarValue;

use super::planner_error::explain;
use super::relation::{EventColumn, Relation};
use super::window::has_bound;
use crate::dataflow::{DIFF_COLUMN, PlanNode, Transform, with_diff};
use crate::sql::numbers::guarded;
use crate::sql::{Result, SqlError};

pub(super) struct Subplan {
    pub node: PlanNode,
    /// The columns without the diff.
    pub schema: DFSchemaRef,
    pub event_time: Vec<EventColumn>,
    /// Whether it can retract rows, and so has a diff.
    pub changes: bool,
    /// The columns of which no two rows have the same values, if they are known.
    pub key: Option<Vec<usize>>,
    /// Whether its rows come in the order of one log.
    pub in_order: bool,
}

impl Subplan {
    /// The expression over the columns of this subplan.
    pub fn physical(&self, expr: &Expr, props: &ExecutionProps) -> Result<Arc<dyn PhysicalExpr>> {
        refuse_bound(expr)?;
        let context = PhysicalPlanningContext::default();
        let expr = create_physical_expr(expr, &self.schema, props, &context);
        expr.and_then(|expr| guarded(expr, self.schema.as_arrow()))
            .map_err(explain)
    }

    /// The lag of an event time column, in microseconds; `None` for any other expression.
    pub fn event_lag_us(&self, expr: &Expr) -> Option<i64> {
        let whole = |event: EventColumn| event.field.is_empty().then_some(event.lag_us);
        self.event_columns(expr, 0).find_map(whole)
    }

    /// The event time that a column with the values of `expr` carries.
    pub fn event_columns(&self, expr: &Expr, column: usize) -> impl Iterator<Item = EventColumn> {
        let source = field_path(expr);
        let source =
            source.and_then(|(from, path)| Some((self.schema.index_of_column(&from).ok()?, path)));
        self.event_time.iter().filter_map(move |event| {
            let (_, path) = source.as_ref().filter(|(from, _)| *from == event.column)?;
            Some(EventColumn {
                column,
                field: event.field.strip_prefix(path.as_slice())?.to_vec(),
                lag_us: event.lag_us,
            })
        })
    }

    /// The given columns of a relation, of which this is the scan.
    pub fn narrowed(self, relation: &Relation, columns: &[usize], schema: &DFSchemaRef) -> Self {
        let event_time = self.event_time.iter().filter_map(|event| {
            Some(EventColumn {
                column: columns.iter().position(|&column| column == event.column)?,
                ..event.clone()
            })
        });
        let event_time = event_time.collect();
        let exprs = columns.iter().map(|&column| {
            let name = relation.schema.field(column).name();
            Arc::new(Column::new(name, column)) as Arc<dyn PhysicalExpr>
        });
        let key = self.key_in(|column| columns.iter().position(|it| *it == column));
        let diff = relation.schema.fields().len();
        let projected = self.project(exprs.collect(), schema, event_time, diff);
        Self { key, ..projected }
    }

    pub fn projected(
        self,
        exprs: Vec<Arc<dyn PhysicalExpr>>,
        schema: &DFSchemaRef,
        event_time: Vec<EventColumn>,
    ) -> Self {
        let diff = self.schema.fields().len();
        let key = self.key_in(|column| {
            let is_it = |expr: &Arc<dyn PhysicalExpr>| {
                let source = expr.downcast_ref::<Column>();
                source.is_some_and(|source| source.index() == column)
            };
            exprs.iter().position(is_it)
        });
        let projected = self.project(exprs, schema, event_time, diff);
        Self { key, ..projected }
    }

    /// The key after a projection that moves each column there; `None` if one of its columns goes.
    fn key_in(&self, moved: impl Fn(usize) -> Option<usize>) -> Option<Vec<usize>> {
        self.key
            .as_ref()?
            .iter()
            .map(|&column| moved(column))
            .collect()
    }

    /// Adds a projection, which keeps the diff at column `diff` if there is one.
    fn project(
        self,
        mut exprs: Vec<Arc<dyn PhysicalExpr>>,
        schema: &DFSchemaRef,
        event_time: Vec<EventColumn>,
        diff: usize,
    ) -> Self {
        let mut result = Arc::new(schema.as_arrow().clone());
        if self.changes {
            exprs.push(Arc::new(Column::new(DIFF_COLUMN, diff)));
            result = with_diff(&result);
        }
        let step = Transform::Project {
            exprs,
            schema: result,
        };
        Self {
            schema: schema.clone(),
            event_time,
            ..self.transformed(step)
        }
    }

    /// Adds a step to the transform at the top, or a transform with this step.
    pub fn transformed(self, step: Transform) -> Self {
        let node = match self.node {
            PlanNode::Transform {
                from,
                mut steps,
                changes,
            } => {
                steps.push(step);
                PlanNode::Transform {
                    from,
                    steps,
                    changes,
                }
            }
            other => PlanNode::Transform {
                from: Box::new(other),
                steps: vec![step],
                changes: self.changes,
            },
        };
        Self { node, ..self }
    }

    /// The node as an input of a union: with the union's column names, and a diff if `changes`.
    pub fn aligned(self, schema: &DFSchemaRef, changes: bool) -> PlanNode {
        let columns = self.schema.fields().iter().enumerate();
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = columns
            .map(|(column, field)| Arc::new(Column::new(field.name(), column)) as _)
            .collect();
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        if changes {
            fields.push(Arc::new(Field::new(DIFF_COLUMN, DataType::Int8, false)));
            let diff = exprs.len();
            exprs.push(match self.changes {
                true => Arc::new(Column::new(DIFF_COLUMN, diff)),
                false => Arc::new(Literal::new(ScalarValue::Int8(Some(1)))),
            });
        }
        let schema = Arc::new(Schema::new(fields));
        self.transformed(Transform::Project { exprs, schema }).node
    }
}

/// The columns that are event time in every subplan, with their greatest lag.
pub(super) fn common_event_time(subplans: &[Subplan]) -> Vec<EventColumn> {
    let Some((first, rest)) = subplans.split_first() else {
        return Vec::new();
    };
    let common = first.event_time.iter().filter_map(|event| {
        let mut lag_us = event.lag_us;
        for subplan in rest {
            let same =
                |other: &&EventColumn| (other.column, &other.field) == (event.column, &event.field);
            lag_us = lag_us.max(subplan.event_time.iter().find(same)?.lag_us);
        }
        Some(EventColumn {
            lag_us,
            ..event.clone()
        })
    });
    common.collect()
}

/// The column that a chain of field accesses starts at, and the names of the fields.
fn field_path(expr: &Expr) -> Option<(ColumnName, Vec<String>)> {
    match expr {
        Expr::Column(column) => Some((column.clone(), Vec::new())),
        Expr::Alias(alias) => field_path(&alias.expr),
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => {
            let (of, names) = call.args.split_first()?;
            let (column, mut path) = field_path(of)?;
            for name in names {
                let Expr::Literal(name, _) = name else {
                    return None;
                };
                path.push(name.try_as_str()??.to_owned());
            }
            Some((column, path))
        }
        _ => None,
    }
}

/// Refuses a bound of the window: with HOP and SESSION a row has no single window until it closes.
pub(super) fn refuse_bound(expr: &Expr) -> Result<()> {
    if !has_bound(expr).map_err(explain)? {
        return Ok(());
    }
    Err(SqlError::not_built(
        "window_start, window_end or window_time within a GROUP BY key or an aggregate",
    )
    .hint("Compute with them in the SELECT list, or group the windowed stream by another stream."))
}
