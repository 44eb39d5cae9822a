//! Calls of functions that the rewriting of a query puts in.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// `name(arguments)` with the span of what it replaces.
pub(super) fn function_call(
    name: &str,
    span: Span,
    arguments: impl IntoIterator<Item = Expr>,
) -> Expr {
    let unnamed = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let args = arguments.into_iter().map(unnamed);
    Expr::Function(Function {
        name: Ident {
            value: name.into(),
            quote_style: None,
            span,
        }
        .into(),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
