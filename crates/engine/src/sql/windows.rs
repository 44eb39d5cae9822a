//! Windows in `GROUP BY`, rewritten into expressions that a planner knows.
//!
//! ```text
//!   SELECT window_start, COUNT(*) FROM t GROUP BY HOP(ts, INTERVAL '1 second', INTERVAL '1 minute')
//!     =
//!   SELECT __window_start(ts, 'hop', 60000000, 1000000) AS window_start, COUNT(*) FROM t
//!   GROUP BY __window_start(ts, 'hop', 60000000, 1000000), __window_end(ts, 'hop', ...)
//! ```
//!
//! The two functions take the event time, the kind in lower case, and the size and the slide in
//! microseconds. A tumbling window slides by its size; for a session both numbers are the gap.
//!
//! Each `SELECT` is handled by itself, wherever it stands. In one that has a window, the bare names
//! `window_start` and `window_end` mean its own window in the select list, `HAVING`, `QUALIFY` and
//! `ORDER BY`; in `WHERE`, behind a qualifier, or in a `SELECT` without a window they are columns
//! like any other. Whether the event time has a watermark is left to the planner.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, ObjectName, OrderBy, Query, Select, SelectItem, SetExpr, Spanned as _,
    TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::error::{Result, SqlError, sqlstate};
use super::interval;
use super::script::locate;
use super::stack::deep;
use super::statement::SqlQuery;
use super::suggest::nearest;

/// The function that gives the first instant of a row's window.
pub const WINDOW_START: &str = "__window_start";
/// The function that gives the instant at which a row's window ends.
pub const WINDOW_END: &str = "__window_end";

const START_NAME: &str = "window_start";
const END_NAME: &str = "window_end";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Session,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Tumble, Self::Hop, Self::Session];

    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Session => "SESSION",
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Tumble => "Write TUMBLE(ts, size), e.g. TUMBLE(ts, INTERVAL '1 minute').",
            Self::Hop => {
                "Write HOP(ts, slide, size), e.g. HOP(ts, INTERVAL '1 second', INTERVAL '1 minute')."
            }
            Self::Session => "Write SESSION(ts, gap), e.g. SESSION(ts, INTERVAL '30 seconds').",
        }
    }
}

/// Rewrites the windows of a query and of every query in it. A query without windows stays as it
/// is, and so does one that has been rewritten.
///
/// # Errors
///
/// An interval that is no fixed span above zero, a size that is no multiple of the slide, two
/// windows in one `GROUP BY`, and a window anywhere else.
pub fn rewrite(query: &mut SqlQuery) -> Result<()> {
    let SqlQuery {
        ast,
        text,
        span,
        origin,
    } = query;
    let place = Place {
        text,
        start: span.start,
        origin: *origin,
    };
    match deep(|| ast.visit(&mut Rewrite { place })) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Sequencer spans of the tree into bytes of the script.
#[derive(Clone, Copy)]
struct Place<'a> {
    text: &'a str,
    start: usize,
    origin: Location,
}

impl Place<'_> {
    fn error(&self, sqlstate: &'static str, message: impl Into<String>, span: Span) -> SqlError {
        SqlError::new(sqlstate, message).at(locate(self.text, self.start, self.origin, span))
    }
}

type Found = ControlFlow<Box<SqlError>>;

fn flow(result: Result<()>) -> Found {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

struct Rewrite<'a> {
    place: Place<'a>,
}

impl VisitorMut for Rewrite<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Found {
        match &mut *query.body {
            SetExpr::Select(select) => flow(self.select(select, query.order_by.as_mut())),
            _ => ControlFlow::Continue(()),
        }
    }

    /// The arms of a set operation; a select that was rewritten with its query has no window left.
    fn pre_visit_select(&mut self, select: &mut Select) -> Found {
        flow(self.select(select, None))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Found {
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
        let Some(kind) = kind_of(name) else {
            return ControlFlow::Continue(());
        };
        let message = format!("{} in FROM is not supported", kind.name());
        let error = self
            .place
            .error(sqlstate::FEATURE_NOT_SUPPORTED, message, name.span());
        flow(Err(
            error.hint(format!("GROUP BY a window. {}", kind.form()))
        ))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Found {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let Some(kind) = kind_of(&function.name) else {
            return flow(self.part_of_a_window(function));
        };
        let message = format!("{} stands outside of GROUP BY", kind.name());
        let error = self
            .place
            .error(sqlstate::GROUPING_ERROR, message, function.name.span());
        flow(Err(error.hint(
            "A window is an item of GROUP BY by itself; elsewhere write window_start or window_end.",
        )))
    }
}

impl Rewrite<'_> {
    fn select(&self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<()> {
        let GroupByExpr::Expressions(items, _) = &mut select.group_by else {
            return Ok(());
        };
        let Some(window) = self.take_window(items)? else {
            return self.misspelt(items);
        };
        let mut names = Names { window, inside: 0 };
        for item in &mut select.projection {
            names.select_item(item);
        }
        // The visitor never breaks off, so there is nothing to look at in what it returns.
        let _ = select.having.visit(&mut names);
        let _ = select.qualify.visit(&mut names);
        let _ = select.distinct.visit(&mut names);
        let _ = select.sort_by.visit(&mut names);
        let _ = select.named_window.visit(&mut names);
        if let Some(order_by) = order_by {
            let _ = order_by.visit(&mut names);
        }
        Ok(())
    }

    /// Puts the two expressions in the place of the window, if there is one among the items.
    fn take_window(&self, items: &mut Vec<Expr>) -> Result<Option<Window>> {
        let windows: Vec<usize> = (0..items.len())
            .filter(|&at| window_call(&items[at]))
            .collect();
        let (at, function) = match windows[..] {
            [] => return Ok(None),
            [at] => match &items[at] {
                Expr::Function(function) => (at, function),
                _ => return Ok(None),
            },
            [_, second, ..] => {
                let message = "GROUP BY has two windows, at most one";
                let span = items[second].span();
                return Err(self
                    .place
                    .error(sqlstate::GROUPING_ERROR, message, span)
                    .hint("Make the first windows in one stream, the second over that stream."));
            }
        };
        let window = self.window(function)?;
        items.splice(at..=at, [window.start.clone(), window.end.clone()]);
        items.retain(|item| !is_name(item, START_NAME) && !is_name(item, END_NAME));
        Ok(Some(window))
    }

    fn window(&self, function: &Function) -> Result<Window> {
        let Some(kind) = kind_of(&function.name) else {
            return Err(self.wrong_call(Kind::Tumble, function));
        };
        let arguments = self.arguments(kind, function)?;
        let (time, size, slide) = match (kind, &arguments[..]) {
            (Kind::Tumble | Kind::Session, [time, size]) => {
                let size = self.micros(kind, size)?;
                (time, size, size)
            }
            (Kind::Hop, [time, slide, size]) => {
                let (slide, size) = (self.micros(kind, slide)?, self.micros(kind, size)?);
                self.check_hop(slide, size, function)?;
                (time, size, slide)
            }
            _ => return Err(self.wrong_call(kind, function)),
        };
        let span = function.name.span();
        let call = |name| call(name, span, time, kind, size, slide);
        Ok(Window {
            start: call(WINDOW_START),
            end: call(WINDOW_END),
        })
    }

    /// The arguments, all of them plain expressions.
    fn arguments(&self, kind: Kind, function: &Function) -> Result<Vec<Expr>> {
        let plain = function.filter.is_none()
            && function.over.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty();
        let FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses,
        }) = &function.args
        else {
            return Err(self.wrong_call(kind, function));
        };
        if !plain || !clauses.is_empty() {
            return Err(self.wrong_call(kind, function));
        }
        let expr = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
            _ => Err(self.wrong_call(kind, function)),
        };
        args.iter().map(expr).collect()
    }

    fn wrong_call(&self, kind: Kind, function: &Function) -> SqlError {
        let message = format!("{function} is no call of {}", kind.name());
        self.place
            .error(sqlstate::UNDEFINED_FUNCTION, message, function.name.span())
            .hint(kind.form())
    }

    fn micros(&self, kind: Kind, expr: &Expr) -> Result<i64> {
        let error = |message| {
            self.place
                .error(sqlstate::INVALID_PARAMETER, message, expr.span())
        };
        let micros = interval::micros(expr)
            .map_err(|no| error(no.message).hint(no.hint.unwrap_or(kind.form())))?;
        if micros <= 0 {
            let message = format!(
                "{expr} is too short for {}: at least a microsecond",
                kind.name()
            );
            return Err(error(message));
        }
        Ok(micros)
    }

    fn check_hop(&self, slide: i64, size: i64, function: &Function) -> Result<()> {
        if size % slide == 0 {
            return Ok(());
        }
        let message =
            format!("HOP size of {size} microseconds is no multiple of its slide of {slide}");
        let hint = if slide % size == 0 {
            "The slide comes first: HOP(ts, slide, size)."
        } else {
            "Take a slide that divides the size; a smaller one gives every result of a larger one."
        };
        let span = function.name.span();
        Err(self
            .place
            .error(sqlstate::INVALID_PARAMETER, message, span)
            .hint(hint))
    }

    /// `TUMBEL(ts, INTERVAL ...)`: an item that was meant to be a window.
    fn misspelt(&self, items: &[Expr]) -> Result<()> {
        let names = Kind::ALL.map(Kind::name);
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
                return Err(self
                    .place
                    .error(sqlstate::UNDEFINED_FUNCTION, message, function.name.span())
                    .hint(format!("Did you mean {meant}?")));
            }
        }
        Ok(())
    }

    /// `TUMBLE_START(...)` and its like, which others have.
    fn part_of_a_window(&self, function: &Function) -> Result<()> {
        let name = function.name.to_string().to_ascii_uppercase();
        let Some((kind, part)) = name.rsplit_once('_') else {
            return Ok(());
        };
        let ours = Kind::ALL.iter().any(|known| known.name() == kind);
        if !ours || !["START", "END", "ROWTIME", "PROCTIME"].contains(&part) {
            return Ok(());
        }
        let message = format!("{name} is not supported");
        let error = self.place.error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            message,
            function.name.span(),
        );
        Err(error.hint("Write window_start or window_end."))
    }
}

/// The expressions of one window.
#[derive(Clone)]
struct Window {
    start: Expr,
    end: Expr,
}

impl Window {
    /// What a bare name means, if it is one of the two.
    fn meaning(&self, expr: &Expr) -> Option<(&Expr, &'static str)> {
        if is_name(expr, START_NAME) {
            Some((&self.start, START_NAME))
        } else if is_name(expr, END_NAME) {
            Some((&self.end, END_NAME))
        } else {
            None
        }
    }
}

/// Puts the expressions in the place of the names, but not within queries inside.
struct Names {
    window: Window,
    /// How many queries deep the visitor is.
    inside: usize,
}

impl Names {
    fn select_item(&mut self, item: &mut SelectItem) {
        if let SelectItem::UnnamedExpr(expr) = item {
            // The result keeps the name that it would have had.
            let name = match self.window.meaning(expr) {
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

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.inside += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    /// After the children, so that what is put in is not looked at again.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.inside == 0
            && let Some((meaning, _)) = self.window.meaning(expr)
        {
            *expr = meaning.clone();
        }
        ControlFlow::Continue(())
    }
}

fn kind_of(name: &ObjectName) -> Option<Kind> {
    let [part] = &name.0[..] else { return None };
    let ident = part.as_ident()?;
    Kind::ALL
        .into_iter()
        .find(|kind| ident.value.eq_ignore_ascii_case(kind.name()))
}

fn window_call(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if kind_of(&function.name).is_some())
}

fn is_name(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Identifier(ident) if ident.quote_style.is_some() => ident.value == name,
        Expr::Identifier(ident) => ident.value.eq_ignore_ascii_case(name),
        _ => false,
    }
}

/// `name(time, 'kind', size, slide)`, standing where the window stood.
fn call(name: &str, span: Span, time: &Expr, kind: Kind, size: i64, slide: i64) -> Expr {
    let number = |micros: i64| Expr::value(Value::Number(micros.to_string(), false));
    let arguments = [
        time.clone(),
        Expr::value(Value::SingleQuotedString(kind.name().to_ascii_lowercase())),
        number(size),
        number(slide),
    ];
    let args = arguments.map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
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
            args: args.into(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
