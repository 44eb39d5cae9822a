//! DESCRIBE and EXPLAIN: the columns of what there is, the plans of queries, and guarantees, as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::guarantees::{Guarantees, explained_guarantees};
use super::plan::plan;
use crate::db::catalog::{Catalog, CatalogEntry, UNDEFINED};
use crate::db::engine::Engine;
use crate::db::options::OptionSpan;
use crate::db::outcome::Outcome;
use crate::error::{Error, Result};
use crate::sql::{
    CreateStream, CreateView, Explain, ExplainTarget, Name, SinkInput, SqlError, Statement,
};

/// Builds an answer of named columns of text.
#[derive(Default)]
struct TextTable {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl TextTable {
    fn text(mut self, name: &str, values: impl IntoIterator<Item = Option<String>>) -> Self {
        self.fields.push(Field::new(name, DataType::Utf8, true));
        self.columns
            .push(Arc::new(values.into_iter().collect::<StringArray>()));
        self
    }

    fn outcome(self) -> Outcome {
        let schema = Arc::new(Schema::new(self.fields));
        let batch = RecordBatch::try_new(schema, self.columns)
            .expect("each column has one value for each thing shown");
        Outcome::rows(batch)
    }
}

pub(crate) fn describe(engine: &Engine, name: &Name) -> Result<Outcome> {
    let (schema, times) = columns_of(&engine.catalog(), name)?;
    let is_time = |column: usize| times.contains(&column);
    let each = || schema.fields().iter();
    Ok(TextTable::default()
        .text("column", each().map(|it| Some(it.name().clone())))
        .text("type", each().map(|it| Some(it.data_type().to_string())))
        .text(
            "nullable",
            each().map(|it| Some(if it.is_nullable() { "yes" } else { "no" }.to_owned())),
        )
        .text(
            "event_time",
            (0..schema.fields().len()).map(|it| is_time(it).then(|| "yes".to_owned())),
        )
        .outcome())
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
            Statement::CreateStream(CreateStream { query, .. })
            | Statement::CreateView(CreateView { query, .. })
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
    let lines = logical.lines().map(|line| Some(line.to_owned()));
    Ok(TextTable::default().text("plan", lines).outcome())
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
            format!("{:?} is no stream or view", name.value),
            "DESCRIBE shows the columns of a source.",
        ),
    };
    match planned {
        Some(CatalogEntry::Query(query)) => Ok(query.logical.clone()),
        _ => Err(SqlError::new(UNDEFINED, message)
            .hint(hint)
            .at(name.span.clone())
            .into()),
    }
}

/// A row for each link, and one that sums them up.
fn guarantees_table(found: &Guarantees) -> Outcome {
    let sum = match found.weakest() {
        Some(link) => (
            link.name.clone(),
            format!("the weakest link is {} {}", link.kind, link.name),
        ),
        None => (found.name.clone(), "every link is".to_owned()),
    };
    let links = || found.links.iter();
    let last = |text: String| std::iter::once(Some(text));
    TextTable::default()
        .text(
            "link",
            links()
                .map(|it| Some(it.kind.to_string()))
                .chain(last("weakest".to_owned())),
        )
        .text(
            "what",
            links().map(|it| Some(it.name.clone())).chain(last(sum.0)),
        )
        .text(
            "guarantee",
            links()
                .map(|it| Some(it.guarantee.to_string()))
                .chain(last(found.overall().to_string())),
        )
        .text(
            "why",
            links().map(|it| Some(it.why.clone())).chain(last(sum.1)),
        )
        .outcome()
}

fn no_plan(place: &OptionSpan) -> Error {
    SqlError::not_built("EXPLAIN of a statement without a query")
        .hint("EXPLAIN a SELECT, a stream or a view.")
        .at(place.clone())
        .into()
}
