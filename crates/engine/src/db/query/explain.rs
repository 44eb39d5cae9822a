//! DESCRIBE and EXPLAIN: the columns of what there is, the plans of queries, and guarantees, as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_connect::shown::without_url_secrets;

use super::guarantees::{Guarantees, Link, explained_guarantees};
use super::plan::plan;
use crate::db::catalog::{Catalog, CatalogEntry};
use crate::db::engine::Engine;
use crate::db::options::OptionSpan;
use crate::db::outcome::Outcome;
use crate::error::{Error, Result};
use crate::sql::{
    CreateQuery, Explain, ExplainTarget, Name, SinkInput, SqlError, Statement, sqlstate,
};

/// An answer of named columns of text.
fn text_table<const N: usize>(names: [&str; N], rows: &[[Option<String>; N]]) -> Outcome {
    let fields = names.map(|name| Field::new(name, DataType::Utf8, true));
    let column = |number: usize| -> ArrayRef {
        let values = rows.iter().map(|row| row[number].as_deref());
        let shown = values.map(|value| value.map(without_url_secrets));
        Arc::new(shown.collect::<StringArray>())
    };
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let batch = RecordBatch::try_new(schema, (0..N).map(column).collect());
    Outcome::rows(batch.expect("each row has one value for each column"))
}

pub(crate) fn describe(engine: &Engine, name: &Name) -> Result<Outcome> {
    let (schema, times) = columns_of(&engine.catalog(), name)?;
    let row = |(number, field): (usize, &Arc<Field>)| {
        let nullable = if field.is_nullable() { "yes" } else { "no" };
        [
            Some(field.name().clone()),
            Some(field.data_type().to_string()),
            Some(nullable.to_owned()),
            times.contains(&number).then(|| "yes".to_owned()),
        ]
    };
    let rows: Vec<_> = schema.fields().iter().enumerate().map(row).collect();
    let names = ["column", "type", "nullable", "event_time"];
    Ok(text_table(names, &rows))
}

/// The columns of an entry, of a sink those that it takes; and which hold event times.
fn columns_of(catalog: &Catalog, name: &Name) -> Result<(SchemaRef, Vec<usize>)> {
    if let Some(CatalogEntry::Sink(sink)) = catalog.get(&name.value) {
        return Ok((Arc::clone(&sink.declared), Vec::new()));
    }
    let topic = catalog.topic_named(name)?;
    let times = topic.relation.event_time.iter().map(|time| time.column);
    Ok((topic.published_schema(), times.collect()))
}

pub(crate) fn explain(engine: &Engine, explain: Explain, place: &OptionSpan) -> Result<Outcome> {
    if explain.guarantees {
        let found = explained_guarantees(engine, explain.target, place)?;
        return Ok(guarantees_table(&found));
    }
    let logical = match explain.target {
        ExplainTarget::Query(query) => plan(engine, query)?.logical,
        ExplainTarget::Name(name) => plan_of(&engine.catalog(), &name)?,
        ExplainTarget::Statement(statement) => match *statement {
            Statement::CreateQuery(CreateQuery { query, .. })
            | Statement::InsertInto { query, .. } => plan(engine, query)?.logical,
            Statement::CreateSink(create) => match create.input {
                SinkInput::Query(query) => plan(engine, query)?.logical,
                SinkInput::Named(_) | SinkInput::Declared(_) => {
                    return Err(no_plan(place));
                }
            },
            _ => return Err(no_plan(place)),
        },
    };
    let lines = logical.lines().map(|line| [Some(line.to_owned())]);
    Ok(text_table(["plan"], &lines.collect::<Vec<_>>()))
}

/// The plan of a stream or a view, or of the query of a sink.
fn plan_of(catalog: &Catalog, name: &Name) -> Result<String> {
    let found = catalog.get(&name.value);
    let (planned, message, hint) = match found {
        Some(CatalogEntry::Sink(sink)) if sink.input.is_empty() => (
            None,
            format!("nothing is written into sink {:?} yet", name.value),
            "INSERT INTO it what it is to write.",
        ),
        Some(CatalogEntry::Sink(sink)) => (
            catalog.get(&sink.input),
            format!("sink {:?} writes {:?} as it is", name.value, sink.input),
            "DESCRIBE shows the columns of both.",
        ),
        found => (
            found,
            format!("{:?} is not a stream or view", name.value),
            "DESCRIBE shows the columns of a source.",
        ),
    };
    match planned {
        Some(CatalogEntry::Query(query)) => Ok(query.logical.clone()),
        _ => Err(SqlError::new(sqlstate::UNDEFINED_TABLE, message)
            .hint(hint)
            .at(name.span.clone())
            .into()),
    }
}

/// A row for each link, and one that sums them up.
fn guarantees_table(found: &Guarantees) -> Outcome {
    let (name, why) = match found.weakest() {
        Some(link) => (
            link.name.clone(),
            format!("the weakest link is {} {}", link.kind, link.name),
        ),
        None => (found.name.clone(), "every link is exactly-once".to_owned()),
    };
    let row = |link: &Link| {
        let (kind, guarantee) = (link.kind.to_string(), link.guarantee.to_string());
        [kind, link.name.clone(), guarantee, link.why.clone()]
    };
    let last = ["weakest".to_owned(), name, found.overall().to_string(), why];
    let rows = found.links.iter().map(row).chain([last]);
    let rows: Vec<_> = rows.map(|row| row.map(Some)).collect();
    text_table(["link", "what", "guarantee", "why"], &rows)
}

fn no_plan(place: &OptionSpan) -> Error {
    SqlError::not_built("EXPLAIN of a statement without a query")
        .hint("EXPLAIN a SELECT, a stream or a view.")
        .at(place.clone())
        .into()
}
