//! Computed columns of a source: expressions over the columns that arrive.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use super::insert::cast;
use super::{Planner, Relation};
use crate::dataflow::{ColumnOrigin, PlanNode, SourceColumns, Transform};
use crate::sql::identifiers::{TableLookup, resolve_identifiers};
use crate::sql::{ColumnDefinition, PAYLOAD, Result, SqlError, SqlQuery, sqlstate, windows};

/// The one table that the expressions can name.
struct Payload<'a>(&'a Schema);

impl TableLookup for Payload<'_> {
    fn names(&self) -> Vec<String> {
        vec![PAYLOAD.to_owned()]
    }

    fn columns(&self, table: &str) -> Option<Vec<String>> {
        let names = self.0.fields().iter().map(|field| field.name().clone());
        (table == PAYLOAD).then(|| names.collect())
    }
}

impl Planner {
    /// Plans the computed columns of a source with these `columns`, which are the fields of `schema`; `None`
    /// if it has none.
    ///
    /// # Errors
    /// If an expression names another computed column, aggregates, is not deterministic or has a type that
    /// cannot be cast to that of its column.
    pub fn computed_columns(
        &self,
        columns: &[ColumnDefinition],
        schema: &SchemaRef,
    ) -> Result<Option<SourceColumns>> {
        if columns.iter().all(|column| column.computed.is_none()) {
            return Ok(None);
        }
        let arrives = |(column, _): &(&ColumnDefinition, _)| column.computed.is_none();
        let fields = columns.iter().zip(schema.fields()).filter(arrives);
        let fields = fields.map(|(_, field)| Arc::clone(field));
        let payload = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut arrived = 0..;
        let origins = columns.iter().map(|column| match &column.computed {
            None => Ok(ColumnOrigin::Payload(arrived.next().unwrap_or_default())),
            Some(expr) => self.computed_column(column, expr, &payload),
        });
        let origins = origins.collect::<Result<_>>()?;
        Ok(Some(SourceColumns::new(origins, Arc::clone(schema))))
    }

    fn computed_column(
        &self,
        column: &ColumnDefinition,
        expr: &SqlQuery,
        payload: &SchemaRef,
    ) -> Result<ColumnOrigin> {
        let mut query = expr.clone();
        windows::rewrite(&mut query)?;
        resolve_identifiers(&mut query, &Payload(payload))?;
        let relation = Relation::new(PAYLOAD, Arc::clone(payload));
        let planned = self.plan(query, &[relation])?;
        let refuse = |code, message: String, hint: &str| {
            let error = SqlError::new(code, message).hint(hint);
            error.at(expr.span.clone())
        };
        let name = &column.name.value;
        let found = planned.plan.schema.field(0).data_type().clone();
        if !arrow::compute::can_cast_types(&found, &column.data_type) {
            let wanted = &column.data_type;
            return Err(refuse(
                sqlstate::DATATYPE_MISMATCH,
                format!("column {name:?} is {wanted}, its expression {found}"),
                "Cast the expression, or declare the column with its type.",
            ));
        }
        match planned.plan.root {
            PlanNode::Transform {
                from, mut steps, ..
            } if matches!(*from, PlanNode::Input { .. })
                && steps
                    .iter()
                    .all(|step| matches!(step, Transform::Project { .. })) =>
            {
                let field = Field::new(name, column.data_type.clone(), true);
                let schema = &planned.plan.schema;
                steps.push(Transform::Project {
                    exprs: vec![cast(schema, 0, &field)?],
                    schema: Arc::new(Schema::new(vec![field])),
                });
                Ok(ColumnOrigin::Computed(steps))
            }
            _ => Err(refuse(
                sqlstate::INVALID_PARAMETER,
                format!("column {name:?} is not computed row by row"),
                "Compute it row by row from the columns that arrive.",
            )),
        }
    }
}
