//! The names of the columns that a query returns.
//!
//! DataFusion names a column after its expression without the casts, and wants all names to be different,
//! also those of aggregates. So `SUM(i)` and `SUM(CAST(i AS BIGINT))` would have one name: in a SELECT
//! where that happens, [`keep_casts_apart`] makes the casts part of the names. Names that a person sees
//! twice are refused in a stream, which others read by name ([`refuse_repeated`]), and numbered in the
//! answer to a SELECT ([`number_repeated`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Spanned as _, Value,
    VisitMut, VisitorMut, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::error::{Result, SqlError, sqlstate};
use super::function_call::function_call;
use super::functions::AS_WRITTEN;
use super::stack::deep;
use super::statement::SqlQuery;

/// Makes casts part of the names in each SELECT that has two expressions that only differ in casts.
pub(super) fn keep_casts_apart(query: &mut SqlQuery) {
    let (ast, _) = query.tree_and_text();
    let _ = deep(|| ast.visit(&mut CastNames));
}

struct CastNames;

impl VisitorMut for CastNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = &*query.body else {
            return ControlFlow::Continue(());
        };
        if let Some(order_by) = &mut query.order_by
            && differs_in_casts(select)
        {
            let _ = order_by.visit(&mut NameCasts);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if differs_in_casts(select) {
            let _ = select.projection.visit(&mut NameCasts);
            let _ = select.group_by.visit(&mut NameCasts);
            let _ = select.having.visit(&mut NameCasts);
        }
        ControlFlow::Continue(())
    }
}

/// Whether two expressions that DataFusion names are the same without their casts.
fn differs_in_casts(select: &Select) -> bool {
    let mut named: Vec<&Expr> = Vec::new();
    let mut calls = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => named.push(expr),
            SelectItem::ExprWithAlias { expr, .. } => calls.push(expr),
            _ => {}
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &select.group_by {
        named.extend(keys);
    }
    calls.extend(&named);
    calls.extend(&select.having);
    let mut has_cast = false;
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut differs = false;
    let mut note = |expr: &Expr| {
        let text = expr.to_string().to_lowercase();
        let bare = without_casts(expr);
        has_cast |= text != bare;
        let known = texts.entry(bare).or_insert_with(|| text.clone());
        differs |= *known != text;
    };
    named.iter().for_each(|expr| note(expr));
    for expr in calls {
        let _ = visit_expressions(expr, |part| {
            if let Expr::Function(_) = part {
                note(part);
            }
            ControlFlow::<()>::Continue(())
        });
    }
    has_cast && differs
}

/// The text of an expression without its casts and qualifiers, in small letters.
fn without_casts(expr: &Expr) -> String {
    let mut bare = expr.clone();
    let _ = bare.visit(&mut RemoveCasts);
    bare.to_string().to_lowercase()
}

struct RemoveCasts;

impl VisitorMut for RemoveCasts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr: inner, .. } => *expr = (**inner).clone(),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.pop() {
                    *expr = Expr::Identifier(last);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

struct NameCasts;

impl VisitorMut for NameCasts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { .. } = expr {
            let text = Expr::value(Value::SingleQuotedString(expr.to_string()));
            *expr = function_call(AS_WRITTEN, expr.span(), [expr.clone(), text]);
        }
        ControlFlow::Continue(())
    }
}

/// Refuses a query whose result would have a column twice.
pub(crate) fn refuse_repeated(query: &SqlQuery) -> Result<()> {
    let Some(select) = first_select(&query.ast.body) else {
        return Ok(());
    };
    let mut seen = BTreeSet::new();
    for item in &select.projection {
        let Some(name) = name(item).filter(|name| !seen.insert(name.clone())) else {
            continue;
        };
        let message = format!("column {name:?} specified more than once");
        return Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message)
            .hint("Give one of them another name with AS.")
            .at(query.position(item.span())));
    }
    Ok(())
}

/// Numbers the names that the answer to a query would have twice: `n`, `n_1`.
pub(crate) fn number_repeated(query: &mut Query) {
    let sorts_by: BTreeSet<String> = match query.order_by.as_ref().map(|by| &by.kind) {
        Some(OrderByKind::Expressions(by)) => by.iter().map(|by| by.expr.to_string()).collect(),
        _ => BTreeSet::new(),
    };
    number_in(&mut query.body, &sorts_by);
}

fn number_in(body: &mut SetExpr, sorts_by: &BTreeSet<String>) {
    match body {
        SetExpr::Select(select) => number_items(&mut select.projection, sorts_by),
        SetExpr::Query(query) => number_in(&mut query.body, sorts_by),
        SetExpr::SetOperation { left, right, .. } => {
            number_in(left, sorts_by);
            number_in(right, sorts_by);
        }
        _ => {}
    }
}

/// A name by which the answer is sorted stays as it is: which column it means is not for us to choose.
fn number_items(items: &mut [SelectItem], sorts_by: &BTreeSet<String>) {
    let names: BTreeSet<String> = items.iter().filter_map(name).collect();
    let mut seen = BTreeSet::new();
    for item in items {
        let Some(repeated) = name(item).filter(|name| !seen.insert(name.clone())) else {
            continue;
        };
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        if sorts_by.contains(&repeated) && expr.to_string() != repeated {
            continue;
        }
        let free = (1..).map(|number| format!("{repeated}_{number}"));
        let mut free = free.filter(|name| !names.contains(name) && !seen.contains(name));
        let value = free.next().unwrap_or_default();
        seen.insert(value.clone());
        let alias = Ident {
            value,
            quote_style: Some('"'),
            span: Span::empty(),
        };
        let expr = expr.clone();
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}

/// The name of an item as a person sees it; `None` for a wildcard.
fn name(item: &SelectItem) -> Option<String> {
    Some(match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.value.clone(),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last()?.value.clone(),
        SelectItem::UnnamedExpr(expr) => expr.to_string(),
        SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
        _ => return None,
    })
}

/// The select that names the columns of a set operation.
fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}
