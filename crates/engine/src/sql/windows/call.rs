//! A call of TUMBLE, HOP or SESSION: its arguments checked, and the two expressions it stands for.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    ObjectName, Spanned as _, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::{WINDOW_END, WINDOW_START};
use crate::sql::error::{Result, SqlError, sqlstate};
use crate::sql::function_call::function_call;
use crate::sql::interval;
use crate::sql::script::QueryText;

/// The functions that `GROUP BY` takes as a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowFunction {
    Tumble,
    Hop,
    Session,
}

impl WindowFunction {
    pub const ALL: [Self; 3] = [Self::Tumble, Self::Hop, Self::Session];

    /// The function of this name, in any case.
    pub fn named(name: &ObjectName) -> Option<Self> {
        let [part] = &name.0[..] else { return None };
        let ident = part.as_ident()?;
        let is_named = |function: &Self| ident.value.eq_ignore_ascii_case(function.name());
        Self::ALL.into_iter().find(is_named)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Session => "SESSION",
        }
    }

    /// The hint that shows a correct call.
    pub fn form(self) -> &'static str {
        match self {
            Self::Tumble => "Write TUMBLE(ts, size), e.g. TUMBLE(ts, INTERVAL '1 minute').",
            Self::Hop => {
                "Write HOP(ts, slide, size), e.g. HOP(ts, INTERVAL '1 second', INTERVAL '1 minute')."
            }
            Self::Session => "Write SESSION(ts, gap), e.g. SESSION(ts, INTERVAL '30 seconds').",
        }
    }
}

/// The expressions for the bounds of one window.
#[derive(Clone)]
pub(super) struct WindowBounds {
    pub start: Expr,
    pub end: Expr,
}

/// One call, with the text that its errors point into.
pub(super) struct WindowCall<'a> {
    pub window: WindowFunction,
    pub function: &'a Function,
    pub text: QueryText<'a>,
}

impl WindowCall<'_> {
    pub fn bounds(&self) -> Result<WindowBounds> {
        let arguments = self.arguments()?;
        let (time, size, slide) = match (self.window, &arguments[..]) {
            (WindowFunction::Tumble | WindowFunction::Session, [time, size]) => {
                let size = self.micros(size)?;
                (time, size, size)
            }
            (WindowFunction::Hop, [time, slide, size]) => {
                let (slide, size) = (self.micros(slide)?, self.micros(size)?);
                self.check_hop(slide, size)?;
                (time, size, slide)
            }
            _ => return Err(self.wrong_call()),
        };
        Ok(WindowBounds {
            start: self.bound(WINDOW_START, time, size, slide),
            end: self.bound(WINDOW_END, time, size, slide),
        })
    }

    /// The arguments, all of them plain expressions.
    fn arguments(&self) -> Result<Vec<Expr>> {
        let function = self.function;
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
            return Err(self.wrong_call());
        };
        if !plain || !clauses.is_empty() {
            return Err(self.wrong_call());
        }
        let expr = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
            _ => Err(self.wrong_call()),
        };
        args.iter().map(expr).collect()
    }

    fn wrong_call(&self) -> SqlError {
        let message = format!(
            "{} is not a valid call of {}",
            self.function,
            self.window.name()
        );
        SqlError::new(sqlstate::UNDEFINED_FUNCTION, message)
            .hint(self.window.form())
            .at(self.text.position(self.function.name.span()))
    }

    fn invalid(&self, message: impl Into<String>, span: Span) -> SqlError {
        SqlError::new(sqlstate::INVALID_PARAMETER, message).at(self.text.position(span))
    }

    /// The length of an interval above zero, in microseconds.
    fn micros(&self, expr: &Expr) -> Result<i64> {
        let micros = interval::micros(expr)
            .map_err(|reason| self.invalid(reason, expr.span()).hint(interval::HINT))?;
        if micros <= 0 {
            let message = format!(
                "{expr} is too short for {}: at least a microsecond",
                self.window.name()
            );
            return Err(self.invalid(message, expr.span()));
        }
        Ok(micros)
    }

    fn check_hop(&self, slide: i64, size: i64) -> Result<()> {
        if size % slide == 0 {
            return Ok(());
        }
        let message =
            format!("HOP size of {size} microseconds is not a multiple of its slide of {slide}");
        let hint = if slide % size == 0 {
            "The slide comes first: HOP(ts, slide, size)."
        } else {
            "Use a slide that divides the size; a smaller slide also gives every result of a larger one."
        };
        Err(self.invalid(message, self.function.name.span()).hint(hint))
    }

    /// `name(time, 'window', size, slide)` with the span of this call.
    fn bound(&self, name: &str, time: &Expr, size: i64, slide: i64) -> Expr {
        let number = |micros: i64| Expr::value(Value::Number(micros.to_string(), false));
        let window = self.window.name().to_ascii_lowercase();
        let arguments = [
            time.clone(),
            Expr::value(Value::SingleQuotedString(window)),
            number(size),
            number(slide),
        ];
        function_call(name, self.function.name.span(), arguments)
    }
}
