//! DESCRIBE and EXPLAIN: the columns of what there is, the plans of queries, and guarantees, as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::db::Inner;
use crate::db::catalog::Entry;
use crate::db::options::Place;
use crate::db::query::guarantees::Guarantees;
use crate::db::statements::Outcome;
use crate::error::Result;
use crate::sql::{
    CreateStream, CreateView, Explain, ExplainTarget, Name, SinkInput, SqlError, Statement,
};

/// Rows in the making: named columns of text.
#[derive(Default)]
struct Table {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    fn text(mut self, name: &str, values: impl IntoIterator<Item = Option<String>>) -> Self {
        self.fields.push(Field::new(name, DataType::Utf8, true));
        self.columns
            .push(Arc::new(values.into_iter().collect::<StringArray>()));
        self
    }

    fn outcome(self) -> Outcome {
        let schema = Arc::new(Schema::new(self.fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), self.columns)
            .expect("each column has one value for each thing shown");
        Outcome::Rows {
            schema,
            batches: vec![batch],
        }
    }
}

impl Inner {
    pub(in crate::db) fn describe(&self, name: &Name) -> Result<Outcome> {
        let (schema, times) = self.columns_of(name)?;
        let is_time = |column: usize| times.contains(&column);
        let each = || schema.fields().iter();
        Ok(Table::default()
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

    /// The columns that something gives or, if it is a sink, takes; and which hold event times.
    fn columns_of(&self, name: &Name) -> Result<(SchemaRef, Vec<usize>)> {
        if let Some(Entry::Sink(sink)) = self.catalog().get(&name.value) {
            return Ok((Arc::clone(&sink.declared), Vec::new()));
        }
        let topic = self.topic(name)?;
        let times = topic.relation.event_time.iter().map(|time| time.column);
        Ok((topic.published_schema(), times.collect()))
    }

    pub(in crate::db) fn explain(&self, explain: Explain, place: &Place) -> Result<Outcome> {
        if explain.guarantees {
            let found = self.explained_guarantees(explain.target, place)?;
            return Ok(guarantees(&found));
        }
        let logical = match explain.target {
            ExplainTarget::Query(query) => self.plan(query)?.logical,
            ExplainTarget::Name(name) => self.plan_of(&name)?,
            ExplainTarget::Statement(statement) => match *statement {
                Statement::CreateStream(CreateStream { query, .. })
                | Statement::CreateView(CreateView { query, .. })
                | Statement::InsertInto { query, .. } => self.plan(query)?.logical,
                Statement::CreateSink(create) => match create.input {
                    SinkInput::Query(query) => self.plan(query)?.logical,
                    SinkInput::Named(_) | SinkInput::Declared(_) => return Err(no_plan(place)),
                },
                _ => return Err(no_plan(place)),
            },
        };
        let lines = logical.lines().map(|line| Some(line.to_owned()));
        Ok(Table::default().text("plan", lines).outcome())
    }
}

impl Inner {
    /// The plan of a stream or a view, or of what a sink writes.
    fn plan_of(&self, name: &Name) -> Result<String> {
        let catalog = self.catalog();
        let found = catalog.get(&name.value);
        let (planned, message, hint) = match found {
            Some(Entry::Sink(sink)) if sink.input.is_empty() => (
                None,
                format!("nothing is written into sink {:?} yet", name.value),
                "INSERT INTO it what it is to write.",
            ),
            Some(Entry::Sink(sink)) => (
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
            Some(Entry::Query(query)) => Ok(query.logical.clone()),
            _ => Err(SqlError::new("42P01", message)
                .hint(hint)
                .at(name.span.clone())
                .into()),
        }
    }
}

/// A row for each link, and one that sums them up.
fn guarantees(found: &Guarantees) -> Outcome {
    let sum = match found.weakest() {
        Some(link) => (
            link.name.clone(),
            format!("the weakest link is {} {}", link.kind, link.name),
        ),
        None => (found.name.clone(), "every link is".to_owned()),
    };
    let links = || found.links.iter();
    let last = |text: String| std::iter::once(Some(text));
    Table::default()
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

fn no_plan(place: &Place) -> crate::error::Error {
    SqlError::not_built("EXPLAIN of a statement without a query")
        .hint("EXPLAIN a SELECT, a stream or a view.")
        .at(place.clone())
        .into()
}
