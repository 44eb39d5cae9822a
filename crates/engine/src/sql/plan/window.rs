//! Windowed GROUP BYs on their way through the optimizer.
//!
//! `sql/windows.rs` rewrites `GROUP BY TUMBLE(ts, ...)` to group keys, `__window_start(ts, window,
//! size, slide)`, `__window_end(...)` and perhaps `__window_time(...)`. They are not ordinary keys: with HOP a
//! row has several. So the aggregate becomes an extension node, which the optimizer does not look into, and
//! filters on the window stay above it.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono_tz::Tz;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Extension, LogicalPlan, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, UserDefinedLogicalNodeCore, Volatility,
};
use datafusion::scalar::ScalarValue;
use headwater_connect::time_unit;

use crate::sql::windows::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// The bound of the window that a group key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WindowBound {
    Start,
    End,
    /// The last instant, which is the event time of the result.
    Time,
}

impl WindowBound {
    pub const ALL: [Self; 3] = [Self::Start, Self::End, Self::Time];

    fn name(self) -> &'static str {
        match self {
            Self::Start => WINDOW_START,
            Self::End => WINDOW_END,
            Self::Time => WINDOW_TIME,
        }
    }

    fn of_function(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bound| bound.name() == name)
    }

    /// The placeholder function: it is planned and never called.
    pub fn function(self) -> BoundFunction {
        BoundFunction {
            bound: self,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BoundFunction {
    bound: WindowBound,
    signature: Signature,
}

impl ScalarUDFImpl for BoundFunction {
    fn name(&self) -> &str {
        self.bound.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            time @ DataType::Timestamp(..) => Ok(time.clone()),
            other => plan_err!("a window needs a TIMESTAMP, not {other}"),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("a window outside of GROUP BY")
    }
}

/// The lengths of the windows, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WindowLengths {
    Equal(EqualWindows),
    Session { gap_us: i64 },
}

/// TUMBLE and HOP windows, in microseconds; with TUMBLE size and slide are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EqualWindows {
    pub size_us: i64,
    pub slide_us: i64,
    /// The start of one window, from 0 to `slide_us`.
    pub offset_us: i64,
    /// The zone whose days the windows consist of.
    pub zone: Option<Tz>,
}

/// A group key that is a bound of the window.
pub(super) struct WindowKey {
    pub bound: WindowBound,
    pub time: Expr,
    pub lengths: WindowLengths,
}

/// Reads a group key as a bound of the window, if it is one.
pub(super) fn window_key(key: &Expr) -> Result<Option<WindowKey>> {
    let Expr::ScalarFunction(call) = key.clone().unalias() else {
        return Ok(None);
    };
    let Some(bound) = WindowBound::of_function(call.func.name()) else {
        return Ok(None);
    };
    let [time, function, size, slide, shift @ ..] = call.args.as_slice() else {
        return plan_err!("a window needs four arguments");
    };
    let (size_us, slide_us) = (microseconds(size)?, microseconds(slide)?);
    let lengths = match text(function) {
        Some("session") => WindowLengths::Session { gap_us: size_us },
        _ => WindowLengths::Equal(EqualWindows {
            size_us,
            slide_us,
            offset_us: shift.first().map_or(Ok(0), microseconds)?,
            zone: shift.get(1).map(zone).transpose()?,
        }),
    };
    Ok(Some(WindowKey {
        bound,
        time: time.clone().unalias(),
        lengths,
    }))
}

/// Whether a bound of the window is `expr` or within it.
pub(super) fn has_bound(expr: &Expr) -> Result<bool> {
    expr.exists(|part| match part {
        Expr::ScalarFunction(call) => Ok(WindowBound::of_function(call.func.name()).is_some()),
        _ => Ok(false),
    })
}

fn text(literal: &Expr) -> Option<&str> {
    match literal {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

fn zone(literal: &Expr) -> Result<Tz> {
    match text(literal).and_then(|name| name.parse().ok()) {
        Some(zone) => Ok(zone),
        None => plan_err!("a window needs the name of a time zone, not {literal}"),
    }
}

fn microseconds(literal: &Expr) -> Result<i64> {
    match literal {
        Expr::Literal(ScalarValue::Int64(Some(us)), _) => Ok(*us),
        other => plan_err!("a window needs a constant length, not {other}"),
    }
}

/// A length of `us` in units of a timestamp column; `None` if it is no whole number of them.
pub(super) fn in_units(us: i64, unit: TimeUnit) -> Option<i64> {
    let length = time_unit::convert(us, TimeUnit::Microsecond, unit)?;
    let same = time_unit::convert(length, unit, TimeUnit::Microsecond) == Some(us);
    same.then_some(length)
}

/// A windowed GROUP BY as a node that the optimizer does not look into.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowAggregate {
    pub input: LogicalPlan,
    pub keys: Vec<Expr>,
    pub aggregates: Vec<Expr>,
    pub schema: DFSchemaRef,
}

impl PartialOrd for WindowAggregate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.keys, &self.aggregates).partial_cmp(&(&other.keys, &other.aggregates))
    }
}

impl UserDefinedLogicalNodeCore for WindowAggregate {
    fn name(&self) -> &str {
        "WindowAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain(&self.aggregates).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |exprs: &[Expr]| {
            exprs
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        write!(
            f,
            "WindowAggregate: {} | {}",
            list(&self.keys),
            list(&self.aggregates)
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let [input] = <[LogicalPlan; 1]>::try_from(inputs)
            .or_else(|inputs| plan_err!("a window over {} inputs", inputs.len()))?;
        let schema = retyped(&self.schema, &exprs, input.schema())?;
        let mut keys = exprs;
        let aggregates = keys.split_off(self.keys.len());
        Ok(Self {
            input,
            keys,
            aggregates,
            schema,
        })
    }
}

/// The columns of `schema` with the types that `exprs` have after coercion.
fn retyped(schema: &DFSchema, exprs: &[Expr], input: &DFSchema) -> Result<DFSchemaRef> {
    let mut fields = Vec::with_capacity(exprs.len());
    for ((qualifier, field), expr) in schema.iter().zip(exprs) {
        let (_, now) = expr.to_field(input)?;
        let field = field.as_ref().clone();
        let field = field
            .with_data_type(now.data_type().clone())
            .with_nullable(now.is_nullable());
        fields.push((qualifier.cloned(), Arc::new(field)));
    }
    let retyped = DFSchema::new_with_metadata(fields, schema.metadata().clone())?;
    Ok(Arc::new(retyped))
}

/// Replaces a windowed aggregate by a [`WindowAggregate`].
pub(super) fn keep_together(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = &plan else {
        return Ok(Transformed::no(plan));
    };
    let mut windowed = false;
    for key in &aggregate.group_expr {
        windowed |= window_key(key)?.is_some();
    }
    if !windowed {
        return Ok(Transformed::no(plan));
    }
    // A key that is written twice is one column of the schema.
    let mut keys: Vec<Expr> = Vec::with_capacity(aggregate.group_expr.len());
    for key in &aggregate.group_expr {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let columns = keys.len() + aggregate.aggr_expr.len();
    if columns != aggregate.schema.fields().len() {
        return plan_err!("{columns} keys and aggregates for {:?}", aggregate.schema);
    }
    let node = WindowAggregate {
        input: aggregate.input.as_ref().clone(),
        keys,
        aggregates: aggregate.aggr_expr.clone(),
        schema: aggregate.schema.clone(),
    };
    Ok(Transformed::yes(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    })))
}
