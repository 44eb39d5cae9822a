//! The streams that a query can name, as tables for DataFusion's planner.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use crate::dataflow::{MetadataColumn, MetadataColumns};
use crate::sql::values::SqlTypes;
use crate::sql::{SqlError, sqlstate};

/// A column, or a field of one, that carries event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventColumn {
    /// Its index among the columns, from 0.
    pub column: usize,
    /// The names that lead from the column to the field; empty if it is the column itself.
    pub field: Vec<String>,
    /// Maximum distance of its values behind the watermark of the stream, in microseconds.
    pub lag_us: i64,
}

impl EventColumn {
    /// Of a column, not of a field of it.
    pub fn new(column: usize, lag_us: i64) -> Self {
        Self {
            column,
            field: Vec::new(),
            lag_us,
        }
    }
}

/// A source, stream or view that a query can read.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The declared name, in its exact case.
    pub name: String,
    /// The columns without the diff; metadata columns last.
    pub schema: SchemaRef,
    /// The columns that carry event time.
    pub event_time: Vec<EventColumn>,
    /// Whether it can retract rows.
    pub changes: bool,
    /// The columns of which no two rows have the same values, if the query groups by them.
    pub key: Option<Vec<usize>>,
    /// Whether its rows come in the order of one log, on any number of workers.
    pub in_order: bool,
    /// Appends the metadata columns at the end of `schema`, if the query names some.
    pub metadata_columns: Option<MetadataColumns>,
}

impl Relation {
    /// Rows of one log that are never taken back, without event time.
    pub fn new(name: &str, schema: SchemaRef) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            event_time: Vec::new(),
            changes: false,
            key: None,
            in_order: true,
            metadata_columns: None,
        }
    }

    /// The same relation with these metadata columns appended.
    #[must_use]
    pub fn with_metadata_columns(
        mut self,
        columns: impl IntoIterator<Item = MetadataColumn>,
    ) -> Self {
        let columns: Vec<_> = columns.into_iter().collect();
        let appended = MetadataColumns::new(&self.name, &self.schema, &columns);
        self.schema = Arc::clone(appended.schema());
        self.metadata_columns = Some(appended);
        self
    }
}

struct RelationTable(SchemaRef);

impl TableSource for RelationTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// The relations and functions that one query can name.
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
            Some(relation) => Ok(Arc::new(RelationTable(Arc::clone(&relation.schema)))),
            None => Err(DataFusionError::External(Box::new(undefined(name.table())))),
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

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SqlTypes))
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

/// The error that no relation has this name.
pub(super) fn undefined(name: &str) -> SqlError {
    let message = format!("{name:?} is not a source, stream or view");
    SqlError::new(sqlstate::UNDEFINED_TABLE, message)
}

/// Finds a function: the exact name, else in lower case, as DataFusion registers its own.
fn find<T>(functions: &HashMap<String, Arc<T>>, name: &str) -> Option<Arc<T>> {
    functions
        .get(name)
        .or_else(|| functions.get(&name.to_lowercase()))
        .cloned()
}
