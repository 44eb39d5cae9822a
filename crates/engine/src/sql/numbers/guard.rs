//! AND and OR whose right side may fail: it fails only for rows that the left side leaves open.
//!
//! DataFusion computes the right side for the whole batch unless few of its rows are open, so whether
//! `b <> 0 AND a / b > 1` fails would depend on how the rows were cut into batches. So does a guard, but
//! when that fails it computes the right side for the open rows alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, not, or_kleene};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// The expression over the columns of `schema`, with guards where they are needed.
pub(crate) fn guarded(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let guard = |expr: Arc<dyn PhysicalExpr>| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(expr));
        };
        let logic = matches!(binary.op(), Operator::And | Operator::Or);
        if !logic || !binary.right().exists(|part| may_fail(part, schema))? {
            return Ok(Transformed::no(expr));
        }
        let guarded: Arc<dyn PhysicalExpr> = Arc::new(GuardedLogic {
            left: Arc::clone(binary.left()),
            right: Arc::clone(binary.right()),
            and: *binary.op() == Operator::And,
        });
        Ok(Transformed::yes(guarded))
    };
    Ok(expr.transform_up(guard)?.data)
}

fn may_fail(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<bool> {
    if expr.downcast_ref::<ScalarFunctionExpr>().is_some() {
        return Ok(true);
    }
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) => Ok(!cast.expr().data_type(schema)?.is_numeric()),
        None => Ok(false),
    }
}

/// `left AND right`, or `left OR right`.
#[derive(Debug, Eq)]
struct GuardedLogic {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    and: bool,
}

impl GuardedLogic {
    /// The rows for which the right side counts.
    fn open(&self, left: &BooleanArray) -> Result<BooleanArray> {
        Ok(match (left.null_count(), self.and) {
            (0, true) => left.clone(),
            (0, false) => not(left)?,
            _ => left.iter().map(|it| Some(it != Some(!self.and))).collect(),
        })
    }
}

impl PartialEq for GuardedLogic {
    fn eq(&self, other: &Self) -> bool {
        self.and == other.and && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for GuardedLogic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.and.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for GuardedLogic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.and { "AND" } else { "OR" };
        write!(f, "({}) {operator} ({})", self.left, self.right)
    }
}

impl PhysicalExpr for GuardedLogic {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.left.evaluate(rows)?.into_array(rows.num_rows())?;
        let left = as_boolean_array(&left)?;
        let open = self.open(left)?;
        if open.true_count() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        // Of few open rows a copy costs less than the others do.
        let few = open.true_count() <= rows.num_rows() / 5;
        let right = match (!few).then(|| self.right.evaluate(rows)) {
            Some(Ok(right)) => right,
            // NULL where it is not computed, which the left side decides.
            _ => self.right.evaluate_selection(rows, &open)?,
        };
        let right = right.into_array(rows.num_rows())?;
        let right = as_boolean_array(&right)?;
        let both = match self.and {
            true => and_kleene(left, right)?,
            false => or_kleene(left, right)?,
        };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self {
            left: Arc::clone(&children[0]),
            right: Arc::clone(&children[1]),
            and: self.and,
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Guards the conditions and the columns of a SELECT; those within an aggregate of a SELECT stay as they are.
#[derive(Debug)]
pub(super) struct GuardedPlan;

impl PhysicalOptimizerRule for GuardedPlan {
    fn name(&self) -> &str {
        "guarded_plan"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(guard_node)?.data)
    }
}

fn guard_node(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let schema = filter.input().schema();
        let predicate = guarded(Arc::clone(filter.predicate()), &schema)?;
        let filter = FilterExecBuilder::from(filter).with_predicate(predicate);
        return Ok(Transformed::yes(Arc::new(filter.build()?)));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let schema = projection.input().schema();
        let column = |column: &ProjectionExpr| {
            Ok(ProjectionExpr {
                expr: guarded(Arc::clone(&column.expr), &schema)?,
                alias: column.alias.clone(),
            })
        };
        let columns = projection.expr().iter().map(column);
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let projection = ProjectionExec::try_new(columns, Arc::clone(projection.input()))?;
        return Ok(Transformed::yes(Arc::new(projection)));
    }
    Ok(Transformed::no(plan))
}
