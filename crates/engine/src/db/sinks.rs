//! CREATE SINK, INSERT INTO and START SINK, and the queue between the engine and a sink.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use headwater_connect::SinkSpec;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::STOP_DEADLINE;
use super::catalog::{Catalog, Entry, Kind, SinkEntry};
use super::options::{Place, given, refuse_unbuilt_options};
use super::sink_task::SinkStatus;
use super::statements::{Existing, Outcome, published, query_name, refused, schema_of, undefined};
use super::streams::WRONG_KIND;
use crate::error::Result;
use crate::sql::{CreateSink, Name, OptionEntry, SinkInput, SqlError, SqlQuery};
use crate::subscription::{DeliveryTracker, Gate, SubscriberQueue, Subscription};
use crate::topic::{Begin, Topic};
use crate::worker::WorkerCommand;

/// Rows that wait for a sink before the sources behind it are held back.
const SINK_QUEUE_ROWS: usize = 1 << 18;

impl Inner {
    /// A subscription that holds back the sources before it while its queue is full.
    pub(super) fn subscribe_lossless(&self, catalog: &Catalog, topic: &Arc<Topic>) -> Subscription {
        let gate = self.gate(catalog, std::slice::from_ref(&topic.relation.name));
        self.subscribe(
            topic,
            SubscriberQueue::new(SINK_QUEUE_ROWS, Some(gate)),
            Begin::Kept,
        )
    }

    /// The rows of a sink: after a restart those that it had not written, then what comes next.
    pub(super) fn subscribe_sink(
        &self,
        catalog: &Catalog,
        sink: &str,
        status: &Arc<SinkStatus>,
        topic: &Arc<Topic>,
    ) -> Subscription {
        let inputs = std::slice::from_ref(&topic.relation.name);
        let (queue, from) = self.sink_queue(catalog, sink, status, inputs);
        self.subscribe(topic, queue, from)
    }

    pub(super) fn create_sink(&self, create: CreateSink, place: &Place) -> Result<Outcome> {
        let name = create.name.value.clone();
        if let Existing::Unchanged = self.existing(&create.name, create.if_not_exists)? {
            return Ok(Outcome::Unchanged { name });
        }
        refuse_unbuilt_options(&create.options)?;
        let status = Arc::<SinkStatus>::default();
        status.tell_errors_to(&self.event_log, &name);
        let receipt = self.saved_receipt(&name);
        status.begin(receipt.clone());
        let mut rows = None;
        let (input, schema) = match create.input {
            SinkInput::Named(input) => {
                let topic = self.topic(&input)?;
                (Some(topic.relation.name.clone()), topic.published_schema())
            }
            SinkInput::Query(query) => {
                let text = query.text.clone();
                let planned = self.plan(query)?;
                let schema = published(&planned);
                // The options are checked before anything is created.
                let spec = self.sink_spec(&create.options, Arc::clone(&schema), place)?;
                self.ensure_dead_letters(spec.errors(), &create.options, &name, &planned.inputs)?;
                let input = query_name(&name);
                let (queue, _) = self.sink_queue(&self.catalog(), &name, &status, &planned.inputs);
                rows = Some(Subscription::new(Arc::clone(&queue), Arc::clone(&schema)));
                self.install(Kind::Stream, &input, text, planned, Some(queue), &[])?;
                (Some(input), schema)
            }
            SinkInput::Declared(columns) => (None, schema_of(&columns)),
        };
        let spec = self.sink_spec(&create.options, Arc::clone(&schema), place)?;
        let inputs: &[String] = input.as_slice();
        self.ensure_dead_letters(spec.errors(), &create.options, &name, inputs)?;
        if let (None, Some(input), true) = (&rows, &input, self.is_restoring()) {
            // Before the logs are fed again, so that it misses nothing of that.
            let catalog = self.catalog();
            let topic = catalog.topic(input)?;
            rows = Some(self.subscribe_sink(&catalog, &name, &status, &topic));
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
        self.catalog().insert(&name, Entry::Sink(entry));
        Ok(Outcome::Created {
            kind: Kind::Sink,
            name,
        })
    }

    pub(super) fn sink_spec(
        &self,
        options: &[OptionEntry],
        schema: SchemaRef,
        place: &Place,
    ) -> Result<SinkSpec> {
        let (connector, given) = given(options);
        let Some(entry) = connector else {
            let error = SqlError::syntax("a sink needs the option connector")
                .hint("Say where the rows go: WITH (connector = 'stdout').")
                .at(place.clone());
            return Err(error.into());
        };
        let spec = self
            .connectors
            .sink(&entry.value.to_string(), &given, schema, &[]);
        spec.map_err(|error| refused(error, entry, place))
    }

    /// Feeds a sink that was declared with its columns.
    pub(super) fn insert_into(
        &self,
        target: &Name,
        columns: &[Name],
        query: SqlQuery,
    ) -> Result<Outcome> {
        let (name, declared, status, errors) = {
            let catalog = self.catalog();
            let name = catalog
                .spelling(&target.value)
                .unwrap_or(&target.value)
                .to_owned();
            match catalog.entries.get(&name) {
                Some(Entry::Sink(sink)) if sink.input.is_empty() => {
                    let status = Arc::clone(&sink.status);
                    let errors = sink.spec.errors().clone();
                    (name, Arc::clone(&sink.declared), status, errors)
                }
                Some(Entry::Sink(_)) => {
                    let error = SqlError::not_built(format!("a second query into sink {name:?}"))
                        .hint("Bring the queries together with UNION ALL.");
                    return Err(error.at(target.span.clone()).into());
                }
                Some(_) => {
                    let error = SqlError::not_built(format!(
                        "INSERT INTO {name:?}, which is no sink,"
                    ))
                    .hint("Rows are pushed into a source by a program, or come from a connector.");
                    return Err(error.at(target.span.clone()).into());
                }
                None => return Err(undefined(target).into()),
            }
        };
        let (text, place) = (query.text.clone(), query.span.clone());
        let order = columns.iter().map(|column| column.value.as_str());
        let planned = self.plan(query)?;
        let order: Vec<&str> = order.collect();
        let planned = planned
            .insert_into(&declared, &order)
            .map_err(|error| error.at(place))?;
        self.refuse_circle(&errors, &name, &planned.inputs, &target.span)?;
        let input = query_name(&name);
        let (queue, _) = self.sink_queue(&self.catalog(), &name, &status, &planned.inputs);
        let rows = Subscription::new(Arc::clone(&queue), published(&planned));
        self.install(Kind::Stream, &input, text, planned, Some(queue), &[])?;
        if let Some(Entry::Sink(sink)) = self.catalog().entries.get_mut(&name) {
            sink.input = input;
            sink.rows = Some(rows);
        }
        Ok(Outcome::Created {
            kind: Kind::Stream,
            name: query_name(&name),
        })
    }

    /// Tries a sink that has failed again: first the rows that waited, then what comes. Does nothing to
    /// one that runs. Blocks until what is left of the old one has closed, at most [`STOP_DEADLINE`].
    pub(super) fn start_sink_again(&self, given: &Name) -> Result<Outcome> {
        let (name, has_failed) = self.sink_named(given)?;
        if !has_failed {
            return Ok(Outcome::Unchanged { name });
        }
        self.wait_for_end(&name);
        let mut catalog = self.catalog();
        let Some(Entry::Sink(sink)) = catalog.entries.get(&name) else {
            return Err(undefined(given).into());
        };
        let status = Arc::clone(&sink.status);
        let topic = catalog.topic(&sink.input)?;
        let rows = self.take_up(&catalog, &name, &status, &topic);
        status.begin_again();
        if let Some(Entry::Sink(sink)) = catalog.entries.get_mut(&name) {
            sink.receipt = status.delivered().receipt;
            sink.rows = Some(rows);
        }
        self.start_sinks(&mut catalog)?;
        Ok(Outcome::Started { name })
    }

    /// The name of a sink as it was declared, and whether it has failed.
    fn sink_named(&self, given: &Name) -> Result<(String, bool)> {
        let catalog = self.catalog();
        let name = catalog.spelling(&given.value).unwrap_or(&given.value);
        match catalog.entries.get(name) {
            Some(Entry::Sink(sink)) => Ok((name.to_owned(), sink.status.get().name == "failed")),
            Some(other) => {
                let message = format!("{name:?} is a {}, not a sink", other.kind());
                let error = SqlError::new(WRONG_KIND, message);
                Err(error.at(given.span.clone()).into())
            }
            None => Err(undefined(given).into()),
        }
    }

    /// Waits until the task of a sink that has failed has closed it. Blocks.
    fn wait_for_end(&self, name: &str) {
        let task = match self.catalog().entries.get_mut(name) {
            Some(Entry::Sink(sink)) => sink.task.take(),
            _ => None,
        };
        if let Some(mut task) = task {
            self.block_on(async move {
                let closed = tokio::time::timeout(STOP_DEADLINE, &mut task).await;
                if closed.is_err() {
                    task.abort();
                }
            });
        }
    }

    /// The rows of a sink that had failed: those that waited, then what comes next.
    fn take_up(
        &self,
        catalog: &Catalog,
        sink: &str,
        status: &Arc<SinkStatus>,
        topic: &Arc<Topic>,
    ) -> Subscription {
        // If its query was begun anew meanwhile, there is no queue any more.
        let queue = status.queue().unwrap_or_else(|| {
            let inputs = std::slice::from_ref(&topic.relation.name);
            let gate = self.gate(catalog, inputs);
            let progress = Arc::clone(status) as _;
            SubscriberQueue::for_sink(SINK_QUEUE_ROWS, gate, sink.to_owned(), progress, Vec::new())
        });
        status.reads(&queue);
        let rows = Subscription::take_up(Arc::clone(&queue), topic.published_schema());
        self.sequencer.command(WorkerCommand::Subscribe {
            topic: Arc::clone(topic),
            queue,
            from: Begin::Next,
        });
        rows
    }

    /// The queue of a sink, with what it had not written before a restart; and where it begins.
    fn sink_queue(
        &self,
        catalog: &Catalog,
        sink: &str,
        status: &Arc<SinkStatus>,
        inputs: &[String],
    ) -> (Arc<SubscriberQueue>, Begin) {
        let saved = self.saved_sink(sink);
        let from = match saved {
            Some(_) => Begin::Next,
            None => Begin::Kept,
        };
        let waiting = saved.unwrap_or_default().waiting;
        let (gate, progress) = (self.gate(catalog, inputs), Arc::clone(status) as _);
        let queue =
            SubscriberQueue::for_sink(SINK_QUEUE_ROWS, gate, sink.to_owned(), progress, waiting);
        status.reads(&queue);
        (queue, from)
    }

    /// A gate before the sources behind `inputs`, closed while a queue is full.
    pub(super) fn gate(&self, catalog: &Catalog, inputs: &[String]) -> Arc<Gate> {
        let bells = (0..self.workers).map(|worker| Arc::clone(self.sequencer.bell(worker)));
        let gate = Arc::new(Gate::new(bells.collect()));
        for source in catalog.sources_of(inputs) {
            let gate = Arc::clone(&gate);
            self.sequencer.command(WorkerCommand::AddGate {
                source: source.id,
                gate,
            });
        }
        gate
    }
}
