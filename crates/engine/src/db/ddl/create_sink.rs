//! CREATE SINK, and INSERT INTO a sink that was declared with its columns.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use headwater_connect::SinkSpec;
use tokio_util::sync::CancellationToken;

use super::create_query::{NewStream, install};
use super::dead_letter_stream::{ensure_dead_letter_stream, refuse_cycle};
use super::declaration::{is_taken, schema_of};
use super::query_options::ON_ERROR;
use crate::dataflow::OnError;
use crate::db::catalog::{Catalog, CatalogEntry, SinkEntry, Start};
use crate::db::connectors::{open_sink_queue, subscribe_sink};
use crate::db::engine::Engine;
use crate::db::options::{OptionSpan, refuse_unbuilt_options, refuse_unusable, sink_spec};
use crate::db::outcome::Outcome;
use crate::db::query::{plan, published_schema};
use crate::db::sink_task::SinkStatus;
use crate::error::Result;
use crate::sql::plan::Planned;
use crate::sql::{CreateSink, Kind, Name, OptionEntry, SinkInput, SqlError, SqlQuery, sqlstate};
use crate::subscription::Subscription;

pub(crate) fn create_sink(
    engine: &Engine,
    create: CreateSink,
    place: &OptionSpan,
) -> Result<Outcome> {
    let name = create.name.value.clone();
    if is_taken(&engine.catalog(), &create.name, create.if_not_exists)? {
        return Ok(Outcome::Unchanged { name });
    }
    refuse_unbuilt_options(&create.options)?;
    create.options.iter().try_for_each(refuse_on_error)?;
    let status = Arc::new(SinkStatus::new(&engine.event_log, &name));
    let receipt = engine.persistence.saved_receipt(&name);
    status.begin(receipt.clone());
    let mut rows = None;
    let (input, schema) = match create.input {
        SinkInput::Named(input) => {
            let topic = engine.catalog().topic_named(&input)?;
            (Some(topic.relation.name.clone()), topic.published_schema())
        }
        SinkInput::Query(query) => {
            let text = query.text.clone();
            let planned = plan(engine, query)?;
            let schema = published_schema(&planned);
            // The options are checked before anything is created.
            let options = &create.options;
            let spec = usable_spec(engine, options, &schema, place)?;
            ensure_dead_letter_stream(engine, spec.errors(), options, &name, &planned.inputs)?;
            rows = Some(install_sink_query(engine, &name, &status, text, planned)?);
            (Some(sink_query_name(&name)), schema)
        }
        SinkInput::Declared(columns) => (None, schema_of(&columns)),
    };
    let options = &create.options;
    let spec = usable_spec(engine, options, &schema, place)?;
    ensure_dead_letter_stream(engine, spec.errors(), options, &name, input.as_slice())?;
    if let (None, Some(input), true) = (&rows, &input, engine.persistence.is_restoring()) {
        // Before the logs are replayed, so that it misses no row of them.
        let catalog = engine.catalog();
        let topic = catalog.topic(input)?;
        rows = Some(subscribe_sink(engine, &catalog, &name, &status, &topic));
    }
    let entry = SinkEntry {
        input: input.unwrap_or_default(),
        declared: schema,
        spec,
        stop: CancellationToken::new(),
        status,
        receipt,
        rows,
        task: None,
    };
    engine.catalog().insert(&name, CatalogEntry::Sink(entry));
    Ok(Outcome::created(Kind::Sink, name))
}

/// The connector of the sink, which must be usable on this machine when the sink is new. When it is restored the
/// sink itself reports that, and holds up nothing else.
fn usable_spec(
    engine: &Engine,
    options: &[OptionEntry],
    schema: &SchemaRef,
    place: &OptionSpan,
) -> Result<SinkSpec> {
    let spec = sink_spec(&engine.connectors, options, Arc::clone(schema), place)?;
    if !engine.persistence.is_restoring() {
        refuse_unusable(&spec, options, place)?;
    }
    Ok(spec)
}

/// The rows of a sink's own query have nowhere to go but to the sink.
fn refuse_on_error(option: &OptionEntry) -> Result<(), SqlError> {
    if !option.key.eq_ignore_ascii_case(ON_ERROR) {
        return Ok(());
    }
    let message = format!(
        "option {:?} is one of a stream or view, not of a sink",
        option.key
    );
    let hint = "CREATE STREAM with the option and the query, and the sink FROM that stream.";
    let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message).hint(hint);
    Err(error.at(option.key_span.start..option.value_span.end))
}

/// Starts the query of a sink; returns its rows, subscribed to before there are any.
fn install_sink_query(
    engine: &Engine,
    sink: &str,
    status: &Arc<SinkStatus>,
    text: String,
    planned: Planned,
) -> Result<Subscription> {
    let (queue, _) = open_sink_queue(engine, &engine.catalog(), sink, status, &planned.inputs);
    let rows = Subscription::new(Arc::clone(&queue), published_schema(&planned));
    let new = NewStream {
        kind: Kind::Stream,
        name: &sink_query_name(sink),
        text,
        planned,
        on_error: OnError::Fail,
        restart: Start::Now,
    };
    install(engine, new, Some(queue), &[])?;
    Ok(rows)
}

/// The name of the stream behind a sink that has a query.
pub(crate) fn sink_query_name(sink: &str) -> String {
    format!("{sink}__query")
}

/// Whether `name` is the stream behind a sink.
pub(super) fn is_sink_query(catalog: &Catalog, name: &str) -> bool {
    let mut sinks = catalog.sinks();
    sinks.any(|(sink, _)| sink_query_name(sink) == name)
}

/// Gives a sink that was declared with its columns its query.
pub(crate) fn insert_into(
    engine: &Engine,
    target: &Name,
    columns: &[Name],
    query: SqlQuery,
) -> Result<Outcome> {
    let refused = |what: String, hint: &str| {
        let error = SqlError::not_built(what).hint(hint);
        Err(error.at(target.span.clone()).into())
    };
    let catalog = engine.catalog();
    let (name, declared, status, errors) = match catalog.named(target)? {
        (name, CatalogEntry::Sink(sink)) if sink.input.is_empty() => (
            name.to_owned(),
            Arc::clone(&sink.declared),
            Arc::clone(&sink.status),
            sink.spec.errors().clone(),
        ),
        (name, CatalogEntry::Sink(_)) => {
            let what = format!("a second query into sink {name:?}");
            return refused(what, "Bring the queries together with UNION ALL.");
        }
        (name, _) => {
            let what = format!("INSERT INTO {name:?}, which is not a sink,");
            let hint = "Rows are pushed into a source by a program, or come from a connector.";
            return refused(what, hint);
        }
    };
    drop(catalog);
    let (text, place) = (query.text.clone(), query.span.clone());
    let order: Vec<&str> = columns.iter().map(|it| it.value.as_str()).collect();
    let planned = plan(engine, query)?;
    let planned = planned
        .insert_into(&declared, &order)
        .map_err(|error| error.at(place))?;
    refuse_cycle(
        &engine.catalog(),
        &errors,
        &name,
        &planned.inputs,
        &target.span,
    )?;
    let rows = install_sink_query(engine, &name, &status, text, planned)?;
    let query = sink_query_name(&name);
    if let Some(sink) = engine.catalog().sink_mut(&name) {
        sink.input.clone_from(&query);
        sink.rows = Some(rows);
    }
    Ok(Outcome::created(Kind::Stream, query))
}
