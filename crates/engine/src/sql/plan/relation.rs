//! The streams that a query can name, as DataFusion's planner wants to see them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{TableReference, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use crate::dataflow::{MetadataColumn, MetadataColumns};

/// A column that carries event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventColumn {
    /// Its number.
    pub column: usize,
    /// How far its values may lie behind the watermark of the stream, in microseconds.
    pub lag_us: i64,
}

/// A source, stream or view that a query can read.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its name, in its exact case.
    pub name: String,
    /// Its columns, without the diff.
    pub schema: SchemaRef,
    /// The columns that carry event time.
    pub event_time: Vec<EventColumn>,
    /// Whether its rows may be taken back.
    pub changes: bool,
    /// What gives its rows the hidden columns at the end of `schema`, if it has some.
    pub stamp: Option<MetadataColumns>,
}

impl Relation {
    /// The same with hidden columns.
    #[must_use]
    pub fn with_metadata_columns(
        mut self,
        metadata: impl IntoIterator<Item = MetadataColumn>,
    ) -> Self {
        let metadata: Vec<_> = metadata.into_iter().collect();
        let stamp = MetadataColumns::new(&self.name, &self.schema, &metadata);
        self.schema = Arc::clone(stamp.schema());
        self.stamp = Some(stamp);
        self
    }
}

struct RelationSource(SchemaRef);

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// What names mean while one query is planned.
pub(super) struct Relations<'a> {
    state: &'a SessionState,
    by_name: HashMap<&'a str, &'a Relation>,
}

impl<'a> Relations<'a> {
    pub fn new(state: &'a SessionState, relations: &'a [Relation]) -> Self {
        let by_name = relations
            .iter()
            .map(|relation| (relation.name.as_str(), relation));
        Self {
            state,
            by_name: by_name.collect(),
        }
    }

    pub fn get(&self, name: &str) -> Option<&'a Relation> {
        self.by_name.get(name).copied()
    }
}

impl ContextProvider for Relations<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.get(name.table()) {
            Some(relation) => Ok(Arc::new(RelationSource(Arc::clone(&relation.schema)))),
            None => plan_err!("table {:?} not found", name.table()),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        find(self.state.scalar_functions(), name)
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        find(self.state.higher_order_functions(), name)
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        find(self.state.aggregate_functions(), name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        find(self.state.window_functions(), name)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state
            .higher_order_functions()
            .keys()
            .cloned()
            .collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// Function names are not case-sensitive.
fn find<T>(functions: &HashMap<String, Arc<T>>, name: &str) -> Option<Arc<T>> {
    functions
        .get(name)
        .or_else(|| functions.get(&name.to_lowercase()))
        .cloned()
}
