//! Expressions as columns: what a GROUP BY computes of each row, added to the rows before they are grouped.
//!
//! ```text
//!   rows: a b ts   --project-->   a b ts c0 c1        c0 = a % 10, c1 = a * b
//!                                                     GROUP BY c0, SUM(c1): columns, which cannot fail
//! ```
//!
//! An expression that is used twice is computed once. Columns and literals stay what they are.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use super::transform::Transform;

/// The columns of the input, and those that are computed of them.
#[derive(Debug)]
pub(super) struct ComputedColumns {
    /// The number of columns of the input.
    input: usize,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// The names and types of `exprs`.
    fields: Vec<FieldRef>,
}

impl ComputedColumns {
    pub fn new(input: &Schema) -> Self {
        let columns = input.fields().iter().enumerate();
        let columns = columns.map(|(number, field)| Arc::new(Column::new(field.name(), number)));
        Self {
            input: input.fields().len(),
            exprs: columns.map(|it| it as _).collect(),
            fields: input.fields().to_vec(),
        }
    }

    /// The column that has the value of `expr`; a literal stays one.
    pub fn column(
        &mut self,
        expr: &Arc<dyn PhysicalExpr>,
        input: &Schema,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        if expr.is::<Column>() || expr.is::<Literal>() {
            return Ok(Arc::clone(expr));
        }
        let number = match self.exprs.iter().position(|known| known == expr) {
            Some(known) => known,
            None => {
                let name = format!("c{}", self.exprs.len());
                let field = Field::new(name, expr.data_type(input)?, true);
                self.fields.push(Arc::new(field));
                self.exprs.push(Arc::clone(expr));
                self.exprs.len() - 1
            }
        };
        Ok(Arc::new(Column::new(self.fields[number].name(), number)))
    }

    /// The expression whose value a column has; a literal stays one.
    pub fn origin<'a>(&'a self, expr: &'a Arc<dyn PhysicalExpr>) -> &'a Arc<dyn PhysicalExpr> {
        let column = expr.downcast_ref::<Column>();
        let origin = column.and_then(|column| self.exprs.get(column.index()));
        origin.unwrap_or(expr)
    }

    /// [`column`](Self::column) for each of `exprs`.
    pub fn columns(
        &mut self,
        exprs: &[Arc<dyn PhysicalExpr>],
        input: &Schema,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        exprs.iter().map(|expr| self.column(expr, input)).collect()
    }

    /// The projection that adds the columns; `None` if there are none.
    pub fn transform(&self) -> Option<Transform> {
        let schema: SchemaRef = Arc::new(Schema::new(self.fields.clone()));
        let exprs = self.exprs.clone();
        (exprs.len() > self.input).then_some(Transform::Project { exprs, schema })
    }

    /// The rows without the columns.
    pub fn without(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        Ok(rows.project(&(0..self.input).collect::<Vec<_>>())?)
    }
}
