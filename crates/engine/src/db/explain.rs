//! SHOW, DESCRIBE and EXPLAIN: what there is, as rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::Inner;
use super::catalog::{Entry, Kind, QueryEntry, SinkEntry, SourceEntry};
use super::options::Place;
use super::statements::{Outcome, dropped};
use crate::error::Result;
use crate::sql::{
    CreateStream, CreateView, Explain, ExplainTarget, Name, Shown, SinkInput, SqlError, Statement,
};

/// Rows in the making: named columns of text or numbers.
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

    fn number(mut self, name: &str, values: impl IntoIterator<Item = u64>) -> Self {
        self.fields.push(Field::new(name, DataType::UInt64, false));
        self.columns
            .push(Arc::new(UInt64Array::from_iter_values(values)));
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
    pub(super) fn show(&self, shown: Shown) -> Result<Outcome> {
        Ok(match shown {
            Shown::Sources => self.show_sources(),
            Shown::Streams => self.show_queries(Kind::Stream),
            Shown::Views => self.show_queries(Kind::View),
            Shown::Sinks => self.show_sinks(),
            Shown::Connectors => self.show_connectors(),
        })
    }

    fn show_sources(&self) -> Outcome {
        let catalog = self.catalog();
        let sources: Vec<&SourceEntry> = catalog.sources().collect();
        let each = || sources.iter();
        let status = |source: &&SourceEntry| {
            source
                .connector
                .as_ref()
                .map(|connector| connector.handle.status())
        };
        Table::default()
            .text("name", each().map(|it| Some(it.shared.name().to_owned())))
            .text(
                "connector",
                each().map(|it| {
                    it.connector
                        .as_ref()
                        .map(|it| it.spec.connector().to_owned())
                }),
            )
            .text(
                "state",
                each().map(|it| status(it).map(|it| it.state.name().to_owned())),
            )
            .text(
                "reason",
                each().map(|it| status(it)?.reason.map(|it| it.to_string())),
            )
            .number("rows", each().map(|it| it.topic.rows()))
            .number(
                "bad",
                each().map(|it| it.shared.bad.load(Ordering::Relaxed)),
            )
            .number("dropped", each().map(|it| dropped(&it.shared)))
            .number(
                "gaps",
                each().map(|it| it.shared.gap_count.load(Ordering::Relaxed)),
            )
            .outcome()
    }

    fn show_queries(&self, kind: Kind) -> Outcome {
        let catalog = self.catalog();
        let queries: Vec<&QueryEntry> = catalog
            .entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Query(query) if query.kind == kind => Some(query),
                _ => None,
            })
            .collect();
        let each = || queries.iter();
        let state = |query: &&QueryEntry| match query.topic.failure() {
            Some(_) => "failed",
            None => "running",
        };
        Table::default()
            .text(
                "name",
                each().map(|it| Some(it.topic.relation.name.clone())),
            )
            .text("state", each().map(|it| Some(state(it).to_owned())))
            .text("reason", each().map(|it| it.topic.failure()))
            .number("rows", each().map(|it| it.topic.rows()))
            .number(
                "late",
                each().map(|it| it.late.iter().map(|late| late.rows()).sum()),
            )
            .text("query", each().map(|it| Some(it.text.clone())))
            .outcome()
    }

    fn show_sinks(&self) -> Outcome {
        let catalog = self.catalog();
        let sinks: Vec<(&String, &SinkEntry)> = catalog
            .entries
            .iter()
            .filter_map(|(name, entry)| match entry {
                Entry::Sink(sink) => Some((name, sink)),
                _ => None,
            })
            .collect();
        let each = || sinks.iter().copied();
        Table::default()
            .text("name", each().map(|(name, _)| Some(name.clone())))
            .text(
                "connector",
                each().map(|(_, it)| Some(it.spec.connector().to_owned())),
            )
            .text("input", each().map(|(_, it)| Some(it.input.clone())))
            .text(
                "state",
                each().map(|(_, it)| Some(it.status.get().name.to_owned())),
            )
            .text("reason", each().map(|(_, it)| it.status.get().reason))
            .number(
                "rows",
                each().map(|(_, it)| it.status.rows.load(Ordering::Relaxed)),
            )
            .outcome()
    }

    fn show_connectors(&self) -> Outcome {
        let names: Vec<&str> = self.connectors.names().collect();
        let found = || {
            names
                .iter()
                .filter_map(|name| self.connectors.get(name).ok())
        };
        let role = |there: bool| Some(if there { "yes" } else { "no" }.to_owned());
        Table::default()
            .text("name", found().map(|it| Some(it.name.to_owned())))
            .text("source", found().map(|it| role(it.source.is_some())))
            .text("sink", found().map(|it| role(it.sink.is_some())))
            .text("summary", found().map(|it| Some(it.summary.to_owned())))
            .outcome()
    }

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
            let error = SqlError::not_built("EXPLAIN GUARANTEES")
                .hint("Nothing is logged yet: all rows are kept in memory only.");
            return Err(error.at(place.clone()).into());
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

fn no_plan(place: &Place) -> crate::error::Error {
    SqlError::not_built("EXPLAIN of a statement without a query")
        .hint("EXPLAIN a SELECT, a stream or a view.")
        .at(place.clone())
        .into()
}
