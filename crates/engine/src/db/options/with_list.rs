//! A `WITH` list as `check` takes it, and its problems as errors that point into the script.

use headwater_connect::options::{Fault, Given, Problem, Value};

use crate::error::{Error, Result};
use crate::sql::{OptionEntry, OptionValue, SqlError, sqlstate};

/// The bytes of a script that an option takes up.
pub(crate) type OptionSpan = std::ops::Range<usize>;

/// Options by name that are known and not built, and what each waits for.
const UNBUILT: &[(&str, &str)] = &[("start", "beginning in the past is")];

/// Refuses options that are known and not built.
pub(crate) fn refuse_unbuilt_options(options: &[OptionEntry]) -> Result<()> {
    for option in options {
        let key = option.key.to_lowercase();
        let hit = UNBUILT.iter().find(|(name, _)| {
            key == *name
                || key.ends_with(&format!(".{name}"))
                || key.starts_with(&format!("{name}."))
        });
        if let Some((_, what)) = hit {
            let error = SqlError::not_built(format!("option {:?}", option.key))
                .hint(format!("Leave it out: {what} not built yet."))
                .at(option.key_span.clone());
            return Err(error.into());
        }
    }
    Ok(())
}

/// The option `key`, the only one of `owner`, if it is given.
///
/// # Errors
/// If there is another option, or this one twice.
pub(crate) fn only_option<'a>(
    key: &str,
    owner: &str,
    options: &'a [OptionEntry],
) -> Result<Option<&'a OptionEntry>> {
    let mut found = None;
    for option in options {
        if !option.key.eq_ignore_ascii_case(key) {
            let message = format!("option {:?} of {owner} is unknown", option.key);
            let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message);
            let hint = format!("The only option is {key:?}.");
            return Err(error.hint(hint).at(option.key_span.clone()).into());
        }
        if found.replace(option).is_some() {
            let error = SqlError::syntax(format!("option {key:?} is given twice"));
            return Err(error.at(option.key_span.clone()).into());
        }
    }
    Ok(found)
}

/// A `WITH` list for `check`, and apart from it the option `connector`.
pub(super) fn given(options: &[OptionEntry]) -> (Option<&OptionEntry>, Vec<Given<OptionSpan>>) {
    let is_connector = |option: &&OptionEntry| option.key.eq_ignore_ascii_case("connector");
    let connector = options.iter().find(is_connector);
    let others = options.iter().filter(|option| !is_connector(option));
    let given = others.map(|option| Given {
        key: option.key.clone(),
        value: value(&option.value),
        span: option.key_span.start..option.value_span.end,
    });
    (connector, given.collect())
}

fn value(value: &OptionValue) -> Value {
    match value {
        OptionValue::String(text) => Value::Text(text.clone()),
        OptionValue::Bool(truth) => Value::Bool(*truth),
        OptionValue::Number(digits) => match digits.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => digits
                .parse()
                .map_or(Value::Text(digits.clone()), Value::Number),
        },
    }
}

/// All that is wrong with a list of options.
pub(super) fn rejected(problems: Vec<Problem<OptionSpan>>, statement: &OptionSpan) -> Error {
    let errors = problems.into_iter().map(|problem| {
        let state = match problem.fault {
            Fault::Unknown { .. } => sqlstate::UNDEFINED_OBJECT,
            Fault::Missing { .. } | Fault::Duplicate { .. } => sqlstate::SYNTAX_ERROR,
            _ => sqlstate::INVALID_PARAMETER,
        };
        let place = problem.span.clone().unwrap_or_else(|| statement.clone());
        SqlError::new(state, problem.to_string())
            .maybe_hint(problem.hint())
            .at(place)
    });
    Error::Statement(errors.collect())
}
