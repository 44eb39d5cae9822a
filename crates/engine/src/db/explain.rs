//! DESCRIBE and EXPLAIN: the columns of what there is, the plans of queries, and guarantees, as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::Inner;
use super::catalog::Entry;
use super::guarantees::Guarantees;
use super::options::Place;
use super::statements::Outcome;
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
    pub(super) fn describe(&self, name: &Name) -> Result<Outcome> {
        let topic = self.topic(name)?;
        let schema = topic.published_schema();
        let relation = &topic.relation;
        let is_time = |column: usize| relation.event_time.iter().any(|it| it.column == column);
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

    pub(super) fn explain(&self, explain: Explain, place: &Place) -> Result<Outcome> {
        if explain.guarantees {
            let found = self.explained_guarantees(explain.target, place)?;
            return Ok(guarantees(&found));
        }
        let logical = match explain.target {
            ExplainTarget::Query(query) => self.plan(query)?.logical,
            ExplainTarget::Name(name) => {
                let catalog = self.catalog();
                match catalog.get(&name.value) {
                    Some(Entry::Query(query)) => query.logical.clone(),
                    _ => {
                        let message = format!("{:?} is no stream or view", name.value);
                        let error = SqlError::new("42P01", message)
                            .hint("DESCRIBE shows the columns of a source.");
                        return Err(error.at(name.span).into());
                    }
                }
            }
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
