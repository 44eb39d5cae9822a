//! Functions of floats that fail where they have no result, as PostgreSQL's do.
//!
//! DataFusion's function computes the batch. Only if a value is odd, that is infinite, NaN or a 0 where that is
//! suspicious, a second loop looks at the arguments of its row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::fault::ValueFault;
use crate::canonical::Canonical;
use crate::sql::values::in_form_of;

/// For which arguments a function has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FloatMath {
    /// None: it rounds half to even.
    Round,
    SquareRoot,
    Logarithm,
    /// The first of two arguments is the base.
    LogarithmOfBase,
    Power,
    Exponential,
    /// A sine and the like, and their inverses: NaN beyond their range.
    Trigonometric,
    /// Between degrees and radians.
    Angle,
}

impl FloatMath {
    pub fn of(call: &ScalarFunction) -> Option<Self> {
        Some(match (call.name(), call.args.len()) {
            ("round", 1) => Self::Round,
            ("sqrt", _) => Self::SquareRoot,
            ("ln" | "log10" | "log2", _) | ("log", 1) => Self::Logarithm,
            ("log", 2) => Self::LogarithmOfBase,
            ("power", _) => Self::Power,
            ("exp", _) => Self::Exponential,
            ("sin" | "cos" | "tan" | "cot" | "asin" | "acos" | "acosh" | "atanh", _) => {
                Self::Trigonometric
            }
            ("degrees" | "radians", _) => Self::Angle,
            _ => return None,
        })
    }

    /// Whether a result of 0 may be one that is too small, or -0.0.
    fn zero_is_odd(self) -> bool {
        !matches!(
            self,
            Self::SquareRoot | Self::Logarithm | Self::Trigonometric
        )
    }

    /// Why there is no result; `y` is the second argument, or NULL's place.
    fn fault(self, x: f64, y: Option<f64>, value: f64) -> Option<ValueFault> {
        if x.is_nan() || y.is_some_and(f64::is_nan) {
            return None;
        }
        let y = y.unwrap_or_default();
        let finite = x.is_finite() && y.is_finite();
        let out_of_range = finite && (value.is_infinite() || (value == 0.0 && x != 0.0));
        let logarithm = |of: f64| match of {
            0.0 => Some(ValueFault::LogarithmOfZero),
            _ if of < 0.0 => Some(ValueFault::LogarithmOfNegative),
            _ => None,
        };
        match self {
            Self::SquareRoot if x < 0.0 => Some(ValueFault::RootOfNegative),
            Self::Logarithm => logarithm(x),
            Self::LogarithmOfBase => match logarithm(x).or_else(|| logarithm(y)) {
                None if x == 1.0 => Some(ValueFault::DivisionByZero),
                fault => fault,
            },
            Self::Power if x == 0.0 && y < 0.0 => Some(ValueFault::ZeroToNegative),
            Self::Power if x < 0.0 && y.floor() != y => Some(ValueFault::ComplexPower),
            // Also 0.5 ^ 2000, but not 0.5 ^ infinity.
            Self::Power | Self::Angle if out_of_range => Some(ValueFault::OutOfRange),
            Self::Exponential if finite && (value.is_infinite() || value == 0.0) => {
                Some(ValueFault::OutOfRange)
            }
            Self::Trigonometric if value.is_nan() => Some(ValueFault::InputOutOfRange),
            _ => None,
        }
    }
}

/// A function with a float for its result, with the SQL text that it was written as.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FloatFunction {
    math: FloatMath,
    inner: Arc<ScalarUDF>,
    text: String,
    signature: Signature,
}

impl FloatFunction {
    pub fn new(math: FloatMath, inner: Arc<ScalarUDF>, text: String) -> Self {
        Self {
            math,
            inner,
            text,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }

    /// The same values, canonical, or the first fault.
    fn checked<T>(&self, values: &ArrayRef, args: &[ColumnarValue]) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType<Native: Canonical + Into<f64>>,
    {
        let floats = values.as_primitive::<T>();
        let zero_is_odd = self.math.zero_is_odd();
        let is_odd = |float: T::Native| {
            let double: f64 = float.into();
            !double.is_finite() | (zero_is_odd & (double == 0.0))
        };
        // No early exit: so the loop is vectorised.
        let numbers = floats.values().iter();
        if !numbers.fold(false, |odd, &it| odd | is_odd(it)) {
            return Ok(Arc::clone(values));
        }
        self.check(args, floats.len(), |row| {
            let odd = floats.is_valid(row) && is_odd(floats.value(row));
            odd.then(|| floats.value(row).into())
        })?;
        let canonical: PrimitiveArray<T> = floats.unary(Canonical::canonical);
        Ok(Arc::new(canonical))
    }

    /// Fails at the first row that has no result; `odd` gives the value of a row if that is odd.
    fn check(
        &self,
        args: &[ColumnarValue],
        rows: usize,
        odd: impl Fn(usize) -> Option<f64>,
    ) -> Result<()> {
        let doubles = |argument: &ColumnarValue| -> Result<ArrayRef> {
            Ok(cast(&argument.to_array(rows)?, &DataType::Float64)?)
        };
        let args = args.iter().map(doubles).collect::<Result<Vec<_>>>()?;
        let argument = |place: usize, row: usize| {
            let doubles = args.get(place)?.as_primitive::<Float64Type>();
            doubles.is_valid(row).then(|| doubles.value(row))
        };
        for row in 0..rows {
            let (Some(value), Some(x)) = (odd(row), argument(0, row)) else {
                continue;
            };
            let y = argument(1, row);
            if let Some(fault) = self.math.fault(x, y, value) {
                let values = y.map_or_else(|| x.to_string(), |y| format!("{x}, {y}"));
                return Err(fault.error(&DataType::Float64, &self.text, values));
            }
        }
        Ok(())
    }

    fn compute(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (given, rows) = (args.args.clone(), args.number_rows);
        let result = match self.math {
            FloatMath::Round => rounded(&given[0]),
            _ => self.inner.invoke_with_args(args),
        };
        let result = result.map_err(|error| self.explained(error, &given, rows))?;
        let values = result.to_array(1)?;
        let checked = match values.data_type() {
            DataType::Float32 => self.checked::<Float32Type>(&values, &given)?,
            DataType::Float64 => self.checked::<Float64Type>(&values, &given)?,
            _ => return Ok(result),
        };
        in_form_of(&result, checked)
    }

    /// The fault that has made DataFusion's function fail.
    fn explained(
        &self,
        error: DataFusionError,
        args: &[ColumnarValue],
        rows: usize,
    ) -> DataFusionError {
        let found = self.check(args, rows, |_| Some(f64::NAN));
        found.err().unwrap_or(error)
    }
}

/// Rounded to the nearest integer, and to the even one of two.
fn rounded(value: &ColumnarValue) -> Result<ColumnarValue> {
    let floats = value.to_array(1)?;
    let rounded: ArrayRef = match floats.data_type() {
        DataType::Float32 => {
            let floats = floats.as_primitive::<Float32Type>();
            Arc::new(floats.unary::<_, Float32Type>(f32::round_ties_even))
        }
        _ => {
            let floats = floats.as_primitive::<Float64Type>();
            Arc::new(floats.unary::<_, Float64Type>(f64::round_ties_even))
        }
    };
    in_form_of(value, rounded)
}

impl ScalarUDFImpl for FloatFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.inner.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        let field = Field::new(self.name(), field.data_type().clone(), field.is_nullable());
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.is_empty() {
            true => internal_err!("{} of nothing", self.name()),
            false => self.compute(args),
        }
    }
}
