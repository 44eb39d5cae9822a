//! Reads the option `format`, which decides what other options there are.

use crate::ErrorOptions;
use crate::formats::{self, Format};
use crate::options::{Checked, Fault, Given, OptionSet, Problem, Value, check, nearest};

/// The format that a list of options requests.
pub(super) struct ChosenFormat {
    /// The requested format, else the connector's default; `None` if it has none.
    pub format: Option<&'static Format>,
    /// The index of the option that requests a format the connector does not have, and the fault.
    refused: Option<(usize, Fault)>,
}

impl ChosenFormat {
    pub fn among<S>(formats: &[&str], connector: &str, given: &[Given<S>]) -> Self {
        let is_format = |given: &Given<S>| {
            let key = given.key.to_lowercase();
            key.strip_prefix(connector)
                .and_then(|rest| rest.strip_prefix('.'))
                .unwrap_or(&key)
                == "format"
        };
        let asked = given.iter().position(is_format);
        let default = Self {
            format: formats.first().and_then(|name| formats::format(name)),
            refused: None,
        };
        let Some((at, Value::Text(name))) = asked.map(|at| (at, &given[at].value)) else {
            return default;
        };
        let mut names = formats.iter();
        let known = names.find(|format| format.eq_ignore_ascii_case(name));
        if default.format.is_none() || known.is_some() {
            let format = known.and_then(|name| formats::format(name));
            return Self { format, ..default };
        }
        let names: Vec<_> = formats.iter().map(|name| format!("'{name}'")).collect();
        let fault = Fault::WrongType {
            wanted: format!("one of {}", names.join(", ")),
            found: format!("'{name}'"),
            nearest: nearest(name, formats.iter().copied()),
        };
        Self {
            refused: Some((at, fault)),
            ..default
        }
    }

    /// Checks the list against `sets`, those of the caller and the `error.*` options.
    pub fn check<S: Clone>(
        &self,
        connector: &str,
        mut sets: Vec<OptionSet>,
        extra: &[OptionSet],
        given: &[Given<S>],
    ) -> Result<Checked, Vec<Problem<S>>> {
        sets.push(OptionSet::of::<ErrorOptions>());
        sets.extend_from_slice(extra);
        let checked = check(connector, &sets, given);
        let Some((at, fault)) = &self.refused else {
            return checked;
        };
        let mut problems = checked.err().unwrap_or_default();
        problems.push(Problem {
            key: given[*at].key.clone(),
            span: Some(given[*at].span.clone()),
            fault: fault.clone(),
        });
        Err(problems)
    }
}
