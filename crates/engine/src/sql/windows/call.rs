//! A call of TUMBLE, HOP or SESSION: its arguments checked, and the expressions it stands for.

use chrono_tz::Tz;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    ObjectName, Spanned as _, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::{WINDOW_END, WINDOW_START, WINDOW_TIME};
use crate::sql::error::{Result, SqlError, sqlstate};
use crate::sql::function_call::function_call;
use crate::sql::interval::{self, DAY_US};
use crate::sql::script::QueryText;
use crate::sql::time_zone::time_zone;

/// The maximum number of HOP windows that a row is in, each with a result for each key.
const WINDOWS_MAX: i64 = 100_000;

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
            Self::Tumble => {
                "Write TUMBLE(ts, size [, offset] [, 'zone']), e.g. TUMBLE(ts, INTERVAL '1 minute')."
            }
            Self::Hop => {
                "Write HOP(ts, slide, size [, offset] [, 'zone']), e.g. HOP(ts, INTERVAL '1 second', \
                 INTERVAL '1 minute')."
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
    pub time: Expr,
}

/// How windows are moved from those that are aligned to 1970-01-01 UTC.
#[derive(Default)]
struct Alignment {
    offset_us: i64,
    /// The zone whose days they consist of.
    zone: Option<Tz>,
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
        let (time, size, slide, alignment) = match (self.window, &arguments[..]) {
            (WindowFunction::Session, [time, gap]) => {
                let gap = self.micros(gap)?;
                (time, gap, gap, Alignment::default())
            }
            (WindowFunction::Tumble, [time, size, more @ ..]) => {
                let size_us = self.micros(size)?;
                let alignment = self.alignment(more, &[(size, size_us)])?;
                (time, size_us, size_us, alignment)
            }
            (WindowFunction::Hop, [time, slide, size, more @ ..]) => {
                let (slide_us, size_us) = (self.micros(slide)?, self.micros(size)?);
                self.check_hop(slide_us, size_us)?;
                let alignment = self.alignment(more, &[(slide, slide_us), (size, size_us)])?;
                (time, size_us, slide_us, alignment)
            }
            _ => return Err(self.wrong_call()),
        };
        let number = |micros: i64| Expr::value(Value::Number(micros.to_string(), false));
        let text = |text: &str| Expr::value(Value::SingleQuotedString(text.to_owned()));
        let window = self.window.name().to_ascii_lowercase();
        let mut arguments = vec![time.clone(), text(&window), number(size), number(slide)];
        let offset = alignment.offset_us.rem_euclid(slide);
        if offset != 0 || alignment.zone.is_some() {
            arguments.push(number(offset));
        }
        arguments.extend(alignment.zone.map(|zone| text(zone.name())));
        let bound = |name| function_call(name, self.function.name.span(), arguments.clone());
        Ok(WindowBounds {
            start: bound(WINDOW_START),
            end: bound(WINDOW_END),
            time: bound(WINDOW_TIME),
        })
    }

    /// Reads what may follow the size: an offset, a time zone, or both. Only whole days can be those of a
    /// zone, and `lengths` are the others of the call.
    fn alignment(&self, arguments: &[Expr], lengths: &[(&Expr, i64)]) -> Result<Alignment> {
        let (offset, zone) = match arguments {
            [] => (None, None),
            [one] if text(one).is_some() => (None, Some(one)),
            [offset] => (Some(offset), None),
            [offset, zone] if text(offset).is_none() => (Some(offset), Some(zone)),
            _ => return Err(self.wrong_call()),
        };
        let offset_us = offset.map_or(Ok(0), |offset| self.interval(offset))?;
        let Some(zone) = zone else {
            return Ok(Alignment {
                offset_us,
                zone: None,
            });
        };
        let name = text(zone).ok_or_else(|| self.wrong_call())?;
        let offset = offset.map(|offset| (offset, offset_us));
        for (length, us) in lengths.iter().copied().chain(offset) {
            if us % DAY_US != 0 {
                let name = self.window.name();
                let message = format!(
                    "{length} is no whole number of days, as {name} with a time zone needs"
                );
                return Err(self.invalid(message, length.span()).hint(
                    "Leave out the zone and give an offset: TUMBLE(ts, INTERVAL '1 hour', INTERVAL '15 minutes').",
                ));
            }
        }
        let found = time_zone(name);
        let found = found.map_err(|error| error.at(self.text.position(zone.span())))?;
        Ok(Alignment {
            offset_us,
            zone: Some(found),
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

    fn interval(&self, expr: &Expr) -> Result<i64> {
        interval::micros(expr)
            .map_err(|reason| self.invalid(reason, expr.span()).hint(interval::HINT))
    }

    /// The length of an interval above zero, in microseconds.
    fn micros(&self, expr: &Expr) -> Result<i64> {
        let micros = self.interval(expr)?;
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
            return match size / slide {
                ..=WINDOWS_MAX => Ok(()),
                windows => {
                    let message = format!(
                        "a row would be in {windows} windows of HOP, at most {WINDOWS_MAX}"
                    );
                    let place = self.text.position(self.function.name.span());
                    let error = SqlError::new(sqlstate::PROGRAM_LIMIT_EXCEEDED, message).at(place);
                    Err(error.hint("Give HOP a longer slide, or a shorter size."))
                }
            };
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
}

/// A text between quotes.
fn text(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}
