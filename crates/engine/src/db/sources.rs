//! CREATE SOURCE: its options, its topics, its log, its connector.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::SchemaRef;
use headwater_connect::options::{OptionSet, check};
use headwater_connect::{Blueprint, Care, SourceHandle, SourceSpec};

use super::Inner;
use super::catalog::{Entry, Kind, SourceConnector, SourceEntry, event_time};
use super::options::{Place, SourceOptions, given, refuse_unbuilt_options, rejected};
use super::statements::{Existing, Outcome, refused, schema_of};
use crate::durable::{SourceFeed, bad_schema};
use crate::error::{Error, Result};
use crate::event_time::EventTimeColumn;
use crate::source::SourceShared;
use crate::sql::plan::Relation;
use crate::sql::{CreateSource, Name, OptionEntry, SqlError};
use crate::tap::SourceTap;
use crate::topic::Topic;
use crate::worker::{Handoff, NewSource, WorkerCommand};

impl Inner {
    pub(super) fn create_source(&self, create: CreateSource, place: &Place) -> Result<Outcome> {
        let name = create.name.value.clone();
        if let Existing::Unchanged = self.existing(&create.name, create.if_not_exists)? {
            return Ok(Outcome::Unchanged { name });
        }
        refuse_unbuilt_options(&create.options)?;
        let declared = (!create.columns.is_empty()).then(|| schema_of(&create.columns));
        let (options, spec) = self.source_options(&create.options, declared.clone(), place)?;
        if let Some(spec) = &spec {
            self.ensure_dead_letters(spec.errors(), &create.options, &name, &[])?;
        }
        let schema = match (&spec, declared) {
            (Some(spec), _) => spec.schema(),
            (None, Some(declared)) => declared,
            (None, None) => return Err(no_columns(&create.name).into()),
        };
        let time = event_time_column(&create, &schema)?;
        let mut catalog = self.catalog();
        let home = catalog.sources().count() % self.workers;
        let (topic, bad) = self.source_topics(&name, home, schema, time.as_ref())?;
        self.restore_topic(&topic)?;
        self.restore_topic(&bad)?;
        let feed = self.open_log(&topic, &options, time.as_ref())?;
        let entry = SourceEntry {
            shared: self.shared_source(&topic),
            topic,
            bad,
            config: options.config(),
            time,
            wal: options.wal_mode(),
            connector: spec.map(connected),
        };
        self.add_source(&entry, &options, feed);
        catalog.insert(&name, Entry::Source(entry));
        Ok(Outcome::Created {
            kind: Kind::Source,
            name,
        })
    }

    /// What producers and the engine share of the source behind a topic.
    fn shared_source(&self, topic: &Topic) -> Arc<SourceShared> {
        let (sequencer, source) = (Arc::clone(&self.sequencer), topic.id);
        let close = Box::new(move || sequencer.command(WorkerCommand::CloseSource { source }));
        let relation = &topic.relation;
        let (name, schema) = (relation.name.clone(), Arc::clone(&relation.schema));
        let event_log = Arc::clone(&self.event_log);
        Arc::new(SourceShared::new(name, schema, close, event_log))
    }

    /// Tells the workers of a source.
    fn add_source(&self, source: &SourceEntry, options: &SourceOptions, feed: SourceFeed) {
        self.sequencer.command(WorkerCommand::AddSource(NewSource {
            topic: Arc::clone(&source.topic),
            bad: Arc::clone(&source.bad),
            shared: Arc::clone(&source.shared),
            time: source.time.clone(),
            idle_timeout: options.idle_timeout(),
            feed: Handoff::new(feed),
        }));
    }

    pub(super) fn source_options(
        &self,
        options: &[OptionEntry],
        declared: Option<SchemaRef>,
        place: &Place,
    ) -> Result<(SourceOptions, Option<SourceSpec>)> {
        let (connector, given) = given(options);
        let own = OptionSet::of::<SourceOptions>();
        let (checked, spec) = match connector {
            None => {
                let checked = check("source", &[own], &given);
                (checked.map_err(|problems| rejected(problems, place))?, None)
            }
            Some(entry) => {
                let name = entry.value.to_string();
                let spec = self.connectors.source(&name, &given, declared, &[own]);
                let spec = spec.map_err(|error| refused(error, entry, place))?;
                (spec.options().clone(), Some(spec))
            }
        };
        let read = checked.get::<SourceOptions>();
        let options = read.map_err(|error| Error::Config {
            what: error.to_string(),
        })?;
        Ok((options, spec))
    }

    fn source_topics(
        &self,
        name: &str,
        home: usize,
        schema: SchemaRef,
        time: Option<&EventTimeColumn>,
    ) -> Result<(Arc<Topic>, Arc<Topic>)> {
        let relation = Relation {
            name: name.to_owned(),
            schema,
            event_time: event_time(time),
            changes: false,
            metadata_columns: None,
        };
        let topic = Topic::new(self.next_topic(), home, relation, false)?;
        let bad = Relation {
            name: format!("{name}__bad"),
            schema: bad_schema(),
            event_time: Vec::new(),
            changes: false,
            metadata_columns: None,
        };
        let bad = Topic::new(self.next_topic(), home, bad, false)?;
        Ok((Arc::new(topic), Arc::new(bad)))
    }
}

/// Where the event time is, if the statement has a watermark.
fn event_time_column(create: &CreateSource, schema: &SchemaRef) -> Result<Option<EventTimeColumn>> {
    let Some(watermark) = &create.watermark else {
        return Ok(None);
    };
    let column = schema.index_of(&watermark.column.value);
    let column = column.map_err(|error| Error::Config {
        what: error.to_string(),
    })?;
    let delay = watermark.delay;
    Ok(Some(EventTimeColumn { column, delay }))
}

/// A connector that does not run yet.
fn connected(spec: SourceSpec) -> SourceConnector {
    let blueprint = Arc::new(spec.clone());
    let tap = SourceTap::new(spec.format());
    let care = Care {
        tap: Some(tap.tap()),
        ..Care::default()
    };
    SourceConnector {
        handle: Arc::new(SourceHandle::new(blueprint, None, care)),
        spec,
        tap,
        dropped_before: 0,
        again: Arc::default(),
        watched: AtomicBool::new(false),
    }
}

fn no_columns(name: &Name) -> SqlError {
    SqlError::syntax(format!("source {:?} has no columns", name.value))
        .hint("List its columns, or name a connector that knows them.")
        .at(name.span.clone())
}
