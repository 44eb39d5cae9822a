//! Refuses what is not incremental, before anything is built.
//!
//! The operators of a continuous query are listed here without a wildcard: one that a new version of
//! DataFusion adds is refused until it is named.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Volatility};

use super::planner_error::explain;
use crate::sql::SqlError;

/// Fails unless every operator and expression of the unoptimized plan is incremental.
pub(super) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut refused = None;
    let walked = plan.apply(|node| {
        refused = operator(node).err();
        if refused.is_none() {
            node.apply_expressions(|expr| {
                refused = refused.take().or_else(|| expression(expr).err());
                Ok(stop_if(refused.is_some()))
            })?;
        }
        Ok(stop_if(refused.is_some()))
    });
    walked.map_err(explain)?;
    refused.map_or(Ok(()), Err)
}

fn stop_if(stop: bool) -> TreeNodeRecursion {
    if stop {
        TreeNodeRecursion::Stop
    } else {
        TreeNodeRecursion::Continue
    }
}

fn operator(plan: &LogicalPlan) -> Result<(), SqlError> {
    let (what, hint) = match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => return Ok(()),
        LogicalPlan::Distinct(Distinct::On(_)) => (
            "DISTINCT ON in a continuous query",
            "Keep one row per key with GROUP BY and FIRST_VALUE or MAX.",
        ),
        LogicalPlan::Join(_) => (
            "a join in a continuous query",
            "Filter and aggregate each stream by itself, or bring streams of the same columns \
             together with UNION ALL.",
        ),
        LogicalPlan::Sort(_) => (
            "ORDER BY in a continuous query",
            "A stream never ends, so it is never sorted; order the SELECT on a VIEW instead.",
        ),
        LogicalPlan::Limit(_) => (
            "LIMIT in a continuous query",
            "A stream never ends; put LIMIT into the SELECT on a VIEW instead.",
        ),
        LogicalPlan::Window(_) => (
            "a window function (OVER) in a continuous query",
            "Group by TUMBLE, HOP or SESSION instead.",
        ),
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => (
            "a continuous query without a stream in FROM",
            "Name a source, stream or view in FROM.",
        ),
        LogicalPlan::Unnest(_) => ("UNNEST in a continuous query", "Select the array as it is."),
        LogicalPlan::Subquery(_) => (
            "a subquery in an expression of a continuous query",
            "Put the condition into WHERE.",
        ),
        LogicalPlan::RecursiveQuery(_) => (
            "WITH RECURSIVE in a continuous query",
            "Write the steps as streams over streams.",
        ),
        LogicalPlan::Extension(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => {
            ("this statement in a continuous query", "Write a SELECT.")
        }
    };
    Err(SqlError::not_built(what).hint(hint))
}

/// Refuses an expression if a node of it is not incremental.
fn expression(expr: &Expr) -> Result<(), SqlError> {
    let mut refused = None;
    let walked = expr.apply(|part| {
        refused = expression_node(part).err();
        Ok(stop_if(refused.is_some()))
    });
    walked.map_err(explain)?;
    refused.map_or(Ok(()), Err)
}

fn expression_node(expr: &Expr) -> Result<(), SqlError> {
    let (what, hint) = match expr {
        Expr::ScalarFunction(call) => return repeatable(call.func.name(), call.func.signature()),
        Expr::AggregateFunction(call) => {
            return repeatable(call.func.name(), call.func.signature());
        }
        Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::SetComparison(_) => (
            "a subquery in an expression of a continuous query",
            "Only constants and columns of the stream are allowed there.",
        ),
        Expr::OuterReferenceColumn(..) => (
            "a correlated subquery in a continuous query",
            "Only constants and columns of the stream are allowed there.",
        ),
        Expr::GroupingSet(_) => (
            "GROUPING SETS, CUBE and ROLLUP in a continuous query",
            "Write one stream for each grouping.",
        ),
        Expr::WindowFunction(_) => (
            "a window function (OVER) in a continuous query",
            "Group by TUMBLE, HOP or SESSION instead.",
        ),
        Expr::Placeholder(_) => ("a parameter in a continuous query", "Write the value."),
        Expr::Unnest(_) => ("UNNEST in a continuous query", "Select the array as it is."),
        Expr::ScalarVariable(..) => ("a variable in a continuous query", "Write the value."),
        Expr::HigherOrderFunction(_) | Expr::Lambda(_) | Expr::LambdaVariable(_) => (
            "a lambda in a continuous query",
            "Write the expression out.",
        ),
        _ => return Ok(()),
    };
    Err(SqlError::not_built(what).hint(hint))
}

/// Refuses a function that can give another result when its input is replayed.
fn repeatable(name: &str, signature: &datafusion::logical_expr::Signature) -> Result<(), SqlError> {
    match signature.volatility {
        Volatility::Immutable => Ok(()),
        Volatility::Stable | Volatility::Volatile => {
            let what = format!("{name}() in a continuous query");
            Err(SqlError::not_built(what).hint(
                "The same input must give the same result when it is replayed: use the event \
                 time of the row instead of the clock, and no random numbers.",
            ))
        }
    }
}
