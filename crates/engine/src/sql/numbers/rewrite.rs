//! The analyzer rule that puts checked arithmetic, checked casts and canonical floats into a plan.
//!
//! After type coercion, so that all types are known, and before the optimizer. The names of columns stay.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRewriter};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::arithmetic::{Arithmetic, Operation};
use super::canonical::{canonical, canonical_scalar};
use super::cast::exact_cast;
use super::fault::name;
use super::float_function::{FloatFunction, FloatMath};
use crate::sql::functions::external;
use crate::sql::{SqlError, sqlstate};

/// The longest text of an expression that an error repeats, bytes.
const MAX_TEXT: usize = 80;

/// The name of the function whose result may not fit into the type of its argument.
const ABS: &str = "abs";

#[derive(Debug)]
pub(super) struct ExactNumbers;

impl AnalyzerRule for ExactNumbers {
    fn name(&self) -> &str {
        "exact_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let rewrite = |expr: Expr, schema: &DFSchema| {
        expr.rewrite(&mut NumberRewriter {
            schema,
            texts: Vec::new(),
        })
    };
    with_expressions(plan, rewrite)?
        .map_data(LogicalPlan::recompute_schema)?
        .transform_data(canonical_results)
}

/// The node with its expressions rewritten, under their names; `rewrite` also gets the columns of its inputs.
pub(in crate::sql) fn with_expressions(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = rewrite(expr, &schema)?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })
}

/// Puts a projection above aggregates that compute floats: a sum can be a NaN of any bits.
fn canonical_results(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    use LogicalPlan::{Aggregate, Extension, Window};
    if !matches!(plan, Aggregate(_) | Extension(_) | Window(_)) {
        return Ok(Transformed::no(plan));
    }
    let fields = plan.schema().fields();
    if !fields.iter().any(|field| is_float(field.data_type())) {
        return Ok(Transformed::no(plan));
    }
    // A column that is grouped by is canonical: it stays the same column.
    let keys = match &plan {
        Aggregate(aggregate) => aggregate.group_expr.as_slice(),
        _ => &[],
    };
    let columns = plan.schema().iter().enumerate();
    let columns = columns.map(|(number, (relation, field))| {
        let column = Expr::Column(Column::from((relation, field)));
        let is_column = matches!(keys.get(number), Some(Expr::Column(_)));
        match is_float(field.data_type()) && !is_column {
            true => canonical(column).alias_qualified(relation.cloned(), field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    let projection = Projection::try_new(columns, Arc::new(plan))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

struct NumberRewriter<'a> {
    schema: &'a DFSchema,
    /// For each node on the way down, its text if it may become a function.
    texts: Vec<Option<String>>,
}

impl TreeNodeRewriter for NumberRewriter<'_> {
    type Node = Expr;

    fn f_down(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        self.texts.push(text_of(&expr));
        Ok(Transformed::no(expr))
    }

    fn f_up(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let text = self.texts.pop().flatten().unwrap_or_default();
        match expr {
            Expr::BinaryExpr(binary) => self.binary(binary, text),
            Expr::Negative(of) => self.negative(of, text),
            Expr::Cast(Cast { expr: of, field }) => {
                let rebuilt = |of, field| Expr::Cast(Cast { expr: of, field });
                self.cast(of, field, false, text, rebuilt)
            }
            Expr::TryCast(TryCast { expr: of, field }) => {
                let rebuilt = |of, field| Expr::TryCast(TryCast { expr: of, field });
                self.cast(of, field, true, text, rebuilt)
            }
            Expr::Literal(value, metadata) => {
                let literal = Expr::Literal(canonical_scalar(value), metadata);
                Ok(Transformed::yes(literal))
            }
            Expr::ScalarFunction(mut of) if self.is_integer_abs(&of)? => {
                let function = Arithmetic::new(Operation::Absolute, text);
                Ok(Transformed::yes(call(
                    function,
                    std::mem::take(&mut of.args),
                )))
            }
            Expr::ScalarFunction(_) if is_float(&expr.get_type(self.schema)?) => {
                Ok(Transformed::yes(float_function(expr, text)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

impl NumberRewriter<'_> {
    fn is_integer_abs(&self, function: &ScalarFunction) -> Result<bool> {
        match function.args.as_slice() {
            [of] if function.name() == ABS => Ok(of.get_type(self.schema)?.is_signed_integer()),
            _ => Ok(false),
        }
    }

    fn binary(&self, binary: BinaryExpr, text: String) -> Result<Transformed<Expr>> {
        let BinaryExpr { left, op, right } = binary;
        if let Some(operation) = Operation::of(op) {
            let types = (left.get_type(self.schema)?, right.get_type(self.schema)?);
            if Arithmetic::takes(&types.0, &types.1) {
                let function = Arithmetic::new(operation, text);
                return Ok(Transformed::yes(call(function, vec![*left, *right])));
            }
        }
        let same = BinaryExpr { left, op, right };
        Ok(Transformed::no(Expr::BinaryExpr(same)))
    }

    fn negative(&self, of: Box<Expr>, text: String) -> Result<Transformed<Expr>> {
        let data_type = of.get_type(self.schema)?;
        if data_type.is_signed_integer() || is_float(&data_type) {
            let function = Arithmetic::new(Operation::Negate, text);
            return Ok(Transformed::yes(call(function, vec![*of])));
        }
        Ok(Transformed::no(Expr::Negative(of)))
    }

    fn cast(
        &self,
        of: Box<Expr>,
        field: arrow::datatypes::FieldRef,
        or_null: bool,
        text: String,
        rebuilt: impl Fn(Box<Expr>, arrow::datatypes::FieldRef) -> Expr,
    ) -> Result<Transformed<Expr>> {
        let from = of.get_type(self.schema)?;
        if from.is_numeric() && matches!(field.data_type(), DataType::Timestamp(..)) {
            let message = format!("cannot cast type {} to timestamp", name(&from));
            let error = SqlError::new(sqlstate::CANNOT_COERCE, message);
            return Err(external(error.hint("Write to_timestamp(seconds).")));
        }
        if let Some(function) = exact_cast(&from, &field, or_null, text) {
            return Ok(Transformed::yes(function.call(vec![*of])));
        }
        let to_float = is_float(field.data_type());
        let same = rebuilt(of, field);
        Ok(match to_float && !from.is_numeric() {
            true => Transformed::yes(canonical(same)),
            false => Transformed::no(same),
        })
    }
}

/// The call with its errors, and with a canonical result.
fn float_function(expr: Expr, text: String) -> Expr {
    match expr {
        Expr::ScalarFunction(of) => match FloatMath::of(&of) {
            Some(math) => {
                let function = FloatFunction::new(math, of.func, text);
                Arc::new(ScalarUDF::from(function)).call(of.args)
            }
            None => canonical(Expr::ScalarFunction(of)),
        },
        other => canonical(other),
    }
}

fn call(function: Arithmetic, arguments: Vec<Expr>) -> Expr {
    Arc::new(ScalarUDF::from(function)).call(arguments)
}

/// The SQL of an operation or a cast, for its errors.
fn text_of(expr: &Expr) -> Option<String> {
    let mut text = Shortened(String::new());
    let written = match expr {
        Expr::BinaryExpr(binary) if Operation::of(binary.op).is_some() => {
            write!(text, "{}", expr.human_display())
        }
        Expr::ScalarFunction(of) if of.name() == ABS || FloatMath::of(of).is_some() => {
            write!(text, "{expr}")
        }
        Expr::Negative(of) => write!(text, "-{}", of.human_display()),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            let to = name(field.data_type());
            write!(text, "CAST({} AS {to})", expr.human_display())
        }
        _ => return None,
    };
    if written.is_err() {
        text.0.push_str("...");
    }
    Some(text.0)
}

/// Text up to [`MAX_TEXT`] bytes: an expression of a thousand terms is not written for each of them.
struct Shortened(String);

impl fmt::Write for Shortened {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let left = MAX_TEXT.saturating_sub(self.0.len());
        let fitting = part.floor_char_boundary(left);
        self.0.push_str(&part[..fitting]);
        match fitting == part.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}
