//! Numbers as PostgreSQL has them: right or an error, and the same whatever the order of the rows.
//!
//! DataFusion's integers wrap, its aggregates wrap or round on the way, and its floats have -0.0 and many
//! NaNs. [`with_exact_numbers`] replaces that in a session, for continuous queries and for SELECT alike:
//!
//! ```text
//!   analyzer    CommonTypes, type coercion, ExactNumbers    arithmetic, casts, floats that functions compute
//!   functions   sum, avg of integers and decimals           exact totals, checked at the end
//!               min, max of floats                          NaN is the greatest
//! ```
//!
//! It also puts in what `values` has, which is not about numbers.
//!
//! What may fail is computed only for rows that need it (`guard`). All else happens before the optimizer, so
//! that a constant is folded by the code that computes rows.

mod arithmetic;
mod canonical;
mod cast;
mod decimal_total;
mod extremes;
mod fault;
mod float_function;
mod function;
mod guard;
mod kernel;
mod rewrite;
mod total;
mod totals;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::Analyzer;

pub(crate) use cast::exact_cast;
pub(super) use cast::or_null;
pub(super) use fault::ValueFault;
pub(crate) use fault::name as type_name;
pub(crate) use guard::guarded;
pub(super) use rewrite::with_expressions;

use function::ExactFunction;

use super::values::{
    ByteFunction, CommonTypes, LetterFunction, NumberFunction, RegexFunction, SqlTypes, SqlWords,
    TimeFunction,
};

/// Makes a session compute as this module says. After the default functions have been registered.
pub fn with_exact_numbers(builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(CommonTypes));
    rules.push(Arc::new(rewrite::ExactNumbers));
    let mut builder = builder
        .with_analyzer_rules(rules)
        .with_type_planner(Arc::new(SqlTypes))
        .with_physical_optimizer_rule(Arc::new(guard::GuardedPlan));
    let exact = [
        ExactFunction::sum(sum_udaf()),
        ExactFunction::average(avg_udaf()),
        ExactFunction::extreme(min_udaf()),
        ExactFunction::extreme(max_udaf()),
    ];
    // Of functions with one name, the last one counts.
    let functions = builder.aggregate_functions().get_or_insert_default();
    functions.extend(exact.map(|function| Arc::new(AggregateUDF::from(function))));
    let functions = builder.scalar_functions().get_or_insert_default();
    let times = functions.iter().filter_map(TimeFunction::new);
    let mut replaced: Vec<_> = times.map(ScalarUDF::from).collect();
    replaced.extend(
        functions
            .iter()
            .filter_map(LetterFunction::new)
            .map(ScalarUDF::from),
    );
    replaced.extend(
        functions
            .iter()
            .filter_map(ByteFunction::new)
            .map(ScalarUDF::from),
    );
    // Under the names that PostgreSQL has for them, too.
    let named = |name: &str| functions.iter().find(|it| it.name() == name);
    replaced.extend(named("ceil").map(|it| (**it).clone().with_aliases(["ceiling"])));
    replaced.extend(ByteFunction::others().map(ScalarUDF::from));
    replaced.extend(NumberFunction::all().map(ScalarUDF::from));
    replaced.extend(RegexFunction::all().map(ScalarUDF::from));
    functions.extend(replaced.into_iter().map(Arc::new));
    let planners = builder.expr_planners().get_or_insert_default();
    planners.insert(0, Arc::new(SqlWords));
    builder
}
