//! `+`, `-`, `*`, `/`, `%` and unary minus as functions that fail instead of wrapping.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray,
};
use arrow::compute::kernels::arity::try_binary;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use datafusion::common::{exec_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use super::fault::ValueFault;
use super::kernel::{FailedRow, Side, SqlNumber, compute};

/// What the values of an error are where they have too many digits themselves.
pub(super) const TOO_LONG: &str = "the result has too many digits";

/// An operation on one or two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    /// Of one number: 0 less it.
    Negate,
    /// Of one number, an integer.
    Absolute,
}

impl Operation {
    pub fn of(operator: Operator) -> Option<Self> {
        Some(match operator {
            Operator::Plus => Self::Add,
            Operator::Minus => Self::Subtract,
            Operator::Multiply => Self::Multiply,
            Operator::Divide => Self::Divide,
            Operator::Modulo => Self::Modulo,
            _ => return None,
        })
    }

    fn operator(self) -> Operator {
        match self {
            Self::Add => Operator::Plus,
            Self::Subtract | Self::Negate | Self::Absolute => Operator::Minus,
            Self::Multiply => Operator::Multiply,
            Self::Divide => Operator::Divide,
            Self::Modulo => Operator::Modulo,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
            Self::Modulo => "modulo",
            Self::Negate => "negate",
            Self::Absolute => "abs",
        }
    }
}

/// An operation as a function, with the SQL text that it was written as.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Arithmetic {
    operation: Operation,
    text: String,
    signature: Signature,
}

impl Arithmetic {
    pub fn new(operation: Operation, text: String) -> Self {
        let arguments = match operation {
            Operation::Negate | Operation::Absolute => 1,
            _ => 2,
        };
        Self {
            operation,
            text,
            signature: Signature::any(arguments, Volatility::Immutable),
        }
    }

    /// Whether it computes with arguments of these types, which coercion has made alike.
    pub fn takes(left: &DataType, right: &DataType) -> bool {
        let alike = left == right && (left.is_integer() || is_float(left));
        alike || (is_decimal128(left) && is_decimal128(right)) || both_decimal256(left, right)
    }

    fn fail(
        &self,
        fault: ValueFault,
        data_type: &DataType,
        values: impl std::fmt::Display,
    ) -> DataFusionError {
        fault.error(data_type, &self.text, values)
    }

    fn numbers<T>(&self, left: &Operand, right: &Operand) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType<Native: SqlNumber>,
    {
        let done = compute::<T>(self.operation, left.side(), right.side());
        let failed = |it: FailedRow<T::Native>| {
            let values = match self.operation {
                Operation::Negate | Operation::Absolute => it.y.to_string(),
                operation => format!("{} {} {}", it.x, operation.operator(), it.y),
            };
            self.fail(it.fault, &T::DATA_TYPE, values)
        };
        Ok(Arc::new(done.map_err(failed)?))
    }

    /// Decimals: Arrow's kernels check for overflow of their integers, here also the precision.
    fn decimals<T>(&self, left: &Operand, right: &Operand) -> Result<ArrayRef>
    where
        T: DecimalType,
    {
        let kernel = match self.operation {
            Operation::Add => numeric::add,
            Operation::Subtract | Operation::Negate | Operation::Absolute => numeric::sub,
            Operation::Multiply => numeric::mul,
            Operation::Divide | Operation::Modulo => numeric::rem,
        };
        let result = match (left.same, right.same) {
            _ if self.operation == Operation::Divide => quotients::<T>(left, right),
            (true, true) | (false, false) => kernel(&left.array, &right.array),
            (true, false) => kernel(&scalar(&left.array), &right.array),
            (false, true) => kernel(&left.array, &scalar(&right.array)),
        };
        let data_type = left.array.data_type();
        let result = result.map_err(|error| match error {
            ArrowError::DivideByZero => self.fail(ValueFault::DivisionByZero, data_type, TOO_LONG),
            ArrowError::ArithmeticOverflow(_) => {
                self.fail(ValueFault::OutOfRange, data_type, TOO_LONG)
            }
            other => other.into(),
        })?;
        let decimals: &PrimitiveArray<T> = result.as_primitive();
        let checked = decimals.validate_decimal_precision(decimals.precision());
        checked.map_err(|_| self.fail(ValueFault::OutOfRange, decimals.data_type(), TOO_LONG))?;
        Ok(result)
    }

    fn dispatch(&self, left: &Operand, right: &Operand) -> Result<ArrayRef> {
        match left.array.data_type() {
            DataType::Int8 => self.numbers::<Int8Type>(left, right),
            DataType::Int16 => self.numbers::<Int16Type>(left, right),
            DataType::Int32 => self.numbers::<Int32Type>(left, right),
            DataType::Int64 => self.numbers::<Int64Type>(left, right),
            DataType::UInt8 => self.numbers::<UInt8Type>(left, right),
            DataType::UInt16 => self.numbers::<UInt16Type>(left, right),
            DataType::UInt32 => self.numbers::<UInt32Type>(left, right),
            DataType::UInt64 => self.numbers::<UInt64Type>(left, right),
            DataType::Float32 => self.numbers::<Float32Type>(left, right),
            DataType::Float64 => self.numbers::<Float64Type>(left, right),
            DataType::Decimal128(..) => self.decimals::<Decimal128Type>(left, right),
            DataType::Decimal256(..) => self.decimals::<Decimal256Type>(left, right),
            other => exec_err!("{} of {other}", self.operation.name()),
        }
    }
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn is_decimal128(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

fn both_decimal256(left: &DataType, right: &DataType) -> bool {
    matches!(
        (left, right),
        (DataType::Decimal256(..), DataType::Decimal256(..))
    )
}

/// Quotients with the type that Arrow gives them, rounded half away from zero where Arrow cuts them.
fn quotients<T: DecimalType>(left: &Operand, right: &Operand) -> Result<ArrayRef, ArrowError> {
    /// Digits after the point that a quotient has more than the dividend.
    const MORE_DIGITS: i8 = 4;
    let (x, y) = (
        left.array.as_primitive::<T>(),
        right.array.as_primitive::<T>(),
    );
    let scale = x.scale().saturating_add(MORE_DIGITS).min(T::MAX_SCALE);
    let shift = scale - x.scale() + y.scale();
    let precision = shift.saturating_add(x.precision() as i8) as u8;
    let factor = T::Native::usize_as(10).pow_checked(shift.unsigned_abs().into())?;
    let one = |x: T::Native, y: T::Native| match shift >= 0 {
        true => rounded_quotient(x.mul_checked(factor)?, y),
        false => rounded_quotient(x, y.mul_checked(factor)?),
    };
    let quotients: PrimitiveArray<T> = match (left.same, right.same) {
        (true, false) => y.try_unary(|y| one(x.value(0), y))?,
        (false, true) => x.try_unary(|x| one(x, y.value(0)))?,
        _ => try_binary(x, y, one)?,
    };
    let quotients = quotients.with_precision_and_scale(precision.min(T::MAX_PRECISION), scale)?;
    Ok(Arc::new(quotients))
}

/// Rounded half away from zero.
pub(super) fn rounded_quotient<N: ArrowNativeTypeOp + ArrowNativeType>(
    x: N,
    y: N,
) -> Result<N, ArrowError> {
    let size = if y.is_lt(N::ZERO) {
        y.neg_wrapping()
    } else {
        y
    };
    let half = size.div_wrapping(N::usize_as(2));
    let moved = match x.is_lt(N::ZERO) {
        true => x.sub_checked(half)?,
        false => x.add_checked(half)?,
    };
    moved.div_checked(y)
}

fn scalar(array: &ArrayRef) -> arrow::array::Scalar<ArrayRef> {
    arrow::array::Scalar::new(Arc::clone(array))
}

/// An argument: a value for each row, or one value.
struct Operand {
    array: ArrayRef,
    same: bool,
}

impl Operand {
    fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self {
                array: Arc::clone(array),
                same: false,
            },
            ColumnarValue::Scalar(value) => Self {
                array: value.to_array()?,
                same: true,
            },
        })
    }

    fn side<T: ArrowPrimitiveType>(&self) -> Side<'_, T> {
        Side::new(&self.array, self.same)
    }

    /// Whether it is NULL in every row.
    fn is_null(&self) -> bool {
        self.same && self.array.is_null(0)
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        self.operation.name()
    }

    /// The name that the operation has without this function.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        match arguments {
            [of] if self.operation == Operation::Absolute => {
                Ok(format!("abs({})", of.schema_name()))
            }
            [of] => Ok(format!("(- {})", of.schema_name())),
            [left, right] => {
                let operator = self.operation.operator();
                Ok(format!(
                    "{} {operator} {}",
                    left.schema_name(),
                    right.schema_name()
                ))
            }
            _ => internal_err!("{} of {} arguments", self.name(), arguments.len()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [of] => Ok(of.clone()),
            [left, right] => {
                BinaryTypeCoercer::new(left, &self.operation.operator(), right).get_result_type()
            }
            _ => internal_err!("{} of {} arguments", self.name(), arguments.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types = args.arg_fields.iter().map(|it| it.data_type().clone());
        let data_type = self.return_type(&types.collect::<Vec<_>>())?;
        let nullable = args.arg_fields.iter().any(|it| it.is_nullable());
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zero;
        let (left, right) = match args.args.as_slice() {
            [of] => {
                zero = ColumnarValue::Scalar(ScalarValue::new_zero(&of.data_type())?);
                (&zero, of)
            }
            [left, right] => (left, right),
            other => return internal_err!("{} of {} arguments", self.name(), other.len()),
        };
        let (left, right) = (Operand::new(left)?, Operand::new(right)?);
        if left.is_null() || right.is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(
                args.return_type(),
            )?));
        }
        let result = self.dispatch(&left, &right)?;
        Ok(match left.same && right.same {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}
