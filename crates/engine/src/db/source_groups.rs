//! Streams that are sets of sources: CREATE STREAM without a query, ATTACH and DETACH.
//!
//! The rows of such a stream are those of all its sources, column by column of the same name. Its
//! columns are declared, or those of the first source attached; a source whose columns do not fit is
//! refused. The dataflow is a projection for each source and a union, and is built anew whenever a
//! source comes or goes: it keeps nothing but watermarks.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::Inner;
use super::catalog::{Catalog, Entry, Kind, QueryEntry};
use super::life::{Life, Recipe};
use super::statements::{Existing, Outcome, schema_of, undefined};
use super::streams::{WRONG_KIND, stream_named};
use crate::clock::now_us;
use crate::dataflow::{Plan, PlanNode, Transform};
use crate::error::{Error, Result};
use crate::sql::plan::{EventColumn, Relation};
use crate::sql::{
    Attach, CreateSourceGroup, Name, NamedMetadataColumns, OptionEntry, SqlError, sqlstate,
};
use crate::streams::StreamStatus;
use crate::telemetry::LifecycleEvent;
use crate::topic::Topic;
use crate::worker::QueryCommand;

/// SQLSTATE: it is not in use here.
const NOT_ATTACHED: &str = "42704";

impl Inner {
    pub(super) fn create_set(&self, create: CreateSourceGroup) -> Result<Outcome> {
        let name = create.name.value.clone();
        if let Existing::Unchanged = self.existing(&create.name, create.if_not_exists)? {
            return Ok(Outcome::Unchanged { name });
        }
        let description = description(&create.options)?;
        let schema = match create.columns.is_empty() {
            true => Arc::new(Schema::empty()),
            false => schema_of(&create.columns),
        };
        let mut event_time = Vec::new();
        if let Some(watermark) = &create.watermark {
            if !watermark.delay.is_zero() {
                let error = SqlError::not_built("a delay in the watermark of a stream")
                    .hint("Each source says how far its rows may come out of order.");
                return Err(error.at(watermark.column.span.clone()).into());
            }
            let column = schema.index_of(&watermark.column.value);
            event_time.extend(column.map(|column| EventColumn { column, lag_us: 0 }));
        }
        let topic = self.set_topic(&name, 0, schema, event_time)?;
        let mut life = Life::pending(!create.columns.is_empty(), now_us());
        life.description = description;
        let entry = QueryEntry {
            kind: Kind::Stream,
            topic,
            late: Vec::new(),
            inputs: Vec::new(),
            text: String::new(),
            logical: String::new(),
            life,
        };
        self.catalog().insert(&name, Entry::Query(entry));
        Ok(Outcome::Created {
            kind: Kind::Stream,
            name,
        })
    }

    /// A topic for a set; with columns, it also takes its place on the workers.
    fn set_topic(
        &self,
        name: &str,
        home: usize,
        schema: SchemaRef,
        event_time: Vec<EventColumn>,
    ) -> Result<Arc<Topic>> {
        let relation = Relation {
            name: name.to_owned(),
            schema,
            event_time,
            changes: false,
            metadata_columns: None,
        };
        let topic = Arc::new(Topic::new(self.next_topic(), home, relation, false)?);
        topic.report_failures_to(&self.event_log);
        if !topic.relation.schema.fields().is_empty() {
            self.life(QueryCommand::Reserve {
                output: Arc::clone(&topic),
            });
        }
        Ok(topic)
    }

    pub(super) fn attach(&self, attach: &Attach) -> Result<Outcome> {
        let (source, stream) = {
            let catalog = self.catalog();
            let (stream, query) = stream_named(&catalog, &attach.stream)?;
            if !query.life.is_source_group() {
                return Err(not_a_set(&stream, query, &attach.stream).into());
            }
            (source_named(&catalog, &attach.source)?, stream)
        };
        let done = match attach.attach {
            true => self.attach_source(&source, &stream),
            false => self.detach_source(&source, &stream),
        };
        let changed = done.map_err(|error| match error {
            Error::Sql(error) => Error::Sql(error.at(attach.source.span.clone())),
            other => other,
        })?;
        if !changed {
            return Ok(Outcome::Unchanged { name: source });
        }
        let event = match attach.attach {
            true => LifecycleEvent::SourceAttached {
                source,
                stream: stream.clone(),
            },
            false => LifecycleEvent::SourceDetached {
                source,
                stream: stream.clone(),
            },
        };
        self.event_log.publish(event);
        let status = self.catalog().query_mut(&stream).map(|it| it.life.status);
        Ok(Outcome::Lifecycle {
            name: stream,
            status: status.unwrap_or(StreamStatus::Unknown),
        })
    }

    /// Attaches a source to a set; false if it is attached already.
    pub(super) fn attach_source(&self, source: &str, stream: &str) -> Result<bool> {
        {
            let mut catalog = self.catalog();
            let home = catalog.source(source)?.topic.home;
            let relations = catalog.relations(&NamedMetadataColumns::default());
            let relation = relations.iter().find(|it| it.name == source);
            let Some((relation, query)) = relation.zip(catalog.query_mut(stream)) else {
                return Ok(false);
            };
            if query.inputs.iter().any(|input| input == source) {
                return Ok(false);
            }
            if query.life.is_formless() {
                let (schema, time) = (Arc::clone(&relation.schema), relation.event_time.clone());
                query.topic = self.set_topic(stream, home, schema, time)?;
                query.life.recipe = Recipe::Set { has_columns: true };
            }
            fit(&query.topic.relation, relation)?;
            query.inputs.push(source.to_owned());
            query.text = text_of(query);
            query.logical = query.text.clone();
        }
        self.set_changed(stream)?;
        Ok(true)
    }

    fn detach_source(&self, source: &str, stream: &str) -> Result<bool> {
        {
            let mut catalog = self.catalog();
            let Some(query) = catalog.query_mut(stream) else {
                return Ok(false);
            };
            let Some(at) = query.inputs.iter().position(|input| input == source) else {
                return Err(not_attached(source, stream, &query.inputs).into());
            };
            query.inputs.remove(at);
            query.text = text_of(query);
            query.logical = query.text.clone();
        }
        self.set_changed(stream)?;
        Ok(true)
    }

    fn set_changed(&self, stream: &str) -> Result<()> {
        let status = self.catalog().query_mut(stream).map(|it| it.life.status);
        if let Some(StreamStatus::Active | StreamStatus::Paused) = status {
            self.begin_again(stream)?;
        }
        self.regulate()
    }
}

/// The dataflow of a set; none without sources.
pub(super) fn plan(catalog: &Catalog, query: &QueryEntry) -> Result<Option<Plan>> {
    let target = &query.topic.relation.schema;
    let mut from = Vec::with_capacity(query.inputs.len());
    for (number, input) in query.inputs.iter().enumerate() {
        let source = Arc::clone(&catalog.topic(input)?.relation.schema);
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(target.fields().len());
        for field in target.fields() {
            let column = source.index_of(field.name());
            let column = column.map_err(|error| Error::Config {
                what: error.to_string(),
            })?;
            exprs.push(Arc::new(Column::new(field.name(), column)));
        }
        let schema = Arc::clone(target);
        from.push(PlanNode::Transform {
            from: Box::new(PlanNode::Input { input: number }),
            steps: vec![Transform::Project { exprs, schema }],
        });
    }
    let root = match from.len() {
        0 => return Ok(None),
        1 => from.remove(0),
        _ => PlanNode::Union { from },
    };
    Ok(Some(Plan {
        root,
        metadata_columns: Vec::new(),
        schema: Arc::clone(target),
        changes: false,
        late: Vec::new(),
    }))
}

/// Refuses a source that cannot give the columns of a stream, and says what differs.
fn fit(stream: &Relation, source: &Relation) -> Result<(), SqlError> {
    let mut differences = Vec::new();
    for (number, column) in stream.schema.fields().iter().enumerate() {
        let name = column.name();
        let Ok(at) = source.schema.index_of(name) else {
            differences.push(format!("it has no column {name:?}"));
            continue;
        };
        let given = source.schema.field(at);
        if given.data_type() != column.data_type() {
            differences.push(format!(
                "its {name:?} is {}, not {}",
                given.data_type(),
                column.data_type()
            ));
        } else if given.is_nullable() && !column.is_nullable() {
            differences.push(format!("its {name:?} may be NULL"));
        }
        let is_time = |of: &Relation, at: usize| of.event_time.iter().any(|it| it.column == at);
        if is_time(stream, number) && !is_time(source, at) {
            differences.push(format!("its {name:?} has no WATERMARK"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let (source, stream) = (&source.name, &stream.name);
    let message = format!("source {source:?} does not fit stream {stream:?}");
    Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message)
        .detail(differences.join("; "))
        .hint("CREATE STREAM ... AS SELECT ... UNION ALL SELECT ... can rename and cast columns."))
}

/// What a set would be as a query, for people.
fn text_of(query: &QueryEntry) -> String {
    let fields = query.topic.relation.schema.fields().iter();
    let columns: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    let columns = columns.join(", ");
    let parts = query.inputs.iter();
    let parts: Vec<String> = parts
        .map(|source| format!("SELECT {columns} FROM {source}"))
        .collect();
    parts.join(" UNION ALL ")
}

fn description(options: &[OptionEntry]) -> Result<Option<String>> {
    let mut description = None;
    for option in options {
        if !option.key.eq_ignore_ascii_case("description") {
            let message = format!("there is no option {:?} of a stream of sources", option.key);
            let error = SqlError::new(sqlstate::UNDEFINED_OBJECT, message)
                .hint("The one option is description.");
            return Err(error.at(option.key_span.clone()).into());
        }
        if description.replace(option.value.to_string()).is_some() {
            let error = SqlError::syntax("option \"description\" is given twice");
            return Err(error.at(option.key_span.clone()).into());
        }
    }
    Ok(description)
}

fn source_named(catalog: &Catalog, name: &Name) -> Result<String> {
    let declared = catalog.spelling(&name.value).unwrap_or(&name.value);
    match catalog.entries.get(declared) {
        Some(Entry::Source(_)) => Ok(declared.to_owned()),
        Some(other) => {
            let message = format!("{declared:?} is a {}, not a source", other.kind());
            let error = SqlError::new(WRONG_KIND, message)
                .hint("Streams are brought together with CREATE STREAM ... AS ... UNION ALL ....");
            Err(error.at(name.span.clone()).into())
        }
        None => Err(undefined(name).into()),
    }
}

fn not_a_set(stream: &str, query: &QueryEntry, name: &Name) -> SqlError {
    let kind = query.kind;
    let message = format!("{kind} {stream:?} is a query: its sources are those of its FROM");
    SqlError::new(WRONG_KIND, message)
        .hint("Sources are attached to a stream that was created without AS.")
        .at(name.span.clone())
}

fn not_attached(source: &str, stream: &str, attached: &[String]) -> SqlError {
    let message = format!("source {source:?} is not attached to stream {stream:?}");
    let hint = match attached {
        [] => "No source is attached to it.".to_owned(),
        some => format!("Attached are: {}.", some.join(", ")),
    };
    SqlError::new(NOT_ATTACHED, message).hint(hint)
}

/// A name that stands in no script.
pub(super) fn unwritten(name: &str) -> Name {
    Name {
        value: name.to_owned(),
        quoted: true,
        span: 0..0,
    }
}
