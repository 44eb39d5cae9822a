//! `mod`, `div`, `sign` and `width_bucket`, which DataFusion does not have.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::functions::math::trunc;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs,
    ScalarUDFImpl, Signature, Volatility,
};

use super::common_types::sides;
use super::of_arrays;
use crate::sql::functions::{external, undefined_function};
use crate::sql::{SqlError, sqlstate};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum NumberFunctionKind {
    Modulo,
    /// The quotient without its fraction.
    Quotient,
    Sign,
    WidthBucket,
}

/// A function of numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct NumberFunction {
    kind: NumberFunctionKind,
    signature: Signature,
}

impl NumberFunction {
    pub fn all() -> [Self; 4] {
        use NumberFunctionKind::{Modulo, Quotient, Sign, WidthBucket};
        [Modulo, Quotient, Sign, WidthBucket].map(|kind| Self {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }

    /// The types that the operands of `operator` become, and that of its result.
    fn operator_types(&self, operator: Operator, arguments: &[DataType]) -> Result<[DataType; 3]> {
        let [left, right] = arguments else {
            return Err(external(undefined_function(self.name(), arguments)));
        };
        let coercer = BinaryTypeCoercer::new(left, &operator, right);
        let (left, right) = coercer.get_input_types()?;
        let result = BinaryTypeCoercer::new(&left, &operator, &right).get_result_type()?;
        Ok([left, right, result])
    }

    fn operator(&self) -> Option<Operator> {
        match self.kind {
            NumberFunctionKind::Modulo => Some(Operator::Modulo),
            NumberFunctionKind::Quotient => Some(Operator::Divide),
            NumberFunctionKind::Sign | NumberFunctionKind::WidthBucket => None,
        }
    }
}

/// What `mod(a, b)` and `div(a, b)` are as operators, which the checked arithmetic then takes.
pub(super) fn as_operators(call: ScalarFunction, schema: &DFSchema) -> Expr {
    let kind = call
        .func
        .inner()
        .downcast_ref::<NumberFunction>()
        .map(|it| it.kind);
    let (Some(kind), [a, b]) = (kind, call.args.as_slice()) else {
        return Expr::ScalarFunction(call);
    };
    let computed = |left: &Expr, op, right: &Expr| {
        let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
        Expr::BinaryExpr(sides(BinaryExpr { left, op, right }, schema))
    };
    let any = |is: fn(&DataType) -> bool| {
        [a, b]
            .into_iter()
            .any(|it| it.get_type(schema).is_ok_and(|it| is(&it)))
    };
    match kind {
        NumberFunctionKind::Modulo => computed(a, Operator::Modulo, b),
        NumberFunctionKind::Quotient if any(DataType::is_floating) => {
            let quotient = computed(a, Operator::Divide, b);
            Expr::ScalarFunction(ScalarFunction::new_udf(trunc(), vec![quotient]))
        }
        // So that nothing is rounded.
        NumberFunctionKind::Quotient if any(DataType::is_decimal) => {
            let whole = computed(a, Operator::Minus, &computed(a, Operator::Modulo, b));
            computed(&whole, Operator::Divide, b)
        }
        NumberFunctionKind::Quotient => computed(a, Operator::Divide, b),
        NumberFunctionKind::Sign | NumberFunctionKind::WidthBucket => Expr::ScalarFunction(call),
    }
}

fn sign(number: f64) -> f64 {
    match number {
        _ if number > 0.0 => 1.0,
        _ if number < 0.0 => -1.0,
        _ => 0.0,
    }
}

/// The number of the bucket, from 1 to `count`, that holds `value`; 0 and one more for those beyond.
fn bucket(value: f64, low: f64, high: f64, count: i64) -> Result<i32, &'static str> {
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return Err("operand, lower bound, and upper bound cannot be NaN");
    }
    if !low.is_finite() || !high.is_finite() {
        return Err("lower and upper bounds must be finite");
    }
    if low == high {
        return Err("lower bound cannot equal upper bound");
    }
    let beyond = i32::try_from(count).ok().and_then(|it| it.checked_add(1));
    let Some(beyond) = beyond.filter(|it| *it > 1) else {
        return Err("count must be greater than zero, and at most 2147483646");
    };
    let (from_low, width) = match low < high {
        true => (value - low, high - low),
        false => (low - value, low - high),
    };
    Ok(match from_low {
        _ if from_low < 0.0 => 0,
        _ if from_low >= width => beyond,
        _ => ((f64::from(beyond - 1) * (from_low / width)) as i32 + 1).min(beyond - 1),
    })
}

fn buckets(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let double = |place: usize| arguments[place].as_primitive::<Float64Type>();
    let (values, lows, highs) = (double(0), double(1), double(2));
    let counts = arguments[3].as_primitive::<Int64Type>();
    let row = |row: usize| {
        if arguments.iter().any(|it| it.is_null(row)) {
            return Ok(None);
        }
        let found = bucket(
            values.value(row),
            lows.value(row),
            highs.value(row),
            counts.value(row),
        );
        found
            .map(Some)
            .map_err(|message| external(SqlError::new(sqlstate::INVALID_WIDTH_BUCKET, message)))
    };
    let found: Int32Array = (0..values.len()).map(row).collect::<Result<_>>()?;
    Ok(Arc::new(found))
}

impl ScalarUDFImpl for NumberFunction {
    fn name(&self) -> &str {
        match self.kind {
            NumberFunctionKind::Modulo => "mod",
            NumberFunctionKind::Quotient => "div",
            NumberFunctionKind::Sign => "sign",
            NumberFunctionKind::WidthBucket => "width_bucket",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_number = |it: &DataType| it.is_numeric() || it.is_null();
        if !arguments.iter().all(is_number) {
            return Err(external(undefined_function(self.name(), arguments)));
        }
        if let Some(operator) = self.operator() {
            let [left, right, _] = self.operator_types(operator, arguments)?;
            return Ok(vec![left, right]);
        }
        match (self.kind, arguments) {
            (NumberFunctionKind::Sign, [_]) => Ok(vec![DataType::Float64]),
            (NumberFunctionKind::WidthBucket, [_, _, _, count]) if !count.is_floating() => {
                let double = DataType::Float64;
                Ok(vec![
                    double.clone(),
                    double.clone(),
                    double,
                    DataType::Int64,
                ])
            }
            _ => Err(external(undefined_function(self.name(), arguments))),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.operator(), self.kind) {
            (Some(operator), _) => {
                let [.., result] = self.operator_types(operator, arguments)?;
                Ok(result)
            }
            (None, NumberFunctionKind::Sign) => Ok(DataType::Float64),
            (None, _) => Ok(DataType::Int32),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.kind {
            NumberFunctionKind::Sign => of_arrays(&args.args, |arguments| {
                let numbers = arguments[0].as_primitive::<Float64Type>();
                let signs: Float64Array = numbers.unary(sign);
                Ok(Arc::new(signs))
            }),
            NumberFunctionKind::WidthBucket => of_arrays(&args.args, buckets),
            NumberFunctionKind::Modulo | NumberFunctionKind::Quotient => {
                internal_err!("{} is planned as an operator", self.name())
            }
        }
    }
}
