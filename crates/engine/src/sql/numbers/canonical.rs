//! A function around what computes a float: its result is canonical.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::canonical::{Canonical, canonical_array};

/// `expr`, a float, made canonical.
pub(super) fn canonical(expr: Expr) -> Expr {
    let function = ScalarUDF::from(CanonicalFloat {
        signature: Signature::any(1, Volatility::Immutable),
    });
    Arc::new(function).call(vec![expr])
}

pub(super) fn canonical_scalar(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Float32(Some(float)) => ScalarValue::Float32(Some(float.canonical())),
        ScalarValue::Float64(Some(float)) => ScalarValue::Float64(Some(float.canonical())),
        other => other,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CanonicalFloat {
    signature: Signature,
}

impl ScalarUDFImpl for CanonicalFloat {
    fn name(&self) -> &str {
        "canonical"
    }

    /// The name of its argument.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        match arguments {
            [of] => Ok(of.schema_name().to_string()),
            _ => internal_err!("canonical of {} arguments", arguments.len()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let of = &args.arg_fields[0];
        let field = Field::new(self.name(), of.data_type().clone(), of.is_nullable());
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut values = args.args;
        match values.pop() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(canonical_array(&array))),
            Some(ColumnarValue::Scalar(value)) => {
                Ok(ColumnarValue::Scalar(canonical_scalar(value)))
            }
            None => internal_err!("canonical of nothing"),
        }
    }
}
