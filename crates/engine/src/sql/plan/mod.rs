//! From a query to a continuous plan.
//!
//! ```text
//!   Query --SqlToRel--> logical plan --supported?--> analyzer, optimizer --convert--> dataflow::Plan
//! ```
//!
//! DataFusion plans: names, types, coercion and optimization are those of a batch query. Headwater
//! adds the two ends: `relation` lists the streams, `supported` refuses what is not incremental
//! before anything is built, `window` keeps windowed aggregates in one node through the optimizer,
//! and `convert`, with `subplan` and `grouping`, turns the rest into operators. A query that is
//! accepted gives right answers; every other is refused.

mod computed;
mod convert;
#[cfg(test)]
mod function_list;
mod grouping;
mod insert;
mod planner_error;
mod relation;
mod subplan;
mod supported;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::Statement;

use crate::dataflow;
use crate::sql::numbers::with_exact_numbers;
use crate::sql::{SqlError, SqlQuery, did_you_mean, functions};

pub(crate) use planner_error::{explain, explain_in, sqlstate_of};
use relation::Relations;
pub use relation::{EventColumn, Relation};
use window::WindowBound;

/// A planned continuous query.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The operators that the workers run.
    pub plan: dataflow::Plan,
    /// The relations it reads, in the order of its inputs.
    pub inputs: Vec<String>,
    /// The columns of its result that carry event time.
    pub event_time: Vec<EventColumn>,
    /// The columns of which no two rows of its result have the same values, if they are known.
    pub key: Option<Vec<usize>>,
    /// Whether the rows of its result come in the order of one log.
    pub in_order: bool,
    /// The optimized logical plan, for EXPLAIN.
    pub logical: String,
}

/// Plans queries. Cheap to share; holds the functions that queries may call.
pub struct Planner {
    state: SessionState,
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

impl Planner {
    /// A planner with all of DataFusion's functions.
    pub fn new() -> Self {
        let config = SessionConfig::new().with_target_partitions(1);
        let builder = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_optimizer_rules(incremental_rules());
        let mut state = with_exact_numbers(builder).build();
        for bound in WindowBound::ALL {
            let function = Arc::new(ScalarUDF::from(bound.function()));
            // No other function has this name, so nothing is replaced.
            let _ = datafusion::execution::FunctionRegistry::register_udf(&mut state, function);
        }
        functions::register(&mut state);
        Self { state }
    }

    /// Plans `query`, in which windows have been rewritten and names resolved, over `relations`.
    ///
    /// # Errors
    /// The first mistake in the query, and 0A000 for what is not incremental.
    pub fn plan(&self, query: SqlQuery, relations: &[Relation]) -> Result<Planned, SqlError> {
        let whole = query.span.clone();
        self.plan_within(query, relations)
            .map_err(|error| match error.position {
                Some(_) => error,
                None => error.at(whole),
            })
    }

    /// The error with the function that may be meant, if it is that there is none of a name.
    pub fn suggest_function(&self, error: SqlError) -> SqlError {
        let names = self.function_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let hint = planner_error::unknown_function(&error).and_then(|it| did_you_mean(it, &names));
        error.maybe_hint(hint)
    }

    /// The names of the functions that a query may call, in their order.
    pub fn function_names(&self) -> BTreeSet<String> {
        let state = &self.state;
        let scalar = state.scalar_functions().keys();
        let names = scalar.chain(state.aggregate_functions().keys());
        let names = names.chain(state.window_functions().keys());
        // What a rewriting puts in is for nobody else, and one name is refused.
        let is_callable = |it: &&String| !it.starts_with("__") && *it != "date_format";
        names.filter(is_callable).cloned().collect()
    }

    fn plan_within(&self, query: SqlQuery, relations: &[Relation]) -> Result<Planned, SqlError> {
        let relations = Relations::new(&self.state, relations);
        let planner = SqlToRel::new_with_options(&relations, parser_options());
        let statement = Statement::Query(query.ast.clone());
        let plan = planner.sql_statement_to_plan(statement);
        let plan = plan.map_err(|error| self.suggest_function(explain_in(error, &query)))?;
        supported::check(&plan)?;
        let plan = plan
            .transform_up(window::keep_together)
            .map_err(explain)?
            .data;
        // Before the optimizer drops a stream that cannot contribute rows: its watermark still counts.
        let inputs = scanned(&plan)?;
        let plan = self.state.optimize(&plan).map_err(explain)?;
        let converted = convert::convert(&plan, &inputs, &relations, &self.state)?;
        Ok(Planned {
            plan: converted.plan,
            event_time: converted.event_time,
            key: converted.key,
            in_order: converted.in_order,
            inputs,
            logical: plan.display_indent().to_string(),
        })
    }
}

/// Rules of DataFusion's optimizer that are right for a batch and wrong for a stream.
const BATCH_RULES: &[&str] = &[
    // Turns one incremental operator into two that are not: nested GROUP BYs.
    "single_distinct_aggregation_to_group_by",
    // Remove streams without rows, whose watermarks windows still need.
    "eliminate_filter",
    "propagate_empty_relation",
];

fn incremental_rules() -> Vec<Arc<dyn datafusion::optimizer::OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    rules.retain(|rule| !BATCH_RULES.contains(&rule.name()));
    rules
}

fn parser_options() -> ParserOptions {
    ParserOptions {
        enable_ident_normalization: false,
        collect_spans: true,
        map_string_types_to_utf8view: false,
        ..ParserOptions::default()
    }
}

/// The names of all relations that the plan reads, each once, in order.
fn scanned(plan: &LogicalPlan) -> Result<Vec<String>, SqlError> {
    let mut names = BTreeSet::new();
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.insert(scan.table_name.table().to_owned());
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })
    .map_err(explain)?;
    Ok(names.into_iter().collect())
}
