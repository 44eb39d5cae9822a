//! SIMILAR TO as a function over columns.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use regex::Regex;

use super::external;
use super::similar_to::regular_expression;
use crate::sql::{SqlError, sqlstate};

/// Replaces SIMILAR TO by a call of [`SimilarTo`].
#[derive(Debug)]
pub(super) struct SimilarToRewrite;

impl FunctionRewrite for SimilarToRewrite {
    fn name(&self) -> &str {
        "similar_to"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::SimilarTo(like) = expr else {
            return Ok(Transformed::no(expr));
        };
        let function = SimilarTo {
            signature: Signature::any(2, Volatility::Immutable),
            escape: like.escape_char.unwrap_or('\\'),
            planned: None,
        };
        let function = Arc::new(ScalarUDF::from(function));
        let call = ScalarFunction::new_udf(function, vec![*like.expr, *like.pattern]);
        let call = Expr::ScalarFunction(call);
        Ok(Transformed::yes(match like.negated {
            true => Expr::Not(Box::new(call)),
            false => call,
        }))
    }
}

/// Whether a text matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SimilarTo {
    signature: Signature,
    escape: char,
    /// The pattern, once the call was planned.
    planned: Option<SimilarRegex>,
}

/// A regular expression; two of the same text are equal.
#[derive(Debug, Clone)]
struct SimilarRegex(Regex);

impl PartialEq for SimilarRegex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for SimilarRegex {}

impl Hash for SimilarRegex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl SimilarTo {
    fn regex(&self, pattern: &str) -> Result<SimilarRegex> {
        let regex = regular_expression(pattern, self.escape).and_then(|regex| {
            Regex::new(&regex).map_err(|_| {
                let message = format!("the pattern '{pattern}' of SIMILAR TO is too long");
                SqlError::new(sqlstate::INVALID_REGEX, message)
            })
        });
        regex.map(SimilarRegex).map_err(external)
    }
}

impl ScalarUDFImpl for SimilarTo {
    fn name(&self) -> &str {
        "similar_to"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.iter().find(|it| !it.is_string() && !it.is_null()) {
            None => Ok(DataType::Boolean),
            Some(other) => {
                let message = format!("SIMILAR TO compares text, not {other}");
                let error = SqlError::new(sqlstate::DATATYPE_MISMATCH, message);
                Err(external(error.hint("CAST the value AS VARCHAR.")))
            }
        }
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let pattern = match args.as_slice() {
            [_, Expr::Literal(pattern, _)] => pattern.try_as_str().flatten(),
            _ => None,
        };
        let (None, Some(pattern)) = (&self.planned, pattern) else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let planned = ScalarUDF::from(Self {
            planned: Some(self.regex(pattern)?),
            ..self.clone()
        });
        let call = ScalarFunction::new_udf(Arc::new(planned), args);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let scalar = arguments
            .args
            .iter()
            .all(|it| matches!(it, ColumnarValue::Scalar(_)));
        if let (Some(planned), ColumnarValue::Array(texts)) = (&self.planned, &arguments.args[0]) {
            let texts = cast(texts, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter();
            let matched = texts.map(|text| text.map(|text| planned.0.is_match(text)));
            return Ok(ColumnarValue::Array(Arc::new(
                matched.collect::<BooleanArray>(),
            )));
        }
        let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
        let texts = cast(&columns[0], &DataType::Utf8)?;
        let patterns = cast(&columns[1], &DataType::Utf8)?;
        let (texts, patterns) = (texts.as_string::<i32>(), patterns.as_string::<i32>());
        let mut last: Option<(&str, SimilarRegex)> = None;
        let mut matched = Vec::with_capacity(rows);
        for (text, pattern) in texts.iter().zip(patterns) {
            let (Some(text), Some(pattern)) = (text, pattern) else {
                matched.push(None);
                continue;
            };
            // Equal patterns often follow each other.
            if last.as_ref().is_none_or(|(known, _)| *known != pattern) {
                last = Some((pattern, self.regex(pattern)?));
            }
            matched.push(last.as_ref().map(|(_, regex)| regex.0.is_match(text)));
        }
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::Boolean(matched.first().copied().flatten())),
            false => ColumnarValue::Array(Arc::new(BooleanArray::from(matched))),
        })
    }
}
