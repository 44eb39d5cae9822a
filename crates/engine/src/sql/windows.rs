//! Windows in `GROUP BY`, rewritten into expressions that a planner knows.
//!
//! ```text
//!   SELECT window_start, COUNT(*) FROM t GROUP BY HOP(ts, INTERVAL '1 second', INTERVAL '1 minute')
//!     =
//!   SELECT __window_start(ts, 'hop', 60000000, 1000000) AS window_start, COUNT(*) FROM t
//!   GROUP BY __window_start(ts, 'hop', 60000000, 1000000), __window_end(ts, 'hop', ...)
//! ```
//!
//! The functions take the event time, the window function in lower case, and the size and the
//! slide in microseconds. A tumbling window slides by its size; for a session both numbers are the
//! gap. With an offset its microseconds follow, with a time zone the offset and the name of the zone.
//!
//! Each `SELECT` is rewritten by itself, also in a subquery. In one that has a window, the bare names
//! `window_start`, `window_end` and `window_time` mean its own window in the select list, `HAVING`,
//! `QUALIFY` and `ORDER BY`; in `WHERE`, after a qualifier, or in a `SELECT` without a window they are columns
//! like any other. `__window_time` is a key of the GROUP BY only if the `SELECT` names it. The planner checks
//! whether the event time has a watermark.

mod call;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, OrderBy,
    Query, Select, SelectItem, SetExpr, Spanned as _, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::error::{Result, SqlError, VisitFlow, sqlstate, stop_at_error, visited};
use super::script::QueryText;
use super::stack::deep;
use super::statement::SqlQuery;
use super::suggest::nearest;
use call::{WindowBounds, WindowCall, WindowFunction};

/// The function that returns the first instant of a row's window.
pub const WINDOW_START: &str = "__window_start";
/// The function that returns the instant at which a row's window ends.
pub const WINDOW_END: &str = "__window_end";

/// The function that returns the last instant of a row's window.
pub const WINDOW_TIME: &str = "__window_time";

const START_NAME: &str = "window_start";
const END_NAME: &str = "window_end";
const TIME_NAME: &str = "window_time";

/// Rewrites the windows of a query and of every query in it. A query without windows stays as it
/// is, and so does one that has been rewritten.
///
/// # Errors
///
/// An interval without a fixed length above zero, a size that is not a multiple of the slide, two
/// windows in one `GROUP BY`, and a window anywhere else.
pub fn rewrite(query: &mut SqlQuery) -> Result<()> {
    let (ast, text) = query.tree_and_text();
    visited(deep(|| ast.visit(&mut WindowRewrite { text })))
}

struct WindowRewrite<'a> {
    text: QueryText<'a>,
}

impl VisitorMut for WindowRewrite<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> VisitFlow {
        match &mut *query.body {
            SetExpr::Select(select) => stop_at_error(self.select(select, query.order_by.as_mut())),
            _ => ControlFlow::Continue(()),
        }
    }

    /// The arms of a set operation; a select that was rewritten with its query has no window left.
    fn pre_visit_select(&mut self, select: &mut Select) -> VisitFlow {
        stop_at_error(self.select(select, None))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> VisitFlow {
        let name = match factor {
            TableFactor::Table {
                name,
                args: Some(_),
                ..
            }
            | TableFactor::Function { name, .. } => name,
            TableFactor::TableFunction {
                expr: Expr::Function(function),
                ..
            } => &function.name,
            _ => return ControlFlow::Continue(()),
        };
        let Some(window) = WindowFunction::named(name) else {
            return ControlFlow::Continue(());
        };
        let error = SqlError::not_built(format!("{} in FROM", window.name()))
            .hint(format!("GROUP BY a window. {}", window.form()))
            .at(self.text.position(name.span()));
        stop_at_error::<()>(Err(error))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> VisitFlow {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let Some(window) = WindowFunction::named(&function.name) else {
            return stop_at_error(self.refuse_bound_function(function));
        };
        let message = format!("{} is used outside of GROUP BY", window.name());
        let error = self.error(sqlstate::GROUPING_ERROR, message, function.name.span());
        stop_at_error::<()>(Err(error.hint(
            "A window is an item of GROUP BY by itself; elsewhere write window_start, window_end or window_time.",
        )))
    }
}

impl WindowRewrite<'_> {
    fn error(&self, sqlstate: &'static str, message: impl Into<String>, span: Span) -> SqlError {
        SqlError::new(sqlstate, message).at(self.text.position(span))
    }

    fn select(&self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<()> {
        let GroupByExpr::Expressions(items, _) = &mut select.group_by else {
            return Ok(());
        };
        let Some(bounds) = self.take_window(items)? else {
            return self.refuse_misspelt(items);
        };
        let mut names = WindowNames {
            bounds,
            names_time: false,
            inside: 0,
        };
        for item in &mut select.projection {
            names.select_item(item);
        }
        // The visitor never breaks, so what it returns has no information.
        let _ = select.having.visit(&mut names);
        let _ = select.qualify.visit(&mut names);
        let _ = select.distinct.visit(&mut names);
        let _ = select.sort_by.visit(&mut names);
        let _ = select.named_window.visit(&mut names);
        if let Some(order_by) = order_by {
            let _ = order_by.visit(&mut names);
        }
        if names.names_time {
            items.push(names.bounds.time);
        }
        Ok(())
    }

    /// Replaces the window by its start and end, if there is one among the items.
    fn take_window(&self, items: &mut Vec<Expr>) -> Result<Option<WindowBounds>> {
        let mut calls = items.iter().enumerate().filter_map(|(at, item)| {
            let Expr::Function(function) = item else {
                return None;
            };
            let window = WindowFunction::named(&function.name)?;
            Some((at, window, function))
        });
        let Some((at, window, function)) = calls.next() else {
            return Ok(None);
        };
        if let Some((second, ..)) = calls.next() {
            let message = "GROUP BY has two windows, at most one";
            return Err(self
                .error(sqlstate::GROUPING_ERROR, message, items[second].span())
                .hint("Make the first windows in one stream, the second over that stream."));
        }
        let call = WindowCall {
            window,
            function,
            text: self.text,
        };
        let bounds = call.bounds()?;
        items.splice(at..=at, [bounds.start.clone(), bounds.end.clone()]);
        let names = [START_NAME, END_NAME, TIME_NAME];
        items.retain(|item| !names.iter().any(|name| is_name(item, name)));
        Ok(Some(bounds))
    }

    /// Refuses `TUMBEL(ts, INTERVAL ...)`, an item that is probably a misspelt window.
    fn refuse_misspelt(&self, items: &[Expr]) -> Result<()> {
        let names = WindowFunction::ALL.map(WindowFunction::name);
        for item in items {
            let Expr::Function(function) = item else {
                continue;
            };
            let FunctionArguments::List(list) = &function.args else {
                continue;
            };
            let takes_interval = list.args.iter().any(|argument| {
                matches!(
                    argument,
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Interval(_)))
                )
            });
            let name = function.name.to_string();
            let Some(meant) = nearest(&name, &names) else {
                continue;
            };
            if takes_interval {
                let message = format!("function {name} does not exist");
                let span = function.name.span();
                return Err(self
                    .error(sqlstate::UNDEFINED_FUNCTION, message, span)
                    .hint(format!("Did you mean {meant}?")));
            }
        }
        Ok(())
    }

    /// Refuses `TUMBLE_START(...)` and the like, which other engines have.
    fn refuse_bound_function(&self, function: &Function) -> Result<()> {
        let name = function.name.to_string().to_ascii_uppercase();
        let Some((window, bound)) = name.rsplit_once('_') else {
            return Ok(());
        };
        let known = WindowFunction::ALL.iter().any(|it| it.name() == window);
        if !known || !["START", "END", "ROWTIME", "PROCTIME"].contains(&bound) {
            return Ok(());
        }
        Err(SqlError::not_built(name)
            .hint("Write window_start, window_end or window_time.")
            .at(self.text.position(function.name.span())))
    }
}

/// Replaces the names of the window's bounds by the expressions, but not within subqueries.
struct WindowNames {
    bounds: WindowBounds,
    /// Whether `window_time` was among the names.
    names_time: bool,
    /// The depth of the subquery that the visitor is in, 0 outside of any.
    inside: usize,
}

impl WindowNames {
    /// The expression that a bare name stands for, and the name, if it is one of the window's.
    fn meaning(&self, expr: &Expr) -> Option<(&Expr, &'static str)> {
        let bounds = [
            (&self.bounds.start, START_NAME),
            (&self.bounds.end, END_NAME),
            (&self.bounds.time, TIME_NAME),
        ];
        bounds.into_iter().find(|(_, name)| is_name(expr, name))
    }

    fn select_item(&mut self, item: &mut SelectItem) {
        if let SelectItem::UnnamedExpr(expr) = item {
            // The column keeps the name that it had before the replacement.
            let name = match self.meaning(expr) {
                Some((_, name)) => name.to_owned(),
                None => expr.to_string(),
            };
            let before = expr.clone();
            let _ = expr.visit(self);
            if *expr != before {
                let alias = Ident {
                    value: name,
                    quote_style: Some('"'),
                    span: Span::empty(),
                };
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
            return;
        }
        let _ = item.visit(self);
    }
}

impl VisitorMut for WindowNames {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.inside += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    /// Runs after the children, so that the visitor does not enter the new expression.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.inside == 0
            && let Some((meaning, name)) = self.meaning(expr)
        {
            *expr = meaning.clone();
            self.names_time |= name == TIME_NAME;
        }
        ControlFlow::Continue(())
    }
}

fn is_name(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Identifier(ident) if ident.quote_style.is_some() => ident.value == name,
        Expr::Identifier(ident) => ident.value.eq_ignore_ascii_case(name),
        _ => false,
    }
}
