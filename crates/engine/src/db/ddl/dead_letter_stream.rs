//! The stream that `error.dlq.stream` names: checked, or created if it does not exist. It stays when the
//! source or sink that names it is dropped.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use headwater_connect::{DeadLetter, ErrorOptions};

use super::declaration::{is_taken, refuse_long_name, schema_of};
use super::source::add_source;
use crate::db::catalog::{Catalog, CatalogEntry};
use crate::db::engine::Engine;
use crate::db::options::{OptionSpan, source_spec};
use crate::error::Result;
use crate::sql::{Name, OptionEntry, SqlError, Statement, parse, quoted, sqlstate};

/// The columns of a dead-letter stream, as SQL.
const COLUMNS: &str = "original_event BYTES NOT NULL, error_message VARCHAR NOT NULL, \
    error_type VARCHAR NOT NULL, \"timestamp\" TIMESTAMP NOT NULL, attempt_count INT NOT NULL, \
    stream_name VARCHAR NOT NULL";

/// How far dead letters of several senders come out of order in one stream.
const DELAY: &str = "1 second";

/// Creates the stream that `error.dlq.stream` names, unless it exists. `owner` is the source or sink with
/// that option, which reads `inputs`.
pub(super) fn ensure_dead_letter_stream(
    engine: &Engine,
    errors: &ErrorOptions,
    options: &[OptionEntry],
    owner: &str,
    inputs: &[String],
) -> Result<()> {
    let Some(stream) = errors.dlq_stream() else {
        return Ok(());
    };
    let name = named(stream, options);
    let refused = |state, message: String, hint: &str| {
        let error = SqlError::new(state, message).hint(hint);
        Err(error.at(name.span.clone()).into())
    };
    if stream.eq_ignore_ascii_case(owner) {
        let message = format!("{owner:?} cannot take its own dead letters");
        return refused(sqlstate::INVALID_PARAMETER, message, "Name another stream.");
    }
    let unfit = engine.catalog().get(stream).map(why_unfit);
    match unfit {
        None => create_dead_letter_stream(engine, &name)?,
        Some(None) => {}
        Some(Some(why)) => {
            let message = format!("{stream:?} takes no dead letters: {why}");
            let hint = format!(
                "Name a stream that does not exist and it is created, or a source without connector: \
                 CREATE SOURCE x ({COLUMNS})."
            );
            return refused(sqlstate::WRONG_KIND, message, &hint);
        }
    }
    refuse_cycle(&engine.catalog(), errors, owner, inputs, &name.span)
}

/// Refuses dead letters that would come back to `owner`, which reads `inputs`.
pub(super) fn refuse_cycle(
    catalog: &Catalog,
    errors: &ErrorOptions,
    owner: &str,
    inputs: &[String],
    place: &OptionSpan,
) -> Result<()> {
    match errors.dlq_stream() {
        Some(stream) if catalog.has_dead_letter_cycle(stream, inputs) => {
            let message =
                format!("what {owner:?} cannot write would come back to it by way of {stream:?}");
            let error = SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .hint("Name another stream for its dead letters.");
            Err(error.at(place.clone()).into())
        }
        _ => Ok(()),
    }
}

fn create_dead_letter_stream(engine: &Engine, name: &Name) -> Result<()> {
    is_taken(&engine.catalog(), name, false)?;
    refuse_long_name(engine, name)?;
    if engine.persistence.is_stopped() && !engine.persistence.is_restoring() {
        let message = format!(
            "stream {:?} does not exist, and a database that runs nothing creates none",
            name.value
        );
        let error = SqlError::new(sqlstate::NOT_IN_STATE, message);
        let hint = "Name a stream that exists, or alter it in a database that runs.";
        return Err(error.hint(hint).at(name.span.clone()).into());
    }
    let written = quoted(&name.value);
    let text = format!(
        "CREATE SOURCE {written} ({COLUMNS}, \
         WATERMARK FOR \"timestamp\" AS \"timestamp\" - INTERVAL '{DELAY}')"
    );
    for statement in parse(&text)? {
        if let Statement::CreateSource(create) = statement.node {
            let declared = Some(schema_of(&create.columns));
            let (options, _) = source_spec(&engine.connectors, &[], declared, &name.span)?;
            add_source(engine, &create, &options, None)?;
        }
    }
    engine.catalog().define(&name.value, &text);
    Ok(())
}

/// The name that the options give, at its place in the script.
fn named(stream: &str, options: &[OptionEntry]) -> Name {
    let is_stream = |option: &&OptionEntry| option.key.to_lowercase().ends_with("error.dlq.stream");
    let span = options.iter().find(is_stream);
    Name {
        value: stream.to_owned(),
        quoted: true,
        span: span.map_or(0..0, |option| option.key_span.start..option.value_span.end),
    }
}

/// Why an entry cannot take dead letters, if it cannot.
fn why_unfit(entry: &CatalogEntry) -> Option<String> {
    let CatalogEntry::Source(source) = entry else {
        return Some(format!("it is a {}", entry.kind()));
    };
    if source.connector.is_some() {
        return Some("it has a connector".to_owned());
    }
    let (expected, found) = (DeadLetter::schema(), &source.topic.relation.schema);
    (columns(&expected) != columns(found)).then(|| {
        let columns: Vec<String> = columns(&expected).into_iter().map(|it| it.0).collect();
        format!("its columns are not {} of their types", columns.join(", "))
    })
}

fn columns(schema: &SchemaRef) -> Vec<(String, DataType)> {
    let column = |field: &Arc<Field>| (field.name().clone(), field.data_type().clone());
    schema.fields().iter().map(column).collect()
}
