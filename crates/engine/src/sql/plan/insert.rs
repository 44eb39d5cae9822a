//! INSERT INTO a sink that was declared with its columns: the query's columns are cast to the sink's.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;

use super::Planned;
use super::planner_error::explain;
use crate::dataflow::{PlanNode, Transform};
use crate::sql::numbers::{exact_cast, type_name};
use crate::sql::{SqlError, sqlstate};

impl Planned {
    /// The same query with its columns cast to those of a sink: by position, or by the names of
    /// `order` if there are any.
    ///
    /// # Errors
    /// If the numbers of columns differ, a name is unknown, or a type cannot be cast.
    pub fn insert_into(self, sink: &SchemaRef, order: &[&str]) -> Result<Self, SqlError> {
        if self.plan.changes {
            return Err(
                SqlError::not_built("INSERT INTO a sink from a result that changes").hint(
                    "Group by a window, or use CREATE SINK ... FROM, whose rows carry their diff.",
                ),
            );
        }
        let query = Arc::clone(&self.plan.schema);
        let named = named_columns(sink, order)?;
        if named.len() != query.fields().len() {
            let message = format!(
                "the query has {} columns, the sink takes {}",
                query.fields().len(),
                named.len()
            );
            return Err(SqlError::new(sqlstate::SYNTAX_ERROR, message));
        }
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(sink.fields().len());
        for (target, field) in sink.fields().iter().enumerate() {
            exprs.push(match named.iter().position(|&column| column == target) {
                Some(from) => cast(&query, from, field)?,
                None => null(field)?,
            });
        }
        let mut plan = self.plan;
        // A cast of NULL is NULL, so every column is nullable, also one that the sink declared NOT NULL.
        let fields = sink
            .fields()
            .iter()
            .map(|it| it.as_ref().clone().with_nullable(true));
        plan.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let step = Transform::Project {
            exprs,
            schema: Arc::clone(&plan.schema),
        };
        plan.root = PlanNode::Transform {
            from: Box::new(plan.root),
            steps: vec![step],
            changes: false,
        };
        Ok(Self {
            plan,
            event_time: Vec::new(),
            ..self
        })
    }
}

/// The numbers of the sink's columns that take the query's columns, in the order of the query.
fn named_columns(sink: &SchemaRef, order: &[&str]) -> Result<Vec<usize>, SqlError> {
    if order.is_empty() {
        return Ok((0..sink.fields().len()).collect());
    }
    let find = |name: &&str| {
        sink.index_of(name).map_err(|_| {
            SqlError::new(
                sqlstate::UNDEFINED_COLUMN,
                format!("the sink has no column {name:?}"),
            )
        })
    };
    let named = order.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    match (1..named.len()).find(|&at| named[..at].contains(&named[at])) {
        Some(twice) => {
            let message = format!("column {:?} is named twice", order[twice]);
            Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message))
        }
        None => Ok(named),
    }
}

/// The column number `from` of a query as a value of the column `to`.
pub(super) fn cast(
    query: &SchemaRef,
    from: usize,
    to: &Field,
) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let field = query.field(from);
    let column = Arc::new(Column::new(field.name(), from));
    if field.data_type() == to.data_type() {
        return Ok(column);
    }
    if !can_cast_types(field.data_type(), to.data_type()) {
        let message = format!(
            "column {:?} is {}, and the sink's {:?} is {}",
            field.name(),
            field.data_type(),
            to.name(),
            to.data_type()
        );
        return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message));
    }
    let text = format!("CAST({} AS {})", field.name(), type_name(to.data_type()));
    if let Some(function) = exact_cast(field.data_type(), to, false, text) {
        let options = Arc::new(ConfigOptions::default());
        let cast = ScalarFunctionExpr::try_new(function, vec![column], query, options);
        return Ok(Arc::new(cast.map_err(explain)?));
    }
    Ok(Arc::new(CastExpr::new(
        column,
        to.data_type().clone(),
        None,
    )))
}

fn null(field: &Field) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let null = ScalarValue::try_from(field.data_type()).map_err(explain)?;
    Ok(Arc::new(Literal::new(null)))
}
