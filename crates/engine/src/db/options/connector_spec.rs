//! A `WITH` list as the checked options of a connector.

use arrow::datatypes::SchemaRef;
use headwater_connect::options::{OptionSet, check};
use headwater_connect::{Connectors, Rejection, SinkSpec, SourceSpec};

use super::ingest_options::IngestOptions;
use super::with_list::{OptionSpan, given, rejected};
use crate::error::{Error, Result};
use crate::sql::{OptionEntry, SqlError, sqlstate};

/// The options of a source, and the connector if they name one.
pub(crate) fn source_spec(
    connectors: &Connectors,
    options: &[OptionEntry],
    declared: Option<SchemaRef>,
    place: &OptionSpan,
) -> Result<(IngestOptions, Option<SourceSpec>)> {
    let (connector, given) = given(options);
    let own = OptionSet::of::<IngestOptions>();
    let (checked, spec) = match connector {
        None => {
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
    let (connector, given) = given(options);
    let Some(entry) = connector else {
        let error = SqlError::syntax("a sink needs the option connector")
            .hint("Say where the rows go: WITH (connector = 'stdout').")
            .at(place.clone());
        return Err(error.into());
    };
    let spec = connectors.sink(&entry.value.to_string(), &given, schema, &[]);
    spec.map_err(|error| refused(error, entry, place))
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
