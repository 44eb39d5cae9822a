//! The `WITH` list of a statement: checked, as the options of a source or as the connector that it names, and
//! its problems as errors that point into the script.

use arrow::datatypes::SchemaRef;
use headwater_connect::options::{Fault, Given, OptionSet, Problem, Value, check};
use headwater_connect::{Connectors, Rejection, SinkSpec, SourceSpec};

use super::ingest_options::IngestOptions;
use crate::error::{Error, Result};
use crate::sql::{OptionEntry, OptionValue, SqlError, did_you_mean, sqlstate};

/// The bytes of a script that an option takes up.
pub(crate) type OptionSpan = std::ops::Range<usize>;

/// The option that names the connector.
const CONNECTOR: &str = "connector";

/// Options by name that are known and not built, and what each waits for.
const UNBUILT: &[(&str, &str)] = &[("start", "beginning in the past is")];

/// Refuses an option for the allowed lateness, which other engines have.
pub(crate) fn refuse_allowed_lateness(options: &[OptionEntry]) -> Result<()> {
    let is_lateness = |option: &&OptionEntry| {
        let key = option.key.to_lowercase().replace(['-', '.'], "_");
        key.ends_with("allowed_lateness") || key.ends_with("allow_lateness")
    };
    let Some(option) = options.iter().find(is_lateness) else {
        return Ok(());
    };
    let message = format!(
        "option {:?} is unknown: the delay of WATERMARK FOR is the allowed lateness of every window over the source",
        option.key
    );
    let hint = "Write WATERMARK FOR ts AS ts - INTERVAL '1 hour' in CREATE SOURCE. Rows that come later still are in \
                <name>__late, and a second query can add them to the result.";
    let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message).hint(hint);
    Err(error.at(option.key_span.clone()).into())
}

/// Refuses a list in which the option `connector` is misspelt.
fn refuse_misspelt_connector(options: &[OptionEntry]) -> Result<()> {
    let hint = |option: &OptionEntry| did_you_mean(&option.key, &[CONNECTOR]);
    let misspelt = options.iter().find_map(|it| Some((it, hint(it)?)));
    misspelt.map_or(Ok(()), |(option, hint)| {
        let message = format!("option {:?} is unknown", option.key);
        let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message).hint(hint);
        Err(error.at(option.key_span.clone()).into())
    })
}

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

/// Refuses every option of `owner` but `keys`.
pub(crate) fn refuse_all_but(keys: &[&str], owner: &str, options: &[OptionEntry]) -> Result<()> {
    refuse_allowed_lateness(options)?;
    let is_known = |option: &OptionEntry| keys.iter().any(|it| option.key.eq_ignore_ascii_case(it));
    let Some(option) = options.iter().find(|option| !is_known(option)) else {
        return Ok(());
    };
    let message = format!("option {:?} of {owner} is unknown", option.key);
    let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message);
    let hint = match keys {
        [only] => format!("The only option is {only:?}."),
        several => format!("The options are {}.", several.join(", ")),
    };
    Err(error.hint(hint).at(option.key_span.clone()).into())
}

/// A `WITH` list for `check`, and apart from it the option `connector`.
fn given(options: &[OptionEntry]) -> (Option<&OptionEntry>, Vec<Given<OptionSpan>>) {
    let is_connector = |option: &&OptionEntry| option.key.eq_ignore_ascii_case(CONNECTOR);
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
fn rejected(problems: Vec<Problem<OptionSpan>>, statement: &OptionSpan) -> Error {
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

/// The options of a source, and the connector if they name one.
pub(crate) fn source_spec(
    connectors: &Connectors,
    options: &[OptionEntry],
    declared: Option<SchemaRef>,
    place: &OptionSpan,
) -> Result<(IngestOptions, Option<SourceSpec>)> {
    refuse_allowed_lateness(options)?;
    let (connector, given) = given(options);
    let own = OptionSet::of::<IngestOptions>();
    let (checked, spec) = match connector {
        None => {
            refuse_misspelt_connector(options)?;
            let checked = check("source", &[own], &given);
            (checked.map_err(|problems| rejected(problems, place))?, None)
        }
        Some(entry) => {
            let name = entry.value.to_string();
            let spec = connectors.source(&name, &given, declared, &[own]);
            let spec = spec.map_err(|error| refused(error, entry, place))?;
            (spec.options().clone(), Some(spec))
        }
    };
    let options = checked.get().map_err(Error::config)?;
    Ok((options, spec))
}

/// The connector of a sink that takes rows of `schema`.
pub(crate) fn sink_spec(
    connectors: &Connectors,
    options: &[OptionEntry],
    schema: SchemaRef,
    place: &OptionSpan,
) -> Result<SinkSpec> {
    refuse_allowed_lateness(options)?;
    let (connector, given) = given(options);
    let Some(entry) = connector else {
        refuse_misspelt_connector(options)?;
        let error = SqlError::syntax("a sink needs the option connector")
            .hint("Say where the rows go: WITH (connector = 'stdout').")
            .at(place.clone());
        return Err(error.into());
    };
    let spec = connectors.sink(&entry.value.to_string(), &given, schema, &[]);
    spec.map_err(|error| refused(error, entry, place))
}

/// Refuses a sink that can never be used as it is, for reasons on this machine.
pub(crate) fn refuse_unusable(
    spec: &SinkSpec,
    options: &[OptionEntry],
    place: &OptionSpan,
) -> Result<()> {
    let usable = spec.sink().and_then(|sink| sink.refusal());
    let connector = given(options).0.map(|entry| entry.value_span.clone());
    let place = connector.unwrap_or_else(|| place.clone());
    usable.map_err(|error| {
        SqlError::new(sqlstate::NOT_IN_STATE, error.to_string())
            .maybe_hint(error.hint())
            .at(place)
            .into()
    })
}

fn refused(rejection: Rejection<OptionSpan>, connector: &OptionEntry, place: &OptionSpan) -> Error {
    match rejection {
        Rejection::Options(problems) => rejected(problems, place),
        Rejection::Error(error) => SqlError::new(sqlstate::UNDEFINED_OBJECT, error.to_string())
            .maybe_hint(error.hint())
            .at(connector.value_span.clone())
            .into(),
    }
}
