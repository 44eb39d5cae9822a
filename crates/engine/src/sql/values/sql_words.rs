//! Functions that SQL writes with words between the arguments, looked up by name.
//!
//! DataFusion's planner takes its own functions for `EXTRACT(.. FROM ..)`, `POSITION(.. IN ..)` and
//! `SUBSTRING(.. FROM ..)`, whatever a session has registered.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::functions::unicode::{strpos, substr};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::{ScalarUDF, expr::ScalarFunction};

use super::ByteFunction;

/// Plans the calls that have words between their arguments.
#[derive(Debug)]
pub(in crate::sql) struct SqlWords;

fn planned(inner: Arc<ScalarUDF>, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
    let own = ByteFunction::new(&inner).map(ScalarUDF::from);
    let function = own.map_or(inner, Arc::new);
    let call = ScalarFunction::new_udf(function, args);
    Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
}

impl ExprPlanner for SqlWords {
    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        planned(strpos(), args)
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        planned(substr(), args)
    }
}
