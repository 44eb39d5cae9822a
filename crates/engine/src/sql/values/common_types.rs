//! The analyzer rule that decides what two arguments become, before DataFusion's coercion does.
//!
//! | beside each other | become | DataFusion would take |
//! |---|---|---|
//! | a DECIMAL and a float, of an operator | DOUBLE | DECIMAL, which has neither infinity nor NaN, or REAL |
//! | an integer and a REAL, of an operator | DOUBLE | REAL |
//! | a DECIMAL and a float, of COALESCE and the like | the float | DECIMAL |
//! | a DATE and a TIMESTAMP(p) | TIMESTAMP(p) | nanoseconds, which end in 2262 |
//! | a DATE and an INTERVAL | TIMESTAMP and INTERVAL | DATE and INTERVAL |
//! | intervals that are compared | their lengths | months, then days, then nanoseconds |
//!
//! It also puts in [`TimeFunction`] where the planner has not looked the function up by name, writes booleans of
//! CONCAT as `t` and `f`, and translates regular expressions. A literal beside bytes is bytes, an array without
//! elements has no length, and what is removed from an array or replaced in it is every such element.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::datatype::DataTypeExt;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::functions::core::nullif;
use datafusion::functions_nested::remove::array_remove_all_udf;
use datafusion::functions_nested::replace::array_replace_all_udf;
use datafusion::logical_expr::expr::{Case, InList, ScalarFunction};
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, Union,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;

use super::TimeFunction;
use super::interval_length::{has_length, length_of};
use super::number_function::as_operators;
use super::regex_words::{translate_function, translate_operator};
use super::sql_types::text_of;
use crate::sql::numbers::with_expressions;

/// Functions whose arguments become one type.
const OF_ONE_TYPE: &[&str] = &["coalesce", "nullif", "greatest", "least", "nvl", "ifnull"];
/// Functions that write values of any type as text.
const WRITERS: &[&str] = &["concat", "concat_ws"];

#[derive(Debug)]
pub(in crate::sql) struct CommonTypes;

impl AnalyzerRule for CommonTypes {
    fn name(&self) -> &str {
        "common_types"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let rewrite =
        |expr: Expr, schema: &DFSchema| expr.transform_up(|expr| Ok(unified(expr, schema)));
    with_expressions(plan, rewrite)?.map_data(|plan| match plan {
        // It would keep the types that its inputs had before.
        LogicalPlan::Union(Union { inputs, .. }) => {
            Union::try_new_with_loose_types(inputs).map(LogicalPlan::Union)
        }
        other => other.recompute_schema(),
    })
}

fn unified(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    Transformed::yes(match expr {
        Expr::BinaryExpr(mut binary) => {
            translate_operator(&mut binary);
            Expr::BinaryExpr(sides(binary, schema))
        }
        Expr::Between(Between {
            mut expr,
            negated,
            mut low,
            mut high,
        }) => {
            let mut values = [&mut *expr, &mut *low, &mut *high];
            unify(&mut values, true, schema);
            by_length(&mut values, schema);
            Expr::Between(Between::new(expr, negated, low, high))
        }
        Expr::InList(mut of) => {
            let InList { expr, list, .. } = &mut of;
            let values = std::iter::once(&mut **expr).chain(list);
            let mut values: Vec<_> = values.collect();
            unify(&mut values, true, schema);
            by_length(&mut values, schema);
            Expr::InList(of)
        }
        Expr::Case(mut case) => {
            branches(&mut case, schema);
            Expr::Case(case)
        }
        Expr::ScalarFunction(call) => {
            null_if_empty(as_operators(function(call, schema), schema), schema)
        }
        other => return Transformed::no(other),
    })
}

pub(super) fn sides(binary: BinaryExpr, schema: &DFSchema) -> BinaryExpr {
    let BinaryExpr {
        mut left,
        op,
        mut right,
    } = binary;
    if computes_or_compares(op) {
        unify(&mut [&mut *left, &mut *right], true, schema);
    }
    if op == Operator::StringConcat {
        bytes_of_literals(&mut [&mut *left, &mut *right], schema);
    }
    if compares(op) {
        by_length(&mut [&mut *left, &mut *right], schema);
    }
    if matches!(op, Operator::Plus | Operator::Minus) {
        at_midnight(&mut left, &right, schema);
        at_midnight(&mut right, &left, schema);
    }
    BinaryExpr { left, op, right }
}

fn computes_or_compares(op: Operator) -> bool {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    matches!(op, Plus | Minus | Multiply | Divide | Modulo) || compares(op)
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    let orders = matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq);
    orders || matches!(op, IsDistinctFrom | IsNotDistinctFrom)
}

/// Intervals that are compared with each other.
fn by_length(values: &mut [&mut Expr], schema: &DFSchema) {
    let has_length = |value: &&mut Expr| type_of(value, schema).is_ok_and(|it| has_length(&it));
    if values.iter().all(has_length) {
        for value in values {
            let interval = std::mem::take(*value);
            **value = length_of(interval);
        }
    }
}

/// A date to which an interval is added.
fn at_midnight(date: &mut Expr, interval: &Expr, schema: &DFSchema) {
    let types = (date.get_type(schema), interval.get_type(schema));
    if let (Ok(DataType::Date32), Ok(DataType::Interval(_))) = types {
        let midnight = DataType::Timestamp(TimeUnit::Microsecond, None);
        become_type(date, midnight.into_nullable_field_ref());
    }
}

fn branches(case: &mut Case, schema: &DFSchema) {
    let mut compared = Vec::new();
    let mut results: Vec<&mut Expr> = case.else_expr.as_deref_mut().into_iter().collect();
    for (when, then) in &mut case.when_then_expr {
        compared.push(&mut **when);
        results.push(&mut **then);
    }
    unify(&mut results, false, schema);
    if let Some(of) = case.expr.as_deref_mut() {
        compared.push(of);
        unify(&mut compared, true, schema);
    }
}

fn function(mut call: ScalarFunction, schema: &DFSchema) -> ScalarFunction {
    translate_function(&mut call);
    let name = call.name().to_owned();
    if OF_ONE_TYPE.contains(&name.as_str()) {
        let compared = name == "nullif";
        unify(
            &mut call.args.iter_mut().collect::<Vec<_>>(),
            compared,
            schema,
        );
    }
    if WRITERS.contains(&name.as_str()) {
        for argument in &mut call.args {
            // The first letter of TRUE and FALSE.
            if argument
                .get_type(schema)
                .is_ok_and(|it| it == DataType::Boolean)
            {
                become_type(argument, text_of(1));
            }
        }
    }
    if name == "encode"
        && let [of, _] = &mut call.args[..]
        && matches!(of, Expr::Literal(ScalarValue::Utf8(_), _))
    {
        become_type(of, DataType::Binary.into_nullable_field_ref());
    }
    let replaced = match name.as_str() {
        "array_remove" => Some(array_remove_all_udf()),
        "array_replace" => Some(array_replace_all_udf()),
        _ => None,
    };
    call.func = replaced.unwrap_or(call.func);
    if name == TimeFunction::PART && !call.func.inner().is::<TimeFunction>() {
        let function = TimeFunction::new(&call.func).map(ScalarUDF::from);
        call.func = function.map_or(call.func, Arc::new);
    }
    call
}

/// Casts those of the expressions that would otherwise be lost in the type that all of them become;
/// `operands`: of an operator.
fn unify(exprs: &mut [&mut Expr], operands: bool, schema: &DFSchema) {
    bytes_of_literals(exprs, schema);
    let types = exprs.iter().map(|expr| type_of(expr, schema));
    // What has no type is refused by the coercion that follows.
    let Ok(types) = types.collect::<Result<Vec<_>>>() else {
        return;
    };
    let mut typed = exprs.iter().zip(&types);
    let has_float = typed.any(|(expr, it)| it.is_floating() && !is_small_literal(expr));
    let has_real = types.contains(&DataType::Float32);
    let float = match operands || types.contains(&DataType::Float64) {
        true => DataType::Float64,
        false => DataType::Float32,
    };
    let time = types
        .iter()
        .filter(|it| matches!(it, DataType::Timestamp(..)));
    let time = time.max_by_key(|it| unit_digits(it)).cloned();
    let coarsest = coarsest_time(exprs, &types).filter(|_| operands);
    for (expr, data_type) in exprs.iter_mut().zip(types) {
        match (data_type, &time) {
            (it, _) if is_whole_seconds(expr) && coarser(&coarsest, &it) => {
                // Without a cast of the column, a condition on it can be looked up.
                if let (Expr::Cast(literal), Some(coarsest)) = (&mut **expr, &coarsest) {
                    literal.field = coarsest.clone().into_nullable_field_ref();
                }
            }
            (it, _) if it.is_decimal() && has_float || it.is_integer() && has_real && operands => {
                become_type(expr, float.clone().into_nullable_field_ref());
            }
            (DataType::Date32, Some(time)) => {
                become_type(expr, time.clone().into_nullable_field_ref());
            }
            _ => {}
        }
    }
}

/// Makes bytes of the literals beside bytes: `payload = '\x00ff'`.
fn bytes_of_literals(exprs: &mut [&mut Expr], schema: &DFSchema) {
    let is_bytes = |it: &&mut Expr| it.get_type(schema).is_ok_and(|it| it == DataType::Binary);
    if !exprs.iter().any(is_bytes) {
        return;
    }
    for expr in exprs {
        if matches!(expr, Expr::Literal(ScalarValue::Utf8(_), _)) {
            become_type(expr, DataType::Binary.into_nullable_field_ref());
        }
    }
}

/// An array without elements has no length.
fn null_if_empty(expr: Expr, schema: &DFSchema) -> Expr {
    match &expr {
        Expr::ScalarFunction(call) if call.name() == "array_length" => {
            let Ok(zero) = expr
                .get_type(schema)
                .and_then(|it| ScalarValue::new_zero(&it))
            else {
                return expr;
            };
            let zero = Expr::Literal(zero, None);
            Expr::ScalarFunction(ScalarFunction::new_udf(nullif(), vec![expr, zero]))
        }
        _ => expr,
    }
}

/// The type of an expression whose parts may still wait for their coercion, as those of `GREATEST(decimal, bigint)`.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    expr.get_type(schema).or_else(|_| {
        let coerced = expr
            .clone()
            .rewrite(&mut TypeCoercionRewriter::new(schema))?;
        coerced.data.get_type(schema)
    })
}

/// The type of the coarsest timestamp that is not written as a text.
fn coarsest_time(exprs: &[&mut Expr], types: &[DataType]) -> Option<DataType> {
    let times = exprs.iter().zip(types).filter(|(expr, data_type)| {
        matches!(data_type, DataType::Timestamp(_, None)) && !is_whole_seconds(expr)
    });
    let types = times.map(|(_, data_type)| data_type.clone());
    types.min_by_key(unit_digits)
}

/// Whether it is like `TIMESTAMP '2024-01-05 10:20:30'`, which is a timestamp of every unit.
fn is_whole_seconds(expr: &Expr) -> bool {
    let Expr::Cast(Cast { expr, field }) = expr else {
        return false;
    };
    let is_whole = match &**expr {
        Expr::Literal(text, _) => text
            .try_as_str()
            .flatten()
            .is_some_and(|it| !it.contains('.')),
        _ => false,
    };
    is_whole && matches!(field.data_type(), DataType::Timestamp(_, None))
}

/// Whether it is a literal that is also a DECIMAL, which PostgreSQL says it is.
fn is_small_literal(expr: &Expr) -> bool {
    const WHOLE_MAX: f64 = 1e14;
    matches!(expr, Expr::Literal(ScalarValue::Float64(Some(value)), _) if value.abs() < WHOLE_MAX)
}

fn coarser(time: &Option<DataType>, than: &DataType) -> bool {
    let digits = time.as_ref().map(unit_digits);
    digits.is_some_and(|digits| digits < unit_digits(than))
}

/// The digits of a second that a timestamp has.
fn unit_digits(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Timestamp(unit, _) => headwater_connect::time_unit::precision(*unit),
        _ => 0,
    }
}

fn become_type(expr: &mut Expr, field: FieldRef) {
    let of = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = Expr::Cast(Cast::new_from_field(Box::new(of), field));
}
