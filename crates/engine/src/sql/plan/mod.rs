//! From a query to a continuous plan.
//!
//! ```text
//!   Query --SqlToRel--> logical plan --supported?--> analyzer, optimizer --convert--> dataflow::Plan
//! ```
//!
//! Planning is DataFusion's: names, types, coercion and optimization are what they are in a batch
//! query. Ours are the two ends: `relation` says which streams there are, `supported` refuses
//! what is not incremental before anything is built, `window` keeps windowed aggregates in one
//! piece on their way through the optimizer, and `convert` turns the rest into operators. A
//! statement that gets through is right; one that would not be is refused.

mod convert;
mod insert;
mod relation;
mod supported;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use crate::dataflow;
use crate::sql::parser_error::lower_first;
use crate::sql::{SqlError, SqlQuery, sqlstate};

use relation::Relations;
pub use relation::{EventColumn, Relation};
use window::WindowBound;

/// A planned continuous query.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What runs.
    pub plan: dataflow::Plan,
    /// The relations it reads, in the order of its inputs.
    pub inputs: Vec<String>,
    /// The columns of its result that carry event time.
    pub event_time: Vec<EventColumn>,
    /// The optimized logical plan, for EXPLAIN.
    pub logical: String,
}

impl Planned {
    /// The same query with its columns cast to those of a sink: by position, or by the names of
    /// `order` where they are given.
    ///
    /// # Errors
    /// If the numbers of columns differ, a name is unknown, or a type cannot be cast.
    pub fn insert_into(self, sink: &SchemaRef, order: &[&str]) -> Result<Self, SqlError> {
        insert::insert_into(self, sink, order)
    }
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
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_optimizer_rules(incremental_rules())
            .build();
        for bound in [WindowBound::Start, WindowBound::End] {
            let function = Arc::new(ScalarUDF::from(bound.function()));
            // The name is ours alone, so nothing is replaced.
            let _ = datafusion::execution::FunctionRegistry::register_udf(&mut state, function);
        }
        Self { state }
    }

    /// Plans `query`, in which windows have been rewritten and names resolved, over `relations`.
    ///
    /// # Errors
    /// Whatever is wrong with the query, and 0A000 for what is not incremental.
    pub fn plan(&self, query: SqlQuery, relations: &[Relation]) -> Result<Planned, SqlError> {
        let whole = query.span.clone();
        self.plan_within(query, relations)
            .map_err(|error| match error.position {
                Some(_) => error,
                None => error.at(whole),
            })
    }

    fn plan_within(&self, query: SqlQuery, relations: &[Relation]) -> Result<Planned, SqlError> {
        let relations = Relations::new(&self.state, relations);
        let planner = SqlToRel::new_with_options(&relations, parser_options());
        let statement = Statement::Query(query.ast.clone());
        let plan = planner.sql_statement_to_plan(statement);
        let plan = plan.map_err(|error| explain_in(error, &query))?;
        supported::check(&plan)?;
        let plan = plan
            .transform_up(window::keep_together)
            .map_err(explain)?
            .data;
        // Before the optimizer may find that a stream cannot contribute: it still tells the time.
        let inputs = scanned(&plan)?;
        let plan = self.state.optimize(&plan).map_err(explain)?;
        let converted = convert::convert(&plan, &inputs, &relations, &self.state)?;
        Ok(Planned {
            plan: converted.plan,
            event_time: converted.event_time,
            inputs,
            logical: plan.display_indent().to_string(),
        })
    }
}

/// Rules of DataFusion's optimizer that are good for a batch and not for a stream.
const BATCH_RULES: &[&str] = &[
    // Makes one incremental operator into two that are not: nested GROUP BYs.
    "single_distinct_aggregation_to_group_by",
    // Take away streams that give no rows; yet they tell the time, and windows need it.
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

/// An error of DataFusion as one of ours, with its place if it knows one.
fn explain_in(error: DataFusionError, query: &SqlQuery) -> SqlError {
    let span = error.diagnostic().and_then(|found| found.span);
    let place = span.and_then(|span| {
        let at = |at: datafusion::common::Location| Location {
            line: at.line,
            column: at.column,
        };
        query.position(Span {
            start: at(span.start),
            end: at(span.end),
        })
    });
    explain(error).at(place)
}

/// An error of DataFusion as one of ours.
pub(crate) fn explain(error: DataFusionError) -> SqlError {
    use datafusion::common::SchemaError;
    let diagnostic = error.diagnostic().map(|found| found.message.clone());
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) => {
            let state = match inner.as_ref() {
                SchemaError::FieldNotFound { .. } => sqlstate::UNDEFINED_COLUMN,
                SchemaError::AmbiguousReference { .. } => sqlstate::AMBIGUOUS_COLUMN,
                _ => sqlstate::DUPLICATE_COLUMN,
            };
            SqlError::new(state, sentence(&inner.to_string()))
        }
        DataFusionError::NotImplemented(what) => {
            SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, sentence(what))
        }
        DataFusionError::SQL(inner, _) => SqlError::syntax(sentence(&inner.to_string())),
        other => {
            let message = diagnostic.unwrap_or_else(|| other.message().into_owned());
            SqlError::new(state_of(&message), sentence(&message))
        }
    }
}

/// DataFusion puts most mistakes into one kind of error; the text is all there is to tell them by.
fn state_of(message: &str) -> &'static str {
    const UNDEFINED_FUNCTION: &str = "42883";
    const UNDEFINED_TABLE: &str = "42P01";
    let lower = message.to_lowercase();
    if lower.contains("invalid function") || lower.contains("no function matches") {
        UNDEFINED_FUNCTION
    } else if lower.contains("table") && lower.contains("not found") {
        UNDEFINED_TABLE
    } else if lower.contains("group by") {
        sqlstate::GROUPING_ERROR
    } else if lower.contains("coerc") || lower.contains("type") {
        sqlstate::DATATYPE_MISMATCH
    } else {
        sqlstate::SYNTAX_ERROR
    }
}

/// The first line, beginning small, without a full stop.
fn sentence(text: &str) -> String {
    let line = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.');
    let line = line.strip_prefix("Error during planning: ").unwrap_or(line);
    let line = line.strip_prefix("Schema error: ").unwrap_or(line);
    lower_first(line)
}
