//! `*` beside other columns as the columns that it stands for, so that one which is there twice gets a name of its
//! own: the planner knows them.

use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, SelectItem, SetExpr, Statement as AstStatement,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// Replaces each `*` of a SELECT that has other columns, too.
pub(super) async fn expand_wildcards(state: &SessionState, query: &mut Query) {
    let Some(projection) = projection(query).filter(|items| items.len() > 1) else {
        return;
    };
    let written = std::mem::take(projection);
    let mut items = Vec::with_capacity(written.len());
    for item in written {
        let columns = match is_wildcard(&item) {
            true => columns_of(state, &item, query).await.ok(),
            false => None,
        };
        match columns {
            Some(columns) => items.extend(columns),
            // The planner says what is wrong with it.
            None => items.push(item),
        }
    }
    if let Some(projection) = self::projection(query) {
        *projection = items;
    }
}

fn projection(query: &mut Query) -> Option<&mut Vec<SelectItem>> {
    match &mut *query.body {
        SetExpr::Select(select) => Some(&mut select.projection),
        _ => None,
    }
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(
        item,
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
    )
}

/// The columns of `SELECT * FROM ...`, each with its table.
async fn columns_of(
    state: &SessionState,
    wildcard: &SelectItem,
    query: &Query,
) -> Result<Vec<SelectItem>> {
    let mut query = query.clone();
    (query.order_by, query.limit_clause) = (None, None);
    if let SetExpr::Select(select) = &mut *query.body {
        select.projection = vec![wildcard.clone()];
        select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        (select.having, select.qualify, select.distinct) = (None, None, None);
    }
    let statement = Statement::Statement(Box::new(AstStatement::Query(Box::new(query))));
    let plan = state.statement_to_plan(statement).await?;
    let columns = plan.schema().iter().map(|(table, field)| {
        let quoted = |value: &str| Ident {
            value: value.to_owned(),
            quote_style: Some('"'),
            span: Span::empty(),
        };
        let table = table.map(|table| table.to_vec()).unwrap_or_default();
        let mut parts: Vec<Ident> = table.iter().map(|part| quoted(part)).collect();
        parts.push(quoted(field.name()));
        SelectItem::UnnamedExpr(match parts.len() {
            1 => Expr::Identifier(parts.remove(0)),
            _ => Expr::CompoundIdentifier(parts),
        })
    });
    Ok(columns.collect())
}
